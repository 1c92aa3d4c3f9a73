//! Whether an origin is worth asking: one that failed is left alone for a while, which doubles each time up to a bound;
//! then a single question finds out whether it is back.

use std::time::{Duration, Instant};

/// How long an origin is left alone after it failed once.
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest that it is left alone: one that is back has its viewers again within it.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How an origin is doing.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// After how long, and from when on, it may be asked again; `None` while it answers.
    failing: Option<(Duration, Instant)>,
    /// When it last answered anything.
    heard: Option<Instant>,
}

impl Health {
    /// Whether it answers, as far as is known.
    pub(super) fn is_good(&self) -> bool {
        self.failing.is_none()
    }

    /// Whether to ask it now. Of one that failed, that is one question each time its back-off is over. `jitter` is below
    /// 1: edges shall not all ask at once.
    pub(super) fn admit(&mut self, now: Instant, jitter: f64) -> bool {
        let Some((backoff, from)) = &mut self.failing else { return true };
        if now < *from {
            return false;
        }
        *from = now + jittered(*backoff, jitter);
        true
    }

    /// It answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.failing = None;
        self.spoke(now);
    }

    /// It said something, which may be no answer to what matters.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// Whether it has answered nothing for so long.
    pub(super) fn is_silent(&self, time: Duration, now: Instant) -> bool {
        self.heard.is_none_or(|heard| now.saturating_duration_since(heard) >= time)
    }

    /// It did not answer, or not in HTTP.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        let backoff = match self.failing {
            None => MIN_BACKOFF,
            // Of several that were asked before the first failed, each says the same.
            Some((backoff, from)) if now + backoff / 2 < from => backoff,
            Some((backoff, _)) => (backoff * 2).min(MAX_BACKOFF),
        };
        self.failing = Some((backoff, now + jittered(backoff, jitter)));
    }
}

/// Between half of it and all.
fn jittered(backoff: Duration, jitter: f64) -> Duration {
    backoff / 2 + (backoff / 2).mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_that_fails_is_asked_once_each_time_its_back_off_is_over() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        assert!(health.is_good() && health.admit(now, 0.0));
        for wait_ms in [50, 100, 200, 400, 800, 1_000, 1_000] {
            health.failed(now, 0.0);
            assert!(!health.is_good());
            assert!(!health.admit(now + (wait_ms - 1) * MS, 0.0), "{wait_ms}");
            now += wait_ms * MS;
            assert!(health.admit(now, 0.0), "{wait_ms}");
            assert!(!health.admit(now, 0.0), "one question at a time");
        }
        health.answered(now);
        assert!(health.is_good() && health.admit(now, 0.0) && health.admit(now, 0.0));
        health.failed(now, 0.99);
        assert!(!health.admit(now + 99 * MS, 0.0), "jitter");
        assert!(health.admit(now + 100 * MS, 0.0));
    }

    #[test]
    fn a_thousand_failures_at_once_are_one() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..1_000 {
            health.failed(now, 0.99);
        }
        assert!(health.admit(now + 250 * MS, 0.99));
    }
}
