//! A server process, and what it has used.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Where a server is reached.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Addresses {
    pub(crate) rtmp: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// A running server with a folder of its own. Dropped, it ends.
pub(crate) struct Server {
    process: Child,
    at: Addresses,
    folder: tempfile::TempDir,
}

/// Processor time of each of a process's threads, in nanoseconds: finer than what is told of the whole process.
pub(crate) struct Threads(HashMap<String, u64>);

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(
        mut command: Command,
        folder: tempfile::TempDir,
        at: Addresses,
    ) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut server = Self { process, at, folder };
        let began = Instant::now();
        for address in [at.rtmp, at.http, at.https, at.admin].into_iter().flatten() {
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

    /// What it said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where it takes RTMP.
    pub(crate) fn rtmp(&self) -> Result<SocketAddr> {
        self.at.rtmp.context("the server takes no RTMP")
    }

    /// Where it serves HTTP.
    pub(crate) fn http(&self) -> Result<SocketAddr> {
        self.at.http.context("the server serves no HTTP")
    }

    /// Where it serves HTTPS.
    pub(crate) fn https(&self) -> Result<SocketAddr> {
        self.at.https.context("the server serves no HTTPS")
    }

    /// Where its metrics are.
    pub(crate) fn admin(&self) -> Result<SocketAddr> {
        self.at.admin.context("the server has no metrics")
    }

    /// Writes to its standard input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.process.stdin.as_mut().context("no standard input")?;
        Ok(writeln!(input, "{line}")?)
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

    /// What its threads have used.
    pub(crate) fn threads(&self) -> Result<Threads> {
        let mut threads = HashMap::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let path = thread?.path();
            // One that has just ended has no file any more.
            let Ok(text) = std::fs::read_to_string(path.join("schedstat")) else { continue };
            let ran = text.split(' ').next().and_then(|field| field.parse().ok()).context("schedstat")?;
            threads.insert(path.display().to_string(), ran);
        }
        ensure!(!threads.is_empty(), "the server has ended: {}", self.log());
        Ok(Threads(threads))
    }

    /// Memory that it has in use, in KiB; what the kernel keeps for its sockets is not in it.
    pub(crate) fn memory_kib(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Memory of its own in use, in KiB: without its program's pages, which may come in at any time.
    pub(crate) fn own_memory_kib(&self) -> Result<f64> {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("/proc/PID/status")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// The sum of a metric over all labels that have all of `labels` in them.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let url = format!("http://{}/metrics", self.admin()?);
        let text = reqwest::get(url).await?.error_for_status()?.text().await?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '))
            .filter(|(label, _)| label.is_empty() || label.starts_with('{'))
            .filter(|(label, _)| labels.iter().all(|wanted| label.contains(wanted)))
            .filter_map(|(_, value)| value.parse::<f64>().ok())
            .sum())
    }
}

impl Threads {
    /// Seconds since then, of all threads that are still there.
    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        let ran =
            |(id, ran): (&String, &u64)| ran.saturating_sub(before.0.get(id).copied().unwrap_or_default());
        self.0.iter().map(ran).sum::<u64>() as f64 * 1e-9
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
