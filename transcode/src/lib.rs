//! Sound from AAC into Opus and from Opus into AAC, for players that know only the other, and from G.711 into either.
//!
//! A [`Transcoder`] belongs to one track and is sans-IO: coded frames in, coded frames out, no clock and no socket. It
//! decodes (libfdk-aac, libopus), resamples to 48 kHz, mixes more than two channels down to stereo, and codes again. What it
//! puts out is as many samples as the track's timestamps say, so that sound stays with its pictures however long a stream
//! runs: see `clock`. Other parameters of the track (a new [`media_core::frame::Track`]) take a new transcoder, which [`Sound`] sees
//! to for a whole stream.

#![deny(unsafe_code)]

mod aac;
mod clock;
mod downmix;
mod error;
mod fdk;
mod g711;
mod options;
mod opus;
mod pcm;
mod resampler;
mod sound;
mod transcoder;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use g711::{G711, Law};
pub use options::Options;
pub use sound::Sound;
pub use transcoder::{Counters, Transcoder};

/// All sound between decoder and encoder has this sampling rate, in Hz: the only one at which Opus codes all of what can be
/// heard (RFC 6716 §2.1.3), and one that every AAC player knows.
pub(crate) const RATE: u32 = 48_000;

/// The most channels of what is coded: viewers have two ears.
pub(crate) const MAX_CHANNELS: u8 = 2;

/// `samplingFrequencyIndex` 0 to 11 (ISO/IEC 14496-3 table 1.18): what the resampler has small ratios for.
const SAMPLE_RATES: [u32; 12] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000];

pub(crate) fn known_rate(rate: u32) -> Option<u32> {
    SAMPLE_RATES.contains(&rate).then_some(rate)
}
