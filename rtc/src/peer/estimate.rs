//! What a viewer's line takes, as far as what it was sent shows: of losses as congestion control by them counts
//! (draft-ietf-rmcat-gcc-02 §6), and of what it says itself (REMB).
//!
//! Nothing is sent to find out more: the state machine's own estimator (`enable_bwe`) would, but paces each packet by a
//! timer of its own, which costs all who watch, and asks for a rate to be reached (`set_bitrate`), without which it never
//! leaves its first value. So more than what was sent, and half of it, is never claimed.

use std::time::{Duration, Instant};

/// Below this share of losses there is room, above the other there is not.
const FEW: f32 = 0.02;
const MANY: f32 = 0.1;
/// How much more is tried after a time without losses.
const GROWTH: f64 = 1.08;
/// What the estimate never falls below, in bits a second: sound.
const LEAST: f64 = 32_000.0;
/// Of what was sent, how much may be said that the line takes.
const BEYOND: f64 = 1.5;
/// Times that are too short to say anything.
const SHORTEST: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    bits: Option<f64>,
    said: Option<u64>,
    before: Option<(Instant, u64)>,
}

impl Estimate {
    /// Takes how many bytes were sent in all until `at`, and which share of the newest was lost.
    pub(super) fn measured(&mut self, at: Instant, bytes: u64, lost: Option<f32>) {
        let Some((before, bytes_before)) = self.before else {
            self.before = Some((at, bytes));
            return;
        };
        let time = at.saturating_duration_since(before);
        if time < SHORTEST {
            return;
        }
        self.before = Some((at, bytes));
        // Far below 2^53, even of years.
        #[allow(clippy::cast_precision_loss, reason = "bytes of a viewer are far below 2^53")]
        let sent = bytes.saturating_sub(bytes_before) as f64 * 8.0 / time.as_secs_f64();
        let Some(lost) = lost.filter(|lost| lost.is_finite()) else { return };
        let now = self.bits.unwrap_or(sent);
        let next = if lost > MANY {
            // What was sent is what was too much, whatever was hoped.
            now.min(sent) * (1.0 - 0.5 * f64::from(lost.min(1.0)))
        } else if lost < FEW {
            (now.max(sent) * GROWTH).min((sent * BEYOND).max(now.min(sent)))
        } else {
            now
        };
        self.bits = Some(next.max(LEAST));
    }

    /// Takes what the viewer says.
    pub(super) fn said(&mut self, bits: u64) {
        self.said = Some(bits);
    }

    /// In bits a second; `None` until anything is known.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and no line is that fast"
    )]
    pub(super) fn bits(&self) -> Option<u64> {
        let own = self.bits.map(|bits| bits as u64);
        match (own, self.said) {
            (Some(own), Some(said)) => Some(own.min(said)),
            (own, said) => own.or(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is estimated after so many reports, two seconds apart, of that rate and those losses.
    fn after(
        estimate: &mut Estimate,
        clock: &mut (Instant, u64),
        reports: u32,
        (bits, lost): (u64, f32),
    ) -> u64 {
        for _ in 0..reports {
            clock.0 += Duration::from_secs(2);
            clock.1 += bits / 4;
            estimate.measured(clock.0, clock.1, Some(lost));
        }
        estimate.bits().unwrap_or_default()
    }

    #[test]
    fn it_grows_on_a_good_line_and_falls_on_a_bad_one() {
        let (mut estimate, mut clock) = (Estimate::default(), (Instant::now(), 0));
        assert_eq!(estimate.bits(), None);
        let good = after(&mut estimate, &mut clock, 20, (1_000_000, 0.0));
        assert!((1_400_000..=1_500_000).contains(&good), "{good}");
        let held = after(&mut estimate, &mut clock, 5, (1_000_000, 0.05));
        assert_eq!(held, good);
        let bad = after(&mut estimate, &mut clock, 3, (1_000_000, 0.4));
        assert!(bad < 700_000, "{bad}");
        assert!(after(&mut estimate, &mut clock, 50, (1_000_000, 1.0)) >= 32_000);
        assert!(after(&mut estimate, &mut clock, 80, (600_000, 0.0)) > 600_000);
    }

    #[test]
    fn what_the_viewer_says_is_the_most() {
        let (mut estimate, mut clock) = (Estimate::default(), (Instant::now(), 0));
        estimate.said(300_000);
        assert_eq!(estimate.bits(), Some(300_000));
        assert_eq!(after(&mut estimate, &mut clock, 5, (1_000_000, 0.0)), 300_000);
        estimate.said(u64::MAX);
        assert!(estimate.bits() > Some(1_000_000));
        estimate.measured(clock.0, u64::MAX, Some(f32::NAN));
        assert!(estimate.bits() > Some(1_000_000));
    }
}
