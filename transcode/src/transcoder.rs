//! A track's transcoder.

use bytes::Bytes;
use media_core::codec;
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};

use crate::clock::{Clock, Step};
use crate::g711::{self, G711};
use crate::pcm::Queue;
use crate::resampler::Resampler;
use crate::{Error, Options, RATE, aac, opus};

/// What a frame was decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameInfo {
    /// Of each channel.
    pub(crate) samples: usize,
    /// In Hz.
    pub(crate) sample_rate: u32,
}

/// How a frame was decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoded {
    pub(crate) info: FrameInfo,
    /// It was not, and silence stands in its place.
    pub(crate) damaged: bool,
}

/// What has happened to a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames in.
    pub frames: u64,
    /// Of them those that could not be decoded: silence took their place.
    pub damaged: u64,
    /// Gaps of less than 100 ms that were filled with silence.
    pub filled: u64,
    /// Times the sound began anew because timestamps jumped by more than 100 ms, the first beginning left out.
    pub restarts: u64,
    /// Frames that were made a sample longer or shorter because timestamps and samples drift apart.
    pub stretched: u64,
    /// Frames that the encoder refused.
    pub failed: u64,
}

#[derive(Debug)]
enum Decoder {
    Aac(Box<aac::Decoder>),
    Opus(Box<opus::Decoder>),
    G711(g711::Decoder),
}

#[derive(Debug)]
enum Encoder {
    Opus(opus::Encoder),
    Aac(aac::Encoder),
}

/// From AAC to Opus, from Opus to AAC-LC, or from G.711 to either, of one track. Frames out have a clock of 48 kHz, are 20 ms
/// (Opus) or 1024 samples (AAC) long, and are to be presented at their timestamps: what the codecs hold back is already taken
/// into account.
#[derive(Debug)]
pub struct Transcoder {
    track: TrackId,
    timescale: Timescale,
    decoder: Decoder,
    /// Where sound has another rate than 48 kHz.
    resampler: Option<Resampler>,
    clock: Clock,
    queue: Queue,
    encoder: Encoder,
    /// Frames of the encoder that hold nothing but what was before the start.
    priming: usize,
    channels: u8,
    /// As decoded, at the track's own rate.
    decoded: Vec<f32>,
    counters: Counters,
}

impl Transcoder {
    /// For a track of AAC or Opus; and the track that comes out, which has the same name: its clock is 48 kHz, and more
    /// than two channels are mixed down to stereo.
    pub fn new(track: &Track, into: Codec, options: &Options) -> Result<(Self, Track), Error> {
        let (decoder, channels) = match (track.codec, into) {
            (Codec::Aac, Codec::Opus) => {
                let (decoder, channels) = aac::Decoder::new(track)?;
                (Decoder::Aac(Box::new(decoder)), channels)
            }
            (Codec::Opus, Codec::Aac) => {
                let (decoder, channels) = opus::Decoder::new(track)?;
                (Decoder::Opus(Box::new(decoder)), channels)
            }
            (from, into) => return Err(Error::Codecs { from: from.name(), into: into.name() }),
        };
        let rate = track.audio().map_or(RATE, |audio| audio.sample_rate);
        Self::with(decoder, (track.id, track.timescale), (rate, channels), into, options)
    }

    /// For G.711, whose frames are of that track and have that clock.
    pub fn of_g711(
        sound: G711,
        track: TrackId,
        timescale: Timescale,
        into: Codec,
        options: &Options,
    ) -> Result<(Self, Track), Error> {
        if !matches!(into, Codec::Aac | Codec::Opus) {
            return Err(Error::Codecs { from: "G.711", into: into.name() });
        }
        let decoder = Decoder::G711(g711::Decoder::new(sound)?);
        Self::with(decoder, (track, timescale), (sound.sample_rate, sound.channels), into, options)
    }

    fn with(
        decoder: Decoder,
        (track, timescale): (TrackId, Timescale),
        (rate, channels): (u32, u8),
        into: Codec,
        options: &Options,
    ) -> Result<(Self, Track), Error> {
        let bit_rate = options.bit_rate(channels);
        let (encoder, config) = match into {
            Codec::Opus => {
                let header = codec::opus::identification_header(channels, rate)?;
                (Encoder::Opus(opus::Encoder::new(channels, bit_rate, options.opus_complexity)?), header)
            }
            _ => {
                let encoder = aac::Encoder::new(channels, bit_rate)?;
                let config = encoder.config();
                (Encoder::Aac(encoder), config)
            }
        };
        let out = codec::track(track, into, clock_48k(), config)?;
        let transcoder = Self {
            track,
            timescale,
            decoder,
            resampler: None,
            clock: Clock::default(),
            queue: Queue::new(channels),
            encoder,
            priming: 0,
            channels,
            decoded: Vec::new(),
            counters: Counters::default(),
        };
        Ok((transcoder, out))
    }

    /// Takes a frame, and appends those that are whole by it.
    pub fn push(&mut self, frame: &Frame, out: &mut Vec<Frame>) {
        self.decoded.clear();
        let decoded = match &mut self.decoder {
            Decoder::Aac(decoder) => decoder.decode(&frame.data, &mut self.decoded),
            Decoder::Opus(decoder) => decoder.decode(&frame.data, &mut self.decoded),
            Decoder::G711(decoder) => decoder.decode(&frame.data, &mut self.decoded),
        };
        self.counters.frames += 1;
        self.counters.damaged += u64::from(decoded.damaged);
        let FrameInfo { samples, sample_rate } = decoded.info;
        let time = frame.pts().rescale(self.timescale, clock_48k()).0;
        let step = self.clock.follow(time, samples, sample_rate);
        match step {
            Step::Restart => self.restart(sample_rate),
            Step::Lost(samples) => self.fill(samples),
            Step::Go | Step::Stretch { .. } => {}
        }
        let (queue, there) = self.queue.writer();
        match &mut self.resampler {
            Some(resampler) => resampler.push(&self.decoded, queue),
            None => queue.extend_from_slice(&self.decoded),
        }
        if let Step::Stretch { longer } = step
            && self.queue.stretch(there, longer)
        {
            self.clock.stretched(longer);
            self.counters.stretched += 1;
        }
        self.encode(out);
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Begins with a frame of another time, or of another rate, than those before.
    fn restart(&mut self, rate: u32) {
        self.counters.restarts += u64::from(self.counters.frames > 1);
        if rate == RATE {
            self.resampler = None;
        } else if let Some(resampler) = self.resampler.as_mut().filter(|resampler| resampler.rate() == rate) {
            resampler.reset();
        } else {
            // Decoders let no rate through that it refuses.
            self.resampler = Resampler::new(rate, self.channels).ok();
        }
        let resampled_late = self.resampler.as_ref().map_or(0, Resampler::delay);
        // So that the first frame out is for the time of the first one in: the encoder's delay in whole frames, which are
        // not sent, and in what is left of it, for which as much is left out of the sound (6.5 ms of Opus, nothing of AAC).
        self.priming = self.encoder.delay() / self.encoder.frame_samples();
        self.queue.restart(resampled_late + self.encoder.delay() % self.encoder.frame_samples());
    }

    /// Puts silence where samples, at the track's own rate, were lost.
    fn fill(&mut self, samples: usize) {
        self.counters.filled += 1;
        let silence = samples * usize::from(self.channels);
        // Before the frame that was just decoded.
        self.decoded.splice(0..0, std::iter::repeat_n(0.0, silence));
    }

    fn encode(&mut self, out: &mut Vec<Frame>) {
        let Self { queue, encoder, clock, priming, counters, track, .. } = self;
        let samples = encoder.frame_samples();
        queue.frames(samples, |pcm| {
            let data = encoder.encode(pcm);
            if *priming > 0 {
                *priming -= 1;
                return;
            }
            let dts = Timestamp(clock.hand_out(samples));
            match data {
                Some(data) => out.push(Frame { track: *track, dts, cts: 0, keyframe: true, data }),
                None => counters.failed += 1,
            }
        });
    }
}

impl Encoder {
    fn frame_samples(&self) -> usize {
        match self {
            Self::Opus(_) => opus::Encoder::FRAME_SAMPLES,
            Self::Aac(_) => aac::Encoder::FRAME_SAMPLES,
        }
    }

    fn delay(&self) -> usize {
        match self {
            Self::Opus(encoder) => encoder.delay(),
            Self::Aac(encoder) => encoder.delay(),
        }
    }

    fn encode(&mut self, samples: &[f32]) -> Option<Bytes> {
        match self {
            Self::Opus(encoder) => encoder.encode(samples),
            Self::Aac(encoder) => encoder.encode(samples),
        }
    }
}

/// The clock of what comes out.
const fn clock_48k() -> Timescale {
    match Timescale::new(RATE) {
        Some(scale) => scale,
        None => Timescale::MILLIS,
    }
}
