//! A publisher's hold on a stream, and what happens when it lets go.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use control_api::{LineInfo, trace};
use media_core::hub::{self, Epoch, Phase, Producer, StreamKey};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::Origin;

/// Who publishes a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// Protocol it comes by: `rtmp`, `srt`.
    pub protocol: &'static str,
    /// Its address.
    pub remote_addr: String,
    /// It waits while another publisher has the stream, and goes on with it when that one is lost.
    pub backup: bool,
    /// What stood behind the stream's name, without keys and grants.
    pub query: String,
    /// The span of its request, of which others are children.
    pub trace: Option<trace::Context>,
    /// What is known of its line, where the protocol tells.
    pub line: Option<Line>,
}

/// What is known of a publisher's line by now: whoever reads it keeps it up to date. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<Mutex<LineInfo>>);

impl Line {
    /// The newest.
    pub fn info(&self) -> LineInfo {
        *self.0.lock()
    }

    /// This is known from now on.
    pub fn set(&self, info: LineInfo) {
        *self.0.lock() = info;
    }
}

impl PartialEq for Line {
    /// The same line.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Line {}

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
    /// Whoever coordinates origins refuses it: another origin has the stream.
    #[error(transparent)]
    Lease(#[from] crate::LeaseRefused),
}

/// The grace periods that run: one for each stream at most, so that a publisher that comes and goes leaves one timer.
/// Publishers come and go on several threads, which may call in another order than that of their epochs: the newest
/// epoch's timer stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graces(Arc<Mutex<AHashMap<StreamKey, (Epoch, AbortHandle)>>>);

impl Graces {
    /// The publisher came back, under `epoch`.
    pub(crate) fn cancel(&self, key: &StreamKey, epoch: Epoch) {
        self.remove_if(key, |begun| begun < epoch);
    }

    fn begin(
        &self,
        runtime: &Handle,
        key: StreamKey,
        epoch: Epoch,
        grace: Duration,
        over: impl FnOnce() + Send + 'static,
    ) {
        // Held until the timer is in its place: it may run out at once.
        let mut timers = self.0.lock();
        if timers.get(&key).is_some_and(|(begun, _)| *begun > epoch) {
            return;
        }
        let (graces, name) = (self.clone(), key.clone());
        let timer = runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            over();
            graces.remove_if(&name, |begun| begun == epoch);
        });
        if let Some((_, before)) = timers.insert(key, (epoch, timer.abort_handle())) {
            before.abort();
        }
    }

    fn remove_if(&self, key: &StreamKey, condition: impl FnOnce(Epoch) -> bool) {
        let mut timers = self.0.lock();
        if timers.get(key).is_some_and(|(begun, _)| condition(*begun))
            && let Some((_, timer)) = timers.remove(key)
        {
            timer.abort();
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
    _hold: Hold,
}

impl Publication {
    pub(crate) fn new(producer: Producer, origin: &Origin, hand: Hand) -> Self {
        origin.count_publishers(|count| count + hand.counts());
        let (key, epoch) = (producer.key().clone(), producer.epoch());
        Self { producer, _hold: Hold { origin: origin.clone(), key, epoch, hand } }
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

/// Whose frames come by a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hand {
    /// A publisher's own.
    Own,
    /// Those of a backup, which nobody sees yet.
    Waiting,
    /// The same, passed on.
    PassedOn,
}

impl Hand {
    /// How many connections it stands for.
    fn counts(self) -> usize {
        usize::from(self != Self::PassedOn)
    }
}

/// Begins the grace period when it is dropped.
#[derive(Debug)]
struct Hold {
    origin: Origin,
    key: StreamKey,
    epoch: Epoch,
    hand: Hand,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Self { origin, key, epoch, hand } = self;
        match hand {
            Hand::Waiting => origin.standbys().leave(key, *epoch),
            Hand::Own | Hand::PassedOn => origin.begin_grace(key, *epoch),
        }
        origin.count_publishers(|count| count.saturating_sub(hand.counts()));
    }
}

impl Origin {
    /// A publisher has gone: its backup goes on, or viewers wait for it.
    fn begin_grace(&self, key: &StreamKey, epoch: Epoch) {
        let registry = self.registry();
        let Some(snapshot) = registry.stream(key).map(|stream| stream.snapshot()) else { return };
        if snapshot.phase != Phase::Interrupted || snapshot.tracks.epoch != epoch {
            // It has ended, or somebody else has it.
            return;
        }
        let grace = Duration::from_millis(self.config().streams.grace_ms);
        let had_frames = snapshot.video_frames > 0 || snapshot.audio_frames > 0;
        match Handle::try_current() {
            Ok(runtime) if had_frames && !grace.is_zero() => {
                tracing::info!(stream = %key, grace_ms = grace.as_millis(), "the publisher left; its viewers wait");
                let (registry, name) = (registry.clone(), key.clone());
                self.running_graces().begin(&runtime, key.clone(), epoch, grace, move || {
                    if registry.expire(&name, epoch) {
                        tracing::info!(stream = %name, "ended: the publisher did not return");
                    }
                });
            }
            _ => {
                registry.expire(key, epoch);
            }
        }
        self.promote_soon(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::key;

    const GRACE: Duration = Duration::from_secs(15);

    /// Begins the grace of an epoch, which adds its number to `over` at its end.
    fn begin(graces: &Graces, epoch: u64, over: &Arc<AtomicU64>) {
        let over = Arc::clone(over);
        graces.begin(&Handle::current(), key(), Epoch(epoch), GRACE, move || {
            over.fetch_add(epoch, Ordering::Relaxed);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_is_late_leaves_a_newer_epochs_grace_alone() {
        let (graces, over) = (Graces::default(), Arc::new(AtomicU64::new(0)));
        begin(&graces, 3, &over);
        begin(&graces, 2, &over);
        graces.cancel(&key(), Epoch(2));
        graces.cancel(&key(), Epoch(3));
        tokio::time::sleep(GRACE * 2).await;
        assert_eq!((over.load(Ordering::Relaxed), graces.len()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_epoch_ends_the_grace_of_the_one_before() {
        let (graces, over) = (Graces::default(), Arc::new(AtomicU64::new(0)));
        begin(&graces, 1, &over);
        begin(&graces, 2, &over);
        tokio::time::sleep(GRACE * 2).await;
        assert_eq!((over.load(Ordering::Relaxed), graces.len()), (2, 0));
        begin(&graces, 4, &over);
        graces.cancel(&key(), Epoch(5));
        assert_eq!(graces.len(), 0);
        tokio::time::sleep(GRACE * 2).await;
        assert_eq!(over.load(Ordering::Relaxed), 2);
    }
}
