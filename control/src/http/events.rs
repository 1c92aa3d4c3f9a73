//! `/api/v1/conferences/{app}/{name}/events`: what happens in a conference, as server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Context;
use super::conferences::ConferenceKey;
use super::nodes::replica;
use super::problem::Problem;
use crate::conferences::SEPARATOR;
use crate::replica::Replica;

/// Where a client that comes back says what it has (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Says to proxies in front that nothing is to be held back.
const NO_BUFFER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Who asks, and what it has.
#[derive(Deserialize, IntoParams, FromRequestParts)]
#[serde(deny_unknown_fields)]
#[from_request(via(Query), rejection(Problem))]
#[into_params(parameter_in = Query)]
pub(super) struct Shown {
    /// A grant to play all streams of the conference, for those who can send no headers.
    token: Option<String>,
    /// The newest event that is known, as in the header `Last-Event-ID`.
    last_event_id: Option<u64>,
}

/// Until when somebody may follow, if it may.
fn allowed(
    context: &Context,
    replica: &Replica,
    (path, headers, token): (&str, &HeaderMap, Option<&str>),
) -> Result<Option<Instant>, Problem> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.split_at_checked("Bearer ".len()));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer ")).map(|(_, token)| token.trim());
    if bearer.is_some_and(|token| context.token.matches(token.as_bytes())) {
        return Ok(None);
    }
    // A grant for all its streams is one for the stream of the member without a name.
    let grant = bearer.or(token);
    let claims = replica.keys().verify_play(grant, &format!("{path}{SEPARATOR}")).map_err(Problem::from)?;
    Ok(Some(Instant::now() + claims.holds_for(std::time::SystemTime::now())))
}

/// Follow a conference
///
/// Events are `snapshot` (first, unless what is lacked is still known: all members), `joined`, `left`, `live` and `gone` (a
/// member's stream has a publisher, or none), `muted`, `unmuted`, `role`, `speaker` (who speaks, without an id), and `ended`,
/// the last. Data is JSON, with the `member` and the time, `at_ms`. It ends when its grant does.
#[utoipa::path(
    get,
    path = "/api/v1/conferences/{app}/{name}/events",
    tag = "conferences",
    params(ConferenceKey, Shown),
    security(("operator" = []), ()),
    responses(
        (status = 200, description = "Events, without end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "A malformed path or query", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Neither the operator's token nor a grant", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A grant for something else", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conference, or this process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "As many follow here as may", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn events(
    State(context): State<Arc<Context>>,
    key: ConferenceKey,
    Shown { token, last_event_id }: Shown,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let replica = replica(&context)?;
    let path = key.path();
    let until = allowed(&context, replica, (&path, &headers, token.as_deref()))?;
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let follower = replica.conferences().events(&path, last.or(last_event_id), until)?;
    let events = futures_util::stream::unfold(follower, async |mut follower| {
        let said = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(said), follower))
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(([kind, NO_BUFFER], Body::from_stream(events)).into_response())
}
