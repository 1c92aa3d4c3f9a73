//! What is known to be absent, for a moment, so that asking for it again costs the upstream nothing.
//!
//! A table of fixed size that holds hashes: names that are asked for by the ten thousand leave nothing
//! behind, and the hash is keyed, so that nobody can choose names that displace others.

use std::hash::Hash;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Places of the table: 16,384 × 24 bytes. A name that displaces another costs one more request upstream.
const SLOTS: usize = 16_384;

/// A name's hash and when it was found absent.
type Slot = Option<(u64, Instant)>;

/// Absent names.
pub(crate) struct Absent {
    ttl: Duration,
    hasher: RandomState,
    slots: Mutex<Box<[Slot]>>,
}

impl Absent {
    /// Remembers each name for `ttl`.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, hasher: RandomState::new(), slots: Mutex::new(vec![None; SLOTS].into_boxed_slice()) }
    }

    /// Whether `name` was found absent less than the time to live ago.
    pub(crate) fn contains(&self, name: &(impl Hash + ?Sized), now: Instant) -> bool {
        let (hash, index) = self.place(name);
        let slots = self.slots.lock();
        matches!(slots.get(index), Some(Some((known, at)))
            if *known == hash && now.saturating_duration_since(*at) < self.ttl)
    }

    /// `name` was just found absent.
    pub(crate) fn insert(&self, name: &(impl Hash + ?Sized), now: Instant) {
        let (hash, index) = self.place(name);
        if let Some(slot) = self.slots.lock().get_mut(index) {
            *slot = Some((hash, now));
        }
    }

    fn place(&self, name: &(impl Hash + ?Sized)) -> (u64, usize) {
        let hash = self.hasher.hash_one(name);
        let index = usize::try_from(hash % SLOTS as u64).unwrap_or_default();
        (hash, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_forgotten_after_its_time() {
        let absent = Absent::new(Duration::from_secs(1));
        let now = Instant::now();
        absent.insert("live/a", now);
        assert!(absent.contains("live/a", now + Duration::from_millis(999)));
        assert!(!absent.contains("live/a", now + Duration::from_secs(1)));
        assert!(!absent.contains("live/b", now));
    }

    #[test]
    fn a_hundred_thousand_names_leave_the_table_as_large_as_it_was() {
        let absent = Absent::new(Duration::from_secs(1));
        let now = Instant::now();
        for n in 0..100_000u32 {
            absent.insert(&n, now);
        }
        assert_eq!(absent.slots.lock().len(), SLOTS);
        assert!(absent.contains(&99_999u32, now));
    }
}
