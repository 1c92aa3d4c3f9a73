//! The live streams by name.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use super::{CacheLimits, Consumer, Epoch, Phase, Producer, Revoked, Stream, StreamKey};

/// What a second publisher of a live stream meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// It is refused.
    Refuse,
    /// It takes the stream over; the first is disconnected.
    Allow,
}

/// Bounds of a registry.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at most, live and interrupted.
    pub streams: usize,
    /// What is kept of each.
    pub cache: CacheLimits,
}

impl Default for Limits {
    /// 10,000 streams.
    fn default() -> Self {
        Self { streams: 10_000, cache: CacheLimits::default() }
    }
}

/// Why a stream can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Somebody publishes it, and takeover is not allowed.
    #[error("{0} is being published already")]
    Busy(StreamKey),
    /// The lease is older than the one the stream has.
    #[error("{key} is published under epoch {current}; {offered} is not newer")]
    StaleEpoch {
        /// The stream.
        key: StreamKey,
        /// The epoch it has.
        current: Epoch,
        /// The epoch that was offered.
        offered: Epoch,
    },
    /// There are as many streams as there may be.
    #[error("the limit of {0} streams is reached")]
    TooManyStreams(usize),
}

type OnStart = dyn Fn(Consumer) + Send + Sync;

/// The time in milliseconds since 1970.
pub type Clock = fn() -> u64;

struct Inner {
    limits: Limits,
    clock: Clock,
    on_start: Box<OnStart>,
    streams: Mutex<AHashMap<StreamKey, Arc<Stream>>>,
}

/// The live streams. Clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

impl Registry {
    /// An empty registry, in which it is always 1970.
    pub fn new(limits: Limits) -> Self {
        Self::with_on_start(limits, || 0, |_| {})
    }

    /// An empty registry that notes by `clock` when units come, and hands `on_start` a consumer of each new stream
    /// before its first frame. A stream that goes on after an interruption is not new.
    pub fn with_on_start(
        limits: Limits,
        clock: Clock,
        on_start: impl Fn(Consumer) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { limits, clock, on_start: Box::new(on_start), streams: Mutex::default() }))
    }

    /// Publishes a stream, or goes on with an interrupted one.
    pub fn publish(
        &self,
        key: &StreamKey,
        epoch: Epoch,
        takeover: Takeover,
    ) -> Result<Producer, PublishError> {
        let (producer, started) = {
            let mut streams = self.0.streams.lock();
            match streams.get(key) {
                Some(stream) => {
                    let (phase, current) = stream.with_state(|s| (s.phase, s.epoch()));
                    if phase == Phase::Live && takeover == Takeover::Refuse {
                        return Err(PublishError::Busy(key.clone()));
                    }
                    if epoch <= current {
                        return Err(PublishError::StaleEpoch { key: key.clone(), current, offered: epoch });
                    }
                    (Producer::new(Arc::clone(stream), epoch), None)
                }
                None if streams.len() >= self.0.limits.streams => {
                    return Err(PublishError::TooManyStreams(self.0.limits.streams));
                }
                None => {
                    let stream = Arc::new(Stream::new(key.clone(), self.0.limits.cache, self.0.clock));
                    streams.insert(key.clone(), Arc::clone(&stream));
                    let consumer = Consumer::new(Arc::clone(&stream));
                    (Producer::new(stream, epoch), Some(consumer))
                }
            }
        };
        if let Some(consumer) = started {
            (self.0.on_start)(consumer);
        }
        Ok(producer)
    }

    /// A reader of the stream, from its newest keyframe on.
    pub fn subscribe(&self, key: &StreamKey) -> Option<Consumer> {
        self.stream(key).map(Consumer::new)
    }

    /// The stream of that name, live or interrupted.
    pub fn stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.0.streams.lock().get(key).cloned()
    }

    /// All streams, ordered by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.0.streams.lock().values().cloned().collect();
        all.sort_by(|a, b| a.key().cmp(b.key()));
        all
    }

    /// The grace period of the publisher of `epoch` is over: ends the stream, unless somebody continued it.
    pub fn expire(&self, key: &StreamKey, epoch: Epoch) -> bool {
        self.end_if(key, Revoked::Ended, |s| {
            s.with_state(|s| s.phase == Phase::Interrupted && s.epoch() == epoch)
        })
    }

    /// Ends the stream; its publisher is told `reason`. `false`: there is none of that name.
    pub fn end(&self, key: &StreamKey, reason: Revoked) -> bool {
        self.end_if(key, reason, |_| true)
    }

    /// Ends all streams.
    pub fn end_all(&self, reason: Revoked) {
        let all: Vec<_> = self.0.streams.lock().drain().collect();
        for (_, stream) in all {
            stream.end(reason);
        }
    }

    /// Tells all publishers to leave. Their streams do not end: somebody may go on with them.
    pub fn dismiss_all(&self, reason: Revoked) {
        for stream in self.streams() {
            stream.dismiss(reason);
        }
    }

    fn end_if(&self, key: &StreamKey, reason: Revoked, condition: impl FnOnce(&Stream) -> bool) -> bool {
        let stream = {
            let mut streams = self.0.streams.lock();
            match streams.get(key) {
                Some(stream) if condition(stream) => streams.remove(key),
                _ => None,
            }
        };
        stream.map(|stream| stream.end(reason)).is_some()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("streams", &self.0.streams.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
