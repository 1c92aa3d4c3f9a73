//! The origin: takes streams in, packages them, and serves them to edges.
//!
//! An ingest asks [`Origin::publish`] for a [`Publication`] and pushes frames into it; from there the hub's
//! consumers read: a packager per stream and output, and the relay that edges pull. What the
//! origin serves goes through one [`tower::Service`], [`Origin::service`], so that an edge in the same process
//! calls it as one on another machine does.

#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
pub mod http;
pub mod ingest;
mod leases;
mod loudness;
mod metrics;
mod mutes;
mod opening;
mod origin;
pub mod package;
mod publication;
pub mod pull;
pub mod push;
mod relay;
pub mod remote;
mod standby;
mod stats;
#[cfg(test)]
mod testing;

pub use config::{Config, HttpConfig};
pub use http::{Body, BoxError};
pub use leases::{Lease, LeaseRefused, Leases, Purpose};
pub use origin::{Error, Origin};
pub use publication::{Line, Publication, PublishError, Publisher};
