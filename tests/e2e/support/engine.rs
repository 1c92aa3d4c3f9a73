//! etcd and Redis as processes of their own, which can be stopped, killed and started anew where they were.

use std::net::{Ipv4Addr, TcpListener};

use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::until;

/// Starts of an engine before it is given up: a port that was free may be somebody else's by then.
const ATTEMPTS: usize = 5;

/// A running engine. It is killed when this is dropped.
pub struct Engine {
    kind: Kind,
    ports: [u16; 2],
    dir: TempDir,
    process: Process,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What replicas agree on.
    Etcd,
    /// What replicas tell each other.
    Redis,
}

impl Engine {
    /// Starts one on free ports.
    pub async fn start(kind: Kind) -> Self {
        for _ in 0..ATTEMPTS {
            let port = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let (ports, dir) = ([port(), port()], tempfile::tempdir().unwrap());
            let mut process = run(kind, ports, &dir);
            if answers(&mut process, ports[0]).await {
                return Self { kind, ports, dir, process };
            }
        }
        panic!("{kind:?} did not start in {ATTEMPTS} attempts");
    }

    /// What of a replica's configuration leads here.
    pub fn config(&self) -> String {
        let port = self.ports[0];
        match self.kind {
            Kind::Etcd => format!(
                "[control.cluster.registry]\nengine = \"etcd\"\nendpoints = [\"http://127.0.0.1:{port}\"]\n"
            ),
            Kind::Redis => {
                format!(
                    "[control.cluster.cache]\nengine = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n"
                )
            }
        }
    }

    /// Stops it as a machine that hangs does: connections stay, nobody answers.
    pub async fn freeze(&self) {
        self.process.signal("STOP").await;
    }

    /// Lets it go on.
    pub async fn thaw(&self) {
        self.process.signal("CONT").await;
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) {
        self.process.signal("KILL").await;
        self.process.exit().await;
    }

    /// Starts it where it was, with what it has on disk.
    pub async fn restart(&mut self) {
        self.process = run(self.kind, self.ports, &self.dir);
        assert!(answers(&mut self.process, self.ports[0]).await, "{:?} does not start again", self.kind);
    }
}

fn run(kind: Kind, [port, peers]: [u16; 2], dir: &TempDir) -> Process {
    let mut command;
    match kind {
        Kind::Etcd => {
            let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
            command = Command::new("etcd");
            command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.args(["--initial-cluster", &format!("default={peers}"), "--log-level", "warn"]);
            // Nothing here outlives the machine.
            command.arg("--unsafe-no-fsync").arg("--data-dir").arg(dir.path().join("etcd"));
        }
        Kind::Redis => {
            command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--dir"]).arg(dir.path());
        }
    }
    command.current_dir(dir.path());
    Process::spawn(&format!("{kind:?}"), command)
}

/// Waits until it takes connections. `false`: it has ended.
async fn answers(process: &mut Process, port: u16) -> bool {
    until("an engine to take connections", || {
        let ended = process.has_ended().is_some();
        async move {
            let connected = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok();
            (ended || connected).then_some(!ended)
        }
    })
    .await
}
