//! Timestamp repair, once for all outputs.
//!
//! Publishers' clocks wrap (RTMP's after 49 days), jump, run backwards, and start anew with every
//! connection. The timeline maps them to one clock per stream that starts at 0 and only goes forward: one
//! offset holds for all tracks, so that sound and picture stay together, and is chosen anew when a
//! frame would land far from where the stream is. For a while after a jump the tracks may disagree
//! about which side of it they are on, so the offset before is kept and tried too.

use crate::frame::{Frame, Kind, Timescale, Timestamp, TrackId};

/// All tracks meet in microseconds.
const MICROS: Timescale = match Timescale::new(1_000_000) {
    Some(t) => t,
    None => Timescale::MILLIS,
};
/// Furthest that a frame may be ahead of the stream and still count as a pause rather than a jump.
const MAX_AHEAD_US: i64 = 10_000_000;
/// Furthest that one track may lag behind another: interleaving of real encoders stays well below.
const MAX_BEHIND_US: i64 = 5_000_000;
/// Furthest that a track may go back behind itself and be nudged forward instead of taken for a jump.
const MAX_NUDGE_US: i64 = 200_000;
/// RTMP and FLV count milliseconds in 32 bits.
const WRAP_US: i64 = (1 << 32) * 1_000;
/// Space left between the frames before and after a jump when the track has no rhythm yet.
const DEFAULT_STEP_US: i64 = 20_000;
/// Longest distance of two frames that counts as a track's rhythm.
const MAX_STEP_US: i64 = 1_000_000;
/// Furthest from 0 that a publisher's timestamp may be, in ticks: 1,600 years at 90 kHz, and far enough from the
/// ends of `i64` that offsets can't overflow.
const MAX_INPUT_TICKS: i64 = 1 << 52;
/// Presentation further than this from decoding is a lie: H.264 reorders 16 pictures at most.
const MAX_CTS_US: i64 = 10_000_000;

#[derive(Debug)]
struct TrackClock {
    id: TrackId,
    last: Timestamp,
    last_us: i64,
    step_us: i64,
}

/// What a repair did to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// Nothing but applying the offset in force.
    None,
    /// Moved forward behind the frame before it.
    Nudged,
    /// A new offset was chosen: the publisher's clock jumped, wrapped or started anew.
    Jumped,
}

/// The mapping from publishers' timestamps to the stream's.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Added to the publisher's time; `None` until the first frame of a publisher.
    offset_us: Option<i64>,
    previous_offset_us: Option<i64>,
    /// The furthest that any track is.
    head_us: Option<i64>,
    tracks: Vec<TrackClock>,
}

impl Timeline {
    /// A new publisher: its clock has nothing to do with the one before.
    pub(super) fn new_publisher(&mut self) {
        self.offset_us = None;
        self.previous_offset_us = None;
    }

    /// Puts the frame on the stream's timeline.
    pub(super) fn repair(&mut self, frame: &mut Frame, scale: Timescale) -> Repair {
        let input = Timestamp(frame.dts.0.clamp(-MAX_INPUT_TICKS, MAX_INPUT_TICKS));
        let input_us = input.rescale(scale, MICROS).0;
        let at = self.tracks.iter().position(|t| t.id == frame.track);
        let clock = at.and_then(|i| self.tracks.get(i));
        let mut repair = Repair::None;

        let offset_us = match self.fitting_offset(input_us, clock) {
            Some(offset) => offset,
            None => {
                repair = Repair::Jumped;
                let target = match self.head_us {
                    None => 0,
                    Some(head) => head.saturating_add(clock.map_or(DEFAULT_STEP_US, |c| c.step_us)),
                };
                target.saturating_sub(input_us)
            }
        };
        if self.offset_us != Some(offset_us) && self.previous_offset_us != Some(offset_us) {
            self.previous_offset_us = self.offset_us;
            self.offset_us = Some(offset_us);
            repair = Repair::Jumped;
        }

        let offset = Timestamp(offset_us).rescale(MICROS, scale);
        let mut dts = Timestamp(input.0.saturating_add(offset.0).max(0));
        // A millisecond at least: FLV and RTMP can't tell less apart.
        let least_step = Timestamp::from_millis(1, scale).0.max(1);
        if let Some(clock) = clock
            && dts.0 < clock.last.0.saturating_add(least_step)
        {
            dts = Timestamp(clock.last.0.saturating_add(least_step));
            if repair == Repair::None {
                repair = Repair::Nudged;
            }
        }
        let dts_us = dts.rescale(scale, MICROS).0;
        frame.dts = dts;
        let max_cts = Timestamp(MAX_CTS_US).rescale(MICROS, scale).0;
        frame.cts = i32::try_from(i64::from(frame.cts).clamp(-max_cts, max_cts)).unwrap_or(0);

        match at.and_then(|i| self.tracks.get_mut(i)) {
            Some(clock) => {
                let step = dts_us.saturating_sub(clock.last_us);
                if repair == Repair::None && (1..=MAX_STEP_US).contains(&step) {
                    clock.step_us = step;
                }
                clock.last = dts;
                clock.last_us = dts_us;
            }
            None => self.tracks.push(TrackClock {
                id: frame.track,
                last: dts,
                last_us: dts_us,
                step_us: if frame.track.kind == Kind::Video { 40_000 } else { DEFAULT_STEP_US },
            }),
        }
        self.head_us = Some(self.head_us.map_or(dts_us, |head| head.max(dts_us)));
        repair
    }

    /// The newest known offset that puts the frame near the stream's head.
    fn fitting_offset(&self, input_us: i64, clock: Option<&TrackClock>) -> Option<i64> {
        let head = self.head_us?;
        let current = self.offset_us?;
        let candidates = [Some(current), self.previous_offset_us, Some(current.saturating_add(WRAP_US))];
        candidates.into_iter().flatten().find(|offset| {
            let out = input_us.saturating_add(*offset);
            let ahead = out.saturating_sub(head);
            let after_own = clock.map_or(0, |c| out.saturating_sub(c.last_us));
            (-MAX_BEHIND_US..=MAX_AHEAD_US).contains(&ahead) && after_own >= -MAX_NUDGE_US
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const MS: Timescale = Timescale::MILLIS;

    fn push(timeline: &mut Timeline, track: TrackId, ms: i64) -> (i64, Repair) {
        let mut frame = Frame { track, dts: Timestamp(ms), cts: 0, keyframe: true, data: Bytes::new() };
        let repair = timeline.repair(&mut frame, MS);
        (frame.dts.0, repair)
    }

    fn av(timeline: &mut Timeline, from_ms: i64, frames: i64) -> Vec<(i64, i64)> {
        (0..frames)
            .map(|i| {
                let v = push(timeline, TrackId::VIDEO, from_ms + i * 40).0;
                (v, push(timeline, TrackId::AUDIO, from_ms + i * 40 + 10).0)
            })
            .collect()
    }

    #[test]
    fn a_stream_starts_at_zero_and_keeps_its_rhythm() {
        let mut t = Timeline::default();
        assert_eq!(av(&mut t, 5_000, 3), [(0, 10), (40, 50), (80, 90)]);
    }

    #[test]
    fn a_32_bit_wrap_is_seamless() {
        let mut t = Timeline::default();
        let wrap = 1i64 << 32;
        let start = wrap - 60;
        let out: Vec<_> = (0..4).map(|i| push(&mut t, TrackId::VIDEO, (start + i * 40) % wrap).0).collect();
        assert_eq!(out, [0, 40, 80, 120]);
        assert_eq!(push(&mut t, TrackId::AUDIO, (start + 130) % wrap).0, 130);
    }

    #[test]
    fn tracks_that_wrap_at_different_times_stay_together() {
        let mut t = Timeline::default();
        let wrap = 1i64 << 32;
        push(&mut t, TrackId::VIDEO, wrap - 50);
        push(&mut t, TrackId::AUDIO, wrap - 40);
        assert_eq!(push(&mut t, TrackId::VIDEO, 10).0, 60);
        assert_eq!(push(&mut t, TrackId::AUDIO, wrap - 20).0, 30);
        assert_eq!(push(&mut t, TrackId::AUDIO, 0).0, 50);
        assert_eq!(push(&mut t, TrackId::VIDEO, 50).0, 100);
    }

    #[test]
    fn jumps_of_an_hour_either_way_are_closed() {
        for jump in [3_600_000, -3_600_000] {
            let mut t = Timeline::default();
            av(&mut t, 4_000_000, 3);
            assert_eq!(push(&mut t, TrackId::VIDEO, 4_000_120 + jump), (130, Repair::Jumped));
            assert_eq!(push(&mut t, TrackId::AUDIO, 4_000_130 + jump), (140, Repair::None));
            assert_eq!(push(&mut t, TrackId::VIDEO, 4_000_160 + jump), (170, Repair::None));
        }
    }

    #[test]
    fn a_track_that_has_not_jumped_yet_keeps_the_old_offset() {
        let mut t = Timeline::default();
        av(&mut t, 0, 3);
        push(&mut t, TrackId::VIDEO, 3_600_000);
        assert_eq!(push(&mut t, TrackId::AUDIO, 110), (110, Repair::None));
        assert_eq!(push(&mut t, TrackId::VIDEO, 3_600_040).1, Repair::None);
    }

    #[test]
    fn a_publisher_that_comes_back_continues() {
        let mut t = Timeline::default();
        av(&mut t, 0, 3);
        t.new_publisher();
        assert_eq!(push(&mut t, TrackId::AUDIO, 0).0, 130);
        assert_eq!(push(&mut t, TrackId::VIDEO, 10).0, 140);
    }

    #[test]
    fn a_pause_in_one_track_is_no_jump() {
        let mut t = Timeline::default();
        push(&mut t, TrackId::VIDEO, 0);
        for ms in (0..60_000).step_by(20) {
            push(&mut t, TrackId::AUDIO, ms);
        }
        assert_eq!(push(&mut t, TrackId::VIDEO, 60_000), (60_000, Repair::None));
    }

    #[test]
    fn equal_timestamps_are_nudged() {
        let mut t = Timeline::default();
        push(&mut t, TrackId::VIDEO, 0);
        assert_eq!(push(&mut t, TrackId::VIDEO, 0), (1, Repair::Nudged));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_each_track_only_goes_forward(
            input in proptest::collection::vec((any::<bool>(), any::<i64>(), any::<i32>()), 1..200)
        ) {
            let mut t = Timeline::default();
            let mut last = [None::<i64>; 2];
            for (video, ms, cts) in input {
                let track = if video { TrackId::VIDEO } else { TrackId::AUDIO };
                let mut frame = Frame { track, dts: Timestamp(ms), cts, keyframe: false, data: Bytes::new() };
                t.repair(&mut frame, Timescale::HZ_90K);
                let slot = &mut last[usize::from(video)];
                prop_assert!(slot.is_none_or(|l| frame.dts.0 > l));
                *slot = Some(frame.dts.0);
            }
        }

        #[test]
        fn jumps_never_open_a_gap_of_more_than_the_pause_limit(
            jumps in proptest::collection::vec((-100_000_000i64..100_000_000, 1usize..20), 1..20)
        ) {
            let mut t = Timeline::default();
            let mut last = None::<i64>;
            for (start, frames) in jumps {
                for i in 0..frames {
                    let (out, _) = push(&mut t, TrackId::VIDEO, start + 40 * i as i64);
                    prop_assert!(last.is_none_or(|l| out - l <= MAX_AHEAD_US / 1000 + 40));
                    last = Some(out);
                }
            }
        }
    }
}
