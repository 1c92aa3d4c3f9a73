//! A node's side of the cluster: it joins, says what it carries, does what it is told, and asks before a stream is published.
//!
//! Nothing here is waited for by whoever watches. While no replica of the control plane can be reached, the node goes on
//! with what it knows.

mod conferences;
mod config;
mod doors;
mod given;
mod ingests;
mod keyring;
mod leases;
mod named;
mod place;
mod remotes;
mod reports;
mod routes;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::edge::{Edge, Origins};
use ::origin::Origin;
use anyhow::Context;
use control_api::{Secret, rpc};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::lifecycle::Lifecycle;
pub(crate) use config::Config;
pub(crate) use keyring::Keyring;
use named::Named;
pub(crate) use place::{Ports, node};
pub(crate) use remotes::Remotes;

/// How long a replica has for taking a connection, and for the answer to a call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How a line that died is noticed.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts to join.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What a node has that the control plane is told of, or commands.
#[derive(Clone)]
pub(crate) struct Roles {
    pub(crate) origin: Option<Origin>,
    pub(crate) edge: Option<Edge>,
    /// Of an origin.
    pub(crate) remotes: Option<Remotes>,
    /// Of an edge alone.
    pub(crate) origins: Option<Origins>,
    pub(crate) keyring: Arc<Keyring>,
}

/// Where the control plane is.
pub(crate) enum Replicas {
    /// In other processes.
    Far(Vec<Endpoint>),
    /// In this one: its services are called without a socket.
    Near(Routes),
}

impl Replicas {
    /// Those that the configuration names.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        config.control.iter().map(|url| endpoint(url)).collect::<anyhow::Result<Vec<_>>>().map(Self::Far)
    }
}

/// What calls go by.
type Channel =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, tonic::Status>;

/// What the agent asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Read the configuration again.
    Reload,
}

/// Where the agent finds what to do next.
struct Agent {
    node: rpc::Node,
    replicas: Replicas,
    join_token: Option<String>,
    roles: Roles,
    life: Lifecycle,
    /// An operator wants nobody new to come here.
    drained: watch::Sender<bool>,
    /// The connection to a replica, and what is shown there; `None` while there is none.
    line: watch::Sender<Option<Line>>,
    /// The configured upstream, whose list of origins the control plane replaces.
    upstream: ::edge::UpstreamConfig,
    /// What the control plane wants to be asked, once it has said so.
    policy: watch::Sender<Option<rpc::Policy>>,
    /// Where publishers can be passed on to.
    ingests: watch::Sender<Vec<String>>,
    /// Of an origin: the conferences that there are.
    conferences: watch::Sender<conferences::Names>,
    told: mpsc::Sender<Told>,
    /// The origins of the cluster.
    named: Mutex<Named>,
}

/// A connection to a replica.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    token: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
}

impl Line {
    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request that shows who asks.
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// What the process has of its agent.
pub(crate) struct Orders {
    told: mpsc::Receiver<Told>,
    /// Streams that the control plane believes to be here, and viewers who have left and of whom it does not know.
    streams: watch::Receiver<usize>,
    leaving: Arc<AtomicUsize>,
}

impl Orders {
    /// Of a process that is in no cluster: none ever comes.
    pub(crate) fn none() -> Self {
        Self { told: mpsc::channel(1).1, streams: watch::channel(0).1, leaving: Arc::default() }
    }

    /// The next; `None`: none will come.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// Waits until the control plane knows that nothing is left here, or for a moment.
    pub(crate) async fn settle(&mut self) {
        let Self { streams, leaving, .. } = self;
        let settled = async {
            let _ = streams.wait_for(|streams| *streams == 0).await;
            while leaving.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
        };
        // What is not told until then is found by those who miss this process.
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }
}

/// How long the control plane has for the last news of a process, and how often it is looked whether it has them.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_LOOK: Duration = Duration::from_millis(10);

/// Joins the cluster, and stays in it until the process ends. What it is told comes back.
pub(crate) fn start(
    replicas: Replicas,
    join_token: Option<&Secret>,
    node: rpc::Node,
    roles: Roles,
    upstream: ::edge::UpstreamConfig,
    life: Lifecycle,
) -> Orders {
    let (told, orders) = mpsc::channel(4);
    let (left, streams) = watch::channel(0);
    let leaving = Arc::new(AtomicUsize::new(0));
    let join_token = join_token.map(|token| token.reveal().to_owned());
    let agent = Agent {
        node,
        replicas,
        join_token,
        roles,
        life,
        drained: watch::Sender::new(false),
        line: watch::Sender::new(None),
        upstream,
        policy: watch::Sender::new(None),
        ingests: watch::Sender::default(),
        conferences: watch::Sender::default(),
        named: Mutex::default(),
        told,
    };
    let agent = Arc::new(agent);
    if let Some(origin) = &agent.roles.origin {
        let has_others = matches!(agent.replicas, Replicas::Far(_));
        let leases = leases::Leases::new(agent.line.subscribe(), agent.policy.subscribe(), has_others);
        let given = leases.given();
        origin.lease_from(Arc::new(leases));
        let (names, line) = (agent.conferences.subscribe(), agent.line.subscribe());
        tokio::spawn(conferences::tell(origin.clone(), names, line));
        tokio::spawn(leases::keep(origin.clone(), given, agent.line.subscribe(), left));
    }
    if let Some(edge) = &agent.roles.edge {
        let (doors, tell) =
            doors::doors(agent.line.subscribe(), agent.policy.subscribe(), Arc::clone(&leaving));
        edge.decide_by(Arc::new(doors));
        let (line, known) = (agent.line.subscribe(), agent.ingests.subscribe());
        edge.publish_by(Arc::new(ingests::Ingests { line, known }));
        tokio::spawn(tell);
        tokio::spawn(routes::follow(edge.clone(), agent.roles.origins.clone(), agent.line.subscribe()));
    }
    tokio::spawn(async move { agent.run().await });
    Orders { told: orders, streams, leaving }
}

/// The services of a replica in this process, or a connection to another one, as what calls go by.
fn channel<S>(service: S) -> Channel
where
    S: tower::Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Error: Into<::edge::BoxError>,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(|error| tonic::Status::from_error(error.into())))
}

fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("`cluster.control`: {url:?} is no URL of a control plane"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}
