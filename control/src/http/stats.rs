//! `/api/v1/stats`: totals.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use control_api::ClusterStats;

use super::Context;

/// Totals over all streams
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    tag = "system",
    responses(
        (status = 200, description = "The totals", body = ClusterStats),
        (status = 405, description = "Not GET or HEAD", body = super::Problem, content_type = "application/problem+json"),
        (status = 500, description = "The server failed", body = super::Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stats(State(context): State<Arc<Context>>) -> Json<ClusterStats> {
    Json(context.cluster.stats().await)
}
