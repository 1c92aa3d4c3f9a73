//! Where parts and segments are cut.
//!
//! A part may be no longer than PART-TARGET and, unless it is the last of its segment, no shorter than 85 % of it
//! (RFC 8216bis §4.4.4.9). Frames come when they come, so PART-TARGET is chosen to be a whole number of frames where
//! the frame rate allows, and a part is cut between two frames. Where no such cut is legal (a variable frame rate, a
//! picture that stays for longer than a part) the cut is made at PART-TARGET, inside the time a picture stays.

use std::time::Duration;

/// Ticks of the cuts' clock in a millisecond.
const MS: i64 = 90;
/// The least part, in per cent of PART-TARGET.
const LEAST_PART: i64 = 85;
/// PART-TARGET is not stretched to whole frames beyond this; slower pictures are cut inside.
const MAX_PART_TARGET: i64 = 1_000 * MS;

/// A place where a part may end: a frame begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Ticks since the part began.
    pub(super) offset: i64,
    /// A keyframe begins there.
    pub(super) keyframe: bool,
}

/// How far the search for a part's end got: what it passed is not looked at again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Search {
    /// Frames that it passed.
    pub(super) passed: usize,
    /// Where the last one of them begins, in ticks since the part began.
    before: i64,
}

/// A decision to end a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Ticks since the part began.
    pub(super) offset: i64,
    /// The segment ends too, because a keyframe begins there.
    pub(super) at_keyframe: bool,
}

/// The cutting rules of one stream, and what they have to remember.
#[derive(Debug)]
pub(super) struct Pace {
    /// The configured durations.
    part: i64,
    segment: i64,
    /// No segment may be longer: EXTINF, rounded, must not exceed TARGETDURATION.
    max_segment: i64,
    part_target: Option<i64>,
    last_keyframe: Option<i64>,
    gop: Option<i64>,
}

impl Pace {
    pub(super) fn new(config: &super::Config) -> Self {
        Self {
            part: i64::from(config.part_ms) * MS,
            segment: i64::from(config.segment_ms) * MS,
            max_segment: (i64::from(config.target_duration_s()) * 1_000 + 499) * MS,
            part_target: None,
            last_keyframe: None,
            gop: None,
        }
    }

    /// Forgets the rhythm of keyframes: what follows has its own.
    pub(super) fn restart(&mut self) {
        self.last_keyframe = None;
        self.gop = None;
    }

    /// A keyframe of the picture that is cut by.
    pub(super) fn keyframe(&mut self, at: i64) {
        self.gop = self.last_keyframe.map(|last| at.saturating_sub(last)).filter(|gop| *gop > 0).or(self.gop);
        self.last_keyframe = Some(at);
    }

    /// PART-TARGET, once it is decided.
    pub(super) fn part_target(&self) -> Option<Duration> {
        self.part_target.map(duration)
    }

    /// How long a part is at least that neither a keyframe nor the end cuts short, in ticks; once PART-TARGET is decided.
    pub(super) fn least_part(&self) -> Option<i64> {
        self.part_target.map(least_part)
    }

    /// Decides PART-TARGET, for good: `frames` frames take `ticks` ticks. `exact`: they do, rather than having been
    /// measured with timestamps in milliseconds.
    pub(super) fn decide_part_target(&mut self, frames: i64, ticks: i64, exact: bool) {
        let (frames, ticks) = (frames.max(1), ticks.max(1));
        // Whole frames that fit.
        let fit = i128::from(self.part) * i128::from(frames) / i128::from(ticks);
        let span = |n: i128| n * i128::from(ticks) / i128::from(frames);
        let (shorter, longer) = (span(fit), span(fit + 1));
        let part = i128::from(self.part);
        let target = if shorter * 100 >= part * i128::from(LEAST_PART) {
            part
        } else {
            let nearest = if fit > 0 && part - shorter <= longer - part { shorter } else { longer };
            // Up to the next millisecond, since the frames' times are rounded to milliseconds.
            let ms = i128::from(MS);
            let rounded = (nearest + ms - 1) / ms * ms + if exact { 0 } else { ms };
            if nearest <= i128::from(MAX_PART_TARGET.min(self.segment / 2)) { rounded } else { part }
        };
        self.part_target = Some(i64::try_from(target).unwrap_or(self.part));
    }

    /// PART-TARGET is the configured duration, for want of a rhythm.
    pub(super) fn keep_part_target(&mut self) {
        self.part_target.get_or_insert(self.part);
    }

    /// The configured duration of a part.
    pub(super) fn configured_part(&self) -> i64 {
        self.part
    }

    /// Whether, and where, the part that began `segment_offset` ticks into its segment ends. `begins` ascend and are
    /// those of the frames that `search` has not passed; `end` is where the last frame ends, if that is known; `step`
    /// is the distance at which the next one is expected.
    pub(super) fn cut(
        &self,
        segment_offset: i64,
        search: &mut Search,
        begins: impl Iterator<Item = Candidate>,
        end: Option<i64>,
        step: i64,
    ) -> Option<Cut> {
        let target = self.part_target.unwrap_or(self.part);
        let least = least_part(target);
        let too_far =
            |before| Cut { offset: if before >= least { before } else { target }, at_keyframe: false };
        for Candidate { offset, keyframe } in begins {
            if offset > target {
                return Some(too_far(search.before));
            }
            if offset > 0 {
                if keyframe && self.ends_segment_at_keyframe(segment_offset.saturating_add(offset)) {
                    return Some(Cut { offset, at_keyframe: true });
                }
                search.before = offset;
            }
            search.passed += 1;
        }
        let before = match end {
            Some(end) if end > target => return Some(too_far(search.before)),
            Some(end) if end > 0 => end,
            _ => search.before,
        };
        // Within a millisecond of the target the next one may still fit: its time is rounded.
        let next_is_too_late = before.saturating_add(step) > target.saturating_add(MS);
        (before >= least && next_is_too_late).then_some(Cut { offset: before, at_keyframe: false })
    }

    /// Whether a keyframe that far into a segment begins the next one: not if another will still fit.
    fn ends_segment_at_keyframe(&self, offset: i64) -> bool {
        let tolerance = self.part / 4;
        offset.saturating_add(self.gop.unwrap_or(self.segment)) > self.segment.saturating_add(tolerance)
    }

    /// Whether the segment ends with a part that no keyframe ended: `at` is the time, `offset` the segment's duration
    /// there.
    pub(super) fn ends_segment(&self, at: i64, offset: i64) -> bool {
        let target = self.part_target.unwrap_or(self.part);
        let with_another = offset.saturating_add(target);
        if with_another > self.max_segment {
            return true;
        }
        if with_another <= self.segment.saturating_add(target / 2) {
            return false;
        }
        // Long enough; but a keyframe that is about to come makes the better end.
        let expected = self.last_keyframe.zip(self.gop).map(|(last, gop)| last.saturating_add(gop));
        let soon = expected.is_some_and(|key| {
            let end = offset.saturating_add(key.saturating_sub(at));
            key > at && end <= self.max_segment.min(self.segment.saturating_add(self.segment / 4))
        });
        !soon
    }
}

fn least_part(part_target: i64) -> i64 {
    (part_target * LEAST_PART + 99) / 100
}

/// Ticks of the cuts' clock as a span of time.
pub(super) fn duration(ticks: i64) -> Duration {
    let ns = u64::try_from(ticks).unwrap_or(0).saturating_mul(100_000) / 9;
    Duration::from_nanos(ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::Config;

    fn part_target_ms(frames: i64, ticks: i64) -> i64 {
        let mut pace = Pace::new(&Config::default());
        pace.decide_part_target(frames, ticks, true);
        pace.part_target.unwrap() / MS
    }

    #[test]
    fn part_target_is_honest_at_every_frame_rate() {
        for (name, frames, ticks, ms) in [
            ("60", 1, 1_500, 200),
            ("50", 1, 1_800, 200),
            ("30", 1, 3_000, 200),
            ("29.97", 1, 3_003, 201),
            ("25", 1, 3_600, 200),
            ("24", 1, 3_750, 209),
            ("23.976", 4, 15_015, 209),
            ("12.5", 1, 7_200, 160),
            ("5", 1, 18_000, 200),
            ("4", 1, 22_500, 250),
            ("1", 1, 90_000, 1_000),
            ("one picture in 3 s: cut inside", 1, 270_000, 200),
            ("AAC at 48 kHz", 48_000, 1_024 * 90_000, 200),
            ("AAC at 44.1 kHz", 44_100, 1_024 * 90_000, 200),
            ("HE-AAC at 44.1 kHz", 44_100, 2_048 * 90_000, 200),
            ("nonsense", 1_000_000, 1, 200),
        ] {
            assert_eq!(part_target_ms(frames, ticks), ms, "{name}");
        }
    }

    #[test]
    fn what_was_measured_gets_a_millisecond_of_slack() {
        let mut pace = Pace::new(&Config::default());
        pace.decide_part_target(5, 208 * MS, false);
        assert_eq!(pace.part_target, Some(209 * MS));
    }
}
