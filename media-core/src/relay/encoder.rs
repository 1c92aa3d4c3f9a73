//! Units → the feed's bytes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Mark;
use crate::flv::{self, TagKind};
use crate::frame::Kind;
use crate::hub::{TrackSet, Unit};

/// Time between marks where no keyframe has one, in milliseconds.
const MARK_INTERVAL_MS: i64 = 1_000;

/// How long video may go on without its first keyframe before reading can start anywhere, in milliseconds: with
/// intra refresh there is none, and players show such a picture all the same.
const FIRST_KEYFRAME_WAIT_MS: i64 = 10_000;

/// The longest GOP that is waited for: real encoders' default is up to 250 frames.
const KEYFRAME_WAIT_MS: i64 = 20_000;

/// Room for a mark's tag.
const MARK_CAPACITY: usize = 144;

/// Writes a feed. Every unit is encoded once, whoever reads it.
#[derive(Debug, Default)]
pub struct Encoder {
    tracks: Option<Arc<TrackSet>>,
    /// The sequence that the next unit has if none is missing.
    next: Option<u64>,
    marked_at_ms: Option<i64>,
    /// When the newest keyframe of the main picture was.
    keyframe_ms: Option<i64>,
    /// When there began to be video; 0 while there has been from the beginning.
    video_since_ms: i64,
}

/// A unit in the feed.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// What a mark says of it.
    pub mark: Mark,
    /// The tracks it belongs to.
    pub tracks: Arc<TrackSet>,
    /// What a reader that has everything before it is sent: the mark and headers where they are due, and the
    /// frame. Whole tags in one piece.
    pub bytes: Bytes,
    /// The frame's tag alone; a part of `bytes`.
    pub tag: Bytes,
    /// Where a feed can begin with this unit: file header, mark, metadata and sequence headers, to be
    /// sent before `tag`.
    pub start: Option<Bytes>,
}

impl Encoder {
    /// At the beginning of a feed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the next unit. `None` for one whose frame belongs to none of its tracks, which no hub yields.
    pub fn unit(&mut self, unit: &Unit) -> Option<Encoded> {
        let track = unit.track()?;
        let timestamp_ms = flv::timestamp_ms(track, &unit.frame);
        let media_time_ms = unit.frame.dts.millis(track.timescale);

        let new_tracks = self.tracks.as_ref().is_none_or(|t| !Arc::ptr_eq(t, &unit.tracks));
        let began_video = self.tracks.as_ref().is_some_and(|t| !t.has_video()) && unit.tracks.has_video();
        if began_video {
            (self.keyframe_ms, self.video_since_ms) = (None, media_time_ms);
        }
        let gap = self.next.is_some_and(|next| next != unit.sequence);
        let is_keyframe = unit.tracks.has_video() && unit.is_join_point();
        if is_keyframe {
            self.keyframe_ms = Some(media_time_ms);
        }
        let can_start = unit.is_join_point() || self.lacks_keyframes(media_time_ms);
        // A timeline that runs backwards is not waited for.
        let mark_is_old = self
            .marked_at_ms
            .is_none_or(|at| !(0..MARK_INTERVAL_MS).contains(&media_time_ms.saturating_sub(at)));
        let marked = new_tracks || gap || is_keyframe || (can_start && mark_is_old);
        self.next = Some(unit.sequence.wrapping_add(1));

        let body = flv::frame_body(track, &unit.frame);
        let capacity = body.len() + flv::TAG_OVERHEAD_BYTES + if marked { MARK_CAPACITY } else { 0 };
        let mut out = BytesMut::with_capacity(capacity);
        let mark = Mark {
            epoch: unit.tracks.epoch,
            sequence: unit.sequence,
            media_time_ms,
            wall_clock_ms: unit.wall_clock_ms,
        };
        let mut start = None;
        if marked {
            self.marked_at_ms = Some(media_time_ms);
            mark.write_tag(&mut out, timestamp_ms);
            if can_start {
                start = Some(beginning(&mark, &unit.tracks, timestamp_ms));
            }
        }
        if new_tracks {
            write_headers(&mut out, &unit.tracks, timestamp_ms);
            self.tracks = Some(Arc::clone(&unit.tracks));
        }
        let tag_at = out.len();
        flv::write_tag(&mut out, tag_kind(track.codec.kind()), timestamp_ms, &body.pieces());
        let bytes = out.freeze();
        let tracks = Arc::clone(&unit.tracks);
        Some(Encoded { mark, tracks, tag: bytes.slice(tag_at..), bytes, start })
    }

    /// Whether keyframes stay out for so long that reading must start without one. A consumer that begins without a
    /// keyframe in the middle of a stream has been told so by the hub: it keeps none.
    fn lacks_keyframes(&self, media_time_ms: i64) -> bool {
        match self.keyframe_ms {
            None => media_time_ms.saturating_sub(self.video_since_ms) > FIRST_KEYFRAME_WAIT_MS,
            Some(at) => media_time_ms.saturating_sub(at) > KEYFRAME_WAIT_MS,
        }
    }
}

impl Encoded {
    /// What a feed begins with that goes on with this unit for a reader who has all before it: as [`Self::start`], to be
    /// sent before `tag`, but its frame need not be one that reading can start at.
    pub fn opening(&self) -> Bytes {
        let timestamp_ms = u32::try_from(self.mark.media_time_ms.rem_euclid(1 << 32)).unwrap_or_default();
        beginning(&self.mark, &self.tracks, timestamp_ms)
    }
}

/// File header, mark, metadata and sequence headers.
fn beginning(mark: &Mark, tracks: &TrackSet, timestamp_ms: u32) -> Bytes {
    let mut out = BytesMut::from(&file_header(tracks)[..]);
    mark.write_tag(&mut out, timestamp_ms);
    write_headers(&mut out, tracks, timestamp_ms);
    out.freeze()
}

fn file_header(tracks: &TrackSet) -> [u8; 13] {
    let has = |kind| tracks.tracks.iter().any(|t| t.codec.kind() == kind);
    flv::header(has(Kind::Audio), has(Kind::Video))
}

/// `onMetaData` and the sequence headers.
fn write_headers(out: &mut BytesMut, tracks: &TrackSet, timestamp_ms: u32) {
    let metadata = flv::metadata(&tracks.tracks, &[]);
    flv::write_tag(out, TagKind::Script, flv::METADATA_TIMESTAMP_MS, &[&metadata]);
    for track in &tracks.tracks {
        if let Some(body) = flv::sequence_header(track) {
            flv::write_tag(out, tag_kind(track.codec.kind()), timestamp_ms, &body.pieces());
        }
    }
}

fn tag_kind(kind: Kind) -> TagKind {
    match kind {
        Kind::Video => TagKind::Video,
        Kind::Audio => TagKind::Audio,
    }
}
