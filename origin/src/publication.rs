//! A publisher's hold on a stream, and what happens when it lets go.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use media_core::hub::{self, Epoch, Phase, Producer, Registry, StreamKey};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

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

/// The grace periods that run: one for each stream at most, so that a publisher that comes and goes leaves one timer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graces(Arc<Mutex<AHashMap<StreamKey, AbortHandle>>>);

impl Graces {
    /// The publisher came back.
    pub(crate) fn cancel(&self, key: &StreamKey) {
        if let Some(timer) = self.0.lock().remove(key) {
            timer.abort();
        }
    }

    fn begin(&self, runtime: &Handle, key: StreamKey, grace: Duration, over: impl FnOnce() + Send + 'static) {
        // Held until the timer is in its place: it may run out at once.
        let mut timers = self.0.lock();
        let (graces, name) = (self.clone(), key.clone());
        let timer = runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            graces.0.lock().remove(&name);
            over();
        });
        if let Some(before) = timers.insert(key, timer.abort_handle()) {
            before.abort();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// The right to publish a stream: a [`Producer`]. When it is dropped the stream is interrupted, and ends
/// unless somebody publishes it again within the grace period. A stream that never had a frame ends at once.
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
        graces: Graces,
        publishers: watch::Sender<usize>,
    ) -> Self {
        publishers.send_modify(|count| *count += 1);
        let (key, epoch) = (producer.key().clone(), producer.epoch());
        Self { producer, _grace: Grace { key, epoch, registry, grace, graces, publishers } }
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
    graces: Graces,
    publishers: watch::Sender<usize>,
}

impl Drop for Grace {
    fn drop(&mut self) {
        self.publishers.send_modify(|count| *count = count.saturating_sub(1));
        let Some(snapshot) = self.registry.stream(&self.key).map(|stream| stream.snapshot()) else { return };
        if snapshot.phase != Phase::Interrupted || snapshot.tracks.epoch != self.epoch {
            // It has ended, or somebody else has it.
            return;
        }
        let (registry, key, epoch, grace) = (self.registry.clone(), self.key.clone(), self.epoch, self.grace);
        let had_frames = snapshot.video_frames > 0 || snapshot.audio_frames > 0;
        match Handle::try_current() {
            Ok(runtime) if had_frames && !grace.is_zero() => {
                tracing::info!(stream = %key, grace_ms = grace.as_millis(), "the publisher left; its viewers wait");
                self.graces.begin(&runtime, key.clone(), grace, move || {
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
