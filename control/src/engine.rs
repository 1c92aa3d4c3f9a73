//! Real engines for the tests: etcd and Redis as processes of their own, which end with whoever started them.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// How long an engine may take to start: seconds at most, but on a machine that builds beside it.
const START: Duration = Duration::from_secs(60);

/// A port that was free a moment ago. Somebody else may take it: then the engine ends, and its start is tried again.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A program that runs until it is dropped, even by a panic.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs a program; what it says goes into a file.
    pub(crate) fn start(program: &str, args: &[String], log: &Path) -> Self {
        let output = File::create(log).unwrap();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| match error.kind() {
                ErrorKind::NotFound => panic!("`{program}` is not installed: `make test` installs it"),
                _ => panic!("{program}: {error}"),
            });
        Self { child, log: log.to_owned() }
    }

    /// Waits until it says that. `false`: it ended before.
    pub(crate) async fn says(&mut self, what: &str) -> bool {
        let deadline = Instant::now() + START;
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            let said = std::fs::read_to_string(&self.log).unwrap();
            if said.contains(what) {
                return true;
            }
            if ended {
                return false;
            }
            assert!(Instant::now() < deadline, "no `{what}` in time: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it as a machine that hangs does: connections stay, nobody answers.
    pub(crate) fn freeze(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        // Its threads go on for a moment.
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it has ended");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A way to an engine that can lose connections as a network does: nobody is told, nothing passes any more. New ones work.
pub(crate) struct Network {
    pub(crate) port: u16,
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Network {
    /// A way to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let cut = watch::Sender::new(());
        let cuts = cut.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cut = cuts.subscribe();
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // Both stay open, and silent.
                        _ = cut.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port: own, cut, task }
    }

    /// Loses all connections there are.
    pub(crate) fn lose(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts something until it works: a port may be taken between the moment it was found free and its use.
pub(crate) async fn retried<T>(mut start: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..5 {
        if let Some(started) = start().await {
            return started;
        }
    }
    panic!("it did not start in five attempts");
}

/// A certificate of 127.0.0.1 and its key, as files in a folder.
pub(crate) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let signed =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}
