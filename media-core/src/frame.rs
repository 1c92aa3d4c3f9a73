//! The one frame type that every protocol maps to and from, and the tracks that frames belong to.

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;

/// What a track carries. Also orders tracks: video first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// A track's name within its stream: `(Video, 0)` is the main picture, `(Audio, 0)` the main sound,
/// higher indexes are further tracks (Enhanced RTMP v2 multitrack `trackId`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId {
    /// Video or audio.
    pub kind: Kind,
    /// Counted from 0 within its kind.
    pub index: u8,
}

impl TrackId {
    /// The main picture.
    pub const VIDEO: Self = Self { kind: Kind::Video, index: 0 };
    /// The main sound.
    pub const AUDIO: Self = Self { kind: Kind::Audio, index: 0 };

    /// The `index`th video track.
    pub const fn video(index: u8) -> Self {
        Self { kind: Kind::Video, index }
    }

    /// The `index`th audio track.
    pub const fn audio(index: u8) -> Self {
        Self { kind: Kind::Audio, index }
    }
}

impl fmt::Display for TrackId {
    /// `v0`, `a0`, `a1`, …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Video => 'v',
            Kind::Audio => 'a',
        };
        write!(f, "{kind}{}", self.index)
    }
}

/// The coding of a track's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 / AVC. Frames are length-prefixed NAL units, as the `avcC` record says (4 bytes).
    H264,
    /// H.265 / HEVC. Frames are length-prefixed NAL units, as the `hvcC` record says (4 bytes).
    H265,
    /// AV1. Frames are temporal units of size-delimited OBUs without temporal delimiters.
    Av1,
    /// VP8. Frames are those of RFC 6386.
    Vp8,
    /// VP9. Frames are those of a picture: usually one, or a superframe.
    Vp9,
    /// AAC. Frames are raw data blocks without ADTS.
    Aac,
    /// Opus. Frames are packets.
    Opus,
    /// MPEG-1/2 layer III. Frames are whole frames with their 4-byte header.
    Mp3,
}

impl Codec {
    /// Video or audio.
    pub const fn kind(self) -> Kind {
        match self {
            Self::H264 | Self::H265 | Self::Av1 | Self::Vp8 | Self::Vp9 => Kind::Video,
            Self::Aac | Self::Opus | Self::Mp3 => Kind::Audio,
        }
    }

    /// The name people know it by: `H.264`, `AAC`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Aac => "AAC",
            Self::Opus => "Opus",
            Self::Mp3 => "MP3",
        }
    }
}

/// Ticks per second of a track's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// 90 kHz: MPEG-TS and RTP video, and what FLV's milliseconds (and Enhanced RTMP's nanosecond
    /// offsets) are kept in.
    pub const HZ_90K: Self = Self::of(90_000);
    /// 1 kHz: what FLV and RTMP speak on the wire.
    pub const MILLIS: Self = Self::of(1_000);

    /// `None` for 0.
    pub const fn new(ticks_per_second: u32) -> Option<Self> {
        match NonZeroU32::new(ticks_per_second) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    const fn of(ticks_per_second: u32) -> Self {
        match NonZeroU32::new(ticks_per_second) {
            Some(n) => Self(n),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// Ticks per second.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A point in time (or a span) in ticks of its track's [`Timescale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The same moment in another clock, rounded to the nearest tick, halves upwards.
    pub fn rescale(self, from: Timescale, to: Timescale) -> Self {
        if from == to {
            return self;
        }
        // All but absurd times; divisions of 128 bits take several times as long.
        if let Some(product) = self.0.checked_mul(i64::from(to.get()))
            && let Some(rounded) = product.checked_add(i64::from(from.get() / 2))
        {
            return Self(rounded.div_euclid(i64::from(from.get())));
        }
        let (from, to) = (i128::from(from.get()), i128::from(to.get()));
        let scaled = (i128::from(self.0) * to + from / 2).div_euclid(from);
        Self(i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX }))
    }

    /// From milliseconds.
    pub fn from_millis(ms: i64, scale: Timescale) -> Self {
        Self(ms).rescale(Timescale::MILLIS, scale)
    }

    /// To milliseconds, rounded.
    pub fn millis(self, scale: Timescale) -> i64 {
        self.rescale(scale, Timescale::MILLIS).0
    }
}

/// What a video decoder configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParams {
    /// Display width in pixels, after cropping.
    pub width: u32,
    /// Display height in pixels, after cropping.
    pub height: u32,
    /// Frames per second as numerator / denominator, where the configuration tells.
    pub frame_rate: Option<(u32, u32)>,
}

/// What an audio decoder configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioParams {
    /// Output sampling rate in Hz (for HE-AAC the one after SBR; Opus always 48 000).
    pub sample_rate: u32,
    /// Output channels.
    pub channels: u8,
    /// Samples per frame at `sample_rate`, where it is constant (AAC-LC 1024, HE-AAC 2048, MP3
    /// 1152 or 576). `None` for Opus.
    pub frame_samples: Option<u32>,
}

/// What a track's decoder configuration says, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Params {
    /// Of a video track.
    Video(VideoParams),
    /// Of an audio track.
    Audio(AudioParams),
}

/// A track: its coding, clock and decoder configuration. Made by `codec::track`, so that `params`
/// and `rfc6381` always agree with `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Name within the stream.
    pub id: TrackId,
    /// Coding of its frames.
    pub codec: Codec,
    /// Clock of its frames' timestamps.
    pub timescale: Timescale,
    /// Decoder configuration: `AVCDecoderConfigurationRecord`, `HEVCDecoderConfigurationRecord`,
    /// `AV1CodecConfigurationRecord`, what [`crate::codec::vpx`] makes of a keyframe, `AudioSpecificConfig`, or the Opus identification header
    /// (RFC 7845 §5.1, with its `OpusHead` magic); empty for MP3.
    pub config: Bytes,
    /// What `config` says.
    pub params: Params,
    /// The `codecs` parameter (RFC 6381): `avc1.64001f`, `mp4a.40.2`, …
    pub rfc6381: String,
}

impl Track {
    /// The picture's parameters, of a video track.
    pub fn video(&self) -> Option<&VideoParams> {
        match &self.params {
            Params::Video(v) => Some(v),
            Params::Audio(_) => None,
        }
    }

    /// The sound's parameters, of an audio track.
    pub fn audio(&self) -> Option<&AudioParams> {
        match &self.params {
            Params::Audio(a) => Some(a),
            Params::Video(_) => None,
        }
    }
}

/// One access unit: a coded picture, or a coded stretch of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track it belongs to.
    pub track: TrackId,
    /// Decoding time.
    pub dts: Timestamp,
    /// Composition offset: presentation time minus decoding time, in ticks; may be negative.
    pub cts: i32,
    /// Decoding can start here: an IDR picture or its like. Always true for audio.
    pub keyframe: bool,
    /// The coded bytes, in the form that [`Codec`] names.
    pub data: Bytes,
}

impl Frame {
    /// Presentation time.
    pub fn pts(&self) -> Timestamp {
        Timestamp(self.dts.0.saturating_add(i64::from(self.cts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_rounds_to_the_nearest_tick() {
        let t = Timestamp::from_millis(33, Timescale::HZ_90K);
        assert_eq!(t, Timestamp(2970));
        assert_eq!(Timestamp(2969).millis(Timescale::HZ_90K), 33);
        assert_eq!(Timestamp(-45).millis(Timescale::HZ_90K), 0);
        assert_eq!(Timestamp(-46).millis(Timescale::HZ_90K), -1);
    }

    #[test]
    fn rescaling_saturates() {
        assert_eq!(Timestamp(i64::MAX).rescale(Timescale::MILLIS, Timescale::HZ_90K).0, i64::MAX);
        assert_eq!(Timestamp(i64::MIN).rescale(Timescale::MILLIS, Timescale::HZ_90K).0, i64::MIN);
    }
}
