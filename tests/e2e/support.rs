//! What the stories stand on: the real binary, real clients, and small hand-made ones where a real one
//! would be too well behaved.
//!
//! Nothing here sleeps and hopes: whatever is waited for is an event, with a deadline that only a broken
//! build reaches.

pub mod browser;
pub mod certificate;
pub mod clip;
pub mod cluster;
pub mod collector;
pub mod crowd;
pub mod engine;
pub mod ffmpeg;
pub mod flv;
pub mod innocent;
pub mod line;
pub mod lossy;
pub mod memory;
pub mod process;
pub mod rtmp;
pub mod turn;
pub mod versions;
pub mod weir;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything takes on a busy machine; who waits so long has found a bug.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How often a state that can only be asked for is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// Awaits `future`; a test that waits longer than [`DEADLINE`] fails and says for what.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: waited {DEADLINE:?} in vain for {what}"),
        }
    }
}

/// Asks until there is an answer, with the same deadline.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(ASK_AGAIN);
    within(what, async {
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    })
    .await
}

/// Bytes that the kernel receives for a client that does not read: it would otherwise take megabytes (tcp(7), tcp_rmem).
const NARROW_BYTES: u32 = 16 * 1024;

/// Connects a client that is soon stuck if it does not read.
pub async fn connect_narrow(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(NARROW_BYTES)?;
    socket.connect(server).await
}

/// A tool that `tests/setup.sh` put beside the build.
pub fn tool(name: &str) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_BIN_EXE_weir")).ancestors().nth(2).unwrap().to_owned();
    let path = target.join("tools").join(name);
    assert!(path.exists(), "{} is missing: run tests/setup.sh test", path.display());
    path
}

/// Says how far a long story has come; past the test runner's capture, so that no minute is silent.
pub fn say(text: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "     {}: {text}", thread.name().unwrap_or("?"));
}
