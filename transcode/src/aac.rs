//! AAC by libfdk-aac: LC, HE and HE v2 in; LC out.

use bytes::Bytes;
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder as Library, EncoderParams, Transport};
use media_core::frame::Track;

use crate::downmix::Downmix;
use crate::transcoder::{Decoded, FrameInfo};
use crate::{Error, MAX_CHANNELS, RATE, fdk, known_rate};

const NAME: &str = "AAC";

/// AAC to samples.
#[derive(Debug)]
pub(crate) struct Decoder {
    library: fdk::Decoder,
    /// Channels that the library puts out.
    coded: usize,
    /// Where there are more than two.
    downmix: Option<Downmix>,
    /// What the library writes to.
    pcm: Box<[i16]>,
    /// The same before it is mixed down.
    samples: Vec<f32>,
    /// What a damaged frame is taken for: the shape of the last whole one.
    last: FrameInfo,
}

impl Decoder {
    /// Of a track, and how many channels it puts out.
    pub(crate) fn new(track: &Track) -> Result<(Self, u8), Error> {
        let Some(audio) = track.audio() else {
            return Err(Error::Codecs { from: track.codec.name(), into: "Opus" });
        };
        let sample_rate = known_rate(audio.sample_rate).ok_or(Error::SampleRate(audio.sample_rate))?;
        if !(1..=8).contains(&audio.channels) {
            return Err(Error::Channels(audio.channels));
        }
        // What is more than 5.1 the library mixes down to it.
        let coded = audio.channels.min(6);
        let library = fdk::Decoder::new(&track.config, (!(3..=5).contains(&coded)).then_some(coded))
            .map_err(|code| Error::Decoder { codec: NAME, reason: code.to_string() })?;
        let samples = usize::try_from(audio.frame_samples.unwrap_or(1024)).unwrap_or(1024);
        let pcm = vec![0; fdk::MAX_SAMPLES].into();
        let decoder = Self {
            library,
            coded: usize::from(coded),
            downmix: Downmix::of_aac(coded),
            pcm,
            samples: Vec::new(),
            last: FrameInfo { samples, sample_rate },
        };
        Ok((decoder, coded.min(MAX_CHANNELS)))
    }

    /// Appends the samples of a frame, or silence of its length where it is damaged.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<f32>) -> Decoded {
        let shape = match data.len() {
            1..=fdk::MAX_BYTES => self.library.decode(data, &mut self.pcm).ok(),
            _ => None,
        };
        // Nothing but these is taken, whatever a stream says of itself.
        let shape = shape.filter(|shape| shape.channels == self.coded && (1..=2048).contains(&shape.samples));
        let found = shape.and_then(|shape| {
            let pcm = self.pcm.get(..shape.samples * self.coded)?;
            Some((pcm, FrameInfo { samples: shape.samples, sample_rate: known_rate(shape.sample_rate)? }))
        });
        if let Some((pcm, info)) = found {
            let samples = pcm.iter().map(|&sample| f32::from(sample) / 32_768.0);
            match &self.downmix {
                Some(downmix) => {
                    self.samples.clear();
                    self.samples.extend(samples);
                    downmix.mix(&self.samples, out);
                }
                None => out.extend(samples),
            }
            self.last = info;
            Decoded { info, damaged: false }
        } else {
            let channels = self.coded.min(usize::from(MAX_CHANNELS));
            out.resize(out.len() + self.last.samples * channels, 0.0);
            Decoded { info: self.last, damaged: true }
        }
    }
}

/// Samples to AAC-LC.
#[derive(Debug)]
pub(crate) struct Encoder {
    library: Library,
    pcm: Vec<i16>,
    coded: Vec<u8>,
    config: Bytes,
    delay: usize,
}

impl Encoder {
    /// Samples of each channel in a frame.
    pub(crate) const FRAME_SAMPLES: usize = 1024;

    /// Of mono or stereo at 48 kHz.
    pub(crate) fn new(channels: u8, bit_rate: u32) -> Result<Self, Error> {
        let refused = |what| {
            move |error: fdk_aac::enc::EncoderError| Error::Encoder {
                codec: NAME,
                what,
                reason: error.to_string(),
            }
        };
        let library = Library::new(EncoderParams {
            bit_rate: BitRate::Cbr(bit_rate),
            sample_rate: RATE,
            transport: Transport::Raw,
            channels: if channels == 1 { ChannelMode::Mono } else { ChannelMode::Stereo },
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        })
        .map_err(refused("the channels or the bit rate"))?;
        let info = library.info().map_err(refused("to tell its configuration"))?;
        let config = usize::try_from(info.confSize).ok().and_then(|length| info.confBuf.get(..length));
        Ok(Self {
            library,
            pcm: Vec::with_capacity(Self::FRAME_SAMPLES * usize::from(channels)),
            coded: vec![0; usize::try_from(info.maxOutBufBytes).unwrap_or(fdk::MAX_BYTES)],
            config: Bytes::copy_from_slice(config.unwrap_or_default()),
            delay: usize::try_from(info.nDelay).unwrap_or_default(),
        })
    }

    /// The `AudioSpecificConfig`.
    pub(crate) fn config(&self) -> Bytes {
        self.config.clone()
    }

    /// Samples by which what a player hears comes after what went in.
    pub(crate) fn delay(&self) -> usize {
        self.delay
    }

    /// Codes a frame's samples.
    pub(crate) fn encode(&mut self, samples: &[f32]) -> Option<Bytes> {
        self.pcm.clear();
        // A cast that saturates: what is too loud is clipped.
        #[allow(clippy::cast_possible_truncation, reason = "the fraction is what 16 bits leave out")]
        self.pcm.extend(samples.iter().map(|sample| (sample * 32_768.0).round() as i16));
        let encoded = self.library.encode(&self.pcm, &mut self.coded).ok()?;
        let coded = self.coded.get(..encoded.output_size)?;
        (!coded.is_empty()).then(|| Bytes::copy_from_slice(coded))
    }
}
