//! From another sampling rate to 48 kHz.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use crate::{Error, RATE};

/// A resampler of interleaved samples.
#[derive(Debug)]
pub(crate) struct Resampler {
    library: Fft<f32>,
    rate: u32,
    channels: usize,
    /// Less than a block of samples, which waits for the rest of it.
    waiting: Vec<f32>,
    block_out: Vec<f32>,
}

impl Resampler {
    /// From `rate`, in Hz.
    pub(crate) fn new(rate: u32, channels: u8) -> Result<Self, Error> {
        /// Samples that are resampled at a time: few, because half of them are its delay; below, what is near the highest
        /// frequency suffers. Those of a rate above 48 kHz are as long.
        const BLOCK: usize = 256;
        let refused = |reason: rubato::ResamplerConstructionError| Error::Resampler {
            rate,
            reason: reason.to_string(),
        };
        let size = |rate: u32| usize::try_from(rate).unwrap_or_default();
        let channels = usize::from(channels);
        let block = if rate > RATE { 2 * BLOCK } else { BLOCK };
        let library = Fft::new(size(rate), size(RATE), block, channels, FixedSync::Both).map_err(refused)?;
        Ok(Self {
            rate,
            channels,
            waiting: Vec::with_capacity(library.input_frames_next() * channels),
            block_out: vec![0.0; library.output_frames_max() * channels],
            library,
        })
    }

    /// The rate it is for, in Hz.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples at 48 kHz by which what comes out is late.
    pub(crate) fn delay(&self) -> usize {
        self.library.output_delay()
    }

    /// Forgets what it was given.
    pub(crate) fn reset(&mut self) {
        self.library.reset();
        self.waiting.clear();
    }

    /// Takes samples, and appends those that are ready.
    pub(crate) fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        let block = self.library.input_frames_next();
        loop {
            let missing = (block * self.channels).saturating_sub(self.waiting.len());
            let Some((now, later)) = samples.split_at_checked(missing) else {
                self.waiting.extend_from_slice(samples);
                return;
            };
            self.waiting.extend_from_slice(now);
            samples = later;
            if let Some(written) = self.process(block) {
                let written = self.block_out.get(..written * self.channels).unwrap_or_default();
                out.extend_from_slice(written);
            }
            self.waiting.clear();
        }
    }

    /// `None` is for buffers of wrong sizes, which these are not.
    fn process(&mut self, block: usize) -> Option<usize> {
        let room = self.block_out.len() / self.channels;
        let input = InterleavedSlice::new(&self.waiting, self.channels, block).ok()?;
        let mut output = InterleavedSlice::new_mut(&mut self.block_out, self.channels, room).ok()?;
        let (_, written) = self.library.process_into_buffer(&input, &mut output, None).ok()?;
        Some(written)
    }
}
