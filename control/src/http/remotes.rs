//! `/api/v1/pulls` and `/api/v1/pushes`: streams that are fetched from where they are, and sent on.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, State};
use control_api::RemoteInfo;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::nodes::replica;
use super::operator::Operator;
use super::problem::Problem;
use crate::remotes::{Order, Way};

/// All pulls, ordered by app and name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PullList {
    pulls: Vec<RemoteInfo>,
}

/// All pushes, ordered by app and name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PushList {
    pushes: Vec<RemoteInfo>,
}

/// How RTP comes by RTSP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// Over the connection of RTSP.
    #[default]
    Tcp,
    /// In datagrams of its own.
    Udp,
}

/// A stream that is to be fetched.
#[derive(Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct PullWanted {
    /// What it is called here: app/name.
    stream: String,
    /// Where it is: `rtsp://…`, or `srt://host:port?streamid=…&passphrase=…&latency=…`. It is shown to nobody.
    url: String,
    /// How RTP comes by RTSP; `tcp` if absent.
    #[serde(default)]
    transport: Transport,
    /// Only while somebody watches.
    #[serde(default)]
    on_demand: bool,
}

/// A stream that is to be sent on.
#[derive(Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct PushWanted {
    /// Which one: app/name.
    stream: String,
    /// Where to: `srt://host:port?streamid=…&passphrase=…&latency=…`. It is shown to nobody.
    url: String,
}

/// Which pull is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct PullKey {
    /// The stream's app.
    app: String,
    /// The stream's name.
    name: String,
}

/// Which push is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct PushKey {
    /// The `id` that it was ordered under.
    id: String,
}

fn split(stream: &str) -> (String, String) {
    // One without a slash is refused for its empty name.
    let (app, name) = stream.split_once('/').unwrap_or((stream, ""));
    (app.to_owned(), name.to_owned())
}

/// Streams that are fetched
///
/// Those that were ordered here, and those of the origins' own configurations.
#[utoipa::path(
    get,
    path = "/api/v1/pulls",
    tag = "remotes",
    security(("operator" = [])),
    responses(
        (status = 200, description = "All pulls, ordered by app and name", body = PullList),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or POST", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pulls(
    State(context): State<Arc<Context>>,
    _: Operator,
) -> Result<Json<PullList>, Problem> {
    Ok(Json(PullList { pulls: replica(&context)?.remotes().list(Way::Pull) }))
}

/// Have a stream fetched
///
/// An origin calls its source, and another one when that is gone. A source that fails is called again and again until the order
/// is deleted.
#[utoipa::path(
    post,
    path = "/api/v1/pulls",
    tag = "remotes",
    security(("operator" = [])),
    request_body = PullWanted,
    responses(
        (status = 201, description = "It is ordered", body = RemoteInfo),
        (status = 400, description = "An order that nobody could carry out", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or POST", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The stream is pulled already, or there are too many orders", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not what is described here", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pull(
    State(context): State<Arc<Context>>,
    _: Operator,
    wanted: PullWanted,
) -> Result<(StatusCode, Json<RemoteInfo>), Problem> {
    let PullWanted { stream, url, transport, on_demand } = wanted;
    let (app, name) = split(&stream);
    let order = Order { way: Way::Pull, app, name, url, udp: transport == Transport::Udp, on_demand };
    Ok((StatusCode::CREATED, Json(replica(&context)?.remotes().order(order).await?)))
}

/// Have a stream fetched no longer
///
/// It ends when its grace period is over, unless somebody else publishes it.
#[utoipa::path(
    delete,
    path = "/api/v1/pulls/{app}/{name}",
    tag = "remotes",
    params(PullKey),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is not fetched any more"),
        (status = 400, description = "The path is not UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such pull was ordered", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not DELETE", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn end_pull(
    State(context): State<Arc<Context>>,
    _: Operator,
    PullKey { app, name }: PullKey,
) -> Result<StatusCode, Problem> {
    cancel(&context, Way::Pull, &format!("{app}/{name}")).await
}

/// Streams that are sent on
///
/// Those that were ordered here, and those of the origins' own configurations.
#[utoipa::path(
    get,
    path = "/api/v1/pushes",
    tag = "remotes",
    security(("operator" = [])),
    responses(
        (status = 200, description = "All pushes, ordered by app and name", body = PushList),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or POST", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pushes(
    State(context): State<Arc<Context>>,
    _: Operator,
) -> Result<Json<PushList>, Problem> {
    Ok(Json(PushList { pushes: replica(&context)?.remotes().list(Way::Push) }))
}

/// Have a stream sent on
///
/// Whenever it is live, the origin that has it calls the listener, until the order is deleted.
#[utoipa::path(
    post,
    path = "/api/v1/pushes",
    tag = "remotes",
    security(("operator" = [])),
    request_body = PushWanted,
    responses(
        (status = 201, description = "It is ordered", body = RemoteInfo),
        (status = 400, description = "An order that nobody could carry out", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET, HEAD or POST", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many orders", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not what is described here", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn push(
    State(context): State<Arc<Context>>,
    _: Operator,
    wanted: PushWanted,
) -> Result<(StatusCode, Json<RemoteInfo>), Problem> {
    let PushWanted { stream, url } = wanted;
    let (app, name) = split(&stream);
    let order = Order { way: Way::Push, app, name, url, udp: false, on_demand: false };
    Ok((StatusCode::CREATED, Json(replica(&context)?.remotes().order(order).await?)))
}

/// Have a stream sent on no longer
#[utoipa::path(
    delete,
    path = "/api/v1/pushes/{id}",
    tag = "remotes",
    params(PushKey),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is not sent on any more"),
        (status = 400, description = "The path is not UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such push was ordered", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not DELETE", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn end_push(
    State(context): State<Arc<Context>>,
    _: Operator,
    PushKey { id }: PushKey,
) -> Result<StatusCode, Problem> {
    cancel(&context, Way::Push, &id).await
}

async fn cancel(context: &Context, way: Way, id: &str) -> Result<StatusCode, Problem> {
    if !replica(context)?.remotes().cancel(way, id).await? {
        return Err(Problem::no_such_order(id));
    }
    tracing::info!(id, "the operator took a {} back", way.name());
    Ok(StatusCode::NO_CONTENT)
}
