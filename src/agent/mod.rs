//! A node's side of the cluster: it joins, says what it carries, does what it is told, and asks before a stream is published.
//!
//! Nothing here is waited for by whoever watches. While no replica of the control plane can be reached, the node goes on
//! with what it knows.

mod config;
mod leases;
mod named;
mod place;
mod reports;
mod routes;
mod session;

use std::sync::Arc;
use std::time::Duration;

use ::edge::{Edge, Origins};
use ::origin::Origin;
use anyhow::Context;
use control_api::grant::{Grants, KeySet};
use control_api::rpc;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};

use crate::lifecycle::Lifecycle;
pub(crate) use config::Config;
use named::Named;
pub(crate) use place::{Ports, node};

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
    /// Of an edge alone.
    pub(crate) origins: Option<Origins>,
    pub(crate) grants: Arc<Grants>,
}

/// What the agent asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Read the configuration again.
    Reload,
}

/// Where the agent finds what to do next.
struct Agent {
    node: rpc::Node,
    endpoints: Vec<Endpoint>,
    join_token: Option<String>,
    roles: Roles,
    life: Lifecycle,
    /// An operator wants nobody new to come here.
    drained: watch::Sender<bool>,
    /// The connection to a replica, and what is shown there; `None` while there is none.
    line: watch::Sender<Option<Line>>,
    /// The configured upstream, whose list of origins the control plane replaces.
    upstream: ::edge::UpstreamConfig,
    /// The keys of the configuration, to which those of the control plane are added.
    own_keys: Mutex<KeySet>,
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

/// Joins the cluster, and stays in it until the process ends. What it is told comes back.
pub(crate) fn start(
    config: &Config,
    node: rpc::Node,
    roles: Roles,
    upstream: ::edge::UpstreamConfig,
    own_keys: KeySet,
    life: Lifecycle,
) -> anyhow::Result<mpsc::Receiver<Told>> {
    let endpoints = config.control.iter().map(|url| endpoint(url)).collect::<anyhow::Result<Vec<_>>>()?;
    let (told, tell) = mpsc::channel(4);
    let join_token = config.join_token.as_ref().map(|token| token.reveal().to_owned());
    let (line, drained) = (watch::Sender::new(None), watch::Sender::new(false));
    let (own_keys, named) = (Mutex::new(own_keys), Mutex::default());
    let agent = Arc::new(Agent {
        node,
        endpoints,
        join_token,
        roles,
        life,
        drained,
        line,
        upstream,
        own_keys,
        told,
        named,
    });
    if let Some(origin) = &agent.roles.origin {
        origin.lease_from(Arc::new(leases::Leases::new(agent.line.subscribe())));
        tokio::spawn(leases::keep(origin.clone(), agent.line.subscribe()));
    }
    if let Some(edge) = &agent.roles.edge {
        tokio::spawn(routes::follow(edge.clone(), agent.roles.origins.clone(), agent.line.subscribe()));
    }
    tokio::spawn(async move { agent.run().await });
    Ok(tell)
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
