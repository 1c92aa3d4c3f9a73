//! A server process, and what it has used.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A running server with a folder of its own. Dropped, it ends.
pub(crate) struct Server {
    process: Child,
    /// Where it takes RTMP.
    pub(crate) rtmp: SocketAddr,
    /// Where it serves HTTP, if it does.
    pub(crate) http: Option<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(
        mut command: Command,
        folder: tempfile::TempDir,
        rtmp: SocketAddr,
        http: Option<SocketAddr>,
    ) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut server = Self { process, rtmp, http, _folder: folder };
        let began = Instant::now();
        for address in std::iter::once(rtmp).chain(http) {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = server.process.try_wait()? {
                    bail!("{command:?} ended with {status}: {}", server.log());
                }
                ensure!(
                    began.elapsed() < PATIENCE,
                    "{command:?} does not listen on {address}: {}",
                    server.log()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(server)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default()
    }

    /// Processor seconds that it has used, in user code and in the kernel.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        // Linux counts in hundredths, whatever its tick is.
        const TICKS_A_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("/proc/PID/stat")?;
        Ok((user + system) / TICKS_A_SECOND)
    }

    /// Memory that it has in use, in KiB; what the kernel keeps for its sockets is not in it.
    pub(crate) fn memory_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address on the loopback interface that nothing uses yet.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
