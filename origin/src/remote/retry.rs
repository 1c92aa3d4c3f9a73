//! When to call again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::Trouble;

/// What has gone on for so long did not fail at once: the next wait is the first again.
const LASTED: Duration = Duration::from_secs(10);

/// The waits between calls: each failure doubles them, up to a bound.
#[derive(Debug)]
pub(crate) struct Retry {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Retry {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), failures: 0 }
    }

    /// How long to wait after what lasted so long and ended so; of that a random share between half and whole, so that
    /// those who failed together do not call together.
    pub(crate) fn wait(&mut self, lasted: Duration, trouble: &Trouble) -> Duration {
        if lasted >= LASTED {
            self.failures = 0;
        }
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let whole = if trouble.is_lasting() { self.longest } else { doubled.min(self.longest) };
        // Each state is keyed anew.
        let share = RandomState::new().hash_one(self.failures) % 1_024;
        let share = u32::try_from(share).unwrap_or_default();
        whole / 2 + whole * share / 2_048
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_begin_anew_after_what_lasted() {
        let (s, ended) = (Duration::from_secs, Trouble::Ended);
        let mut retry = Retry::new(s(1), s(30));
        for whole in [1, 2, 4, 8, 16, 30, 30] {
            let wait = retry.wait(s(1), &ended);
            assert!(wait >= s(whole) / 2 && wait <= s(whole), "{wait:?} of {whole}");
        }
        assert!(retry.wait(s(10), &ended) <= s(1));
        for _ in 0..100 {
            retry.wait(s(0), &ended);
        }
        assert!(retry.wait(s(0), &ended) >= s(15));
    }

    #[test]
    fn who_is_refused_does_not_insist() {
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(30));
        assert!(retry.wait(Duration::ZERO, &Trouble::Refused("401".to_owned())) >= Duration::from_secs(15));
    }
}
