//! Replicas over one registry in memory, and nodes that call them, for tests.

use std::sync::Arc;
use std::time::Duration;

use control_api::rpc::command::Command;
use control_api::rpc::node_service_client::NodeServiceClient;
use control_api::{Secret, rpc};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{Parts, Replica};
use crate::Config;
use crate::cache::{self, Cache};
use crate::nodes::Caller;
use crate::registry::{Memory, Registry};

/// What replicas have in common.
pub(crate) struct Cluster {
    registry: Arc<dyn Registry>,
    cache: Arc<dyn Cache>,
    join_token: Option<Secret>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Memory::new()), cache: Arc::new(cache::Memory::new()), join_token: None }
    }

    pub(crate) fn with_token(token: &str) -> Self {
        Self { join_token: Some(Secret::new(token)), ..Self::new() }
    }

    pub(crate) fn replica(&self) -> Replica {
        let mut config = Config::default();
        config.cluster.join_token = self.join_token.clone();
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let name = format!("replica-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (registry, cache) = (Arc::clone(&self.registry), Arc::clone(&self.cache));
        let parts = Parts { name, registry, cache, clock: now_ms, hooks: None, operator: None };
        Replica::start(&config, parts)
    }
}

/// Milliseconds since 2026 or so, by the clock of the test, which may be held.
pub(crate) fn now_ms() -> u64 {
    static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    let now = tokio::time::Instant::now();
    let start = *START.get_or_init(|| now);
    let ahead = now.saturating_duration_since(start);
    1_800_000_000_000 + u64::try_from(ahead.as_millis()).unwrap()
}

/// Waits until a replica has its lease.
pub(crate) async fn lease(replica: &Replica) {
    replica.nodes().until_leased().await;
}

pub(crate) fn edge(name: &str, instance: u64) -> rpc::Node {
    rpc::Node {
        name: name.to_owned(),
        role: rpc::Role::Edge.into(),
        instance,
        addresses: Some(rpc::Addresses { http: "http://10.0.0.1:8080".to_owned(), ..Default::default() }),
        ..rpc::Node::default()
    }
}

pub(crate) fn origin(name: &str, instance: u64) -> rpc::Node {
    let relay = format!("http://10.0.1.{instance}:8081");
    rpc::Node {
        role: rpc::Role::Origin.into(),
        addresses: Some(rpc::Addresses { relay, ..Default::default() }),
        ..edge(name, instance)
    }
}

pub(crate) fn with_token<T>(mut request: Request<T>, token: &str) -> Request<T> {
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A node that beats until it dies.
pub(crate) struct Node {
    node: rpc::Node,
    task: tokio::task::JoinHandle<()>,
    kicked: watch::Receiver<Option<(String, u64)>>,
    promote: watch::Sender<Option<String>>,
}

impl Node {
    pub(crate) async fn join(replica: &Replica, node: rpc::Node) -> Self {
        lease(replica).await;
        let mut client = NodeServiceClient::new(replica.services());
        let request = rpc::RegisterRequest { node: Some(node.clone()) };
        let token = client.register(request).await.unwrap().into_inner().token;
        let (beats, sending) = mpsc::channel(4);
        beats.send(rpc::Heartbeat::default()).await.unwrap();
        let request = with_token(Request::new(ReceiverStream::new(sending)), &token);
        let mut commands = client.beat(request).await.unwrap().into_inner();
        let (kick, kicked) = watch::channel(None);
        let promote = watch::Sender::new(None);
        let promoted = promote.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {
                        if beats.send(rpc::Heartbeat::default()).await.is_err() {
                            return;
                        }
                    }
                    command = commands.message() => match command {
                        Ok(Some(rpc::Command { command: Some(Command::Kick(told)) })) => {
                            kick.send_replace(Some((format!("{}/{}", told.app, told.name), told.epoch)));
                        }
                        Ok(Some(rpc::Command { command: Some(Command::Promote(told)) })) => {
                            promoted.send_replace(Some(format!("{}/{}", told.app, told.name)));
                        }
                        Ok(Some(_)) => {}
                        _ => return,
                    },
                }
            }
        });
        Self { node, task, kicked, promote }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { name: self.node.name.clone(), instance: self.node.instance }
    }

    /// Which stream it was told to end, and under which epoch.
    pub(crate) async fn kicked(&self) -> (String, u64) {
        self.kicked.clone().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    /// Which stream's backup it was told to promote.
    pub(crate) async fn promoted(&self) -> String {
        self.promote.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    /// What it was told to promote before counts no more.
    pub(crate) fn forget(&self) {
        self.promote.send_replace(None);
    }

    /// It is killed: its line breaks.
    pub(crate) async fn dies(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
