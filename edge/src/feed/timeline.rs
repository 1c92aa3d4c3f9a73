//! The clock of a stream as its viewers see it.
//!
//! An origin keeps a stream's timestamps rising, whoever publishes it. One that was started anew, or another one, knows
//! nothing of the stream before it: its timestamps begin at 0, and so are moved behind what viewers have seen.

use bytes::{Bytes, BytesMut};
use media_core::flv::{self, TagKind};
use media_core::relay::{Mark, Tag};

/// From the newest frame of a timeline to the first of the one that is put behind it, in milliseconds. More than a
/// picture or a sound usually takes, so that sound that comes a little behind its picture stays behind what was before.
const STEP_MS: u32 = 40;

/// Furthest that a frame of a new publish may be ahead and still count as a pause of the same timeline, in milliseconds:
/// the origin closes larger gaps itself.
const MAX_AHEAD_MS: i32 = 15_000;

/// Puts the timelines of a stream's origins one behind the other.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    epoch: Option<u64>,
    /// Added to what the origin says, modulo 2³².
    offset_ms: u32,
    /// Nothing goes behind it.
    floor_ms: Option<u32>,
    /// The newest timestamps that viewers have, of sound and of pictures.
    newest_ms: [Option<u32>; 2],
    /// Of which kinds nothing has come yet under this epoch.
    unsettled: [bool; 2],
    /// The newest mark, until the frame that it is for.
    mark: Option<Mark>,
}

impl Timeline {
    /// The relay says what its next frame is.
    pub(super) fn mark(&mut self, mark: Mark) {
        let epoch = Some(mark.epoch.0);
        if self.epoch.is_some() && self.epoch != epoch {
            self.unsettled = [true; 2];
        }
        self.epoch = epoch;
        self.mark = Some(mark);
    }

    /// The mark that stands before the tag that was just put in its place.
    pub(super) fn take_mark(&mut self) -> Option<Mark> {
        let mut mark = self.mark.take()?;
        // As a signed number: offsets of timelines that run backwards are none that occur.
        mark.media_time_ms = mark.media_time_ms.saturating_add(i64::from(self.offset_ms.cast_signed()));
        Some(mark)
    }

    /// Puts a tag in its place. Headers have none of their own: they go with what is newest.
    pub(super) fn place(&mut self, tag: Tag) -> Tag {
        if tag.is_metadata || tag.is_sequence_header {
            return match self.newest() {
                Some(newest) if !tag.is_metadata => at(tag, newest),
                _ => tag,
            };
        }
        let kind = usize::from(tag.kind == TagKind::Video);
        let mut time = tag.timestamp_ms.wrapping_add(self.offset_ms);
        if self.unsettled.get(kind).copied().unwrap_or_default() {
            self.settle(kind, &mut time);
        }
        if let Some(floor) = self.floor_ms {
            let above_ms = since(time, floor);
            if above_ms < 0 {
                time = floor;
            } else if above_ms > MAX_AHEAD_MS {
                // No track is so far behind another; and kept for ever it would be in the way once time wraps.
                self.floor_ms = None;
            }
        }
        if let Some(newest) = self.newest_ms.get_mut(kind) {
            *newest = Some(time);
        }
        at(tag, time)
    }

    /// The first frame of its kind under a new epoch: does it go on where the stream was?
    fn settle(&mut self, kind: usize, time: &mut u32) {
        if let Some(unsettled) = self.unsettled.get_mut(kind) {
            *unsettled = false;
        }
        let Some(newest) = self.newest() else { return };
        let same = self.newest_ms.get(kind).copied().flatten();
        let goes_on = same.is_none_or(|same| since(*time, same) > 0) && since(*time, newest) < MAX_AHEAD_MS;
        if goes_on {
            return;
        }
        let first = newest.wrapping_add(STEP_MS);
        self.offset_ms = self.offset_ms.wrapping_add(first.wrapping_sub(*time));
        self.floor_ms = Some(first);
        self.unsettled = [false; 2];
        *time = first;
    }

    fn newest(&self) -> Option<u32> {
        let [sound, picture] = self.newest_ms;
        match (sound, picture) {
            (Some(sound), Some(picture)) => Some(if since(sound, picture) > 0 { sound } else { picture }),
            (one, other) => one.or(other),
        }
    }
}

/// How much later a timestamp is than another, modulo 2³².
fn since(time: u32, other: u32) -> i32 {
    time.wrapping_sub(other).cast_signed()
}

/// The tag at another time. One that is in its place is not touched.
fn at(tag: Tag, timestamp_ms: u32) -> Tag {
    if tag.timestamp_ms == timestamp_ms {
        return tag;
    }
    let mut bytes = BytesMut::with_capacity(tag.tag.len());
    flv::write_tag(&mut bytes, tag.kind, timestamp_ms, &[&tag.body]);
    let bytes = bytes.freeze();
    Tag { timestamp_ms, body: body(&bytes, tag.body.len()), tag: bytes, ..tag }
}

/// Of a whole tag.
fn body(tag: &Bytes, len: usize) -> Bytes {
    let end = tag.len().saturating_sub(PREVIOUS_TAG_SIZE_BYTES);
    tag.slice(end.saturating_sub(len)..end)
}

/// Behind each tag (Adobe FLV 10.1 §E.3).
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use media_core::hub::Epoch;

    use super::*;

    fn mark(epoch: u64, media_time_ms: i64) -> Mark {
        Mark { epoch: Epoch(epoch), sequence: 0, media_time_ms, wall_clock_ms: 0 }
    }

    fn tag(kind: TagKind, timestamp_ms: u32) -> Tag {
        let mut bytes = BytesMut::new();
        flv::write_tag(&mut bytes, kind, timestamp_ms, &[&[1, 2, 3]]);
        let tag = bytes.freeze();
        Tag {
            kind,
            timestamp_ms,
            body: body(&tag, 3),
            tag,
            is_keyframe: false,
            is_sequence_header: false,
            is_metadata: false,
            sequence: 0,
        }
    }

    fn times(timeline: &mut Timeline, tags: &[(TagKind, u32)]) -> Vec<u32> {
        let mut place = |(kind, time): &(TagKind, u32)| {
            let placed = timeline.place(tag(*kind, *time));
            assert_eq!(placed.tag, tag(*kind, placed.timestamp_ms).tag);
            assert_eq!(placed.body, [1, 2, 3].as_slice());
            placed.timestamp_ms
        };
        tags.iter().map(&mut place).collect()
    }

    const V: TagKind = TagKind::Video;
    const A: TagKind = TagKind::Audio;

    #[test]
    fn a_timeline_that_begins_anew_goes_behind_the_one_before() {
        let mut timeline = Timeline::default();
        timeline.mark(mark(1, 5_000));
        assert_eq!(times(&mut timeline, &[(V, 5_000), (A, 4_990), (V, 5_040)]), [5_000, 4_990, 5_040]);
        assert_eq!(timeline.take_mark(), Some(mark(1, 5_000)));
        timeline.mark(mark(2, 100));
        assert_eq!(
            times(&mut timeline, &[(V, 100), (A, 80), (A, 101), (V, 140)]),
            [5_080, 5_080, 5_081, 5_120]
        );
        assert_eq!(timeline.take_mark(), Some(mark(2, 5_080)));
        // And so once more.
        timeline.mark(mark(3, 0));
        assert_eq!(times(&mut timeline, &[(A, 0), (V, 40)]), [5_160, 5_200]);
    }

    #[test]
    fn a_publisher_who_came_back_to_the_same_origin_is_where_it_says() {
        let mut timeline = Timeline::default();
        timeline.mark(mark(1, 0));
        times(&mut timeline, &[(V, 1_000), (A, 1_020)]);
        timeline.mark(mark(2, 1_010));
        // Interleaved as before: the picture is a little behind the sound.
        assert_eq!(times(&mut timeline, &[(V, 1_010), (A, 1_041)]), [1_010, 1_041]);
        timeline.mark(mark(3, 9_000));
        assert_eq!(times(&mut timeline, &[(V, 9_000)]), [9_000], "a pause");
        timeline.mark(mark(4, 100_000));
        assert_eq!(times(&mut timeline, &[(V, 100_000)]), [9_040], "no pause is that long");
    }

    #[test]
    fn time_goes_on_where_it_wraps() {
        let mut timeline = Timeline::default();
        timeline.mark(mark(1, 0));
        times(&mut timeline, &[(V, u32::MAX - 10)]);
        timeline.mark(mark(2, 0));
        assert_eq!(times(&mut timeline, &[(V, 0), (V, 40)]), [0, 40], "which is a step of 11 ms");
        timeline.mark(mark(3, 0));
        assert_eq!(times(&mut timeline, &[(V, 0)]), [80]);
    }
}
