//! Sample entries (ISO/IEC 14496-12 §8.5.2): what a track's samples are coded in.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{Audio, Dops, Encode, Esds, Mp4a, Opus, OpusChannelMapping, Visual};

use super::Error;
use super::init::put_box;
use crate::codec::opus::IdentificationHeader;
use crate::codec::vpx;
use crate::frame::{AudioParams, Codec, Params, Track, VideoParams};

/// `data_reference_index` of the one data reference: this file.
const SAME_FILE: u16 = 1;

/// `objectTypeIndication` (ISO/IEC 14496-1 table 5): AAC of any kind.
const OBJECT_AAC: u8 = 0x40;
/// MPEG-2 (and 2.5) audio layer III, with frames of 576 samples.
const OBJECT_MP3_MPEG2: u8 = 0x69;
/// MPEG-1 audio layer III.
const OBJECT_MP3_MPEG1: u8 = 0x6b;

/// Writes the track's sample entry. Video configuration records go in as they are.
pub(super) fn put_sample_entry(out: &mut BytesMut, track: &Track) -> Result<(), Error> {
    match &track.params {
        Params::Video(video) => {
            let (entry, record) = match track.codec {
                Codec::H265 => (*b"hvc1", *b"hvcC"),
                Codec::Av1 => (*b"av01", *b"av1C"),
                Codec::Vp8 => (*b"vp08", *b"vpcC"),
                Codec::Vp9 => (*b"vp09", *b"vpcC"),
                _ => (*b"avc1", *b"avcC"),
            };
            put_box(out, entry, |out| {
                visual(video).encode(out)?;
                put_box(out, record, |out| {
                    out.put_slice(&match track.codec {
                        Codec::Vp8 | Codec::Vp9 => vpx::record(&track.config),
                        _ => track.config.clone(),
                    });
                    Ok(())
                })
            })
        }
        Params::Audio(audio) => {
            match track.codec {
                Codec::Opus => opus(audio, &track.config)?.encode(out),
                Codec::Mp3 if audio.frame_samples == Some(576) => {
                    mp4a(audio, OBJECT_MP3_MPEG2, &Bytes::new()).encode(out)
                }
                Codec::Mp3 => mp4a(audio, OBJECT_MP3_MPEG1, &Bytes::new()).encode(out),
                _ => mp4a(audio, OBJECT_AAC, &track.config).encode(out),
            }?;
            Ok(())
        }
    }
}

fn visual(video: &VideoParams) -> Visual {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    Visual {
        data_reference_index: SAME_FILE,
        width: side(video.width),
        height: side(video.height),
        ..Visual::default()
    }
}

fn sound(audio: &AudioParams) -> Audio {
    Audio {
        data_reference_index: SAME_FILE,
        channel_count: audio.channels.into(),
        sample_size: 16,
        // Rates that do not fit are told by the configuration only.
        sample_rate: u16::try_from(audio.sample_rate).unwrap_or_default().into(),
    }
}

fn mp4a(audio: &AudioParams, object_type_indication: u8, config: &Bytes) -> Mp4a {
    const AUDIO_STREAM: u8 = 5;
    let dec_specific =
        (!config.is_empty()).then(|| DecoderSpecific { raw: config.to_vec(), ..DecoderSpecific::default() });
    let dec_config = DecoderConfig {
        object_type_indication,
        stream_type: AUDIO_STREAM,
        dec_specific,
        ..DecoderConfig::default()
    };
    let es_desc = EsDescriptor { dec_config, sl_config: SLConfig::default(), ..EsDescriptor::default() };
    Mp4a { audio: sound(audio), esds: Esds { es_desc }, btrt: None, taic: None }
}

/// `dOps` is the identification header with its numbers turned (Opus in ISOBMFF §4.3.2).
fn opus(audio: &AudioParams, config: &[u8]) -> Result<Opus, Error> {
    let header = IdentificationHeader::parse(config)?;
    let channel_mapping = header.mapping.map(|mapping| OpusChannelMapping {
        family: 1,
        stream_count: mapping.streams,
        coupled_count: mapping.coupled,
        channel_mapping: mapping.channels,
    });
    let dops = Dops {
        output_channel_count: header.channels,
        pre_skip: header.pre_skip,
        input_sample_rate: header.input_sample_rate,
        output_gain: header.output_gain,
        channel_mapping,
    };
    Ok(Opus { audio: sound(audio), dops, btrt: None })
}
