//! Takes callers in, each by a decision about its address and its stream id.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::options::{self, Passphrase};
use crate::raw::{self, Failed, Id};
use crate::reactor::Socket;
use crate::{Connection, Error, Options, Reject};

/// Callers whose handshake is done and who wait to be taken; more are turned away.
const BACKLOG: i32 = 256;

/// How long is waited after a caller that could not be taken, which may be for want of something.
const PAUSE: Duration = Duration::from_millis(10);

/// A caller, before it is let in.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its address: it has answered there.
    pub peer: SocketAddr,
    /// Its stream id, 512 bytes at most, of any kind.
    pub stream_id: &'a [u8],
}

/// How a caller is let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// It must encrypt with this, or, without one, not encrypt.
    pub passphrase: Option<Passphrase>,
    /// At least this latency, in the place of the listener's.
    pub latency: Option<Duration>,
}

/// What becomes of a caller.
pub type Decision = Result<Terms, Reject>;

type Decide = Arc<dyn Fn(Request<'_>) -> Decision + Send + Sync>;

/// Who decides for which listener: libsrt's thread asks by number, so that no pointer can be one to something gone.
static DECIDE: RwLock<Option<HashMap<usize, Decide>>> = RwLock::new(None);

/// Waits for callers. Dropping it closes the port once its connections are closed, too.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    at: SocketAddr,
    _decides: Decides,
}

/// The place of a listener's decision.
#[derive(Debug)]
struct Decides(usize);

impl Decides {
    fn new(decide: Decide) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        DECIDE.write().get_or_insert_default().insert(number, decide);
        Self(number)
    }
}

impl Drop for Decides {
    fn drop(&mut self) {
        let decide = DECIDE.write().as_mut().and_then(|all| all.remove(&self.0));
        // Without the lock: whatever it holds may be anything.
        drop(decide);
    }
}

/// Asks the one that decides; in a thread of libsrt's, which serves the whole port.
fn ask(number: usize, id: Id, peer: SocketAddr, stream_id: &[u8]) -> Result<(), i32> {
    let decide = DECIDE.read().as_ref().and_then(|all| all.get(&number).map(Arc::clone));
    let Some(decide) = decide else { return Err(Reject::DOWN.code()) };
    let decided = catch_unwind(AssertUnwindSafe(|| decide(Request { peer, stream_id })));
    let Ok(decided) = decided else {
        tracing::error!(%peer, "deciding about an SRT caller panicked; it is refused");
        return Err(Reject::INTERNAL.code());
    };
    let terms = decided.map_err(Reject::code)?;
    let set = |terms: &Terms| -> Result<(), Failed> {
        if let Some(passphrase) = &terms.passphrase {
            options::set_passphrase(id, passphrase)?;
        }
        terms.latency.map_or(Ok(()), |latency| options::set_latency(id, latency))
    };
    set(&terms).map_err(|error| {
        tracing::error!(%peer, %error, "an SRT caller cannot be let in");
        Reject::INTERNAL.code()
    })
}

impl Listener {
    /// Listens at a UDP port that is bound already, which it takes over. `decide` is asked in a thread that serves the port:
    /// it must not wait.
    pub fn over(
        port: UdpSocket,
        options: &Options,
        decide: impl Fn(Request<'_>) -> Decision + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        raw::hook(ask);
        let at = port.local_addr().map_err(Error::Port)?;
        let failed = |failed: Failed| Error::local(at, &failed);
        let decides = Decides::new(Arc::new(decide));
        let socket = Socket::new(raw::create().map_err(failed)?).map_err(failed)?;
        options.set(socket.id).map_err(failed)?;
        raw::bind_over(socket.id, port).map_err(failed)?;
        raw::listen(socket.id, BACKLOG, decides.0).map_err(failed)?;
        Ok(Self { socket, at, _decides: decides })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.at
    }

    /// The next caller that was let in. Cancel it as you like.
    pub async fn accept(&self) -> Result<Connection, Error> {
        loop {
            let (id, peer) = match self.socket.reading(raw::accept).await {
                Ok(accepted) => accepted,
                // A caller that has gone while it was taken from the queue: the listener is as good as before.
                Err(failed) if raw::state(self.socket.id) == raw::state::LISTENING => {
                    tracing::debug!(at = %self.at, error = %failed, "an SRT caller has gone");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(failed) => return Err(Error::local(self.at, &failed)),
            };
            // One that has gone already is not worth a word.
            let (Ok(socket), Some(peer)) = (Socket::new(id), peer) else { continue };
            let stream_id = raw::stream_id(id);
            return Ok(Connection::new(socket, peer, stream_id));
        }
    }
}
