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
    /// What its times are ahead of the progress by; tracks may be seconds apart. `None`: it is taken to be there, but
    /// nothing of it was heard yet.
    skew: Option<i64>,
    /// The progress when it was heard last.
    last: i64,
}

/// The tracks that were heard, and how far the stream has come since.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// In the order of the ids.
    heard: Vec<Heard>,
    /// Media that the track that got furthest sent, in ticks of 90 kHz.
    progress: i64,
}

impl Presence {
    /// Begins with these tracks. Each has as long as a silent one to be heard for the first time.
    pub(super) fn of(tracks: &[TrackId]) -> Self {
        let mut heard: Vec<Heard> = tracks.iter().map(|id| Heard { id: *id, skew: None, last: 0 }).collect();
        heard.sort_by_key(|h| h.id);
        Self { heard, progress: 0 }
    }

    /// A frame came. Pictures count from their first keyframe on: nothing can begin with them before.
    pub(super) fn hear(&mut self, arrived: &Arrived) {
        let (id, at, progress) = (arrived.frame.track, arrived.at, self.progress);
        let place = self.heard.partition_point(|h| h.id < id);
        if arrived.frame.keyframe && self.heard.get(place).is_none_or(|h| h.id != id) {
            self.heard.insert(place, Heard { id, skew: None, last: progress });
        }
        let Some(heard) = self.heard.get_mut(place).filter(|h| h.id == id) else { return };
        let skew = match heard.skew {
            Some(skew) => skew.max(at.saturating_sub(progress.saturating_add(MAX_STEP))),
            None if arrived.frame.keyframe => at.saturating_sub(progress),
            None => return,
        };
        heard.skew = Some(skew);
        self.progress = progress.max(at.saturating_sub(skew));
        heard.last = self.progress;
    }

    /// The tracks that are there, in order.
    pub(super) fn tracks(&self) -> impl Iterator<Item = TrackId> {
        let speaks = |heard: &&Heard| self.progress.saturating_sub(heard.last) <= SILENT;
        self.heard.iter().filter(speaks).map(|heard| heard.id)
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

    fn tracks(presence: &Presence) -> Vec<TrackId> {
        presence.tracks().collect()
    }

    #[test]
    fn a_track_is_gone_after_two_seconds_of_the_others() {
        let mut presence = Presence::default();
        hear(&mut presence, TrackId::VIDEO, 0);
        for ms in (0..=2_000).step_by(20) {
            hear(&mut presence, TrackId::AUDIO, ms);
        }
        assert_eq!(tracks(&presence), [TrackId::VIDEO, TrackId::AUDIO]);
        hear(&mut presence, TrackId::AUDIO, 2_020);
        assert_eq!(tracks(&presence), [TrackId::AUDIO]);
        hear(&mut presence, TrackId::VIDEO, 2_040);
        assert_eq!(tracks(&presence), [TrackId::VIDEO, TrackId::AUDIO]);
    }

    #[test]
    fn a_track_that_it_begins_with_has_two_seconds_to_be_heard() {
        let mut presence = Presence::of(&[TrackId::AUDIO, TrackId::VIDEO]);
        for ms in (1_000..=3_000).step_by(20) {
            hear(&mut presence, TrackId::VIDEO, ms);
            assert_eq!(tracks(&presence), [TrackId::VIDEO, TrackId::AUDIO]);
        }
        hear(&mut presence, TrackId::VIDEO, 3_020);
        assert_eq!(tracks(&presence), [TrackId::VIDEO]);
    }

    #[test]
    fn tracks_that_are_apart_or_pause_together_are_there() {
        let mut presence = Presence::default();
        for ms in (0..10_000).step_by(20) {
            let pause = if ms > 5_000 { 8_000 } else { 0 };
            hear(&mut presence, TrackId::VIDEO, ms + pause);
            assert!(tracks(&presence).contains(&TrackId::VIDEO));
            hear(&mut presence, TrackId::AUDIO, ms + pause + 4_000);
            assert_eq!(tracks(&presence).len(), 2);
        }
    }
}
