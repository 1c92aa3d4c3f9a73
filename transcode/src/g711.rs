//! G.711 to samples: what telephones and cameras speak (ITU-T G.711, RFC 3551 §4.5.14).

use crate::transcoder::{Decoded, FrameInfo};
use crate::{Error, MAX_CHANNELS, known_rate};

/// How G.711 presses 13 or 14 bits into 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// `PCMA`.
    A,
    /// `PCMU`.
    Mu,
}

/// G.711 sound as it comes: it has no configuration of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct G711 {
    /// Its law.
    pub law: Law,
    /// In Hz; 8000 but for odd cameras.
    pub sample_rate: u32,
    /// Interleaved channels, 1 or 2.
    pub channels: u8,
}

/// The longest frame that is decoded: 300 ms at 8 kHz. A packet has 20 ms, and at most as much as a datagram has room for.
const MAX_SAMPLES: usize = 2_400;

#[derive(Debug)]
pub(crate) struct Decoder {
    sound: G711,
    table: Box<[f32; 256]>,
}

impl Decoder {
    /// Of sound with a rate and channels that are known.
    pub(crate) fn new(sound: G711) -> Result<Self, Error> {
        known_rate(sound.sample_rate).ok_or(Error::SampleRate(sound.sample_rate))?;
        if !(1..=MAX_CHANNELS).contains(&sound.channels) {
            return Err(Error::Channels(sound.channels));
        }
        let mut table = Box::new([0.0; 256]);
        for (code, sample) in (0..=u8::MAX).zip(table.iter_mut()) {
            *sample = f32::from(sound.law.decode(code)) / 32_768.0;
        }
        Ok(Self { sound, table })
    }

    /// Appends a packet's samples. One that is empty, too long, or ends in the middle of a sample is taken for damaged, as
    /// far as it is.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<f32>) -> Decoded {
        let channels = usize::from(self.sound.channels);
        let samples = (data.len() / channels).min(MAX_SAMPLES);
        let whole = data.get(..samples * channels).unwrap_or_default();
        out.extend(whole.iter().filter_map(|&code| self.table.get(usize::from(code))));
        let info = FrameInfo { samples, sample_rate: self.sound.sample_rate };
        Decoded { info, damaged: samples == 0 || whole.len() != data.len() }
    }
}

impl Law {
    /// A sample of 16 bits.
    fn decode(self, code: u8) -> i16 {
        match self {
            // Table 1a: even bits are inverted; three bits of exponent, four of mantissa.
            Self::A => {
                let code = code ^ 0x55;
                let mantissa = i16::from(code & 0x0f) << 4;
                let sample = match (code >> 4) & 0x07 {
                    0 => mantissa + 8,
                    exponent => (mantissa + 0x108) << (exponent - 1),
                };
                if code & 0x80 == 0 { -sample } else { sample }
            }
            // Table 2a: all bits are inverted, and samples have a bias of 33 (of 14 bits).
            Self::Mu => {
                let code = !code;
                let sample = (((i16::from(code & 0x0f) << 3) + 0x84) << ((code >> 4) & 0x07)) - 0x84;
                if code & 0x80 == 0 { sample } else { -sample }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_tables_say() {
        // The ends and the middle of G.711's tables 1a to 2b, of 16 bits.
        for (law, code, sample) in [
            (Law::A, 0xaa, 32_256),
            (Law::A, 0x2a, -32_256),
            (Law::A, 0xd5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xc5, 264),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x00, -32_124),
            (Law::Mu, 0xff, 0),
            (Law::Mu, 0x7f, 0),
            (Law::Mu, 0xfe, 8),
            (Law::Mu, 0xef, 132),
        ] {
            assert_eq!(law.decode(code), sample, "{law:?} {code:#04x}");
        }
    }

    #[test]
    fn odd_packets_are_taken_as_far_as_they_go() {
        let sound = G711 { law: Law::A, sample_rate: 8_000, channels: 2 };
        let mut decoder = Decoder::new(sound).unwrap();
        let mut out = Vec::new();
        let decoded = decoder.decode(&[0xd5; 321], &mut out);
        assert_eq!((decoded.info.samples, decoded.damaged, out.len()), (160, true, 320));
        assert!(decoder.decode(&[], &mut out).damaged);
        out.clear();
        assert_eq!(decoder.decode(&[0; 100_000], &mut out).info.samples, MAX_SAMPLES);
        assert_eq!(out.len(), 2 * MAX_SAMPLES);
        assert_eq!(Decoder::new(G711 { sample_rate: 7, ..sound }).unwrap_err(), Error::SampleRate(7));
        assert_eq!(Decoder::new(G711 { channels: 3, ..sound }).unwrap_err(), Error::Channels(3));
    }
}
