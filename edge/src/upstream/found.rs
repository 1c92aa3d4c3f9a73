//! Where streams were found lately: one lives on a single origin, which need not be the one that is asked first.
//!
//! A table of fixed size that holds hashes; the hash is keyed, so that nobody can choose names that displace others.

use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Places of the table: 16,384 × 40 bytes. A stream that displaces another costs one more round of questions.
const SLOTS: usize = 16_384;

/// How long a place is remembered after the stream was last had from there.
const TTL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    origin: u64,
    at: Instant,
}

/// Where streams were found.
pub(super) struct Found {
    hasher: RandomState,
    slots: Mutex<Box<[Option<Slot>]>>,
}

impl Found {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), slots: Mutex::new(vec![None; SLOTS].into_boxed_slice()) }
    }

    /// The origin that had the stream, and how long ago that was.
    pub(super) fn get(&self, stream: &str, now: Instant) -> Option<(u64, Duration)> {
        let (hash, index) = self.place(stream);
        let slot = (*self.slots.lock().get(index)?).filter(|slot| slot.hash == hash)?;
        let age = now.saturating_duration_since(slot.at);
        (age < TTL).then_some((slot.origin, age))
    }

    /// The stream was just had from that origin.
    pub(super) fn insert(&self, stream: &str, origin: u64, now: Instant) {
        let (hash, index) = self.place(stream);
        if let Some(slot) = self.slots.lock().get_mut(index) {
            *slot = Some(Slot { hash, origin, at: now });
        }
    }

    fn place(&self, stream: &str) -> (u64, usize) {
        let hash = self.hasher.hash_one(stream);
        (hash, usize::try_from(hash % SLOTS as u64).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_remembered_for_its_time() {
        let (found, now) = (Found::new(), Instant::now());
        assert_eq!(found.get("live/a", now), None);
        found.insert("live/a", 7, now);
        let age = TTL.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(found.get("live/a", now + age), Some((7, age)));
        assert_eq!(found.get("live/a", now + TTL), None);
        assert_eq!(found.get("live/b", now), None);
    }
}
