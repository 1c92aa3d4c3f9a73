//! Leases that were given and are not seen to be used yet: one that nobody uses is given back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use media_core::hub::{Epoch, StreamKey};
use parking_lot::Mutex;

/// How long it may take from a lease to the stream that it is for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The stream.
    Lease(Epoch),
    /// Leave to wait.
    Standby,
    /// Perhaps the stream, under this epoch or a later one: there was no answer in time, and nobody was let in.
    Perhaps(Epoch),
}

/// Something that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gift {
    /// Of this stream.
    pub(super) key: StreamKey,
    pub(super) what: What,
    at: Instant,
}

/// Those of an origin: one a stream, since one is asked for at a time.
#[derive(Debug, Default)]
pub(super) struct Given(Mutex<HashMap<StreamKey, (Instant, What)>>);

impl Given {
    /// Something was given.
    pub(super) fn note(&self, key: &StreamKey, what: What) {
        self.0.lock().insert(key.clone(), (Instant::now(), what));
    }

    /// Those that are to be given back, since the origin has nothing of theirs: until [`Self::is_back`]. `has` says whether it
    /// has; of what it has there is nothing to remember.
    pub(super) fn unused(&self, has: impl Fn(&StreamKey, What) -> bool) -> Vec<Gift> {
        self.unused_at(Instant::now(), has)
    }

    fn unused_at(&self, now: Instant, has: impl Fn(&StreamKey, What) -> bool) -> Vec<Gift> {
        let mut given = self.0.lock();
        given.retain(|key, (_, what)| !has(key, *what));
        let unused = given.iter().filter(|(_, (at, _))| now.saturating_duration_since(*at) >= PATIENCE);
        unused.map(|(key, (at, what))| Gift { key: key.clone(), what: *what, at: *at }).collect()
    }

    /// It was given back. What was given since then is another.
    pub(super) fn is_back(&self, gift: &Gift) {
        let mut given = self.0.lock();
        if given.get(&gift.key) == Some(&(gift.at, gift.what)) {
            given.remove(&gift.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_given_back_once() {
        let (given, now) = (Given::default(), Instant::now());
        let key = |name: &str| StreamKey::parse("live", name, &[]).unwrap();
        given.note(&key("used"), What::Lease(Epoch(1)));
        given.note(&key("unused"), What::Lease(Epoch(2)));
        let has = |key: &StreamKey, _| key.name() == "used";
        assert!(given.unused_at(now, has).is_empty(), "it may come yet");
        let later = now + 2 * PATIENCE;
        let unused = given.unused_at(later, has);
        let names =
            |gifts: &[Gift]| gifts.iter().map(|gift| (gift.key.clone(), gift.what)).collect::<Vec<_>>();
        assert_eq!(names(&unused), [(key("unused"), What::Lease(Epoch(2)))]);
        assert_eq!(given.unused_at(later, has), unused, "until it is back");
        given.is_back(&unused[0]);
        assert!(given.0.lock().is_empty());
    }

    #[test]
    fn what_is_given_while_another_goes_back_stays() {
        let (given, now) = (Given::default(), Instant::now());
        let key = StreamKey::parse("live", "a", &[]).unwrap();
        given.note(&key, What::Perhaps(Epoch(1)));
        let unused = given.unused_at(now + 2 * PATIENCE, |_, _| false);
        given.note(&key, What::Lease(Epoch(2)));
        given.is_back(&unused[0]);
        assert_eq!(given.0.lock().get(&key).unwrap().1, What::Lease(Epoch(2)));
    }
}
