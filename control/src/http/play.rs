//! `/api/v1/play` and `/api/v1/publish`: where to watch and where to publish; and the same as redirects.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, RawQuery, State};
use axum::response::{IntoResponse, Response};
use control_api::grant::{Audience, Claims};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::nodes::replica;
use super::operator::Operator;
use super::problem::Problem;
use crate::nodes::{Addresses, Known};
use crate::replica::Replica;
use crate::schedule::Labels;
use crate::traced::Traced;

/// What stands unescaped in a path (RFC 3986 §2.3), and what parts its segments.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Edges that an answer names: one to play from, and those to go to if it fails.
const EDGES: usize = 3;

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

/// Where who asks is.
#[derive(Debug, Default, Deserialize, IntoParams, FromRequestParts)]
#[serde(default, deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct Near {
    /// Such as `eu-west`.
    region: Option<String>,
    /// Whose network, such as `telecom`.
    isp: Option<String>,
}

impl Near {
    fn labels(self) -> Labels {
        Labels { region: self.region, isp: self.isp }
    }
}

/// Where an encoder is, and what it is.
#[derive(Debug, Default, Deserialize, IntoParams, FromRequestParts)]
#[serde(default, deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct Encoder {
    /// Such as `eu-west`.
    region: Option<String>,
    /// Whose network, such as `telecom`.
    isp: Option<String>,
    /// A second encoder of the same stream, which goes on with it when the first one is lost: it is sent to another origin.
    backup: bool,
}

/// Where a stream can be watched.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Play {
    /// The best edge first; go on to the next if one fails.
    edges: Vec<Urls>,
    /// Ask again after so many seconds: until then the URLs are good.
    ttl_s: u64,
}

/// The URLs of a stream at one edge.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Urls {
    /// The edge's name.
    node: String,
    /// Low-latency HLS.
    hls: Option<String>,
    /// HTTP-FLV.
    flv: Option<String>,
    /// WebSocket-FLV.
    ws_flv: Option<String>,
    /// MPEG-TS over HTTP.
    ts: Option<String>,
    /// RTMP.
    rtmp: Option<String>,
}

/// Where a stream can be published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Publish {
    /// The origin's name.
    node: String,
    /// Where an encoder connects to, its stream key included.
    rtmp: String,
    /// The stream key alone.
    stream_key: String,
    /// The URL is good for so many seconds.
    ttl_s: u64,
}

/// Where to watch a stream
///
/// The stream need not be live. Where playing needs grants, whoever asks needs the operator's token, and the URLs are signed.
#[utoipa::path(
    get,
    path = "/api/v1/play/{app}/{name}",
    tag = "routing",
    params(Key, Near),
    security((), ("operator" = [])),
    responses(
        (status = 200, description = "Edges, the best first", body = Play),
        (status = 400, description = "An unknown or malformed query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Grants are needed, and the operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No edge is there", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn play(
    State(context): State<Arc<Context>>,
    operator: Option<Operator>,
    Key { app, name }: Key,
    near: Near,
    headers: HeaderMap,
) -> Result<Json<Play>, Problem> {
    let replica = replica(&context)?;
    let path = path(&app, &name)?;
    let traced = Traced::decision(replica.tracer(), "play", &path, &headers, operator.is_some());
    let decided = edges(&context, replica, operator, &path, &near.labels());
    traced.ended(&decided, |span, edges| {
        span.say("node", edges.first().map_or("", |edge| &edge.node));
    });
    Ok(Json(Play { edges: decided?, ttl_s: context.config.grant_ttl_s }))
}

/// One stream's, which no grant's pattern is made of.
fn path(app: &str, name: &str) -> Result<String, Problem> {
    if app.contains('*') || name.contains('*') {
        return Err(Problem::not_found());
    }
    Ok(format!("{app}/{name}"))
}

/// The edges for a viewer, the best first.
fn edges(
    context: &Context,
    replica: &Replica,
    operator: Option<Operator>,
    path: &str,
    near: &Labels,
) -> Result<Vec<Urls>, Problem> {
    let grant = if context.config.grants_to_play {
        operator.ok_or(crate::token::Refused::Missing)?;
        Some(sign(context, replica, Audience::Play, path)?)
    } else {
        None
    };
    let edges = replica.nodes().edges_for(path, near, EDGES);
    if edges.is_empty() {
        return Err(Problem::no_node("edge"));
    }
    Ok(edges.into_iter().map(|edge| urls(edge, path, grant.as_deref())).collect())
}

/// Where to publish a stream
#[utoipa::path(
    get,
    path = "/api/v1/publish/{app}/{name}",
    tag = "routing",
    params(Key, Encoder),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The origin, and a grant to publish there", body = Publish),
        (status = 400, description = "An unknown or malformed query parameter", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No origin is there", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn publish(
    State(context): State<Arc<Context>>,
    _: Operator,
    Key { app, name }: Key,
    Encoder { region, isp, backup }: Encoder,
    headers: HeaderMap,
) -> Result<Json<Publish>, Problem> {
    let replica = replica(&context)?;
    let (path, near) = (path(&app, &name)?, Labels { region, isp });
    let traced = Traced::decision(replica.tracer(), "publish", &path, &headers, true);
    let decided = origin(&context, replica, &path, (&near, backup));
    traced.ended(&decided, |span, origin| span.say("node", &origin.node));
    Ok(Json(decided?))
}

/// The origin for a publisher.
fn origin(
    context: &Context,
    replica: &Replica,
    path: &str,
    (near, backup): (&Labels, bool),
) -> Result<Publish, Problem> {
    let origins = replica.streams().origins_for(path, near, backup);
    let origin = origins.into_iter().next().ok_or_else(|| Problem::no_node("origin"))?;
    let base = origin.record.addresses.rtmp.ok_or_else(|| Problem::no_node("origin"))?;
    let (app, name) = path.split_once('/').unwrap_or((path, ""));
    let grant = sign(context, replica, Audience::Publish, path)?;
    let stream_key = format!("{name}?{}token={grant}", if backup { "backup=1&" } else { "" });
    Ok(Publish {
        node: origin.record.name,
        rtmp: format!("{base}/{app}/{stream_key}"),
        stream_key,
        ttl_s: context.config.grant_ttl_s,
    })
}

/// Sends a player to the edge that it would be told of. What it shows to be let in goes along.
pub(super) async fn redirect(
    State(context): State<Arc<Context>>,
    Path((app, file)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let name = [".flv", ".ts"].iter().find_map(|ending| file.strip_suffix(ending));
    let name = name.ok_or_else(Problem::not_found)?;
    go(&context, &format!("{app}/{name}"), &format!("{app}/{file}"), query.as_deref())
}

/// The same for HLS.
pub(super) async fn redirect_hls(
    State(context): State<Arc<Context>>,
    Path((app, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    go(&context, &format!("{app}/{name}"), &format!("{app}/{name}/index.m3u8"), query.as_deref())
}

fn go(context: &Context, stream: &str, file: &str, query: Option<&str>) -> Result<Response, Problem> {
    let edges = replica(context)?.nodes().edges_for(stream, &Labels::default(), 1);
    let base = edges.into_iter().next().and_then(|edge| base(&edge.record.addresses));
    let base = base.ok_or_else(|| Problem::no_node("edge"))?;
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let location = HeaderValue::try_from(format!("{base}/{}{query}", escaped(file)));
    let location = location.map_err(|_| Problem::not_found())?;
    let headers =
        [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// Where viewers reach an edge.
fn base(addresses: &Addresses) -> Option<String> {
    addresses.https.clone().or_else(|| addresses.http.clone())
}

fn urls(edge: Known, path: &str, grant: Option<&str>) -> Urls {
    let addresses = edge.record.addresses;
    let path = escaped(path);
    // Before the path, which all that a playlist names inherits.
    let before = grant.map_or_else(String::new, |grant| format!("/~{grant}"));
    let http = base(&addresses);
    let ws = http.as_ref().and_then(|base| Some(format!("ws{}", base.strip_prefix("http")?)));
    let behind = grant.map_or_else(String::new, |grant| format!("?token={grant}"));
    Urls {
        node: edge.record.name,
        hls: http.as_ref().map(|base| format!("{base}{before}/{path}/index.m3u8")),
        flv: http.as_ref().map(|base| format!("{base}{before}/{path}.flv")),
        ts: http.as_ref().map(|base| format!("{base}{before}/{path}.ts")),
        ws_flv: ws.map(|base| format!("{base}{before}/{path}.flv")),
        rtmp: addresses.rtmp.map(|base| format!("{base}/{path}{behind}")),
    }
}

/// A path as it stands in a URL.
pub(super) fn escaped(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

pub(super) fn sign(
    context: &Context,
    replica: &Replica,
    aud: Audience,
    stream: &str,
) -> Result<String, Problem> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = now_s.saturating_add(context.config.grant_ttl_s);
    let claims = Claims { exp, nbf: None, aud, stream: stream.to_owned(), ip: None, sid: None };
    Ok(replica.keys().sign(&claims)?)
}
