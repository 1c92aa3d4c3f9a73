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
    /// Perhaps something: there was no answer in time, and nobody was let in.
    Perhaps,
}

/// Those of an origin: one a stream, since one is asked for at a time.
#[derive(Debug, Default)]
pub(super) struct Given(Mutex<HashMap<StreamKey, (Instant, What)>>);

impl Given {
    /// Something was given.
    pub(super) fn note(&self, key: &StreamKey, what: What) {
        self.0.lock().insert(key.clone(), (Instant::now(), what));
    }

    /// Those that are to be given back, since the origin has nothing of theirs. `has` says whether it has.
    pub(super) fn unused(&self, has: impl Fn(&StreamKey, What) -> bool) -> Vec<(StreamKey, What)> {
        self.unused_at(Instant::now(), has)
    }

    fn unused_at(&self, now: Instant, has: impl Fn(&StreamKey, What) -> bool) -> Vec<(StreamKey, What)> {
        let mut unused = Vec::new();
        self.0.lock().retain(|key, (at, what)| {
            if has(key, *what) {
                return false;
            }
            let stays = now.saturating_duration_since(*at) < PATIENCE;
            if !stays {
                unused.push((key.clone(), *what));
            }
            stays
        });
        unused
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
        let unused = given.unused_at(now + 2 * PATIENCE, has);
        assert_eq!(unused, [(key("unused"), What::Lease(Epoch(2)))]);
        assert!(given.0.lock().is_empty());
    }
}
