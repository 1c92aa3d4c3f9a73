//! Whether a stream may be published here, where others may have it: asked of whoever coordinates origins.

use async_trait::async_trait;
use media_core::hub::{Epoch, StreamKey};

use crate::Publisher;

/// Why an origin may not publish a stream, for its publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LeaseRefused(pub String);

/// Gives leases of streams.
#[async_trait]
pub trait Leases: std::fmt::Debug + Send + Sync + 'static {
    /// The epoch under which a publisher may have the stream. `own` is what the origin would take by itself, and what is
    /// given where nobody can be asked; `takeover`: whoever publishes it now may lose it. It answers within seconds.
    async fn take(
        &self,
        key: &StreamKey,
        own: Epoch,
        takeover: bool,
        publisher: &Publisher,
    ) -> Result<Epoch, LeaseRefused>;
}
