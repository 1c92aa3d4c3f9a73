//! Codecs: what a decoder configuration says, which frames are keyframes, how long a packet plays.
//!
//! Every configuration record becomes a [`Track`] here and nowhere else, so that a track's
//! parameters and its RFC 6381 string always agree with the bytes that players are given.

pub mod aac;
pub mod annex_b;
pub mod av1;
mod bits;
pub mod decoding_times;
mod error;
pub mod h264;
pub mod h265;
pub mod mp3;
pub mod nal;
pub mod opus;
pub mod parameter_sets;
pub mod vpx;

use bytes::Bytes;

pub use error::Error;

use crate::frame::{AudioParams, Codec, Params, Timescale, Track, TrackId, VideoParams};

/// The longest decoder configuration taken. It is kept for the stream's life and sent to every
/// viewer; parameter sets with x265's settings text are under 3 KB.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// The widest and tallest picture taken, in luma samples: twice 8K. What a player would have to
/// allocate for grows with it.
pub const MAX_PICTURE_SIDE: u32 = 16_384;

/// Frame rates above this are taken for nonsense and not told.
const MAX_FRAME_RATE: u64 = 1_000;

/// The track that a decoder configuration describes. `config` is what [`Track::config`] names for
/// the codec; MP3 has none and goes through [`mp3::track`]. An AV1 record without a sequence
/// header is [`Error::NoSequenceHeader`]: complete it from the first keyframe with
/// [`av1::config_from_temporal_unit`], and one of VP8 or VP9 without the picture's size with
/// [`vpx::config_from_frame`].
pub fn track(id: TrackId, codec: Codec, timescale: Timescale, config: Bytes) -> Result<Track, Error> {
    if config.len() > MAX_CONFIG_BYTES {
        return Err(Error::Invalid { field: "decoder configuration length", value: config.len() as u64 });
    }
    let (params, rfc6381) = match codec {
        Codec::H264 => video(h264::Record::parse(&config)?.describe()?),
        Codec::H265 => video(h265::Record::parse(&config)?.describe()?),
        Codec::Av1 => video(av1::SequenceHeader::of_record(&config)?.describe()),
        Codec::Vp8 | Codec::Vp9 => video(vpx::describe(codec, &config)?),
        Codec::Aac => audio(aac::AudioSpecificConfig::parse(&config)?.describe()),
        Codec::Opus => audio(opus::IdentificationHeader::parse(&config)?.describe()),
        Codec::Mp3 => return Err(Error::NoConfiguration(codec.name())),
    };
    Ok(Track { id, codec, timescale, config, params, rfc6381 })
}

fn video((params, rfc6381): (VideoParams, String)) -> (Params, String) {
    (Params::Video(params), rfc6381)
}

fn audio((params, rfc6381): (AudioParams, String)) -> (Params, String) {
    (Params::Audio(params), rfc6381)
}

/// Whether decoding can start at this frame, by its content: an IDR picture (H.264), an IRAP
/// picture (HEVC), a shown key frame (AV1), a key frame (VP8, VP9). Always true for audio.
pub fn keyframe(codec: Codec, data: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::keyframe(data),
        Codec::H265 => h265::keyframe(data),
        Codec::Av1 => av1::keyframe(data),
        Codec::Vp8 | Codec::Vp9 => vpx::keyframe(codec, data),
        Codec::Aac | Codec::Opus | Codec::Mp3 => true,
    }
}

/// The parameter sets of an H.264 or HEVC track's configuration, in the order in which a decoder wants them; none of
/// another codec's.
pub fn parameter_sets_of(track: &Track) -> Result<Vec<&[u8]>, Error> {
    match track.codec {
        Codec::H264 => h264::parameter_sets_of(&track.config),
        Codec::H265 => h265::parameter_sets_of(&track.config),
        _ => Ok(Vec::new()),
    }
}

/// How many pictures of a track may be decoded before one that is shown earlier; `None` where its configuration does not
/// tell. AV1, VP8 and VP9 show what they decode.
pub fn reordering(track: &Track) -> Option<u8> {
    let sets = parameter_sets_of(track).ok()?;
    match track.codec {
        Codec::H264 => h264::reordering(&sets),
        Codec::H265 => h265::reordering(&sets),
        _ => Some(0),
    }
}

/// Pictures per second as a reduced fraction; `None` where it makes no sense.
fn frame_rate(numerator: u64, denominator: u64) -> Option<(u32, u32)> {
    if numerator == 0 || denominator == 0 || numerator / denominator > MAX_FRAME_RATE {
        return None;
    }
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Some((u32::try_from(numerator / a).ok()?, u32::try_from(denominator / a).ok()?))
}

/// A picture's width or height after `cropped` samples are cut off its `coded` ones.
fn picture_side(field: &'static str, coded: u32, cropped: u64) -> Result<u32, Error> {
    let side = u64::from(coded).saturating_sub(cropped);
    match u32::try_from(side) {
        Ok(side) if (1..=MAX_PICTURE_SIDE).contains(&side) => Ok(side),
        _ => Err(Error::Invalid { field, value: side }),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Bytes written as hexadecimal or binary digits.

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        digits(text, 16, 2)
    }

    /// The last byte is filled up with zeros.
    pub(crate) fn binary(text: &str) -> Vec<u8> {
        digits(text, 2, 8)
    }

    fn digits(text: &str, radix: u32, a_byte: usize) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(radix)).collect();
        digits
            .chunks(a_byte)
            .map(|byte| (0..a_byte).fold(0, |value, i| value * radix + byte.get(i).unwrap_or(&0)))
            .map(|byte| u8::try_from(byte).unwrap())
            .collect()
    }

    /// With emulation prevention bytes, as in a NAL unit.
    pub(crate) fn escape(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut zeros = 0;
        for &byte in payload {
            if zeros == 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            out.push(byte);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frame_rates_are_reduced_and_nonsense_is_dropped() {
        assert_eq!(frame_rate(60, 2), Some((30, 1)));
        assert_eq!(frame_rate(60_000, 2_002), Some((30_000, 1_001)));
        assert_eq!(frame_rate(0, 1), None);
        assert_eq!(frame_rate(1, 0), None);
        assert_eq!(frame_rate(90_000, 1), None);
    }

    #[test]
    fn refuses_an_oversized_configuration_and_one_for_mp3() {
        let big = Bytes::from(vec![1; MAX_CONFIG_BYTES + 1]);
        for codec in [Codec::H264, Codec::Aac] {
            assert!(track(TrackId::VIDEO, codec, Timescale::HZ_90K, big.clone()).is_err());
        }
        assert_eq!(
            track(TrackId::AUDIO, Codec::Mp3, Timescale::HZ_90K, Bytes::new()),
            Err(Error::NoConfiguration("MP3"))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_bring_a_parser_down(
            data in prop::collection::vec(any::<u8>(), 0..300),
            head in prop::sample::select(vec![
                &b""[..], b"\x01\x64\x00\x28\xff\xe1", b"\x81\x00\x00\x00\x0a", b"OpusHead\x01", b"\x12\x00\x0a",
            ]),
        ) {
            let data = [head, &data].concat();
            let config = Bytes::from(data.clone());
            for codec in [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp8, Codec::Vp9, Codec::Aac, Codec::Opus] {
                let _ = track(TrackId { kind: codec.kind(), index: 0 }, codec, Timescale::HZ_90K, config.clone());
                let _ = keyframe(codec, &data);
            }
            let _ = mp3::track(TrackId::AUDIO, Timescale::HZ_90K, &data);
            let _ = opus::packet_samples(&data);
            let _ = av1::config_from_temporal_unit(&data);
            let _ = h264::config_from_parameter_sets(&[&data], &[&data]);
            let _ = h265::config_from_parameter_sets(&[&data], &[&data], &[&data]);
        }
    }
}
