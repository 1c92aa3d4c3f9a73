//! AAC: the `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1) of LC, HE (SBR) and HE v2 (PS), with
//! either way of telling SBR; and the ways to carry frames beside it.

pub mod adts;
pub mod loas;

use bytes::Bytes;

use super::Error;
use super::bits::Bits;
use crate::frame::AudioParams;

const WHAT: &str = "AudioSpecificConfig";

/// `samplingFrequencyIndex` (table 1.18).
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const EXPLICIT_RATE: u32 = 15;
/// Nothing samples sound faster.
const MAX_SAMPLE_RATE: u32 = 192_000;

const LOW_COMPLEXITY: u32 = 2;
const LONG_TERM_PREDICTION: u32 = 4;
const SBR: u32 = 5;
const PS: u32 = 29;

/// What an `AudioSpecificConfig` says.
#[derive(Debug)]
pub(super) struct AudioSpecificConfig {
    /// The audio object type that a decoder must know: 2 (LC), 5 (HE), 29 (HE v2), …
    object_type: u32,
    sample_rate: u32,
    channels: u8,
    frame_samples: u32,
    /// The object type below SBR and PS.
    core_object_type: u32,
    /// The sampling rate before SBR.
    core_rate: u32,
    /// Table 1.19; 0 where a `program_config_element` tells.
    channel_configuration: u32,
}

impl AudioSpecificConfig {
    /// Of the main AAC object types (Main, LC, SSR, LTP), alone or below SBR and PS.
    pub(super) fn parse(config: &[u8]) -> Result<Self, Error> {
        Self::read(&mut Bits::new(WHAT, config), true)
    }

    /// Of bits of which others may follow, where SBR and PS told behind it are not looked for.
    fn read(bits: &mut Bits<'_>, ends_here: bool) -> Result<Self, Error> {
        let mut object_type = read_object_type(bits)?;
        let core_rate = read_sample_rate(bits)?;
        let channel_configuration = bits.bits(4)?;
        let mut sample_rate = core_rate;
        let mut extension = None;
        if object_type == SBR || object_type == PS {
            extension = Some(object_type);
            sample_rate = read_sample_rate(bits)?;
            object_type = read_object_type(bits)?;
        }
        if !(1..=LONG_TERM_PREDICTION).contains(&object_type) {
            return Err(Error::Unsupported("this AAC object type"));
        }
        let short_frames = bits.flag()?;
        if bits.flag()? {
            bits.skip(14)?; // coreCoderDelay
        }
        bits.skip(1)?; // extensionFlag: reserved for these object types
        let mut channels = match channel_configuration {
            0 => program_config_channels(bits)?,
            1..=6 => u8::try_from(channel_configuration).unwrap_or_default(),
            7 | 12 | 14 => 8,
            11 => 7,
            other => return Err(Error::Invalid { field: "channelConfiguration", value: other.into() }),
        };
        if ends_here
            && extension.is_none()
            && let Some((found, rate)) = trailing_extension(bits)
        {
            extension = Some(found);
            sample_rate = rate;
        }
        if extension == Some(PS) && channels == 1 {
            channels = 2;
        }
        let core_samples: u32 = if short_frames { 960 } else { 1024 };
        Ok(Self {
            object_type: extension.unwrap_or(object_type),
            sample_rate,
            channels,
            frame_samples: if sample_rate == core_rate.saturating_mul(2) {
                2 * core_samples
            } else {
                core_samples
            },
            core_object_type: object_type,
            core_rate,
            channel_configuration,
        })
    }

    /// The sound, and its `codecs` string.
    pub(super) fn describe(&self) -> (AudioParams, String) {
        let params = AudioParams {
            sample_rate: self.sample_rate,
            channels: self.channels,
            frame_samples: Some(self.frame_samples),
        };
        (params, format!("mp4a.40.{}", self.object_type))
    }
}

/// `GetAudioObjectType()`.
fn read_object_type(bits: &mut Bits<'_>) -> Result<u32, Error> {
    const ESCAPE: u32 = 31;
    match bits.bits(5)? {
        ESCAPE => Ok(32 + bits.bits(6)?),
        object_type => Ok(object_type),
    }
}

fn read_sample_rate(bits: &mut Bits<'_>) -> Result<u32, Error> {
    let index = bits.bits(4)?;
    let rate = if index == EXPLICIT_RATE {
        bits.bits(24)?
    } else {
        let known = usize::try_from(index).ok().and_then(|index| SAMPLE_RATES.get(index));
        *known.ok_or(Error::Invalid { field: "samplingFrequencyIndex", value: index.into() })?
    };
    if (1..=MAX_SAMPLE_RATE).contains(&rate) {
        Ok(rate)
    } else {
        Err(Error::Invalid { field: "samplingFrequency", value: rate.into() })
    }
}

/// `program_config_element()` (§4.4.1.1): the channels it lists.
fn program_config_channels(bits: &mut Bits<'_>) -> Result<u8, Error> {
    bits.skip(4 + 2 + 4)?; // element_instance_tag, object_type, sampling_frequency_index
    let pairs_or_singles = bits.bits(4)? + bits.bits(4)? + bits.bits(4)?; // front, side, back
    let low_frequency = bits.bits(2)?;
    let associated_data = bits.bits(3)?;
    let coupling = bits.bits(4)?;
    for mixdown_bits in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..pairs_or_singles {
        channels += if bits.flag()? { 2 } else { 1 };
        bits.skip(4)?;
    }
    bits.skip(4 * low_frequency + 4 * associated_data + 5 * coupling)?;
    bits.align();
    let comment_bytes = bits.bits(8)?;
    bits.skip(8 * comment_bytes)?;
    match u8::try_from(channels) {
        Ok(channels) if channels > 0 => Ok(channels),
        _ => Err(Error::Invalid { field: "channels of the program_config_element", value: channels.into() }),
    }
}

/// Backward compatible signalling: SBR and PS told after the part that old decoders read. What
/// follows there but is no such extension is padding.
fn trailing_extension(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    const SYNC_SBR: u32 = 0x2b7;
    const SYNC_PS: u32 = 0x548;
    if !bits.has(16) || bits.bits(11).ok()? != SYNC_SBR || read_object_type(bits).ok()? != SBR {
        return None;
    }
    if !bits.flag().ok()? {
        return None;
    }
    let rate = read_sample_rate(bits).ok()?;
    let parametric_stereo = bits.has(12) && bits.bits(11) == Ok(SYNC_PS) && bits.flag().unwrap_or_default();
    Some((if parametric_stereo { PS } else { SBR }, rate))
}

/// An AAC-LC `AudioSpecificConfig`: two bytes, or five for a sampling rate without an index.
/// `channels` is 1 to 6, or 8.
pub fn low_complexity_config(sample_rate: u32, channels: u8) -> Result<Bytes, Error> {
    let configuration = match channels {
        1..=6 => u64::from(channels),
        8 => 7,
        other => return Err(Error::Invalid { field: "channels", value: other.into() }),
    };
    if !(1..=MAX_SAMPLE_RATE).contains(&sample_rate) {
        return Err(Error::Invalid { field: "samplingFrequency", value: sample_rate.into() });
    }
    let object_type = u64::from(LOW_COMPLEXITY);
    let index = SAMPLE_RATES.iter().position(|&rate| rate == sample_rate);
    // Left-aligned in 64 bits; the three GASpecificConfig flags are zero.
    Ok(match index.and_then(|index| u64::try_from(index).ok()) {
        Some(index) => {
            let bits = object_type << 59 | index << 55 | configuration << 51;
            Bytes::copy_from_slice(bits.to_be_bytes().get(..2).unwrap_or_default())
        }
        None => {
            let rate = u64::from(sample_rate);
            let bits = object_type << 59 | u64::from(EXPLICIT_RATE) << 55 | rate << 31 | configuration << 27;
            Bytes::copy_from_slice(bits.to_be_bytes().get(..5).unwrap_or_default())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::{binary, hex};
    use crate::codec::track;
    use crate::frame::{Codec, Timescale, TrackId};

    fn read(config: &[u8]) -> Result<(String, u32, u8, Option<u32>), Error> {
        let config = Bytes::copy_from_slice(config);
        let track = track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, config)?;
        let audio = track.audio().unwrap();
        Ok((track.rfc6381.clone(), audio.sample_rate, audio.channels, audio.frame_samples))
    }

    fn expect(config: &[u8], object_type: u32, rate: u32, channels: u8, samples: u32) {
        assert_eq!(read(config), Ok((format!("mp4a.40.{object_type}"), rate, channels, Some(samples))));
    }

    #[test]
    fn reads_what_ffmpeg_writes() {
        expect(&hex("119056e500"), 2, 48_000, 2, 1024);
        expect(&hex("120856e500"), 2, 44_100, 1, 1024);
        expect(&hex("1210"), 2, 44_100, 2, 1024);
        expect(&hex("11b0"), 2, 48_000, 6, 1024);
        expect(&hex("11b8"), 2, 48_000, 8, 1024);
        // Four channels that no configuration number stands for: a program_config_element.
        expect(&hex("118004c4040021100c4c61766336332e312e31303256e500"), 2, 48_000, 4, 1024);
    }

    #[test]
    fn reads_sbr_and_ps_told_either_way() {
        // Explicit: object type 5 (29), core rate 24 kHz, output 48 kHz, then LC.
        expect(&binary("00101 0110 0010 0011 00010 000"), 5, 48_000, 2, 2048);
        expect(&binary("11101 0110 0001 0011 00010 000"), 29, 48_000, 2, 2048);
        // Backward compatible: LC, then the sync words.
        expect(&binary("00010 0110 0010 000 01010110111 00101 1 0011"), 5, 48_000, 2, 2048);
        let with_ps = "00010 0110 0001 000 01010110111 00101 1 0011 10101001000 1";
        expect(&binary(with_ps), 29, 48_000, 2, 2048);
        // Downsampled SBR: the output rate is the core's.
        expect(&binary("00101 0011 0010 0011 00010 000"), 5, 48_000, 2, 1024);
        // Padding that is no extension.
        expect(&hex("1190000000"), 2, 48_000, 2, 1024);
    }

    #[test]
    fn reads_escapes_and_short_frames() {
        expect(&binary(&format!("00010 1111 {:024b} 0010 000", 37_800)), 2, 37_800, 2, 1024);
        expect(&binary("00010 0011 0010 100"), 2, 48_000, 2, 960);
        expect(&binary(&format!("00010 0011 0010 01{:014b}0", 5)), 2, 48_000, 2, 1024);
        // Object type 42 (xHE-AAC) by its escape code.
        assert_eq!(
            read(&binary("11111 001010 0011 0010 000")),
            Err(Error::Unsupported("this AAC object type"))
        );
        assert_eq!(read(&binary("10111 0011 0010 000")), Err(Error::Unsupported("this AAC object type")));
    }

    #[test]
    fn refuses_lies() {
        for config in
            ["00010 1101 0010 000", "00010 0011 1000 000", "00010 1111 000000000000000000000000 0010 000"]
        {
            assert!(matches!(read(&binary(config)), Err(Error::Invalid { .. })), "{config}");
        }
        let element = hex("118004c4040021100c4c61766336332e312e313032");
        for length in 0..element.len() {
            assert_eq!(read(&element[..length]), Err(Error::Truncated(WHAT)), "{length}");
        }
        // A program_config_element without channels.
        assert!(matches!(read(&hex("1180000000000000000000")), Err(Error::Invalid { .. })));
    }

    #[test]
    fn builds_what_it_reads() {
        for (rate, channels) in [(48_000, 2), (44_100, 1), (7_350, 6), (96_000, 8), (37_800, 2), (192_000, 1)]
        {
            expect(&low_complexity_config(rate, channels).unwrap(), 2, rate, channels, 1024);
        }
        assert_eq!(low_complexity_config(48_000, 2).unwrap(), hex("1190"));
        assert!(low_complexity_config(48_000, 7).is_err());
        assert!(low_complexity_config(0, 2).is_err());
        assert!(low_complexity_config(1 << 24, 2).is_err());
    }
}
