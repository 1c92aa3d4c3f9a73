//! LOAS and LATM: AAC in `AudioSyncStream` and `AudioMuxElement` (ISO/IEC 14496-3 §1.7), as some broadcasters send it.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::Error;
use super::super::bits::Bits;
use super::AudioSpecificConfig;

const WHAT: &str = "AudioMuxElement";

/// Bytes of the sync word and the length.
pub const HEADER_BYTES: usize = 3;

/// The longest `AudioSpecificConfig` taken, in bits: with a `program_config_element` and its comment it stays below.
const MAX_CONFIG_BITS: u32 = 8 * 320;

/// Bytes of the element behind a header; `None` if it is no header (§1.7.2, `AudioSyncStream`).
pub fn element_bytes(header: [u8; HEADER_BYTES]) -> Option<usize> {
    let [a, b, c] = header;
    (a == 0x56 && b & 0xe0 == 0xe0).then_some(usize::from(b & 0x1f) << 8 | usize::from(c))
}

/// Reads elements one after the other: a configuration holds until the next one.
#[derive(Debug, Default)]
pub struct Reader {
    mux: Option<StreamMux>,
}

/// A `StreamMuxConfig` of one program with one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamMux {
    config: Bytes,
}

impl Reader {
    /// The configuration in force and the element's frame; `None` before the first configuration.
    pub fn read(&mut self, element: &[u8]) -> Result<Option<(Bytes, Bytes)>, Error> {
        let mut bits = Bits::new(WHAT, element);
        let same_as_before = bits.flag()?;
        if !same_as_before {
            self.mux = Some(StreamMux::read(&mut bits)?);
        }
        let Some(mux) = &self.mux else { return Ok(None) };
        let mut length = 0usize;
        loop {
            let byte = bits.byte()?;
            length += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
        if !bits.has(8 * length) {
            return Err(Error::Truncated(WHAT));
        }
        let mut frame = BytesMut::with_capacity(length);
        for _ in 0..length {
            frame.put_u8(bits.byte()?);
        }
        Ok(Some((mux.config.clone(), frame.freeze())))
    }
}

impl StreamMux {
    fn read(bits: &mut Bits<'_>) -> Result<Self, Error> {
        let version_1 = bits.flag()?;
        if version_1 {
            if bits.flag()? {
                return Err(Error::Unsupported("audioMuxVersionA"));
            }
            latm_value(bits)?; // taraBufferFullness
        }
        let same_time_framing = bits.flag()?;
        let (sub_frames, programs, layers) = (bits.bits(6)?, bits.bits(4)?, bits.bits(3)?);
        if !same_time_framing || sub_frames != 0 || programs != 0 || layers != 0 {
            return Err(Error::Unsupported("LATM with several programs, layers or frames an element"));
        }
        let config = if version_1 {
            let length = latm_value(bits)?;
            take_bits(bits, length)?
        } else {
            // Only its syntax tells where it ends, which is why SBR told behind it is not looked for here.
            let (before, start) = (bits.clone(), bits.position());
            AudioSpecificConfig::read(bits, false)?;
            let length = bits.position().saturating_sub(start);
            take_bits(&mut before.clone(), u32::try_from(length).unwrap_or(u32::MAX))?
        };
        if bits.bits(3)? != 0 {
            return Err(Error::Unsupported("LATM frames of a fixed length"));
        }
        bits.skip(8)?; // latmBufferFullness
        if bits.flag()? {
            // otherDataLenBits: the data lies behind the frame and is not needed.
            if version_1 {
                latm_value(bits)?;
            } else {
                while bits.bits(9)? >> 8 == 1 {}
            }
        }
        if bits.flag()? {
            bits.skip(8)?; // crcCheckSum
        }
        Ok(Self { config })
    }
}

/// `LatmGetValue()`.
fn latm_value(bits: &mut Bits<'_>) -> Result<u32, Error> {
    let more_bytes = bits.bits(2)?;
    let mut value = 0;
    for _ in 0..=more_bytes {
        value = value << 8 | bits.bits(8)?;
    }
    Ok(value)
}

/// The next `count` bits, filled up to whole bytes with zeros.
fn take_bits(bits: &mut Bits<'_>, count: u32) -> Result<Bytes, Error> {
    if count > MAX_CONFIG_BITS {
        return Err(Error::Invalid { field: "AudioSpecificConfig length in bits", value: count.into() });
    }
    let mut out = BytesMut::with_capacity(count.div_ceil(8) as usize);
    let mut left = count;
    while left > 0 {
        let now = u8::try_from(left.min(8)).unwrap_or(8);
        let byte = bits.bits(now)? << (8 - now);
        out.put_u8(u8::try_from(byte).unwrap_or_default());
        left -= u32::from(now);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::{binary, hex};

    /// LC, 48 kHz, stereo.
    const CONFIG: &str = "00010 0011 0010 000";

    fn element(head: &str, config: &str, tail: &str, frame: &[u8]) -> Vec<u8> {
        let lengths: String = std::iter::repeat_n("11111111".to_owned(), frame.len() / 255)
            .chain([format!("{:08b}", frame.len() % 255)])
            .collect();
        let frame: String = frame.iter().map(|byte| format!("{byte:08b}")).collect();
        binary(&format!("{head}{config}{tail}{lengths}{frame}"))
    }

    #[test]
    fn a_configuration_holds_until_the_next_one() {
        let mut reader = Reader::default();
        let frame: Vec<u8> = (0..=255).cycle().take(600).collect();
        let same = element("1", "", "", &[1, 2]);
        assert_eq!(reader.read(&same), Ok(None));
        let first = element("0 0 1 000000 0000 000", CONFIG, "000 11111111 0 0", &frame);
        assert_eq!(reader.read(&first), Ok(Some((hex("1190").into(), frame.into()))));
        assert_eq!(reader.read(&same), Ok(Some((hex("1190").into(), hex("0102").into()))));
    }

    #[test]
    fn reads_version_1_other_data_and_checksums() {
        let sbr = "00010 0110 0010 000 01010110111 00101 1 0011";
        let length = sbr.chars().filter(|c| "01".contains(*c)).count();
        let head = format!("0 10 00 00000000 1 000000 0000 000 00 {length:08b}");
        let element = element(&head, sbr, "000 11111111 1 00 00000111 1 10101010", &[9]);
        let (config, frame) = Reader::default().read(&element).unwrap().unwrap();
        assert_eq!((config, frame), (binary(sbr).into(), vec![9].into()));
        let tail = "000 11111111 1 1 00000001 0 00000001 0";
        let element = super::tests::element("0 0 1 000000 0000 000", CONFIG, tail, &[9]);
        assert_eq!(Reader::default().read(&element).unwrap().unwrap().1, hex("09"));
    }

    #[test]
    fn refuses_lies_and_truncations() {
        let whole = element("0 0 1 000000 0000 000", CONFIG, "000 11111111 0 0", &[1, 2, 3]);
        for length in 0..whole.len() {
            assert!(Reader::default().read(&whole[..length]).is_err(), "{length}");
        }
        for head in ["0 11", "0 0 0 000000 0000 000", "0 0 1 000001 0000 000", "0 0 1 000000 0001 000"] {
            let lie = element(head, CONFIG, "000 11111111 0 0", &[1]);
            assert!(matches!(Reader::default().read(&lie), Err(Error::Unsupported(_))), "{head}");
        }
        let long =
            element("0 10 00 00000000 1 000000 0000 000 10 00000001 00000000 00000000", CONFIG, "", &[1]);
        assert!(matches!(Reader::default().read(&long), Err(Error::Invalid { .. })));
        assert_eq!(element_bytes([0x56, 0xe1, 2]), Some(258));
        assert_eq!(element_bytes([0x56, 0xc1, 2]), None);
    }
}
