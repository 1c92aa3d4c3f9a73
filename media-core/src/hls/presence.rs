//! Which tracks are there: a track that sends nothing while others go on is not.

use super::settle::Arrived;
use crate::frame::TrackId;

/// A track that sends nothing for this long while others do is packaged without, in ticks of 90 kHz: 2 s. Players
/// of a muxed rendition would stall at its end otherwise.
const SILENT: i64 = 180_000;
/// A frame further behind the one before counts as no more than this, in ticks of 90 kHz: 500 ms. When all tracks pause,
/// the first to go on must not make the others look silent.
const MAX_STEP: i64 = 45_000;

#[derive(Debug)]
struct Heard {
    id: TrackId,
    /// What its times are ahead of the progress by; tracks may be seconds apart.
    skew: i64,
    /// The progress when it was heard last.
    last: i64,
}

/// The tracks that were heard, and how far the stream has come since.
#[derive(Debug, Default)]
pub(super) struct Presence {
    heard: Vec<Heard>,
    /// Media that the track that got furthest sent, in ticks of 90 kHz.
    progress: i64,
}

impl Presence {
    /// Nothing was heard yet.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A frame came. Pictures count from their first keyframe on: nothing can begin with them before.
    pub(super) fn hear(&mut self, arrived: &Arrived) {
        let (id, at, progress) = (arrived.frame.track, arrived.at, self.progress);
        let at_index = self.heard.iter().position(|h| h.id == id);
        if at_index.is_none() && arrived.frame.keyframe {
            self.heard.push(Heard { id, skew: at.saturating_sub(progress), last: progress });
        }
        let Some(heard) = self.heard.iter_mut().find(|h| h.id == id) else { return };
        let furthest = progress.saturating_add(MAX_STEP);
        if at.saturating_sub(heard.skew) > furthest {
            heard.skew = at.saturating_sub(furthest);
        }
        self.progress = progress.max(at.saturating_sub(heard.skew));
        heard.last = self.progress;
    }

    /// The tracks that are there, in order.
    pub(super) fn tracks(&self) -> Vec<TrackId> {
        let speaks = |heard: &&Heard| self.progress.saturating_sub(heard.last) <= SILENT;
        let mut tracks: Vec<TrackId> = self.heard.iter().filter(speaks).map(|heard| heard.id).collect();
        tracks.sort();
        tracks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, Timescale, Timestamp};

    fn hear(presence: &mut Presence, track: TrackId, ms: i64) {
        let frame = Frame { track, dts: Timestamp(ms), cts: 0, keyframe: true, data: bytes::Bytes::new() };
        presence.hear(&Arrived::new(frame, Timescale::MILLIS, 0));
    }

    #[test]
    fn a_track_is_gone_after_two_seconds_of_the_others() {
        let mut presence = Presence::default();
        hear(&mut presence, TrackId::VIDEO, 0);
        for ms in (0..=2_000).step_by(20) {
            hear(&mut presence, TrackId::AUDIO, ms);
        }
        assert_eq!(presence.tracks(), [TrackId::VIDEO, TrackId::AUDIO]);
        hear(&mut presence, TrackId::AUDIO, 2_020);
        assert_eq!(presence.tracks(), [TrackId::AUDIO]);
        hear(&mut presence, TrackId::VIDEO, 2_040);
        assert_eq!(presence.tracks(), [TrackId::VIDEO, TrackId::AUDIO]);
    }

    #[test]
    fn tracks_that_are_apart_or_pause_together_are_there() {
        let mut presence = Presence::default();
        for ms in (0..10_000).step_by(20) {
            let pause = if ms > 5_000 { 8_000 } else { 0 };
            hear(&mut presence, TrackId::VIDEO, ms + pause);
            assert!(presence.tracks().contains(&TrackId::VIDEO));
            hear(&mut presence, TrackId::AUDIO, ms + pause + 4_000);
            assert_eq!(presence.tracks().len(), 2);
        }
    }
}
