//! `/api/v1/nodes`: who is in the cluster, and what an operator can have them do.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use control_api::rpc::{Reload, command};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::operator::Operator;
use super::problem::Problem;
use crate::nodes::{Addresses, Known, Role};
use crate::replica::Replica;

/// A node of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeInfo {
    /// Unique in the cluster.
    name: String,
    /// What it does.
    role: Role,
    /// `ready`; `draining`: it takes nobody new; `away`: it has not been heard for seconds.
    state: &'static str,
    /// Of weir.
    version: String,
    /// Where it is reached.
    addresses: Addresses,
    /// Where it is.
    region: Option<String>,
    /// Whose line it has.
    isp: Option<String>,
    /// How much of the streams it gets beside others.
    weight: f32,
    /// What its line carries, in bits a second; 0: not known.
    capacity_bps: u64,
    /// Bits a second that it sends.
    out_bps: u64,
    /// Bits a second that come in from publishers.
    in_bps: u64,
    /// Of all its cores, 0 to 1.
    cpu: f32,
    /// Viewers.
    connections: u32,
    /// Streams that are published there.
    streams: u32,
    /// Resident memory in bytes.
    memory_bytes: u64,
    /// The replica of the control plane that hears it.
    replica: String,
}

impl NodeInfo {
    fn of(known: Known) -> Self {
        let state = known.state();
        let (record, load) = (known.record, known.load);
        Self {
            name: record.name,
            role: record.role,
            state,
            version: record.version,
            addresses: record.addresses,
            region: record.region,
            isp: record.isp,
            weight: record.weight,
            capacity_bps: record.capacity_bps,
            out_bps: load.out_bps,
            in_bps: load.in_bps,
            cpu: load.cpu,
            connections: load.connections,
            streams: load.streams,
            memory_bytes: load.memory_bytes,
            replica: record.replica,
        }
    }
}

/// All nodes, ordered by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeList {
    nodes: Vec<NodeInfo>,
}

/// Which node is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct Name {
    /// Its name.
    name: String,
}

/// How to drain.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[serde(deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Let it take people again.
    #[serde(default)]
    undo: bool,
}

/// The nodes of the cluster
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    tag = "nodes",
    security(("operator" = [])),
    responses(
        (status = 200, description = "All nodes, ordered by name", body = NodeList),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    _: Operator,
) -> Result<Json<NodeList>, Problem> {
    let nodes = replica(&context)?.nodes().all().into_iter().map(NodeInfo::of).collect();
    Ok(Json(NodeList { nodes }))
}

/// Drain a node
///
/// Nobody new is sent there; those who are there stay until it ends. Holds for this process of the node: one that is started
/// anew takes people again.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/drain",
    tag = "nodes",
    params(Name, How),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It drains, or no longer"),
        (status = 400, description = "An unknown or malformed query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node is there", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not POST", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn drain(
    State(context): State<Arc<Context>>,
    _: Operator,
    Name { name }: Name,
    How { undo }: How,
) -> Result<StatusCode, Problem> {
    if !replica(&context)?.nodes().drain(&name, undo).await? {
        return Err(Problem::no_such_node(&name));
    }
    tracing::info!(node = name, undo, "the operator drains a node");
    Ok(StatusCode::NO_CONTENT)
}

/// Have a node read its configuration again
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{name}/reload",
    tag = "nodes",
    params(Name),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is told"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node is there", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not POST", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn reload(
    State(context): State<Arc<Context>>,
    _: Operator,
    Name { name }: Name,
) -> Result<StatusCode, Problem> {
    if !replica(&context)?.nodes().tell(&name, command::Command::Reload(Reload {})).await? {
        return Err(Problem::no_such_node(&name));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Of a process that coordinates a cluster.
pub(super) fn replica(context: &Context) -> Result<&Replica, Problem> {
    context.replica.as_ref().ok_or_else(Problem::no_cluster)
}
