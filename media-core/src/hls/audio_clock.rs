//! Exact decoding times for audio.
//!
//! RTMP rounds to milliseconds, but coded audio has an exact rhythm: each frame plays a known number of samples. So
//! frames are laid end to end on a clock that counts samples, and the publisher's timestamps only say where the
//! first one goes and whether the two have drifted apart.

/// Drift that is let be, in frames. Rounding and encoders that stamp by their system clock stay within it; sound that
/// is one frame (21 ms of AAC) off its picture can't be noticed.
const MAX_DRIFT_FRAMES: i64 = 1;

/// Lays one track's frames end to end.
#[derive(Debug, Default)]
pub(super) struct AudioClock {
    next: Option<i64>,
}

impl AudioClock {
    /// Where a frame of `samples` goes that the publisher put at `stamp` (both in samples). `None`: the track is more
    /// than a frame too far, and leaving this frame out brings it back without an overlap.
    pub(super) fn place(&mut self, stamp: i64, samples: u32) -> Option<i64> {
        let samples = i64::from(samples);
        let drift = self.next.map_or(0, |next| stamp.saturating_sub(next));
        if drift < -(MAX_DRIFT_FRAMES * samples) {
            return None;
        }
        let at = match self.next {
            // Sound is missing: a hole that is there stays there.
            Some(_) if drift > MAX_DRIFT_FRAMES * samples => stamp,
            Some(next) => next,
            None => stamp,
        };
        self.next = Some(at.saturating_add(samples));
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_to_milliseconds_disappears() {
        let mut clock = AudioClock::default();
        for n in 0..1_000i64 {
            let ms = (n * 1024 * 1000 + 22_050) / 44_100;
            assert_eq!(clock.place(ms * 44_100 / 1000, 1024), Some(n * 1024));
        }
    }

    #[test]
    fn missing_sound_leaves_a_hole_and_surplus_sound_is_left_out() {
        let mut clock = AudioClock::default();
        assert_eq!(clock.place(0, 1024), Some(0));
        assert_eq!(clock.place(5_000, 1024), Some(5_000));
        assert_eq!(clock.place(4_900, 1024), None);
        assert_eq!(clock.place(6_024, 1024), Some(6_024));
    }

    #[test]
    fn a_clock_that_runs_slowly_loses_single_frames_only() {
        let mut clock = AudioClock::default();
        // The publisher's timestamps advance 1000 samples for each 1024.
        let kept = (0..10_000i64).filter(|n| clock.place(n * 1_000, 1024).is_some()).count();
        assert!((9_764..=9_768).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn frames_never_overlap_and_stay_near_their_stamps(stamps in proptest::collection::vec(0i64..10_000_000, 1..100)) {
            let mut clock = AudioClock::default();
            let mut end = i64::MIN;
            for stamp in stamps {
                if let Some(at) = clock.place(stamp, 1024) {
                    prop_assert!(at >= end);
                    prop_assert!((at - stamp).abs() <= 1024);
                    end = at + 1024;
                }
            }
        }
    }
}
