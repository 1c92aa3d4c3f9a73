//! Redis, as one server or as a cluster of three masters.

use control_api::Secret;
use redis::{Client, Cmd};
use tempfile::TempDir;

use crate::cache::{Config, Engine};
use crate::engine::{Process, certificate, free_port, retried};

/// What Redis says when it serves clients.
const READY: &str = "Ready to accept connections";
/// Slots that the keys of a cluster are spread over.
const SLOTS: u16 = 16384;
/// The password of every server.
pub(super) const PASSWORD: &str = "op3n-sesame";

/// One server, or several that are a cluster.
pub(super) struct Server {
    nodes: Vec<Node>,
    folder: TempDir,
    cluster: bool,
    tls: bool,
}

struct Node {
    args: Vec<String>,
    port: u16,
    bus: u16,
    process: Process,
}

impl Server {
    /// One server.
    pub(super) async fn start() -> Self {
        retried(async || Self::try_start(1, false, false).await).await
    }

    /// One server that speaks TLS only.
    pub(super) async fn start_tls() -> Self {
        retried(async || Self::try_start(1, false, true).await).await
    }

    /// A cluster of three masters.
    pub(super) async fn start_cluster() -> Self {
        let server = retried(async || Self::try_start(3, true, false).await).await;
        server.join().await;
        server
    }

    async fn try_start(nodes: usize, cluster: bool, tls: bool) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut server = Self { nodes: Vec::new(), folder, cluster, tls };
        for at in 0..nodes {
            let (port, bus) = (free_port(), free_port());
            let own = server.folder.path().join(format!("{at}"));
            std::fs::create_dir(&own).unwrap();
            let mut args = vec![
                ("--bind", "127.0.0.1".to_owned()),
                (if tls { "--tls-port" } else { "--port" }, port.to_string()),
                ("--dir", own.to_str().unwrap().to_owned()),
                ("--save", String::new()),
                ("--requirepass", PASSWORD.to_owned()),
            ];
            if cluster {
                args.extend([
                    ("--cluster-enabled", "yes".to_owned()),
                    ("--cluster-port", bus.to_string()),
                    ("--cluster-node-timeout", "2000".to_owned()),
                    ("--cluster-require-full-coverage", "no".to_owned()),
                ]);
            }
            if tls {
                let (certificate, key) = certificate(server.folder.path());
                args.extend([
                    ("--port", "0".to_owned()),
                    ("--tls-cert-file", certificate.to_str().unwrap().to_owned()),
                    ("--tls-key-file", key.to_str().unwrap().to_owned()),
                    ("--tls-auth-clients", "no".to_owned()),
                ]);
            }
            let args: Vec<String> =
                args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            let process = Process::start("redis-server", &args, &own.join("log"));
            server.nodes.push(Node { args, port, bus, process });
        }
        for node in &mut server.nodes {
            if !node.process.says(READY).await {
                return None;
            }
        }
        Some(server)
    }

    /// Makes a cluster of the nodes: each gets its share of the slots, and meets the others.
    async fn join(&self) {
        let share = SLOTS / 3 + 1;
        for (at, node) in (0..).zip(&self.nodes) {
            let (first, last) = (at * share, ((at + 1) * share).min(SLOTS) - 1);
            let slots = ["ADDSLOTSRANGE".to_owned(), first.to_string(), last.to_string()];
            self.ask(node.port, redis::cmd("CLUSTER").arg(&slots)).await;
            for other in &self.nodes {
                let (port, bus) = (other.port.to_string(), other.bus.to_string());
                self.ask(node.port, redis::cmd("CLUSTER").arg(&["MEET", "127.0.0.1", &port, &bus])).await;
            }
        }
        self.agreed().await;
    }

    /// Waits until every node of the cluster knows every other and the owner of every slot.
    async fn agreed(&self) {
        for node in &self.nodes {
            loop {
                let info = self.ask(node.port, redis::cmd("CLUSTER").arg("INFO")).await;
                let says = |what: &str| info.lines().any(|line| line.trim() == what);
                if says("cluster_state:ok") && says("cluster_slots_ok:16384") && says("cluster_known_nodes:3")
                {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    async fn ask(&self, port: u16, command: &Cmd) -> String {
        let client = Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{port}")).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    /// The port of a server.
    pub(super) fn port(&self, at: usize) -> u16 {
        self.nodes[at].port
    }

    /// How a replica reaches it.
    pub(super) fn config(&self) -> Config {
        self.config_with(PASSWORD)
    }

    pub(super) fn config_with(&self, password: &str) -> Config {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let url = |node: &Node| Secret::new(format!("{scheme}://:{password}@127.0.0.1:{}", node.port));
        Config {
            engine: Engine::Redis,
            urls: self.nodes.iter().map(url).collect(),
            cluster: self.cluster,
            ca_file: self.tls.then(|| self.folder.path().join("certificate.pem")),
            ..Config::default()
        }
    }

    pub(super) fn kill(&mut self, at: usize) {
        self.nodes[at].process.kill();
    }

    /// Starts a server that was killed. What it held is lost, but for its place in a cluster.
    pub(super) async fn restart(&mut self, at: usize) {
        let log = self.folder.path().join(format!("{at}/log"));
        let node = &mut self.nodes[at];
        node.process = retried(async || {
            let mut process = Process::start("redis-server", &node.args, &log);
            process.says(READY).await.then_some(process)
        })
        .await;
    }

    pub(super) fn freeze(&self, at: usize) {
        self.nodes[at].process.freeze();
    }

    pub(super) fn thaw(&self, at: usize) {
        self.nodes[at].process.thaw();
    }
}
