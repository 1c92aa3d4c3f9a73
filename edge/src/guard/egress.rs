//! How much the process sends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often it is measured.
pub(crate) const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Weight of the last second in the measured rate: HLS is sent in bursts.
const NEWEST: f64 = 0.3;

/// The rate of a counter of bytes.
#[derive(Default)]
pub(super) struct Egress {
    last: Mutex<Option<(Instant, u64)>>,
    bits_per_second: AtomicU64,
}

impl Egress {
    /// Takes a look at the counter. Several who look at once are as good as one.
    pub(super) fn measure(&self, bytes: u64, now: Instant) {
        let mut last = self.last.lock();
        let Some((at, before)) = *last else {
            *last = Some((now, bytes));
            return;
        };
        let passed = now.saturating_duration_since(at);
        if passed < MEASURE_EVERY / 2 {
            return;
        }
        *last = Some((now, bytes));
        #[allow(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let (sent, known) =
            (bytes.saturating_sub(before) as f64, self.bits_per_second.load(Ordering::Relaxed) as f64);
        let rate = sent * 8.0 / passed.as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let mixed = (known + (rate - known) * NEWEST) as u64;
        self.bits_per_second.store(mixed, Ordering::Relaxed);
    }

    pub(super) fn bits_per_second(&self) -> u64 {
        self.bits_per_second.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_what_is_sent() {
        let (egress, start) = (Egress::default(), Instant::now());
        let mut now = start;
        let mut bytes = 0;
        for _ in 0..20 {
            egress.measure(bytes, now);
            // Who looks again at once changes nothing.
            egress.measure(bytes + 1_000_000, now + MEASURE_EVERY / 4);
            now += MEASURE_EVERY;
            bytes += 125_000;
        }
        assert!((990_000..=1_000_000).contains(&egress.bits_per_second()), "{}", egress.bits_per_second());
        for _ in 0..30 {
            egress.measure(bytes, now);
            now += MEASURE_EVERY;
        }
        assert!(egress.bits_per_second() < 1_000);
    }
}
