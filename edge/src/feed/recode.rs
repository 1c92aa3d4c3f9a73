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
        if let Some((mark, at)) = self.mark.take() {
            emit(Event::Mark(mark.moved_to(at.unwrap_or(tag.timestamp_ms), &tag)));
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
        let like =
            Tag { is_metadata: true, is_sequence_header: false, kind: TagKind::Script, ..last.clone() };
        let metadata = flv::metadata(&self.tracks, &[]);
        emit(Event::Tag(written(flv::METADATA_TIMESTAMP_MS, &[&metadata], &like)));
        // As they came: of VP8 and VP9 nothing can be told before a keyframe.
        let pictures = headers.iter().filter(|tag| tag.is_sequence_header && tag.kind == TagKind::Video);
        pictures.for_each(|tag| emit(Event::Tag(tag.clone())));
        let like = Tag { is_metadata: false, is_sequence_header: true, kind: TagKind::Audio, ..last.clone() };
        for track in self.tracks.iter().filter(|track| track.codec.kind() == Kind::Audio) {
            let Some(body) = flv::sequence_header(track) else { continue };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use media_core::codec;
    use media_core::frame::{Codec, Timescale, TrackId};
    use media_core::hub::StreamKey;
    use media_core::relay::Decoder;

    use super::*;
    use crate::config::SoundConfig;
    use crate::metrics::Metrics;
    use crate::sound::Sounds;
    use crate::tests::studio::{Studio, opening};

    #[test]
    fn the_pictures_headers_pass_also_where_only_a_keyframe_tells_what_they_are() {
        // Of VP9, which ends in the picture's size that no header has.
        let config = vec![1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0, 0, 64, 0, 64];
        let picture = codec::track(TrackId::VIDEO, Codec::Vp9, Timescale::HZ_90K, config.into()).unwrap();
        let header = codec::opus::identification_header(2, 48_000).unwrap();
        let sound = codec::track(TrackId::AUDIO, Codec::Opus, Timescale::HZ_90K, header).unwrap();
        let mut studio = Studio::with(vec![picture, sound]);
        let mut decoder = Decoder::default();
        decoder.push(opening(&studio.picture(true, 100)));
        let came: Vec<Event> = std::iter::from_fn(|| decoder.next_event().unwrap()).collect();
        let sounds = Sounds::new(&SoundConfig::default(), Arc::new(Metrics::new()));
        let mut recoder = Recoder::new(sounds.of(&StreamKey::parse("live", "a", &[]).unwrap(), Codec::Aac));
        let mut out = Vec::new();
        came.iter().for_each(|event| recoder.take(event.clone(), &mut |event| out.push(event)));
        let headers = |events: &[Event], kind| -> Vec<Tag> {
            let tags = events.iter().filter_map(|event| match event {
                Event::Tag(tag) if tag.is_sequence_header && tag.kind == kind => Some(tag.clone()),
                _ => None,
            });
            tags.collect()
        };
        let pictures = headers(&came, TagKind::Video);
        assert_eq!((pictures.len(), headers(&out, TagKind::Video)), (1, pictures));
        let (was, is) = (headers(&came, TagKind::Audio), headers(&out, TagKind::Audio));
        assert!(was.len() == 1 && is.len() == 1 && was[0].body != is[0].body);
        let frames = |events: &[Event]| {
            let is_frame = |event: &&Event| matches!(event, Event::Tag(tag) if !tag.is_sequence_header && !tag.is_metadata);
            events.iter().filter(is_frame).count()
        };
        assert_eq!(frames(&out), frames(&came));
    }
}
