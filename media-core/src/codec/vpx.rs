//! VP8 and VP9: the configuration record ("VP Codec ISO Media File Format Binding", `vpcC`), its `codecs` string and
//! keyframes.
//!
//! The record says nothing of the picture's size, which stands in each keyframe. So a track's configuration is made of its
//! first keyframe: the contents of a `vpcC` box, [`RECORD_BYTES`] long, and behind it width and height in two bytes each,
//! which stay within weir ([`record`] is what others are given).

mod vp8;
mod vp9;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, MAX_PICTURE_SIDE};
use crate::frame::{Codec, VideoParams};

/// The contents of a `vpcC` box: its version and flags, and the record without initialization data, of which there is none.
pub const RECORD_BYTES: usize = 12;
const CONFIG_BYTES: usize = RECORD_BYTES + 4;
/// Version 1, without flags.
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// What a keyframe says of the pictures that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    profile: u8,
    bit_depth: u8,
    /// As the record counts: 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    chroma: u8,
    full_range: bool,
    /// Primaries, transfer and matrix (ISO/IEC 23091-2); 2 where nobody says.
    colours: [u8; 3],
    width: u16,
    height: u16,
}

impl Picture {
    fn of(codec: Codec, frame: &[u8]) -> Result<Option<Self>, Error> {
        match codec {
            Codec::Vp8 => vp8::picture(frame),
            Codec::Vp9 => vp9::picture(frame),
            _ => Ok(None),
        }
    }
}

/// A configuration from a frame; `None` for one that is no keyframe.
pub fn config_from_frame(codec: Codec, frame: &[u8]) -> Result<Option<Bytes>, Error> {
    let Some(picture) = Picture::of(codec, frame)? else { return Ok(None) };
    let mut out = BytesMut::with_capacity(CONFIG_BYTES);
    out.put_slice(&VERSION);
    out.put_u8(picture.profile);
    out.put_u8(level(picture.width, picture.height));
    out.put_u8(picture.bit_depth << 4 | picture.chroma << 1 | u8::from(picture.full_range));
    out.put_slice(&picture.colours);
    out.put_u16(0);
    out.put_u16(picture.width);
    out.put_u16(picture.height);
    Ok(Some(out.freeze()))
}

/// The contents of the `vpcC` box, which are also what Enhanced RTMP's *SequenceStart* has, of a track's configuration.
pub fn record(config: &Bytes) -> Bytes {
    config.slice(..config.len().min(RECORD_BYTES))
}

/// Whether decoding can start at this frame.
pub(super) fn keyframe(codec: Codec, frame: &[u8]) -> bool {
    matches!(Picture::of(codec, frame), Ok(Some(_)))
}

/// What a configuration says.
pub(super) fn describe(codec: Codec, config: &[u8]) -> Result<(VideoParams, String), Error> {
    const RECORD: &str = "VPCodecConfigurationRecord";
    // Others may leave out the version and the flags, which are the box's.
    let bare = |config: &[u8]| config.len() == RECORD_BYTES - VERSION.len();
    if config.starts_with(&VERSION) && config.len() == RECORD_BYTES || bare(config) {
        return Err(Error::NoSequenceHeader);
    }
    let Ok(&[1, 0, 0, 0, profile, level, depth, _, _, _, 0, 0, w1, w0, h1, h0]) =
        <&[u8; CONFIG_BYTES]>::try_from(config)
    else {
        return Err(Error::Truncated(RECORD));
    };
    let side = |field, bytes| match u32::from(u16::from_be_bytes(bytes)) {
        side @ 1..=MAX_PICTURE_SIDE => Ok(side),
        side => Err(Error::Invalid { field, value: side.into() }),
    };
    let (width, height) = (side("frame_width", [w1, w0])?, side("frame_height", [h1, h0])?);
    let (profile, depth) = (profile.min(3), depth >> 4);
    let name = if codec == Codec::Vp8 { "vp08" } else { "vp09" };
    let rfc6381 = format!("{name}.{profile:02}.{level:02}.{depth:02}");
    Ok((VideoParams { width, height, frame_rate: None }, rfc6381))
}

/// The profile of VP9 that a configuration has, as `profile-id` (RFC 9628 §6.1) says it.
pub fn profile(config: &[u8]) -> Option<u8> {
    config.get(VERSION.len()).copied()
}

/// The lowest level that takes 60 such pictures a second ("VP9 Levels").
fn level(width: u16, height: u16) -> u8 {
    /// Luma samples a picture and a second.
    const LEVELS: [(u8, u64, u64); 12] = [
        (10, 36_864, 829_440),
        (11, 73_728, 2_764_800),
        (20, 122_880, 4_608_000),
        (21, 245_760, 9_216_000),
        (30, 552_960, 20_736_000),
        (31, 983_040, 36_864_000),
        (40, 2_228_224, 83_558_400),
        (41, 2_228_224, 160_432_128),
        (50, 8_912_896, 311_951_360),
        (51, 8_912_896, 588_251_136),
        (52, 8_912_896, 1_176_502_272),
        (60, 35_651_584, 1_176_502_272),
    ];
    const HIGHEST: u8 = 62;
    let samples = u64::from(width) * u64::from(height);
    let takes = |&&(_, most, rate): &&(u8, u64, u64)| samples <= most && samples * 60 <= rate;
    LEVELS.iter().find(takes).map_or(HIGHEST, |(level, ..)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::hex;
    use crate::codec::track;
    use crate::frame::{Timescale, TrackId};

    #[test]
    fn a_keyframe_says_what_there_is() {
        for (codec, frame, name) in [
            (Codec::Vp8, "b07b009d012aa0005a0000", "vp08.00.11.08"),
            // As libvpx writes it.
            (Codec::Vp9, "824983420009f005960638241c18", "vp09.00.11.08"),
            // Profile 2, 10 bits.
            (Codec::Vp9, "924983420004f802c8000000", "vp09.02.11.10"),
        ] {
            let config = config_from_frame(codec, &hex(frame)).unwrap().unwrap();
            let track = track(TrackId::VIDEO, codec, Timescale::HZ_90K, config.clone()).unwrap();
            let video = track.video().unwrap();
            assert_eq!((video.width, video.height), (160, 90), "{frame}");
            assert_eq!(track.rfc6381, name, "{frame}");
            assert!(super::keyframe(codec, &hex(frame)));
            assert_eq!(record(&config).len(), RECORD_BYTES);
            assert_eq!(describe(codec, &record(&config)), Err(Error::NoSequenceHeader));
            for length in 0..config.len() {
                assert!(describe(codec, &config[..length]).is_err(), "{length}");
            }
            for length in 0..hex(frame).len().min(9) {
                assert!(!super::keyframe(codec, &hex(frame)[..length]), "{length}");
            }
        }
    }

    #[test]
    fn other_frames_are_no_keyframes() {
        for (codec, frame) in [
            (Codec::Vp8, "b17b009d012aa0005a00"),
            (Codec::Vp8, "b07b009d012ba0005a00"),
            (Codec::Vp8, "b07b009d012a00000000"),
            (Codec::Vp9, "8600401092"),
            // `show_existing_frame`.
            (Codec::Vp9, "8a49834200"),
            (Codec::Vp9, "02498342000910"),
        ] {
            assert!(!super::keyframe(codec, &hex(frame)), "{frame}");
        }
    }

    #[test]
    fn levels_are_those_of_sixty_pictures_a_second() {
        assert_eq!(
            [(640, 360), (1280, 720), (1920, 1080), (3840, 2160)].map(|(w, h)| level(w, h)),
            [30, 40, 41, 51]
        );
        assert_eq!(level(u16::MAX, u16::MAX), 62);
    }
}
