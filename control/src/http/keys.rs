//! `/api/v1/keys` and `/api/v1/grants`: who may watch and publish.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{FromRequest, State};
use control_api::Network;
use control_api::grant::Audience;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use super::nodes::replica;
use super::operator::Operator;
use super::problem::Problem;
use crate::keys::{self, Kept};

/// A key that grants are signed with; without the key itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyInfo {
    /// Its name, which grants say in their header.
    kid: String,
    /// EdDSA.
    algorithm: &'static str,
    /// `new`: it will sign; `signs`; `verifies`: another one signs by now.
    state: &'static str,
    /// When it signs, in milliseconds since 1970.
    signs_at_ms: u64,
    /// When it is forgotten, since all that it signed has expired.
    retires_at_ms: Option<u64>,
}

/// The keys, the newest last.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    keys: Vec<KeyInfo>,
}

/// What a grant is to allow.
#[derive(Debug, Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct Wanted {
    /// `play` or `publish`.
    #[schema(value_type = String)]
    audience: Audience,
    /// app/name; `*` stands for any characters.
    stream: String,
    /// Seconds that it holds: no more than `control.max_grant_s`.
    lasts_s: u64,
    /// Who may use it: an address or a network.
    #[schema(value_type = Option<String>)]
    ip: Option<Network>,
    /// The session that the access log names.
    session: Option<String>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grant {
    /// The token.
    grant: String,
    /// In milliseconds since 1970.
    expires_at_ms: u64,
}

fn list_of(kept: &[Kept]) -> KeyList {
    let now_ms = now_s().saturating_mul(1_000);
    let signing = kept.iter().rposition(|kept| kept.signs_at_ms <= now_ms);
    let keys = kept.iter().enumerate().map(|(at, kept)| KeyInfo {
        kid: kept.kid.clone(),
        algorithm: "EdDSA",
        state: match signing {
            Some(signing) if at == signing => "signs",
            Some(signing) if at < signing => "verifies",
            _ => "new",
        },
        signs_at_ms: kept.signs_at_ms,
        retires_at_ms: kept.retires_at_ms,
    });
    KeyList { keys: keys.collect() }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The keys of grants
#[utoipa::path(
    get,
    path = "/api/v1/keys",
    tag = "grants",
    security(("operator" = [])),
    responses(
        (status = 200, description = "The keys, the newest last", body = KeyList),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not GET or HEAD", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(State(context): State<Arc<Context>>, _: Operator) -> Result<Json<KeyList>, Problem> {
    Ok(Json(list_of(&replica(&context)?.keys().all())))
}

/// Make a new key
///
/// It signs in ten seconds, when all nodes have it. The others verify until what they signed has expired.
#[utoipa::path(
    post,
    path = "/api/v1/keys/rotate",
    tag = "grants",
    security(("operator" = [])),
    responses(
        (status = 200, description = "The keys, the newest last", body = KeyList),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not POST", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many that still verify", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry cannot be reached", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn rotate(
    State(context): State<Arc<Context>>,
    _: Operator,
) -> Result<Json<KeyList>, Problem> {
    let keys = replica(&context)?.keys();
    let made = keys.rotate().await?;
    tracing::info!(kid = made.kid, "the operator made a new key for grants");
    Ok(Json(list_of(&keys.all())))
}

/// Sign a grant
#[utoipa::path(
    post,
    path = "/api/v1/grants",
    tag = "grants",
    security(("operator" = [])),
    request_body = Wanted,
    responses(
        (status = 200, description = "The grant", body = Grant),
        (status = 400, description = "A grant that could not be used", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The operator's token is missing or wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This process coordinates no cluster", body = Problem, content_type = "application/problem+json"),
        (status = 405, description = "Not POST", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not what is described here", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "There is no key yet", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn sign(
    State(context): State<Arc<Context>>,
    _: Operator,
    wanted: Wanted,
) -> Result<Json<Grant>, Problem> {
    let Wanted { audience, stream, lasts_s, ip, session } = wanted;
    let wanted = keys::Wanted { audience, stream, lasts_s, ip, session };
    let (grant, expires_at_ms) = replica(&context)?.keys().grant(wanted)?;
    Ok(Json(Grant { grant, expires_at_ms }))
}
