//! `/api/v1/streams`: what is live, one stream of it, and ending it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use control_api::{ClusterError, StreamInfo};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::operator::Operator;
use super::problem::Problem;

/// Streams in a page, unless asked otherwise: a screenful or two.
const DEFAULT_LIMIT: usize = 100;

/// Streams in a page at most: about 1 MB of JSON.
const MAX_LIMIT: usize = 1000;

/// Which part of the list is wanted.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[serde(deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct Selection {
    /// Only streams of this app.
    app: Option<String>,
    /// At most this many, 1 to 1000; 100 if absent. More than 1000 is taken as 1000.
    #[param(value_type = Option<u64>, minimum = 1, default = 100)]
    limit: Option<NonZeroUsize>,
    /// Only streams after this one, as `app/name`: the `next` of the page before.
    after: Option<String>,
}

/// Which stream is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct Key {
    /// The stream's app.
    app: String,
    /// The stream's name.
    name: String,
}

/// A part of the list of streams, ordered by app and name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamPage {
    /// The streams of this page.
    streams: Vec<StreamInfo>,
    /// How many there are over all pages, of the app if one was asked for.
    total: u64,
    /// What to ask as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `after` does not name a place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`after` is not of the form app/name")]
pub(super) struct CursorError;

/// What is live, by app and name
///
/// Addresses of publishers are only told to the operator.
#[utoipa::path(
    get,
    path = "/api/v1/streams",
    tag = "streams",
    params(Selection),
    security((), ("operator" = [])),
    responses(
        (status = 200, description = "A page of the list", body = StreamPage),
        (status = 400, description = "An unknown or malformed query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A token was presented and is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    operator: Option<Operator>,
    selection: Selection,
) -> Result<Json<StreamPage>, Problem> {
    let after = selection.after.as_deref().map(cursor).transpose()?;
    let limit = selection.limit.map_or(DEFAULT_LIMIT, NonZeroUsize::get).min(MAX_LIMIT);
    let mut streams = context.cluster.streams().await;
    streams.retain(|stream| selection.app.as_ref().is_none_or(|app| *app == stream.app));
    let total = streams.len() as u64;
    let rest = streams.into_iter().filter(|s| after.is_none_or(|after| (&*s.app, &*s.name) > after));
    let mut streams: Vec<_> =
        rest.take(limit + 1).map(|stream| shown_to(operator.as_ref(), stream)).collect();
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().filter(|_| more).map(|last| format!("{}/{}", last.app, last.name));
    Ok(Json(StreamPage { streams, total, next }))
}

/// One stream
///
/// The publisher's address is only told to the operator.
#[utoipa::path(
    get,
    path = "/api/v1/streams/{app}/{name}",
    tag = "streams",
    params(Key),
    security((), ("operator" = [])),
    responses(
        (status = 200, description = "The stream", body = StreamInfo),
        (status = 400, description = "The path is not UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A token was presented and is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such stream is live", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or DELETE", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one(
    State(context): State<Arc<Context>>,
    operator: Option<Operator>,
    Key { app, name }: Key,
) -> Result<Json<StreamInfo>, Problem> {
    match context.cluster.stream(&app, &name).await {
        Some(stream) => Ok(Json(shown_to(operator.as_ref(), stream))),
        None => Err(ClusterError::NoSuchStream { app, name }.into()),
    }
}

/// End a stream
///
/// Its publisher is told and disconnected, its viewers' streams end. The publisher may publish again.
#[utoipa::path(
    delete,
    path = "/api/v1/streams/{app}/{name}",
    tag = "streams",
    params(Key),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is ended"),
        (status = 400, description = "The path is not UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such stream is live", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or DELETE", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn kick(
    State(context): State<Arc<Context>>,
    _: Operator,
    Key { app, name }: Key,
) -> Result<StatusCode, Problem> {
    context.cluster.kick(&app, &name).await?;
    tracing::info!(app, name, "the operator ended a stream");
    Ok(StatusCode::NO_CONTENT)
}

fn cursor(after: &str) -> Result<(&str, &str), CursorError> {
    after.split_once('/').ok_or(CursorError)
}

/// Who publishes from where is between the publisher and the operator.
fn shown_to(operator: Option<&Operator>, mut stream: StreamInfo) -> StreamInfo {
    if operator.is_none() {
        stream.publisher.remote_addr = None;
    }
    stream
}
