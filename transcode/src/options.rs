//! How well the sound is coded.

/// How well the sound is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bits per second of mono.
    pub mono_bit_rate: u32,
    /// Bits per second of stereo.
    pub stereo_bit_rate: u32,
    /// How hard libopus tries, 0 to 10. Nothing to AAC.
    pub opus_complexity: u8,
}

impl Options {
    /// Bits per second for that many channels.
    pub(crate) fn bit_rate(&self, channels: u8) -> u32 {
        if channels == 1 { self.mono_bit_rate } else { self.stereo_bit_rate }
    }
}

impl Default for Options {
    /// Sound that few can tell from the original. The complexity is the highest at which a stream reliably stays below 1 %
    /// of a core (`cargo bench -p transcode`).
    fn default() -> Self {
        Self { mono_bit_rate: 64_000, stereo_bit_rate: 128_000, opus_complexity: 3 }
    }
}
