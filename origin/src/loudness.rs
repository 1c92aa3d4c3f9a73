//! How loud a publisher is, of the levels that come with its packets (RFC 6464): smoothed, so that it follows words and not
//! syllables.

/// Part of the way to a packet's level that the smoothed one goes, as a power of two: with 20 ms a packet most of it within
/// 80 ms where it gets louder, and within 300 ms where it gets quieter.
const UP: u32 = 2;
const DOWN: u32 = 4;
/// Fractions that are kept of a level.
const FRACTION: u32 = 8;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loudness(i32);

impl Default for Loudness {
    /// Silence.
    fn default() -> Self {
        Self(127 << FRACTION)
    }
}

impl Loudness {
    /// Takes a packet's level in dB below the loudest, 0 to 127. The smoothed one.
    pub(crate) fn push(&mut self, level: u8) -> u8 {
        let to = i32::from(level.min(127)) << FRACTION;
        let by = to - self.0;
        self.0 += if by < 0 { by >> UP } else { by >> DOWN };
        u8::try_from(self.0 >> FRACTION).unwrap_or(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_within_a_word_and_falls_within_a_few() {
        let mut loudness = Loudness::default();
        let rises = (0..50).position(|_| loudness.push(20) < 40).unwrap();
        assert!((2..10).contains(&rises), "{rises} packets");
        let falls = (0..200).position(|_| loudness.push(127) > 60).unwrap();
        assert!((3..20).contains(&falls), "{falls} packets");
        for _ in 0..1_000 {
            loudness.push(0);
        }
        assert_eq!(loudness.push(0), 0);
        assert!(loudness.push(255) <= 127);
    }
}
