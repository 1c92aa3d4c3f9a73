//! Where streams were found lately: one lives on a single origin, which need not be the one that is asked first.
//!
//! A table of fixed size that holds hashes; the hash is keyed, so that nobody can choose names that displace others.

use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Places of the table: 16,384 × 48 bytes. A stream that displaces another costs one more round of questions.
const SLOTS: usize = 16_384;

/// How long a place is remembered after the stream was last had from there.
const TTL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    origin: u64,
    at: Instant,
    told: Told,
}

/// Whether whoever coordinates origins says that the stream is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// No: it was found there.
    Not,
    /// Yes, and it has not answered yet.
    Said,
    /// Yes, and it has answered: what others have of the stream is older.
    Confirmed,
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
        let slot = self.slot(stream, now)?;
        Some((slot.origin, now.saturating_duration_since(slot.at)))
    }

    /// The origin that alone has the stream, as it was told and has shown itself.
    pub(super) fn only(&self, stream: &str, now: Instant) -> Option<u64> {
        let slot = self.slot(stream, now)?;
        (slot.told == Told::Confirmed).then_some(slot.origin)
    }

    /// The stream was just had from that origin.
    pub(super) fn insert(&self, stream: &str, origin: u64, now: Instant) {
        // Another one may have it, too, and not know that it lost it.
        let before = self.slot(stream, now).filter(|slot| slot.told != Told::Not);
        match before {
            Some(slot) if slot.origin == origin => self.put(stream, origin, Told::Confirmed, now),
            Some(_) => {}
            None => self.put(stream, origin, Told::Not, now),
        }
    }

    /// The stream is at that origin, whoever else thinks to have it.
    pub(super) fn point(&self, stream: &str, origin: u64, now: Instant) {
        let told = match self.slot(stream, now) {
            Some(slot) if slot.origin == origin && slot.told == Told::Confirmed => Told::Confirmed,
            _ => Told::Said,
        };
        self.put(stream, origin, told, now);
    }

    /// The stream is not there any more.
    pub(super) fn leave(&self, stream: &str, origin: u64, now: Instant) {
        if self.slot(stream, now).is_some_and(|slot| slot.origin == origin) {
            self.put(stream, origin, Told::Not, now);
        }
    }

    fn put(&self, stream: &str, origin: u64, told: Told, now: Instant) {
        let (hash, index) = self.place(stream);
        if let Some(slot) = self.slots.lock().get_mut(index) {
            *slot = Some(Slot { hash, origin, at: now, told });
        }
    }

    fn slot(&self, stream: &str, now: Instant) -> Option<Slot> {
        let (hash, index) = self.place(stream);
        let slot = (*self.slots.lock().get(index)?).filter(|slot| slot.hash == hash)?;
        (now.saturating_duration_since(slot.at) < TTL).then_some(slot)
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

    #[test]
    fn what_was_told_is_stronger_than_what_was_found() {
        let (found, now) = (Found::new(), Instant::now());
        let origin = || found.get("live/a", now).map(|(origin, _)| origin);
        found.insert("live/a", 1, now);
        found.point("live/a", 2, now);
        // It has to be ready first.
        assert_eq!((origin(), found.only("live/a", now)), (Some(2), None));
        found.insert("live/a", 1, now);
        found.insert("live/a", 2, now);
        found.insert("live/a", 1, now);
        assert_eq!((origin(), found.only("live/a", now)), (Some(2), Some(2)));
        // The same again changes nothing; another one has to show itself.
        found.point("live/a", 2, now);
        assert_eq!(found.only("live/a", now), Some(2));
        found.point("live/a", 3, now);
        assert_eq!((origin(), found.only("live/a", now)), (Some(3), None));
        found.insert("live/a", 3, now);
        found.leave("live/a", 2, now);
        assert_eq!(found.only("live/a", now), Some(3));
        found.leave("live/a", 3, now);
        found.insert("live/a", 1, now);
        assert_eq!((origin(), found.only("live/a", now)), (Some(1), None));
    }
}
