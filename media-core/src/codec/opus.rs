//! Opus: the identification header (RFC 7845 §5.1) and packet durations (RFC 6716 §3).

use bytes::{BufMut, Bytes, BytesMut};

use super::Error;
use crate::frame::AudioParams;

const HEADER: &str = "Opus identification header";
const MAGIC: &[u8; 8] = b"OpusHead";
/// Opus always decodes at 48 kHz.
const SAMPLE_RATE: u32 = 48_000;
/// The longest packet: 120 ms.
const MAX_PACKET_SAMPLES: u32 = 5_760;

/// An identification header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentificationHeader {
    /// Output channels.
    pub channels: u8,
    /// Samples at 48 kHz to drop from the decoder's first output.
    pub pre_skip: u16,
    /// Of the original sound, in Hz; 0 for unknown.
    pub input_sample_rate: u32,
    /// In 1/256 dB.
    pub output_gain: i16,
    /// Of mapping family 1; none for family 0.
    pub mapping: Option<Mapping>,
}

/// The channel mapping table (§5.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Coded streams.
    pub streams: u8,
    /// Those of them that are stereo; they come first.
    pub coupled: u8,
    /// For each output channel the decoded one, or 255 for silence.
    pub channels: Vec<u8>,
}

impl IdentificationHeader {
    /// Of mapping families 0 (mono, stereo) and 1 (Vorbis channel order, up to 8).
    pub fn parse(header: &[u8]) -> Result<Self, Error> {
        let (fixed, table) = header.split_first_chunk::<19>().ok_or(Error::Truncated(HEADER))?;
        let [magic @ .., version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = *fixed;
        if &magic != MAGIC {
            return Err(Error::Unsupported("an Opus configuration without OpusHead"));
        }
        // A change of the upper four bits breaks compatibility.
        if version & 0xf0 != 0 {
            return Err(Error::Invalid { field: "OpusHead version", value: version.into() });
        }
        let max_channels = match family {
            0 => 2,
            1 => 8,
            _ => return Err(Error::Unsupported("this Opus channel mapping family")),
        };
        if !(1..=max_channels).contains(&channels) {
            return Err(Error::Invalid { field: "Opus channel count", value: channels.into() });
        }
        let mapping = if family == 0 { None } else { Some(Mapping::parse(table, channels)?) };
        Ok(Self {
            channels,
            pre_skip: u16::from_le_bytes([s0, s1]),
            input_sample_rate: u32::from_le_bytes([r0, r1, r2, r3]),
            output_gain: i16::from_le_bytes([g0, g1]),
            mapping,
        })
    }

    /// The sound, and its `codecs` string.
    pub(super) fn describe(&self) -> (AudioParams, String) {
        let params = AudioParams { sample_rate: SAMPLE_RATE, channels: self.channels, frame_samples: None };
        (params, "opus".to_owned())
    }
}

impl Mapping {
    fn parse(table: &[u8], channels: u8) -> Result<Self, Error> {
        const SILENCE: u8 = 255;
        let (&[streams, coupled], rest) = table.split_first_chunk::<2>().ok_or(Error::Truncated(HEADER))?;
        let channels = rest.get(..usize::from(channels)).ok_or(Error::Truncated(HEADER))?;
        if streams == 0 || coupled > streams {
            return Err(Error::Invalid { field: "Opus coupled stream count", value: coupled.into() });
        }
        let decoded = u16::from(streams) + u16::from(coupled);
        if decoded > 255 {
            return Err(Error::Invalid { field: "Opus stream count", value: decoded.into() });
        }
        if let Some(&index) = channels.iter().find(|&&i| i != SILENCE && u16::from(i) >= decoded) {
            return Err(Error::Invalid { field: "Opus channel mapping", value: index.into() });
        }
        Ok(Self { streams, coupled, channels: channels.to_vec() })
    }
}

/// The most channels of mapping family 1.
pub const MAX_CHANNELS: usize = 8;

/// The usual layouts of mapping family 1, one a number of channels: coded streams, those of them that are coupled, and
/// where each output channel comes from (RFC 7845 §5.1.1.2, as encoders fill it).
const LAYOUTS: [(u8, u8, &[u8]); MAX_CHANNELS] = [
    (1, 0, &[0]),
    (1, 1, &[0, 1]),
    (2, 1, &[0, 2, 1]),
    (2, 2, &[0, 1, 2, 3]),
    (3, 2, &[0, 4, 1, 2, 3]),
    (4, 2, &[0, 4, 1, 2, 3, 5]),
    (4, 3, &[0, 4, 1, 2, 3, 5, 6]),
    (5, 3, &[0, 6, 1, 2, 3, 4, 5, 7]),
];

/// The number of channels of an identification header whose layout is the usual one for it; `None` for others.
pub fn usual_channels(header: &[u8]) -> Option<u8> {
    let header = IdentificationHeader::parse(header).ok()?;
    let usual = match &header.mapping {
        None => true,
        Some(mapping) => {
            let &(streams, coupled, channels) = LAYOUTS.get(usize::from(header.channels).checked_sub(1)?)?;
            (mapping.streams, mapping.coupled, mapping.channels.as_slice()) == (streams, coupled, channels)
        }
    };
    usual.then_some(header.channels)
}

/// Samples that a packet plays, at 48 kHz, from its TOC (RFC 6716 §3.1); at most 5760.
pub fn packet_samples(packet: &[u8]) -> Result<u32, Error> {
    const WHAT: &str = "Opus packet";
    let (&toc, rest) = packet.split_first().ok_or(Error::Truncated(WHAT))?;
    let frame_samples = match toc >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        config @ 0..12 => [480, 960, 1920, 2880].get(usize::from(config & 3)),
        // Hybrid: 10, 20 ms.
        config @ 12..16 => [480, 960].get(usize::from(config & 1)),
        // CELT: 2.5, 5, 10, 20 ms.
        config => [120, 240, 480, 960].get(usize::from(config & 3)),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first().ok_or(Error::Truncated(WHAT))? & 0x3f),
    };
    let samples = frames * frame_samples.copied().unwrap_or_default();
    if samples == 0 || samples > MAX_PACKET_SAMPLES {
        return Err(Error::Invalid { field: "Opus packet duration in samples", value: samples.into() });
    }
    Ok(samples)
}

/// An identification header for up to 8 channels in their usual layout, where a publisher sends none.
/// `input_sample_rate` is in Hz. The pre-skip is what libopus asks for.
pub fn identification_header(channels: u8, input_sample_rate: u32) -> Result<Bytes, Error> {
    const PRE_SKIP: u16 = 312;
    let layout = usize::from(channels).checked_sub(1).and_then(|index| LAYOUTS.get(index));
    let Some(&(streams, coupled, mapping)) = layout else {
        return Err(Error::Invalid { field: "Opus channel count", value: channels.into() });
    };
    let mut out = BytesMut::with_capacity(21 + mapping.len());
    out.put_slice(MAGIC);
    out.put_slice(&[1, channels]);
    out.put_u16_le(PRE_SKIP);
    out.put_u32_le(input_sample_rate);
    out.put_i16_le(0);
    if channels <= 2 {
        out.put_u8(0);
    } else {
        out.put_slice(&[1, streams, coupled]);
        out.put_slice(mapping);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::hex;
    use crate::codec::track;
    use crate::frame::{Codec, Timescale, TrackId};

    const STEREO: &str = "4f70757348656164 01 02 3801 80bb0000 0000 00";
    const FIVE_ONE: &str = "4f70757348656164 01 06 3801 80bb0000 0000 01 0402 000401020305";

    #[test]
    fn reads_what_ffmpeg_writes() {
        for (header, channels) in [(STEREO, 2), (FIVE_ONE, 6)] {
            let track = track(TrackId::AUDIO, Codec::Opus, Timescale::HZ_90K, hex(header).into()).unwrap();
            let audio = track.audio().unwrap();
            assert_eq!((audio.sample_rate, audio.channels, audio.frame_samples), (48_000, channels, None));
            assert_eq!(track.rfc6381, "opus");
        }
        let header = IdentificationHeader::parse(&hex(FIVE_ONE)).unwrap();
        assert_eq!((header.pre_skip, header.input_sample_rate, header.output_gain), (312, 48_000, 0));
        let mapping = Mapping { streams: 4, coupled: 2, channels: vec![0, 4, 1, 2, 3, 5] };
        assert_eq!(header.mapping, Some(mapping));
    }

    #[test]
    fn builds_what_it_reads() {
        assert_eq!(identification_header(2, 48_000).unwrap(), hex(STEREO));
        assert_eq!(identification_header(6, 48_000).unwrap(), hex(FIVE_ONE));
        for channels in 1..=8 {
            let header = identification_header(channels, 48_000).unwrap();
            assert_eq!(usual_channels(&header), Some(channels));
        }
        let mut swapped = hex(FIVE_ONE);
        swapped.swap(21, 22);
        assert_eq!(usual_channels(&swapped), None);
        assert!(identification_header(9, 48_000).is_err());
        assert!(identification_header(0, 48_000).is_err());
    }

    #[test]
    fn refuses_truncations_and_lies() {
        for header in [STEREO, FIVE_ONE] {
            let header = hex(header);
            for length in 0..header.len() {
                assert_eq!(IdentificationHeader::parse(&header[..length]), Err(Error::Truncated(HEADER)));
            }
        }
        let with = |at: usize, value: u8| {
            let mut header = hex(FIVE_ONE);
            header[at] = value;
            IdentificationHeader::parse(&header)
        };
        assert!(with(0, b'o').is_err()); // magic
        assert!(with(8, 0x10).is_err()); // version
        assert!(with(9, 0).is_err()); // channels
        assert!(with(9, 9).is_err());
        assert!(with(18, 0).is_err()); // six channels of family 0
        assert!(with(18, 255).is_err()); // family
        assert!(with(19, 0).is_err()); // streams
        assert!(with(19, 254).is_err()); // more than 255 decoded channels
        assert!(with(20, 5).is_err()); // coupled
        assert!(with(21, 6).is_err()); // a channel that is not decoded
        assert!(with(21, 255).is_ok()); // silence
    }

    #[test]
    fn packets_tell_their_length() {
        for (packet, samples) in [
            (&[0xfc, 0][..], 960), // CELT 20 ms stereo, one frame
            (&[0x80], 120),
            (&[0x08], 960),
            (&[0x18], 2880),
            (&[0x60], 480),
            (&[0xf9], 1920),
            (&[0xfb, 3], 2880),
            (&[0x1b, 2], 5760),
            (&[0x83, 48], 5760),
        ] {
            assert_eq!(packet_samples(packet), Ok(samples), "{packet:?}");
        }
        for packet in [&[][..], &[0xfb], &[0xfb, 0], &[0xfb, 7], &[0x1b, 3], &[0x83, 49]] {
            assert!(packet_samples(packet).is_err(), "{packet:?}");
        }
    }
}
