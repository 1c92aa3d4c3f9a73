//! `/api/v1/sessions`: who watches.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Query, State};
use control_api::rpc;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::nodes::replica;
use super::operator::Operator;
use super::problem::Problem;
use crate::nodes::{Filter, MAX_SESSIONS};

/// Somebody who watches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionInfo {
    /// The edge that serves it.
    node: String,
    /// Of this viewer at that edge.
    id: String,
    /// app/name.
    stream: String,
    /// `flv`, `ws-flv`, `ts`, `rtmp`, `srt` or `hls`.
    protocol: String,
    /// Its address.
    remote_addr: String,
    /// What its grant calls it.
    session: Option<String>,
    /// When it began, in milliseconds since 1970.
    began_at_ms: u64,
}

/// Who watches, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    sessions: Vec<SessionInfo>,
    /// How many there are at the edges that answered.
    total: u64,
    /// Edges that did not answer in time.
    silent: Vec<String>,
}

/// Whose sessions are wanted.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[serde(deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of this stream alone: app/name.
    stream: Option<String>,
    /// At this edge alone.
    node: Option<String>,
    /// So many at most, up to 1000; 100 by default.
    limit: Option<u32>,
}

/// Who watches
///
/// The edges are asked; nothing of it is kept.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    tag = "nodes",
    params(Wanted),
    security(("operator" = [])),
    responses(
        (status = 200, description = "Who watches, the oldest first", body = SessionList),
        (status = 400, description = "An unknown or malformed query parameter, or too many edges to ask", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached, or others ask the edges", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    _: Operator,
    Wanted { stream, node, limit }: Wanted,
) -> Result<Json<SessionList>, Problem> {
    let limit = limit.unwrap_or(100).min(MAX_SESSIONS);
    let stream = stream.map(|stream| match stream.split_once('/') {
        Some((app, name)) => Ok(rpc::StreamKey { app: app.to_owned(), name: name.to_owned() }),
        None => Err(Problem::bad_query("`stream` is app/name")),
    });
    let filter = Filter { node, stream: stream.transpose()?, limit };
    let mut list = SessionList { sessions: Vec::new(), total: 0, silent: Vec::new() };
    for said in replica(&context)?.nodes().sessions(&filter).await? {
        let Some(answer) = said.sessions else {
            list.silent.push(said.node);
            continue;
        };
        list.total += answer.total;
        list.sessions.extend(answer.sessions.into_iter().map(|session| info(&said.node, session)));
    }
    list.sessions.sort_by_key(|session| session.began_at_ms);
    list.sessions.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(list))
}

fn info(node: &str, session: rpc::Session) -> SessionInfo {
    SessionInfo {
        node: node.to_owned(),
        id: session.id,
        stream: session.key.map(|key| key.path()).unwrap_or_default(),
        protocol: session.protocol,
        remote_addr: session.remote_addr,
        session: Some(session.name).filter(|name| !name.is_empty()),
        began_at_ms: session.began_at_ms,
    }
}
