//! Timestamps of 33 bits, unwrapped; and times of sound between them.

use super::super::CLOCK_MASK;

/// One clock for all streams of a programme, so that a wrap is one moment for all.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<i64>,
}

impl Clock {
    /// The moment nearest to the last one whose 33 bits these are.
    pub(super) fn unwrap(&mut self, ticks: u64) -> i64 {
        let now = match self.last {
            None => i64::try_from(ticks & CLOCK_MASK).unwrap_or_default(),
            Some(last) => last.saturating_add(difference(ticks, last.cast_unsigned())),
        };
        self.last = Some(now);
        now
    }
}

/// How far `to` is behind `from`, either way, on a clock of 33 bits.
pub(super) fn difference(to: u64, from: u64) -> i64 {
    let forward = i64::try_from(to.wrapping_sub(from) & CLOCK_MASK).unwrap_or_default();
    if forward < 1 << 32 { forward } else { forward - (1 << 33) }
}

/// Counts samples from the last timestamp on.
#[derive(Debug, Default)]
pub(super) struct SampleClock {
    base: Option<i64>,
    samples: u64,
    rate: u32,
}

impl SampleClock {
    /// What comes next is due then.
    pub(super) fn set(&mut self, ticks: i64) {
        self.base = Some(ticks);
        self.samples = 0;
    }

    /// Samples may be missing: nothing is known before the next timestamp.
    pub(super) fn stop(&mut self) {
        self.base = None;
    }

    /// When so many samples are due, behind which the next ones are.
    pub(super) fn advance(&mut self, samples: u32, rate: u32) -> Option<i64> {
        let mut now = self.now()?;
        if rate != self.rate {
            self.rate = rate;
            self.set(now);
            now = self.now()?;
        }
        self.samples = self.samples.saturating_add(samples.into());
        Some(now)
    }

    fn now(&self) -> Option<i64> {
        let rate = u64::from(self.rate.max(1));
        let ticks = self.samples.saturating_mul(90_000).saturating_add(rate / 2) / rate;
        Some(self.base?.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_are_undone_either_way() {
        let mut clock = Clock::default();
        let top = CLOCK_MASK - 9;
        let times: Vec<i64> = [top, 10, top + 5, 30].map(|ticks| clock.unwrap(ticks)).into();
        let base = i64::try_from(top).unwrap();
        assert_eq!(times, [base, base + 20, base + 5, base + 40]);
        let mut clock = Clock::default();
        assert_eq!((clock.unwrap(5), clock.unwrap(CLOCK_MASK)), (5, -1));
    }

    #[test]
    fn samples_are_counted_without_drift() {
        let mut clock = SampleClock::default();
        assert_eq!(clock.advance(1_024, 44_100), None);
        clock.set(1_000);
        for index in 0..10_000u64 {
            let exact = 1_000.0 + (index * 1_024) as f64 * 90_000.0 / 44_100.0;
            let now = clock.advance(1_024, 44_100).unwrap();
            assert!((now as f64 - exact).abs() <= 0.5, "{index}");
        }
        clock.set(0);
        clock.advance(48_000, 48_000);
        assert_eq!(clock.advance(1, 44_100), Some(90_000));
    }
}
