//! ADTS: AAC with a header before each frame (ISO/IEC 14496-3 §1.A.2.2), as MPEG-TS carries it.

use super::super::Error;
use super::{AudioSpecificConfig, LONG_TERM_PREDICTION, SAMPLE_RATES};

/// Bytes of a header without a checksum.
pub const HEADER_BYTES: usize = 7;

/// The largest frame, header and all: its length has 13 bits.
pub const MAX_FRAME_BYTES: usize = (1 << 13) - 1;

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Header, checksum and data.
    pub frame_bytes: usize,
    /// Header and checksum.
    pub header_bytes: usize,
    /// Raw data blocks in the frame: 1, but for a few encoders.
    pub blocks: u8,
    object_type: u8,
    rate_index: u8,
    channel_configuration: u8,
}

impl Header {
    /// Of the first bytes of a frame.
    pub fn parse(header: [u8; HEADER_BYTES]) -> Result<Self, Error> {
        const CHECKSUM_BYTES: usize = 2;
        let [sync, b1, b2, b3, b4, b5, b6] = header;
        // Layer is always 0.
        if sync != 0xff || b1 & 0xf6 != 0xf0 {
            return Err(Error::Invalid {
                field: "ADTS sync word",
                value: u16::from_be_bytes([sync, b1]).into(),
            });
        }
        let rate_index = b2 >> 2 & 0x0f;
        if usize::from(rate_index) >= SAMPLE_RATES.len() {
            return Err(Error::Invalid { field: "ADTS sampling_frequency_index", value: rate_index.into() });
        }
        let header_bytes = if b1 & 1 == 1 { HEADER_BYTES } else { HEADER_BYTES + CHECKSUM_BYTES };
        let frame_bytes = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        if frame_bytes <= header_bytes {
            return Err(Error::Invalid { field: "ADTS frame_length", value: frame_bytes as u64 });
        }
        Ok(Self {
            frame_bytes,
            header_bytes,
            blocks: (b6 & 3) + 1,
            object_type: (b2 >> 6) + 1,
            rate_index,
            channel_configuration: (b2 & 1) << 2 | b3 >> 6,
        })
    }

    /// The `AudioSpecificConfig` that says the same.
    pub fn config(&self) -> Result<[u8; 2], Error> {
        if self.channel_configuration == 0 {
            return Err(Error::Unsupported("ADTS with a program_config_element"));
        }
        let (rate, channels) = (self.rate_index, self.channel_configuration);
        Ok([self.object_type << 3 | rate >> 1, rate << 7 | channels << 3])
    }
}

/// Makes the headers of a track's frames.
#[derive(Debug, Clone, Copy)]
pub struct HeaderWriter {
    object_type: u8,
    rate_index: u8,
    channel_configuration: u8,
}

impl HeaderWriter {
    /// For frames of this `AudioSpecificConfig`. ADTS has no word for SBR and PS, which decoders find in the frames, nor
    /// for sampling rates and channel layouts without a number.
    pub fn new(config: &[u8]) -> Result<Self, Error> {
        let config = AudioSpecificConfig::parse(config)?;
        let rate_index = SAMPLE_RATES.iter().position(|&rate| rate == config.core_rate);
        let rate_index = rate_index.and_then(|index| u8::try_from(index).ok());
        let rate_index = rate_index.ok_or(Error::Unsupported("this sampling rate in ADTS"))?;
        if !(1..=7).contains(&config.channel_configuration) {
            return Err(Error::Unsupported("this channel layout in ADTS"));
        }
        debug_assert!((1..=LONG_TERM_PREDICTION).contains(&config.core_object_type));
        Ok(Self {
            object_type: u8::try_from(config.core_object_type).unwrap_or(2),
            rate_index,
            channel_configuration: u8::try_from(config.channel_configuration).unwrap_or(2),
        })
    }

    /// Before a frame of so many bytes; `None` if it is too large for ADTS.
    pub fn header(&self, data_bytes: usize) -> Option<[u8; HEADER_BYTES]> {
        let frame_bytes = data_bytes.checked_add(HEADER_BYTES).filter(|&bytes| bytes <= MAX_FRAME_BYTES)?;
        // 13 bits, so that the upper three are free.
        let [high, low] = u16::try_from(frame_bytes).ok()?.to_be_bytes();
        let (rate, channels) = (self.rate_index, self.channel_configuration);
        Some([
            0xff,
            0xf1, // MPEG-4, layer 0, no checksum
            (self.object_type - 1) << 6 | rate << 2 | channels >> 2,
            channels << 6 | high >> 3,
            high << 5 | low >> 3,
            low << 5 | 0x1f, // the buffer's fullness is not told: 0x7ff
            0xfc,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::aac::low_complexity_config;
    use crate::codec::testing::{binary, hex};

    #[test]
    fn reads_what_ffmpeg_writes() {
        // 48 kHz stereo.
        let header = Header::parse([0xff, 0xf1, 0x4c, 0x80, 0x2e, 0x7f, 0xfc]).unwrap();
        assert_eq!((header.frame_bytes, header.header_bytes, header.blocks), (371, 7, 1));
        assert_eq!(header.config().unwrap(), [0x11, 0x90]);
    }

    #[test]
    fn writes_what_it_reads() {
        for (rate, channels) in [(48_000, 2), (44_100, 1), (7_350, 6), (96_000, 8)] {
            let config = low_complexity_config(rate, channels).unwrap();
            let writer = HeaderWriter::new(&config).unwrap();
            for bytes in [1, 255, 256, 2_048, MAX_FRAME_BYTES - HEADER_BYTES] {
                let header = Header::parse(writer.header(bytes).unwrap()).unwrap();
                assert_eq!((header.frame_bytes, header.header_bytes), (bytes + 7, 7));
                assert_eq!(header.config().unwrap(), config.as_ref());
            }
            assert_eq!(writer.header(MAX_FRAME_BYTES - HEADER_BYTES + 1), None);
        }
        // HE-AAC: the core is told.
        let writer = HeaderWriter::new(&binary("00101 0110 0010 0011 00010 000")).unwrap();
        let header = Header::parse(writer.header(9).unwrap()).unwrap();
        assert_eq!(header.config().unwrap(), low_complexity_config(24_000, 2).unwrap().as_ref());
    }

    #[test]
    fn refuses_what_it_cannot_tell() {
        assert!(HeaderWriter::new(&low_complexity_config(37_800, 2).unwrap()).is_err());
        assert!(HeaderWriter::new(&hex("118004c4040021100c4c61766336332e312e31303256e500")).is_err());
        for header in [
            [0xff, 0xe1, 0x4c, 0x80, 0x2e, 0x7f, 0xfc],
            [0xff, 0xf3, 0x4c, 0x80, 0x2e, 0x7f, 0xfc],
            [0xff, 0xf1, 0x7c, 0x80, 0x2e, 0x7f, 0xfc],
            [0xff, 0xf1, 0x4c, 0x80, 0x00, 0xff, 0xfc],
            [0xff, 0xf0, 0x4c, 0x80, 0x01, 0x3f, 0xfc],
        ] {
            assert!(Header::parse(header).is_err(), "{header:?}");
        }
        let element = Header::parse([0xff, 0xf1, 0x4c, 0x00, 0x2e, 0x7f, 0xfc]).unwrap();
        assert!(element.config().is_err());
    }
}
