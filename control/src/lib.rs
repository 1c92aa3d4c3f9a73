//! weir's control plane: the HTTP API under `/api/v1` and the pages.
//!
//! It knows the media side only through [`control_api::Cluster`] and is never on the data path: when
//! it is gone, streams go on.

#![forbid(unsafe_code)]

mod config;
mod http;
mod metrics;
mod pages;
pub mod token;

use std::sync::Arc;

use axum::Router;
use control_api::Cluster;

pub use config::Config;
pub use metrics::Metrics;
pub use token::Token;

/// The pages and the API as one service.
///
/// It answers every path: what it does not know ends in a 404 problem document. First path segments
/// it serves are all in [`control_api::RESERVED_APPS`].
pub fn router(config: Config, cluster: Arc<dyn Cluster>, token: Token, metrics: Metrics) -> Router {
    http::router(http::Context { config, cluster, token, metrics })
}
