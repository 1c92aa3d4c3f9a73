//! Opus by libopus: any packets in; 20 ms of mono or stereo out.

use bytes::Bytes;
use media_core::codec::opus::{IdentificationHeader, packet_samples};
use media_core::frame::Track;
use opus::{Application, Bitrate, Channels, Encoder as Library, MSDecoder};

use crate::downmix::Downmix;
use crate::transcoder::{Decoded, FrameInfo};
use crate::{Error, MAX_CHANNELS, RATE};

const NAME: &str = "Opus";
/// 120 ms, the longest packet (RFC 6716 §3.2.5).
const MAX_SAMPLES: usize = 5_760;
/// 20 ms, which a packet most often has; what is assumed of one that does not tell.
const USUAL_SAMPLES: usize = 960;

/// Opus to samples.
#[derive(Debug)]
pub(crate) struct Decoder {
    library: MSDecoder,
    /// Coded channels.
    coded: usize,
    /// Where there are more than two.
    downmix: Option<Downmix>,
    pcm: Box<[f32]>,
    /// Of each channel; what a packet is taken for that does not tell.
    last: usize,
}

impl Decoder {
    /// Of a track, and how many channels it puts out.
    pub(crate) fn new(track: &Track) -> Result<(Self, u8), Error> {
        let header = IdentificationHeader::parse(&track.config)?;
        let refused =
            |error: opus::Error| Error::Decoder { codec: NAME, reason: error.description().to_owned() };
        let mut library = match (&header.mapping, header.channels) {
            (Some(mapping), _) => MSDecoder::new(RATE, mapping.streams, mapping.coupled, &mapping.channels),
            (None, 1) => MSDecoder::new(RATE, 1, 0, &[0]),
            (None, _) => MSDecoder::new(RATE, 1, 1, &[0, 1]),
        }
        .map_err(refused)?;
        library.set_gain(header.output_gain.into()).map_err(refused)?;
        let coded = usize::from(header.channels);
        let decoder = Self {
            library,
            coded,
            downmix: Downmix::of_opus(header.channels),
            pcm: vec![0.0; MAX_SAMPLES * coded].into(),
            last: USUAL_SAMPLES,
        };
        Ok((decoder, header.channels.min(MAX_CHANNELS)))
    }

    /// Appends the samples of a packet, or silence of its length where it is damaged.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<f32>) -> Decoded {
        let told = packet_samples(data).ok().and_then(|samples| usize::try_from(samples).ok());
        // Without any bytes the library makes sound up; a packet that tells no length has none for it either.
        let decoded = told.and_then(|_| self.library.decode_float(data, &mut self.pcm, false).ok());
        let pcm = decoded.and_then(|samples| Some((samples, self.pcm.get(..samples * self.coded)?)));
        let samples = match pcm {
            Some((samples, pcm)) => {
                match &self.downmix {
                    Some(downmix) => downmix.mix(pcm, out),
                    None => out.extend_from_slice(pcm),
                }
                samples
            }
            None => {
                let samples = told.unwrap_or(self.last);
                let channels = self.coded.min(usize::from(MAX_CHANNELS));
                out.resize(out.len() + samples * channels, 0.0);
                samples
            }
        };
        self.last = samples;
        Decoded { info: FrameInfo { samples, sample_rate: RATE }, damaged: pcm.is_none() }
    }
}

/// Samples to Opus.
#[derive(Debug)]
pub(crate) struct Encoder {
    library: Library,
    coded: Box<[u8]>,
    delay: usize,
}

impl Encoder {
    /// Samples of each channel in a packet: 20 ms, what every WebRTC implementation is used to.
    pub(crate) const FRAME_SAMPLES: usize = USUAL_SAMPLES;

    /// Of mono or stereo.
    pub(crate) fn new(channels: u8, bit_rate: u32, complexity: u8) -> Result<Self, Error> {
        /// A packet of one frame (RFC 6716 §3.2.1), its TOC and room to spare.
        const MAX_BYTES: usize = 1_500;
        let refused = |what| {
            move |error: opus::Error| Error::Encoder {
                codec: NAME,
                what,
                reason: error.description().to_owned(),
            }
        };
        let channels = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut library =
            Library::new(RATE, channels, Application::Audio).map_err(refused("the channels"))?;
        let bits = i32::try_from(bit_rate).unwrap_or(i32::MAX);
        library.set_bitrate(Bitrate::Bits(bits)).map_err(refused("the bit rate"))?;
        library.set_complexity(complexity.into()).map_err(refused("the complexity"))?;
        let delay = library.get_lookahead().map_err(refused("to tell its delay"))?;
        let delay = usize::try_from(delay).unwrap_or_default();
        Ok(Self { library, coded: vec![0; MAX_BYTES].into(), delay })
    }

    /// Samples by which what a player hears comes after what went in.
    pub(crate) fn delay(&self) -> usize {
        self.delay
    }

    /// Codes a packet's samples.
    pub(crate) fn encode(&mut self, samples: &[f32]) -> Option<Bytes> {
        let length = self.library.encode_float(samples, &mut self.coded).ok()?;
        let coded = self.coded.get(..length)?;
        (!coded.is_empty()).then(|| Bytes::copy_from_slice(coded))
    }
}
