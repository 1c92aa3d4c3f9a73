//! A cluster of processes: replicas of the control plane, over memory or over etcd and Redis, and nodes that join them.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::engine::{Engine, Kind};
use super::process::Process;
use super::weir::{Answer, Weir, command, send};
use super::{until, within};

/// What lets nodes in.
pub const JOIN: &str = "join-this-cluster";

/// A free port of this machine.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A replica of the control plane. It is killed when this is dropped.
pub struct Control {
    dir: TempDir,
    /// The process, with its log.
    pub process: Process,
    /// Where apps come.
    pub http: SocketAddr,
    /// Where nodes come.
    pub grpc: SocketAddr,
    admin: SocketAddr,
}

/// A replica that has ended: what it left behind, and where it listened.
pub struct Ended {
    dir: TempDir,
    at: [SocketAddr; 3],
}

impl Control {
    /// The only one, which keeps everything in memory.
    pub async fn start() -> Self {
        Self::configured("").await
    }

    /// With this configuration.
    pub async fn configured(config: &str) -> Self {
        Self::listening(config, ANY).await
    }

    /// With this configuration, and for nodes at that address.
    pub async fn listening(config: &str, grpc: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("weir.toml"), config).unwrap();
        Ended { dir, at: [ANY, grpc, ANY] }.start().await
    }

    /// Kills it, and says where it was.
    pub async fn kill(mut self) -> Ended {
        self.process.signal("KILL").await;
        self.process.exit().await;
        Ended { dir: self.dir, at: [self.http, self.grpc, self.admin] }
    }

    /// Ends it by SIGTERM.
    pub async fn stop(self) -> (Ended, ExitStatus, String) {
        self.process.signal("TERM").await;
        let at = [self.http, self.grpc, self.admin];
        let (status, log) = self.process.finish().await;
        (Ended { dir: self.dir, at }, status, log)
    }

    /// The HTTP address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The operator's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("data/operator.token")).unwrap().trim().to_owned()
    }

    /// Asks the API, as the operator.
    pub async fn get(&self, path: &str) -> Answer {
        send(reqwest::Client::new().get(self.url(path)).bearer_auth(self.token())).await
    }

    /// The same with POST.
    pub async fn post(&self, path: &str) -> Answer {
        send(reqwest::Client::new().post(self.url(path)).bearer_auth(self.token())).await
    }

    /// All nodes.
    pub async fn nodes(&self) -> Vec<Value> {
        self.get("/api/v1/nodes").await.json()["nodes"].as_array().unwrap().clone()
    }

    /// Waits until nodes of these names and states are there, and no others.
    pub async fn until_nodes(&self, expected: &[(&str, &str)]) {
        until(&format!("{expected:?}"), async || {
            let nodes = self.nodes().await;
            let found: Vec<_> =
                nodes.iter().map(|n| (n["name"].as_str().unwrap(), n["state"].as_str().unwrap())).collect();
            (found == expected).then_some(())
        })
        .await;
    }

    /// What is known of a stream.
    pub async fn stream(&self, stream: &str) -> Option<Value> {
        let answer = self.get(&format!("/api/v1/streams/{stream}")).await;
        (answer.status == 200).then(|| answer.json())
    }

    /// Waits until something is known of a stream.
    pub async fn until_stream(&self, stream: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{stream} {what}"), async || self.stream(stream).await.filter(&is)).await
    }

    /// Waits until somebody publishes a stream.
    pub async fn until_live(&self, stream: &str) -> Value {
        self.until_stream(stream, "live", |info| info["state"] == "live").await
    }

    /// The edges that a player is told of, the best first.
    pub async fn edges(&self, stream: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/play/{stream}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["edges"].as_array().unwrap().clone()
    }

    /// The value of a sample in /metrics: its name with its labels as they stand there.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let text = send(reqwest::Client::new().get(format!("http://{}/metrics", self.admin))).await.text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until a sample is that much at least.
    pub async fn until_metric(&self, sample: &str, least: f64) {
        let enough = async || self.metric(sample).await.filter(|value| *value >= least);
        until(&format!("{sample} {least}"), enough).await;
    }

    /// Runs `weir ctl`.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = command(&self.dir);
        command.args(["ctl", "--api", &self.url(""), "--token-file", "data/operator.token"]).args(arguments);
        let output = within("weir ctl", command.stdin(Stdio::null()).output()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Ended {
    /// Starts it anew where it was.
    pub async fn start(self) -> Control {
        let Self { dir, at: [http, grpc, admin] } = self;
        let _ = std::fs::remove_file(dir.path().join("data/run.json"));
        let mut command = command(&dir);
        command.env("WEIR_CONTROL__CLUSTER__JOIN_TOKEN", JOIN);
        command.args(["control", "--http", &http.to_string(), "--grpc", &grpc.to_string()]);
        command.args(["--admin", &admin.to_string(), "--data", "data"]);
        let mut process = Process::spawn("control", command);
        let run = until("data/run.json", || {
            if let Some(status) = process.has_ended() {
                panic!("weir control ended at once: {status}");
            }
            let file = std::fs::read(dir.path().join("data/run.json")).ok();
            std::future::ready(file.and_then(|json| serde_json::from_slice::<Value>(&json).ok()))
        })
        .await;
        let address = |key: &str| run[key].as_str().unwrap().parse().unwrap();
        let (http, grpc, admin) = (address("http"), address("grpc"), address("admin"));
        Control { dir, process, http, grpc, admin }
    }
}

/// A node that joins by that replica.
pub async fn node(role: &str, name: &str, control: &Control) -> Weir {
    let url = format!("http://{}", control.grpc);
    let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n");
    Weir::role(role, &config, &["--control", &url, "--name", name]).await
}

/// An edge that knows where streams are to be found.
pub async fn edge(name: &str, control: &Control) -> Weir {
    let edge = node("edge", name, control).await;
    edge.process.line("origins of the cluster").await;
    edge
}

/// A whole cluster: two replicas over etcd and Redis, two origins, three edges.
pub struct Cluster {
    /// What replicas agree on.
    pub etcd: Engine,
    /// What replicas tell each other.
    pub redis: Engine,
    /// The replicas.
    pub controls: Vec<Control>,
    /// `origin-1`, `origin-2`.
    pub origins: Vec<Weir>,
    /// `edge-1`, `edge-2`, `edge-3`.
    pub edges: Vec<Weir>,
}

/// What a cluster's processes are configured with, beside how they find each other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Replicas.
    pub control: &'static str,
    /// Nodes: what comes before the first table, and other tables.
    pub node: &'static str,
    /// Tables of origins.
    pub origin: &'static str,
    /// Tables of edges.
    pub edge: &'static str,
}

impl Cluster {
    /// Starts all of it, and waits until everybody knows of everybody.
    pub async fn start(settings: Settings) -> Self {
        let (etcd, redis) = tokio::join!(Engine::start(Kind::Etcd), Engine::start(Kind::Redis));
        let config = format!("{}\n{}{}", settings.control, etcd.config(), redis.config());
        let (one, two) = tokio::join!(Control::configured(&config), Control::configured(&config));
        let controls = vec![one, two];
        let ways: Vec<String> = controls.iter().map(|control| format!("http://{}", control.grpc)).collect();
        let start = async |role: &'static str, name: &'static str| {
            let tables = if role == "edge" { settings.edge } else { settings.origin };
            let config = format!("{}\n[cluster]\njoin_token = \"{JOIN}\"\n{tables}", settings.node);
            let flags = ["--control", &ways[0], "--control", &ways[1], "--name", name];
            Weir::role(role, &config, &flags).await
        };
        let (origins, edges) = tokio::join!(
            async { tokio::join!(start("origin", "origin-1"), start("origin", "origin-2")) },
            async { tokio::join!(start("edge", "edge-1"), start("edge", "edge-2"), start("edge", "edge-3")) }
        );
        let (origins, edges) = (vec![origins.0, origins.1], vec![edges.0, edges.1, edges.2]);
        let cluster = Self { etcd, redis, controls, origins, edges };
        cluster.until_ready().await;
        cluster
    }

    /// Waits until each replica has all nodes as ready, and each edge knows both origins.
    pub async fn until_ready(&self) {
        let names = ["edge-1", "edge-2", "edge-3", "origin-1", "origin-2"];
        for control in &self.controls {
            control.until_nodes(&names.map(|name| (name, "ready"))).await;
        }
        for edge in &self.edges {
            until("two origins", async || {
                let text = edge.admin("/metrics").await.text();
                (text.matches("\nweir_edge_origin_up{").count() >= 2).then_some(())
            })
            .await;
        }
    }
}
