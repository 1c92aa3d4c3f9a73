//! Tracks and frames → bodies.
//!
//! H.264, AAC and MP3 of track 0 are written the legacy way, which every player reads; other codecs
//! with enhanced headers; further tracks as multitrack bodies of one track. Timestamps are rounded to the
//! millisecond: a ModEx block with the rest of it would make players that know Enhanced RTMP v1
//! only drop the frame.

use super::body::Body;
use super::enhanced::{fourcc, packet_type};
use crate::codec::vpx;
use crate::frame::{Codec, Frame, Kind, Track};

const KEY_FRAME: u8 = 1;
const INTER_FRAME: u8 = 2;
/// `CodecID` of H.264.
const LEGACY_AVC: u8 = 7;
/// AAC, "44 kHz, 16 bit, stereo", as the specification wants for any AAC.
const LEGACY_AAC: u8 = 0xaf;

/// When the frame is to be decoded, in milliseconds modulo 2³²: the tag's timestamp.
pub fn timestamp_ms(track: &Track, frame: &Frame) -> u32 {
    let ms = frame.dts.millis(track.timescale).rem_euclid(1 << 32);
    u32::try_from(ms).unwrap_or_default()
}

/// The body with the track's decoder configuration; `None` for MP3, which has none.
pub fn sequence_header(track: &Track) -> Option<Body> {
    let body = Body::new(match track.codec {
        Codec::Vp8 | Codec::Vp9 => vpx::record(&track.config),
        _ => track.config.clone(),
    });
    Some(match (track.codec, track.id.index) {
        (Codec::Mp3, _) => return None,
        (Codec::H264, 0) => body.with(&[KEY_FRAME << 4 | LEGACY_AVC, 0, 0, 0, 0]),
        (Codec::Aac, 0) => body.with(&[LEGACY_AAC, 0]),
        _ => enhanced(body, track, KEY_FRAME, packet_type::SEQUENCE_START),
    })
}

/// The body with a frame. Shares the frame's data.
pub fn frame_body(track: &Track, frame: &Frame) -> Body {
    let body = Body::new(frame.data.clone());
    let frame_type = if frame.keyframe { KEY_FRAME } else { INTER_FRAME };
    match (track.codec, track.id.index) {
        (Codec::H264, 0) => {
            body.with(&[frame_type << 4 | LEGACY_AVC, 1]).with(&composition_time(track, frame))
        }
        (Codec::Aac, 0) => body.with(&[LEGACY_AAC, 1]),
        (Codec::Mp3, 0) => body.with(&[legacy_mp3(track)]),
        (Codec::H264 | Codec::H265, _) => match composition_time(track, frame) {
            [0, 0, 0] => enhanced(body, track, frame_type, packet_type::VIDEO_CODED_FRAMES_X),
            cts => enhanced(body, track, frame_type, packet_type::CODED_FRAMES).with(&cts),
        },
        _ => enhanced(body, track, frame_type, packet_type::CODED_FRAMES),
    }
}

fn enhanced(body: Body, track: &Track, frame_type: u8, packet_type: u8) -> Body {
    let (first, multitrack) = match track.codec.kind() {
        Kind::Video => (0x80 | frame_type << 4, packet_type::VIDEO_MULTITRACK),
        Kind::Audio => (0x90, packet_type::AUDIO_MULTITRACK),
    };
    let fourcc = fourcc(track.codec);
    match track.id.index {
        0 => body.with(&[first | packet_type]).with(&fourcc),
        // The upper half of the second byte is the multitrack type, 0: one track.
        index => body.with(&[first | multitrack, packet_type]).with(&fourcc).with(&[index]),
    }
}

/// SI24. Taken between the rounded times, so that presentation times are as exact as decoding times.
fn composition_time(track: &Track, frame: &Frame) -> [u8; 3] {
    let ms = frame.pts().millis(track.timescale).saturating_sub(frame.dts.millis(track.timescale));
    let ms = i32::try_from(ms.clamp(-0x80_0000, 0x7f_ffff)).unwrap_or_default();
    let [_, bytes @ ..] = ms.to_be_bytes();
    bytes
}

/// SoundFormat, SoundRate, SoundSize, SoundType.
fn legacy_mp3(track: &Track) -> u8 {
    const MP3: u8 = 2;
    const MP3_8_KHZ: u8 = 14;
    let (rate, channels) = track.audio().map_or((44_100, 2), |a| (a.sample_rate, a.channels));
    let (format, rate) = match rate {
        0..=8_000 => (MP3_8_KHZ, 0),
        8_001..=12_000 => (MP3, 1),
        12_001..=24_000 => (MP3, 2),
        // The field knows nothing higher; decoders go by the frame's own header.
        _ => (MP3, 3),
    };
    format << 4 | rate << 2 | 0b10 | u8::from(channels > 1)
}

/// `videocodecid` or `audiocodecid` of a track's metadata.
pub(super) fn codec_id(track: &Track) -> u32 {
    match (track.codec, track.id.index) {
        (Codec::H264, 0) => u32::from(LEGACY_AVC),
        (Codec::Aac, 0) => u32::from(LEGACY_AAC >> 4),
        (Codec::Mp3, 0) => u32::from(legacy_mp3(track) >> 4),
        (codec, _) => u32::from_be_bytes(fourcc(codec)),
    }
}
