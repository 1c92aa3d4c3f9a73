//! etcd, as one member or several.

use tempfile::TempDir;

use crate::engine::{Process, certificate, free_port, retried};
use crate::registry::Config;

/// What etcd says when it serves clients.
const READY: &str = "ready to serve client requests";

/// An etcd cluster.
pub(super) struct Server {
    members: Vec<Member>,
    folder: TempDir,
    tls: bool,
}

struct Member {
    args: Vec<String>,
    endpoint: String,
    process: Process,
}

impl Server {
    /// So many members.
    pub(super) async fn start(members: usize) -> Self {
        retried(async || Self::try_start(members, false).await).await
    }

    /// One member that speaks TLS; its certificate is `certificate.pem` in the folder.
    pub(super) async fn start_tls() -> Self {
        retried(async || Self::try_start(1, true).await).await
    }

    async fn try_start(members: usize, tls: bool) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let scheme = if tls { "https" } else { "http" };
        let clients: Vec<String> =
            (0..members).map(|_| format!("{scheme}://127.0.0.1:{}", free_port())).collect();
        let peers: Vec<String> = (0..members).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let cluster: Vec<String> = peers.iter().enumerate().map(|(at, url)| format!("m{at}={url}")).collect();
        let mut server = Self { members: Vec::new(), folder, tls };
        for (at, (client, peer)) in clients.into_iter().zip(peers).enumerate() {
            let data = server.folder.path().join(format!("m{at}"));
            let mut args: Vec<String> = [
                ("--name", format!("m{at}")),
                ("--data-dir", data.to_str().unwrap().to_owned()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", cluster.join(",")),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect();
            if tls {
                let (certificate, key) = certificate(server.folder.path());
                args.extend([format!("--cert-file={}", certificate.display())]);
                args.extend([format!("--key-file={}", key.display())]);
            }
            let process = Process::start("etcd", &args, &server.folder.path().join(format!("m{at}.log")));
            server.members.push(Member { args, endpoint: client, process });
        }
        for member in &mut server.members {
            if !member.process.says(READY).await {
                return None;
            }
        }
        Some(server)
    }

    /// How a replica reaches it.
    pub(super) fn config(&self) -> Config {
        Config {
            engine: crate::registry::Engine::Etcd,
            endpoints: self.members.iter().map(|member| member.endpoint.clone()).collect(),
            ca_file: self.tls.then(|| self.folder.path().join("certificate.pem")),
            ..Config::default()
        }
    }

    /// The port that a member serves clients on.
    pub(super) fn port(&self, at: usize) -> u16 {
        url::Url::parse(&self.members[at].endpoint).unwrap().port().unwrap()
    }

    /// A client of etcd itself, for what the registry does not do.
    pub(super) async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect(self.config().endpoints, None).await.unwrap()
    }

    /// Ends a member as `kill -9` does.
    pub(super) fn kill(&mut self, at: usize) {
        self.members[at].process.kill();
    }

    /// Starts a member that was killed, with what it had stored.
    pub(super) async fn restart(&mut self, at: usize) {
        let log = self.folder.path().join(format!("m{at}.log"));
        let member = &mut self.members[at];
        member.process = retried(async || {
            let mut process = Process::start("etcd", &member.args, &log);
            process.says(READY).await.then_some(process)
        })
        .await;
    }

    pub(super) fn freeze(&self, at: usize) {
        self.members[at].process.freeze();
    }

    pub(super) fn thaw(&self, at: usize) {
        self.members[at].process.thaw();
    }
}
