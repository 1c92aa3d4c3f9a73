//! Why a track cannot be transcoded.

use media_core::codec;

/// Why there is no transcoder for a track. Damaged frames are no errors: they are counted and replaced by silence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Only AAC and Opus are made: of each other, and of G.711.
    #[error(
        "{from} cannot be transcoded into {into}: only AAC into Opus, Opus into AAC, and G.711 into either can"
    )]
    Codecs {
        /// Of the track.
        from: &'static str,
        /// Asked for.
        into: &'static str,
    },
    /// A sampling rate that AAC has no index for (ISO/IEC 14496-3 table 1.18).
    #[error("sound of {0} Hz cannot be transcoded: publish 8 to 96 kHz, best 48 kHz")]
    SampleRate(u32),
    /// No channels, or more than 8.
    #[error("sound of {0} channels cannot be transcoded: publish 1 to 8")]
    Channels(u8),
    /// The library refuses the track's decoder configuration.
    #[error("the {codec} decoder refuses the track's configuration: {reason}")]
    Decoder {
        /// Of the track.
        codec: &'static str,
        /// What the library says.
        reason: String,
    },
    /// The library refuses what is asked of its encoder.
    #[error("the {codec} encoder refuses {what}: {reason}")]
    Encoder {
        /// Of the sound that is wanted.
        codec: &'static str,
        /// The parameter.
        what: &'static str,
        /// What the library says.
        reason: String,
    },
    /// The resampler refuses the rate.
    #[error("sound of {rate} Hz cannot be resampled: {reason}")]
    Resampler {
        /// In Hz.
        rate: u32,
        /// What the library says.
        reason: String,
    },
    /// The track's configuration, or the one that was made, is not understood.
    #[error(transparent)]
    Configuration(#[from] codec::Error),
}
