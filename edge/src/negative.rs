//! What is known to be absent, for a moment, so that asking for it again costs the upstream nothing.
//!
//! Who is told so from here may remember it no longer than who heard it from the upstream.
//!
//! A table of fixed size that holds hashes: names that are asked for by the ten thousand leave nothing
//! behind, and the hash is keyed, so that nobody can choose names that displace others.

use std::hash::Hash;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Places of the table: 16,384 × 32 bytes. A name that displaces another costs one more request upstream.
const SLOTS: usize = 16_384;

/// A name that was found absent.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    at: Instant,
    max_age_s: u32,
}

/// Absent names.
pub(crate) struct Absent {
    ttl: Duration,
    hasher: RandomState,
    slots: Mutex<Box<[Option<Slot>]>>,
}

impl Absent {
    /// Remembers each name for `ttl`.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, hasher: RandomState::new(), slots: Mutex::new(vec![None; SLOTS].into_boxed_slice()) }
    }

    /// Whether `name` was found absent less than the time to live ago; for how many seconds more caches may remember
    /// that.
    pub(crate) fn get(&self, name: &(impl Hash + ?Sized), now: Instant) -> Option<u32> {
        let (hash, index) = self.place(name);
        let slot = (*self.slots.lock().get(index)?).filter(|slot| slot.hash == hash)?;
        let age = now.saturating_duration_since(slot.at);
        let age_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        (age < self.ttl).then(|| slot.max_age_s.saturating_sub(age_s))
    }

    /// `name` was just found absent, which caches may remember for so many seconds.
    pub(crate) fn insert(&self, name: &(impl Hash + ?Sized), max_age_s: u32, now: Instant) {
        let (hash, index) = self.place(name);
        if let Some(slot) = self.slots.lock().get_mut(index) {
            *slot = Some(Slot { hash, at: now, max_age_s });
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
        let absent = Absent::new(Duration::from_secs(5));
        let now = Instant::now();
        absent.insert("live/a", 2, now);
        assert_eq!(absent.get("live/a", now), Some(2));
        assert_eq!(absent.get("live/a", now + Duration::from_millis(1_999)), Some(1));
        assert_eq!(absent.get("live/a", now + Duration::from_millis(4_999)), Some(0));
        assert_eq!(absent.get("live/a", now + Duration::from_secs(5)), None);
        assert_eq!(absent.get("live/b", now), None);
    }

    #[test]
    fn a_hundred_thousand_names_leave_the_table_as_large_as_it_was() {
        let absent = Absent::new(Duration::from_secs(1));
        let now = Instant::now();
        for n in 0..100_000u32 {
            absent.insert(&n, 0, now);
        }
        assert_eq!(absent.slots.lock().len(), SLOTS);
        assert!(absent.get(&99_999u32, now).is_some());
    }
}
