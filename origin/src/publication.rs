//! A publisher's hold on a stream, and what happens when it lets go.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use media_core::hub::{self, Epoch, Phase, Producer, Registry, StreamKey};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Who publishes a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Protocol it comes by: `rtmp`.
    pub protocol: &'static str,
    /// Its address.
    pub remote_addr: String,
}

/// Why a stream can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub refuses it: somebody publishes it already, or there are too many streams.
    #[error(transparent)]
    Refused(#[from] hub::PublishError),
    /// The origin is draining: it takes no more publishers.
    #[error("the server is shutting down")]
    Draining,
}

/// The right to publish a stream: a [`Producer`]. When it is dropped the stream is interrupted, and ends
/// unless somebody publishes it again within the grace period.
#[derive(Debug)]
pub struct Publication {
    // Fields drop in order: the stream is interrupted before its grace begins.
    producer: Producer,
    _grace: Grace,
}

impl Publication {
    pub(crate) fn new(
        producer: Producer,
        registry: Registry,
        grace: Duration,
        publishers: watch::Sender<usize>,
    ) -> Self {
        publishers.send_modify(|count| *count += 1);
        let (key, epoch) = (producer.key().clone(), producer.epoch());
        Self { producer, _grace: Grace { key, epoch, registry, grace, publishers } }
    }
}

impl Deref for Publication {
    type Target = Producer;

    fn deref(&self) -> &Producer {
        &self.producer
    }
}

impl DerefMut for Publication {
    fn deref_mut(&mut self) -> &mut Producer {
        &mut self.producer
    }
}

/// Begins the grace period when it is dropped.
#[derive(Debug)]
struct Grace {
    key: StreamKey,
    epoch: Epoch,
    registry: Registry,
    grace: Duration,
    publishers: watch::Sender<usize>,
}

impl Drop for Grace {
    fn drop(&mut self) {
        self.publishers.send_modify(|count| *count = count.saturating_sub(1));
        let snapshot = self.registry.stream(&self.key).map(|stream| stream.snapshot());
        if !snapshot.is_some_and(|s| s.phase == Phase::Interrupted && s.tracks.epoch == self.epoch) {
            // It has ended, or somebody else has it.
            return;
        }
        let (registry, key, epoch, grace) = (self.registry.clone(), self.key.clone(), self.epoch, self.grace);
        match Handle::try_current() {
            Ok(runtime) if !grace.is_zero() => {
                tracing::info!(stream = %key, grace_ms = grace.as_millis(), "the publisher left; its viewers wait");
                runtime.spawn(async move {
                    tokio::time::sleep(grace).await;
                    if registry.expire(&key, epoch) {
                        tracing::info!(stream = %key, "ended: the publisher did not return");
                    }
                });
            }
            _ => {
                registry.expire(&key, epoch);
            }
        }
    }
}
