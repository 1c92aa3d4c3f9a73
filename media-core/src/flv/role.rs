//! What a body is, seen from its first bytes.

use super::enhanced::packet_type;
use super::metadata::is_metadata;
use super::tag::TagKind;

/// What a tag's body is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRole {
    /// `onMetaData`.
    Metadata,
    /// It holds a decoder configuration.
    SequenceHeader {
        /// Which of the tracks of its kind.
        track_index: u8,
    },
    /// It holds a frame.
    Frame {
        /// A video frame that says it can be decoded by itself; any audio frame.
        keyframe: bool,
        /// Which of the tracks of its kind.
        track_index: u8,
    },
    /// None of these.
    Other,
}

/// What a body is, without decoding it. Of a body that holds packets of several tracks the first counts; a
/// body with a ModEx block, which [`super::frame_body`] never writes, is [`BodyRole::Other`].
pub fn body_role(kind: TagKind, body: &[u8]) -> BodyRole {
    match kind {
        TagKind::Script if is_metadata(body) => BodyRole::Metadata,
        TagKind::Script => BodyRole::Other,
        TagKind::Video => video(body),
        TagKind::Audio => audio(body),
    }
}

fn video(body: &[u8]) -> BodyRole {
    let Some(&first) = body.first() else { return BodyRole::Other };
    let keyframe = (first >> 4) & 0b111 == 1;
    if first & 0x80 == 0 {
        return legacy(body, keyframe);
    }
    enhanced(body, first & 0x0f, packet_type::VIDEO_MULTITRACK, keyframe)
}

fn audio(body: &[u8]) -> BodyRole {
    const AAC: u8 = 10;
    const EX_HEADER: u8 = 9;
    let Some(&first) = body.first() else { return BodyRole::Other };
    match first >> 4 {
        AAC => legacy(body, true),
        EX_HEADER => enhanced(body, first & 0x0f, packet_type::AUDIO_MULTITRACK, true),
        _ => BodyRole::Frame { keyframe: true, track_index: 0 },
    }
}

fn legacy(body: &[u8], keyframe: bool) -> BodyRole {
    match body.get(1) {
        Some(0) => BodyRole::SequenceHeader { track_index: 0 },
        Some(1) => BodyRole::Frame { keyframe, track_index: 0 },
        _ => BodyRole::Other,
    }
}

fn enhanced(body: &[u8], packet_type: u8, multitrack: u8, keyframe: bool) -> BodyRole {
    /// Behind both header bytes and the fourCC, whether that is the body's or the first track's.
    const TRACK_ID_AT: usize = 6;
    let (packet_type, track_index) = if packet_type == multitrack {
        let Some((second, id)) = body.get(1).zip(body.get(TRACK_ID_AT)) else { return BodyRole::Other };
        (second & 0x0f, *id)
    } else {
        (packet_type, 0)
    };
    match packet_type {
        packet_type::SEQUENCE_START => BodyRole::SequenceHeader { track_index },
        packet_type::CODED_FRAMES | packet_type::VIDEO_CODED_FRAMES_X => {
            BodyRole::Frame { keyframe, track_index }
        }
        _ => BodyRole::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::super::{Demuxed, Demuxer};
    use super::*;

    #[test]
    fn a_body_is_what_the_demuxer_makes_of_it() {
        for file in testing::ALL {
            let mut demuxer = Demuxer::new();
            let mut is_mp3 = false;
            for tag in testing::tags(file) {
                let kind = tag.kind;
                let role = body_role(kind, &tag.body);
                let out: Vec<_> = demuxer.push(tag).unwrap().collect();
                match (role, out.as_slice()) {
                    (BodyRole::Metadata, [Demuxed::Encoder(_)])
                    // ffmpeg repeats some, which changes nothing.
                    | (BodyRole::SequenceHeader { .. }, [])
                    | (BodyRole::Other, []) => {}
                    (BodyRole::SequenceHeader { track_index }, [Demuxed::Tracks(tracks)]) => {
                        let is_video = |t: &crate::frame::Track| t.video().is_some() == (kind == TagKind::Video);
                        assert!(tracks.iter().any(|t| is_video(t) && t.id.index == track_index));
                    }
                    (BodyRole::Frame { keyframe, track_index }, [.., Demuxed::Frame(frame)]) => {
                        assert_eq!((keyframe, track_index), (frame.keyframe, frame.track.index));
                        is_mp3 |= out.len() == 2;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(is_mp3, file == testing::H264_MP3);
        }
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for body in [&[][..], &[0x17], &[0x97, 2, 0], &[0x96], &[0x96, 0x00, b'h', b'v', b'c', b'1']] {
            assert_eq!(body_role(TagKind::Video, body), BodyRole::Other, "{body:?}");
        }
        assert_eq!(body_role(TagKind::Audio, &[]), BodyRole::Other);
        assert_eq!(body_role(TagKind::Audio, &[0xaf]), BodyRole::Other);
        assert_eq!(body_role(TagKind::Script, &[2, 0, 10, b'o']), BodyRole::Other);
    }
}
