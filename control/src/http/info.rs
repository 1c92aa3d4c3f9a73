//! `/api/v1/info`: what the pages must know of the server they came from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;

/// What this server is and where encoders reach it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// weir's version.
    version: &'static str,
    /// The server's clock when it answered, in milliseconds since 1970 (UTC): players measure latency by it.
    now_ms: u64,
    /// Where encoders reach this cluster, if the operator has said it: `rtmp://live.example.com`.
    publish_url: Option<String>,
    /// The port that RTMP is listened on.
    rtmp_port: u16,
}

/// What this server is and where encoders reach it
#[utoipa::path(
    get,
    path = "/api/v1/info",
    tag = "system",
    responses(
        (status = 200, description = "About this server", body = Info),
        (status = 405, description = "Not GET or HEAD", body = super::Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = super::Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn info(State(context): State<Arc<Context>>) -> Json<Info> {
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        now_ms: now_ms(),
        publish_url: context.config.publish_url.clone(),
        rtmp_port: context.config.rtmp_port,
    })
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
