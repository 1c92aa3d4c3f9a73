//! weir's control plane: the HTTP API under `/api/v1` and the pages.
//!
//! It knows the media side only through [`control_api::Cluster`] and is never on the data path: when
//! it is gone, streams go on.

#![forbid(unsafe_code)]

pub mod cache;
pub mod conferences;
mod config;
#[cfg(test)]
mod engine;
mod grants;
pub mod hooks;
mod http;
mod keys;
mod metrics;
mod nodes;
mod pages;
pub mod registry;
mod remotes;
pub mod replica;
pub mod schedule;
mod streams;
pub mod token;
mod traced;

use std::sync::Arc;

use axum::Router;
use control_api::Cluster;

pub use config::{Config, HttpConfig};
pub use metrics::Metrics;
pub use nodes::{Addresses, Role};
pub use replica::{Parts, Replica};
pub use token::Token;

/// The pages and the API as one service.
///
/// It answers every path: what it does not know ends in a 404 problem document. First path segments
/// it serves are all in [`control_api::RESERVED_APPS`].
pub fn router(config: Config, cluster: Arc<dyn Cluster>, token: Token, metrics: Metrics) -> Router {
    http::router(http::Context { config, cluster, replica: None, redirects: false, token, metrics })
}

/// The same of a process that has a node and coordinates it: what it shows of streams is the node's own.
pub fn own_router(
    config: Config,
    cluster: Arc<dyn Cluster>,
    replica: Replica,
    token: Token,
    metrics: Metrics,
) -> Router {
    let replica = Some(replica);
    http::router(http::Context { config, cluster, replica, redirects: false, token, metrics })
}

/// The same of a replica: what it knows is the cluster, and it sends viewers and publishers to nodes.
pub fn replica_router(config: Config, replica: Replica, token: Token, metrics: Metrics) -> Router {
    let cluster = Arc::new(replica.clone());
    http::router(http::Context { config, cluster, replica: Some(replica), redirects: true, token, metrics })
}
