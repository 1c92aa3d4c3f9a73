//! A relay's marks and tags with other sound in them: pictures pass as they are, the tags of the sound that is transcoded
//! and the headers are written anew. No clock and no socket.

use bytes::BytesMut;
use media_core::flv::{self, Body, Demuxed, Demuxer, TagKind};
use media_core::frame::{Frame, Kind, Track};
use media_core::relay::{Event, Mark, Tag};

use crate::sound::Sound;

/// Header tags of one track set at most: the fan-out keeps no more either.
const MAX_HEADER_TAGS: usize = 64;

/// Of one stream.
pub(super) struct Recoder {
    sound: Sound,
    demuxer: Demuxer,
    /// Those that came since the last frame.
    headers: Vec<Tag>,
    /// As they come out.
    tracks: Vec<Track>,
    /// The newest mark, until a frame goes out; and when the frame was that it was for, once that came.
    mark: Option<(Mark, Option<u32>)>,
    /// Kept for its allocation.
    frames: Vec<Frame>,
}

impl Recoder {
    pub(super) fn new(sound: Sound) -> Self {
        let (demuxer, headers, tracks, mark, frames) = Default::default();
        Self { sound, demuxer, headers, tracks, mark, frames }
    }

    /// Whether a tag is one that takes time.
    pub(super) fn transcodes(&self, tag: &Tag) -> bool {
        tag.kind == TagKind::Audio && self.sound.made().is_some()
    }

    /// Takes what comes next, and hands what comes of it to `emit`.
    pub(super) fn take(&mut self, event: Event, emit: &mut impl FnMut(Event)) {
        let tag = match event {
            Event::Mark(mark) => return self.mark = Some((mark, None)),
            Event::Tag(tag) => tag,
        };
        if tag.is_metadata || tag.is_sequence_header {
            if tag.is_metadata {
                // All that there is follows.
                self.headers.clear();
            }
            if self.headers.len() < MAX_HEADER_TAGS {
                self.headers.push(tag);
            }
            return;
        }
        if let Some((_, at @ None)) = &mut self.mark {
            *at = Some(tag.timestamp_ms);
        }
        self.write_headers(emit);
        if self.transcodes(&tag) {
            self.write_sound(&tag, emit);
        } else {
            self.send(tag, emit);
        }
    }

    /// A frame's tag, behind the mark that is due.
    fn send(&mut self, tag: Tag, emit: &mut impl FnMut(Event)) {
        if let Some((mut mark, at)) = self.mark.take() {
            let later_ms = tag.timestamp_ms.wrapping_sub(at.unwrap_or(tag.timestamp_ms)).cast_signed();
            mark.media_time_ms = mark.media_time_ms.saturating_add(later_ms.into());
            mark.wall_clock_ms = mark.wall_clock_ms.saturating_add_signed(later_ms.into());
            mark.sequence = tag.sequence;
            emit(Event::Mark(mark));
        }
        emit(Event::Tag(tag));
    }

    fn write_headers(&mut self, emit: &mut impl FnMut(Event)) {
        if self.headers.is_empty() {
            return;
        }
        let headers = std::mem::take(&mut self.headers);
        let mut demuxer = Demuxer::new();
        let mut tracks = Vec::new();
        for tag in &headers {
            // What can't be read, players of FLV can't either; origins send none such.
            for item in demuxer.push(flv_tag(tag)).into_iter().flatten() {
                if let Demuxed::Tracks(found) = item {
                    tracks = found;
                }
            }
        }
        self.demuxer = demuxer;
        self.tracks = self.sound.set_tracks(&tracks);
        let Some(last) = headers.last().filter(|_| self.sound.made().is_some()) else {
            return headers.into_iter().for_each(|tag| emit(Event::Tag(tag)));
        };
        let metadata = flv::metadata(&self.tracks, &[]);
        let like =
            Tag { is_metadata: true, is_sequence_header: false, kind: TagKind::Script, ..last.clone() };
        emit(Event::Tag(written(flv::METADATA_TIMESTAMP_MS, &[&metadata], &like)));
        for track in &self.tracks {
            let Some(body) = flv::sequence_header(track) else { continue };
            let kind = kind(track);
            let like = Tag { is_metadata: false, is_sequence_header: true, kind, ..last.clone() };
            emit(Event::Tag(written(last.timestamp_ms, &body.pieces(), &like)));
        }
    }

    fn write_sound(&mut self, tag: &Tag, emit: &mut impl FnMut(Event)) {
        let mut frames = std::mem::take(&mut self.frames);
        for item in self.demuxer.push(flv_tag(tag)).into_iter().flatten() {
            if let Demuxed::Frame(frame) = item {
                self.sound.push(frame, &mut frames);
            }
        }
        for frame in frames.drain(..) {
            let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { continue };
            let timestamp_ms = flv::timestamp_ms(track, &frame);
            let body: Body = flv::frame_body(track, &frame);
            let tag = written(timestamp_ms, &body.pieces(), tag);
            self.send(tag, emit);
        }
        self.frames = frames;
    }
}

fn flv_tag(tag: &Tag) -> flv::Tag {
    flv::Tag { kind: tag.kind, timestamp_ms: tag.timestamp_ms, body: tag.body.clone() }
}

fn kind(track: &Track) -> TagKind {
    match track.codec.kind() {
        Kind::Video => TagKind::Video,
        Kind::Audio => TagKind::Audio,
    }
}

/// A tag like another one, with another body.
fn written(timestamp_ms: u32, body: &[&[u8]], like: &Tag) -> Tag {
    let length: usize = body.iter().map(|piece| piece.len()).sum();
    let mut tag = BytesMut::new();
    flv::write_tag(&mut tag, like.kind, timestamp_ms, body);
    let tag = tag.freeze();
    let behind = tag.len().saturating_sub(PREVIOUS_TAG_SIZE_BYTES);
    let body = tag.slice(behind.saturating_sub(length)..behind);
    Tag { timestamp_ms, body, tag, ..like.clone() }
}

/// What follows a tag's body.
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;
