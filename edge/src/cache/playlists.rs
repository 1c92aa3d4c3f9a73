//! Playlists: fresh for seconds, and of use for some more while the upstream can't be reached.
//!
//! Of each playlist the newest answers are kept. One of an older publish than the newest known is dropped: after an
//! origin's restart, its numbers may come again and mean something else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use media_core::hls::{Name, Query};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::key::Key;
use super::object::Object;
use crate::metrics::Metrics;

/// Locks. Each is held for a look into a table.
const SHARDS: usize = 16;

/// Answers kept of one playlist: a low-latency one has five a second, each with and without older segments.
const RECENT: usize = 32;

/// How often what is of no use any more is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Playlists by path.
pub(crate) struct Playlists {
    grace: Duration,
    /// Bytes of one shard.
    max_bytes: usize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Shard {
    renditions: HashMap<String, Rendition>,
    bytes: usize,
    swept: Option<Instant>,
}

#[derive(Default)]
struct Rendition {
    /// The newest publish.
    epoch: u64,
    /// Oldest first.
    recent: VecDeque<(Query, Arc<Object>)>,
    /// The newest with all segments, and without the older ones: what is left when there is nothing else.
    last: [Option<Arc<Object>>; 2],
    /// The farthest that players were told of lately.
    farthest: Option<(u64, Instant)>,
}

impl Playlists {
    /// Keeps at most so many bytes, and each playlist for `grace` after it was fresh.
    pub(crate) fn new(max_bytes: usize, grace: Duration, metrics: Arc<Metrics>) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { grace, max_bytes: max_bytes / SHARDS, hasher: RandomState::new(), shards, metrics }
    }

    /// A fresh answer: to the same question, or to one about what is newer, which says as much. Players ask for what is
    /// there by few questions, others may by as many as they like.
    pub(crate) fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Object>> {
        let asked = key.query();
        let shard = self.shard(key)?.lock();
        let rendition = shard.renditions.get(key.path())?;
        let answers = |(query, object): &&(Query, Arc<Object>)| {
            (*query == asked || query.skip == asked.skip && is_behind(asked, object))
                && object.stale_for(now).is_none()
        };
        rendition.recent.iter().rev().find(answers).map(|(_, object)| Arc::clone(object))
    }

    /// An answer that was fresh a moment ago, for as long as the upstream can't be asked. Not of a stream that is
    /// over: its absence is no failure.
    pub(crate) fn stale(&self, key: &Key, now: Instant) -> Option<Arc<Object>> {
        let shard = self.shard(key)?.lock();
        let [full, delta] = &shard.renditions.get(key.path())?.last;
        let newest = match (full, delta) {
            (Some(full), Some(delta)) if key.query().skip && delta.arrived > full.arrived => delta,
            (Some(full), _) => full,
            (None, Some(delta)) if key.query().skip => delta,
            (None, _) => return None,
        };
        (self.useful(newest, now) && !newest.tail.ended).then(|| Arc::clone(newest))
    }

    /// Players were told lately that the stream is so far that this is what they ask for next.
    pub(crate) fn led_to(&self, key: &Key, now: Instant) -> bool {
        let Some(msn) = key.query().msn else { return false };
        let Some(shard) = self.shard(key) else { return false };
        let farthest = shard.lock().renditions.get(key.path()).and_then(|rendition| rendition.farthest);
        farthest.is_some_and(|(farthest, at)| msn <= farthest + 1 && !self.is_over(at, now))
    }

    /// Whether a playlist that is kept makes players ask so: for it as it is now, or for what it says comes next. Nothing
    /// makes them ask for the first of a stream, of which there is one.
    pub(crate) fn call_for(&self, key: &Key) -> bool {
        if key.is_first() {
            return true;
        }
        let Some(shard) = self.shard(key) else { return false };
        let shard = shard.lock();
        let Some(rendition) = shard.renditions.get(key.path()) else { return false };
        rendition.last.iter().flatten().any(|object| calls_for(object, key.query()))
    }

    /// Keeps an answer.
    pub(crate) fn insert(&self, key: &Key, object: &Arc<Object>, now: Instant) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        if shard.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY) {
            self.sweep(&mut shard, now);
        }
        let Shard { renditions, bytes, .. } = &mut *shard;
        let rendition = renditions.entry(key.path().to_owned()).or_default();
        let before = rendition.cost();
        rendition.insert(key.query(), object, now, |at| self.is_over(at, now));
        while *bytes + rendition.cost() - before > self.max_bytes && rendition.recent.pop_front().is_some() {
            self.metrics.cache_evictions_playlists.inc();
        }
        let after = rendition.cost();
        if *bytes + after - before > self.max_bytes {
            self.metrics.cache_evictions_playlists.inc();
            renditions.remove(key.path());
            *bytes -= before;
        } else {
            *bytes = *bytes + after - before;
        }
    }

    fn sweep(&self, shard: &mut Shard, now: Instant) {
        shard.swept = Some(now);
        shard.renditions.retain(|_, rendition| {
            rendition.recent.retain(|(_, object)| object.stale_for(now).is_none());
            for last in &mut rendition.last {
                last.take_if(|object| !self.useful(object, now));
            }
            rendition.last.iter().any(Option::is_some)
        });
        shard.bytes = shard.renditions.values().map(Rendition::cost).sum();
    }

    fn useful(&self, object: &Object, now: Instant) -> bool {
        object.stale_for(now).is_none_or(|time| time < self.grace)
    }

    fn is_over(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) >= self.grace
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(key.path());
        self.shards.get(usize::try_from(hash % SHARDS as u64).ok()?)
    }

    /// Bytes that are kept, and of how many playlists.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock());
        shards.fold((0, 0), |(bytes, count), s| (bytes + s.bytes, count + s.renditions.len()))
    }
}

/// Whether a playlist has what a question waits for: all before the part that it announces.
fn is_behind(asked: Query, object: &Object) -> bool {
    match (asked.msn, object.tail.hint) {
        (Some(asked_msn), Some(Name::Part { msn, part, .. })) => {
            asked_msn < msn || asked_msn == msn && asked.part.is_some_and(|asked| asked < part)
        }
        _ => false,
    }
}

/// Whether a question is about no segment, or about what comes next: the part that a playlist announces, and the segment
/// of which that is. Who is behind is answered at once and takes no room, but where a stream has begun anew since: there
/// all that is behind waits for the first segment, and can be made up.
fn calls_for(object: &Object, asked: Query) -> bool {
    let next = match object.tail.hint {
        Some(Name::Part { msn, part, .. }) => Some((msn, part)),
        _ => object.tail.msn().map(|msn| (msn.saturating_add(1), 0)),
    };
    match (asked.msn, next) {
        (None, _) => true,
        (Some(asked_msn), Some((msn, part))) => {
            asked_msn == msn && asked.part.is_none_or(|asked| asked <= part)
        }
        (Some(_), None) => false,
    }
}

impl Rendition {
    fn insert(
        &mut self,
        query: Query,
        object: &Arc<Object>,
        now: Instant,
        is_over: impl Fn(Instant) -> bool,
    ) {
        let epoch = object.tail.epoch().unwrap_or_default();
        if epoch < self.epoch {
            return;
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.recent.clear();
            self.last = [None, None];
        }
        if let Some(msn) = object.tail.msn()
            && self.farthest.is_none_or(|(farthest, at)| msn >= farthest || is_over(at))
        {
            self.farthest = Some((msn, now));
        }
        if let Some(last) = self.last.get_mut(usize::from(query.skip)) {
            *last = Some(Arc::clone(object));
        }
        self.recent.retain(|(other, object)| *other != query && object.stale_for(now).is_none());
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((query, Arc::clone(object)));
    }

    /// What stands in both places is charged twice: the last ones outlive the recent ones.
    fn cost(&self) -> usize {
        let recent = self.recent.iter().map(|(_, object)| object.cost());
        recent.chain(self.last.iter().flatten().map(|object| object.cost())).sum()
    }
}
