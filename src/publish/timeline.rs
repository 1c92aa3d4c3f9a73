//! One timeline over all rounds of a file: it begins at zero, and a round begins where the last one ended.

use std::collections::BTreeMap;

use media_core::frame::{Frame, Timescale, Timestamp, TrackId};

/// How long the last frame of a track is shown if it is the only one.
const LONE_FRAME_MS: i64 = 40;
/// The last frame of a round is taken to last as long as the shortest of its track: times in FLV are rounded to
/// milliseconds, so that longer ones may be by one too long. A track with holes only is not to have another one.
const MAX_FRAME_MS: i64 = 1_000;

/// Moves frames to where they belong.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Decoding time of the file's first frame.
    first: Option<Timestamp>,
    /// When this round began.
    round: i64,
    /// Of each track in this round: its latest frame, and its shortest distance between two.
    latest: BTreeMap<TrackId, (i64, Option<i64>)>,
}

impl Timeline {
    /// The frame at its time since the beginning of the first round.
    pub(crate) fn place(&mut self, mut frame: Frame) -> Frame {
        let first = *self.first.get_or_insert(frame.dts);
        let dts = frame.dts.0.saturating_sub(first.0).max(0).saturating_add(self.round);
        let max = ticks(MAX_FRAME_MS);
        self.latest
            .entry(frame.track)
            .and_modify(|(latest, duration)| {
                if dts > *latest {
                    *duration = Some((dts - *latest).min(duration.unwrap_or(max)));
                    *latest = dts;
                }
            })
            .or_insert((dts, None));
        frame.dts = Timestamp(dts);
        frame
    }

    /// Whether no frame has come in this round.
    pub(crate) fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// The file begins again.
    pub(crate) fn next_round(&mut self) {
        let ends = self.latest.values().map(|(dts, duration)| dts + duration.unwrap_or(ticks(LONE_FRAME_MS)));
        self.round = ends.max().unwrap_or(self.round);
        self.latest.clear();
    }
}

fn ticks(ms: i64) -> i64 {
    Timestamp::from_millis(ms, Timescale::HZ_90K).0
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(track: TrackId, ms: i64) -> Frame {
        Frame {
            track,
            dts: Timestamp::from_millis(ms, Timescale::HZ_90K),
            cts: 0,
            keyframe: true,
            data: Bytes::new(),
        }
    }

    fn placed(timeline: &mut Timeline, track: TrackId, ms: i64) -> i64 {
        timeline.place(frame(track, ms)).dts.millis(Timescale::HZ_90K)
    }

    #[test]
    fn rounds_follow_each_other_without_a_gap() {
        let mut t = Timeline::default();
        assert_eq!(placed(&mut t, TrackId::VIDEO, 500), 0, "a file need not begin at zero");
        assert_eq!(placed(&mut t, TrackId::AUDIO, 500), 0);
        assert_eq!(placed(&mut t, TrackId::AUDIO, 520), 20);
        assert_eq!(placed(&mut t, TrackId::VIDEO, 540), 40);
        assert_eq!(placed(&mut t, TrackId::AUDIO, 540), 40);
        t.next_round();
        assert_eq!(placed(&mut t, TrackId::VIDEO, 500), 80, "the picture lasts longest");
        assert_eq!(placed(&mut t, TrackId::VIDEO, 540), 120);
        t.next_round();
        assert_eq!(placed(&mut t, TrackId::AUDIO, 500), 160);
    }

    #[test]
    fn a_lone_frame_and_a_hole_do_not_stop_or_stretch_time() {
        let mut t = Timeline::default();
        placed(&mut t, TrackId::VIDEO, 0);
        t.next_round();
        assert_eq!(placed(&mut t, TrackId::VIDEO, 0), LONE_FRAME_MS);
        assert_eq!(placed(&mut t, TrackId::VIDEO, 60_000), LONE_FRAME_MS + 60_000);
        t.next_round();
        assert_eq!(placed(&mut t, TrackId::VIDEO, 0), LONE_FRAME_MS + 60_000 + MAX_FRAME_MS);
    }

    #[test]
    fn time_does_not_run_below_zero() {
        let mut t = Timeline::default();
        placed(&mut t, TrackId::VIDEO, 100);
        assert_eq!(placed(&mut t, TrackId::AUDIO, 40), 0);
    }
}
