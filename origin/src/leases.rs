//! Whether a stream may be published here, where others may have it: asked of whoever coordinates origins.

use async_trait::async_trait;
use media_core::hub::{Epoch, StreamKey};

use crate::Publisher;

/// Why an origin may not publish a stream, for its publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LeaseRefused(pub String);

/// What an origin wants a lease for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody has come to publish.
    Publish {
        /// Whoever publishes the stream now may lose it.
        takeover: bool,
    },
    /// A backup has come, and this origin has its stream: it is to wait.
    Wait,
    /// A backup that has waited goes on with the stream.
    Promote,
}

/// What an origin is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// The stream may be published under this epoch.
    Held(Epoch),
    /// Somebody publishes it: the backup waits.
    Standby,
    /// Nobody can be asked, and somebody may publish it at another origin: the backup waits.
    Undecided,
}

/// Gives leases of streams.
#[async_trait]
pub trait Leases: std::fmt::Debug + Send + Sync + 'static {
    /// Whether other origins may go on with a stream when this one ends.
    fn has_others(&self) -> bool;

    /// Whether a publisher may have the stream, and under which epoch. `own` is what the origin would take by itself, and
    /// what is given where nobody can be asked. It answers within seconds.
    async fn take(
        &self,
        key: &StreamKey,
        own: Epoch,
        purpose: Purpose,
        publisher: &Publisher,
    ) -> Result<Lease, LeaseRefused>;
}
