//! Replicas over one registry in memory, and nodes that call them, for tests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use control_api::rpc::command::Command;
use control_api::rpc::node_service_client::NodeServiceClient;
use control_api::{Secret, rpc};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::{Parts, Replica};
use crate::Config;
use crate::cache::{self, Cache};
use crate::nodes::Caller;
use crate::registry::{Entry, Expect, LeaseId, Memory, Registry, RegistryError, Revision, Snapshot, Watch};

/// What is asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    List,
    Put,
    Delete,
}

/// A registry that fails, or is slow, where a test wants that.
#[derive(Debug)]
pub(crate) struct Shaky {
    inner: Memory,
    failing: Mutex<Vec<(Op, &'static str)>>,
    /// Writes of names that begin like that are done, and answered when they are let go.
    held: watch::Sender<Option<&'static str>>,
}

impl Shaky {
    fn new() -> Self {
        Self { inner: Memory::new(), failing: Mutex::default(), held: watch::Sender::default() }
    }

    /// That fails for names that begin like that.
    pub(crate) fn fails(&self, op: Op, prefix: &'static str) {
        self.failing.lock().push((op, prefix));
    }

    /// Nothing can be read or written; leases and watches go on.
    pub(crate) fn is_away(&self) {
        [Op::Get, Op::List, Op::Put, Op::Delete].into_iter().for_each(|op| self.fails(op, ""));
    }

    /// Nothing fails any more, and nothing is held.
    pub(crate) fn is_well(&self) {
        self.failing.lock().clear();
        self.held.send_replace(None);
    }

    pub(crate) fn holds_writes(&self, prefix: &'static str) {
        self.held.send_replace(Some(prefix));
    }

    fn asked(&self, op: Op, key: &str) -> Result<(), RegistryError> {
        let fails =
            self.failing.lock().iter().any(|(failing, prefix)| *failing == op && key.starts_with(prefix));
        if fails { Err(RegistryError::Unavailable("a test".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Registry for Shaky {
    async fn get(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        self.asked(Op::Get, key)?;
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, RegistryError> {
        self.asked(Op::List, prefix)?;
        self.inner.list(prefix).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>, RegistryError> {
        self.asked(Op::Put, key)?;
        let done = self.inner.put(key, value, expect, lease).await;
        let is_free = |held: &Option<&str>| held.is_none_or(|prefix| !key.starts_with(prefix));
        let _ = self.held.subscribe().wait_for(is_free).await;
        done
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, RegistryError> {
        self.asked(Op::Delete, key)?;
        self.inner.delete(key, expect).await
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.inner.lease(ttl).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner.renew(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.inner.revoke(lease).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, RegistryError> {
        self.inner.watch(prefix, after).await
    }
}

/// What replicas have in common.
pub(crate) struct Cluster {
    registry: Arc<Shaky>,
    cache: Arc<dyn Cache>,
    join_token: Option<Secret>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Shaky::new()), cache: Arc::new(cache::Memory::new()), join_token: None }
    }

    pub(crate) fn with_token(token: &str) -> Self {
        Self { join_token: Some(Secret::new(token)), ..Self::new() }
    }

    pub(crate) fn registry(&self) -> &Shaky {
        &self.registry
    }

    pub(crate) fn replica(&self) -> Replica {
        let mut config = Config::default();
        config.cluster.join_token = self.join_token.clone();
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let name = format!("replica-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let registry: Arc<dyn Registry> = self.registry.clone();
        let cache = Arc::clone(&self.cache);
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
    conferences: watch::Receiver<rpc::Conferences>,
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
        let (confer, conferences) = watch::channel(rpc::Conferences::default());
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
                        Ok(Some(rpc::Command { command: Some(Command::Conferences(told)) })) => {
                            confer.send_replace(told);
                        }
                        Ok(Some(_)) => {}
                        _ => return,
                    },
                }
            }
        });
        Self { node, task, kicked, conferences, promote }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller { name: self.node.name.clone(), instance: self.node.instance }
    }

    /// Which stream it was told to end, and under which epoch.
    pub(crate) async fn kicked(&self) -> (String, u64) {
        self.kicked.clone().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    /// Waits until it is told that just these streams are muted.
    pub(crate) async fn mutes(&self, muted: &[&str]) {
        self.conferences.clone().wait_for(|told| told.muted == muted).await.unwrap();
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
