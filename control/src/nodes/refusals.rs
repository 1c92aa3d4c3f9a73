//! What nodes are refused, or held back from: counted by why, and said once of each who causes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::Code;

/// How long what was said is not said again.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// Causers that are remembered: beyond that nothing is said until some are forgotten, only counted.
const MAX_SAID: usize = 4_096;

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The join token or the pass is missing, wrong, or has expired.
    Credentials,
    /// The name of a node, or a stream, is somebody else's.
    Taken,
    /// What a node says of itself, or asks for, can't be.
    Invalid,
    /// It is no message of the service.
    Malformed,
    /// Heartbeats come faster than they are listened to.
    Flood,
    /// An epoch that lies in the future: the clock of its origin is wrong.
    Clock,
    /// An epoch that is older than another origin's.
    Outdated,
}

impl Why {
    pub(crate) const ALL: [Self; 7] = [
        Self::Credentials,
        Self::Taken,
        Self::Invalid,
        Self::Malformed,
        Self::Flood,
        Self::Clock,
        Self::Outdated,
    ];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Taken => "taken",
            Self::Invalid => "invalid",
            Self::Malformed => "malformed",
            Self::Flood => "flood",
            Self::Clock => "clock",
            Self::Outdated => "outdated",
        }
    }

    /// Why a call was answered with that code.
    pub(crate) fn of(code: Code) -> Option<Self> {
        match code {
            Code::Unauthenticated => Some(Self::Credentials),
            Code::AlreadyExists => Some(Self::Taken),
            Code::InvalidArgument => Some(Self::Invalid),
            // What could not be decoded, and what is too long for that: no service here says so itself.
            Code::Internal | Code::OutOfRange => Some(Self::Malformed),
            _ => None,
        }
    }
}

/// What was refused so far.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Why::ALL.len()],
    said: Mutex<HashMap<(Why, String), Instant>>,
}

impl Refusals {
    /// Once more.
    pub(crate) fn count(&self, why: Why) {
        if let Some(count) = self.counts.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often.
    pub(crate) fn total(&self, why: Why) -> u64 {
        self.counts.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Whether it has not been said of `who` yet, which it is now.
    pub(crate) fn is_news(&self, why: Why, who: &str) -> bool {
        self.is_news_at(why, who, Instant::now())
    }

    fn is_news_at(&self, why: Why, who: &str, now: Instant) -> bool {
        let mut said = self.said.lock();
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= AGAIN;
        let key = (why, who.to_owned());
        if said.get(&key).is_some_and(|at| !is_old(at)) {
            return false;
        }
        if said.len() >= MAX_SAID {
            said.retain(|_, at| !is_old(at));
        }
        let has_room = said.len() < MAX_SAID;
        if has_room {
            said.insert(key, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_and_said_once_of_each() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..100 {
            refusals.count(Why::Flood);
        }
        assert_eq!((refusals.total(Why::Flood), refusals.total(Why::Taken)), (100, 0));
        assert!(refusals.is_news_at(Why::Flood, "a", now) && refusals.is_news_at(Why::Flood, "b", now));
        assert!(refusals.is_news_at(Why::Taken, "a", now));
        assert!(!refusals.is_news_at(Why::Flood, "a", now + AGAIN / 2));
        assert!(refusals.is_news_at(Why::Flood, "a", now + AGAIN));
        // Whoever makes up names is not remembered without end.
        for name in 0..2 * MAX_SAID {
            refusals.is_news_at(Why::Invalid, &name.to_string(), now);
        }
        assert_eq!(refusals.said.lock().len(), MAX_SAID);
        assert!(!refusals.is_news_at(Why::Invalid, "more", now));
        assert!(refusals.is_news_at(Why::Invalid, "more", now + 2 * AGAIN));
    }
}
