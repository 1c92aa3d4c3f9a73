//! Bits, most significant first, and the Exp-Golomb codes of H.264 and HEVC.

use super::Error;

/// Reads bits from a structure, or from a NAL unit whose emulation prevention bytes it drops on
/// the way (ISO/IEC 14496-10 §7.4.1), so that no clean copy is needed.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    what: &'static str,
    rest: &'a [u8],
    byte: u8,
    left: u8,
    taken: usize,
    zeros: Option<u8>,
}

impl<'a> Bits<'a> {
    /// Of plain bytes. `what` names the structure in errors.
    pub(super) fn new(what: &'static str, data: &'a [u8]) -> Self {
        Self { what, rest: data, byte: 0, left: 0, taken: 0, zeros: None }
    }

    /// Of a NAL unit's payload: `00 00 03` reads as `00 00`.
    pub(super) fn of_nal(what: &'static str, data: &'a [u8]) -> Self {
        Self { zeros: Some(0), ..Self::new(what, data) }
    }

    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn refill(&mut self) -> Result<(), Error> {
        let mut byte = self.take();
        if let Some(zeros) = self.zeros {
            if zeros >= 2 && byte == Some(3) {
                byte = self.take();
                self.zeros = Some(u8::from(byte == Some(0)));
            } else {
                self.zeros = Some(if byte == Some(0) { zeros.saturating_add(1) } else { 0 });
            }
        }
        self.byte = byte.ok_or(Error::Truncated(self.what))?;
        self.left = 8;
        Ok(())
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        if self.left == 0 {
            self.refill()?;
        }
        self.left -= 1;
        self.taken += 1;
        Ok(self.byte >> self.left & 1 == 1)
    }

    /// `count` bits, at most 32, as a number.
    pub(super) fn bits(&mut self, count: u8) -> Result<u32, Error> {
        debug_assert!(count <= 32);
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }

    /// Eight bits.
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let mut value = 0;
        for _ in 0..8 {
            value = value << 1 | u8::from(self.flag()?);
        }
        Ok(value)
    }

    /// Passes over `count` bits.
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Error> {
        for _ in 0..count {
            self.flag()?;
        }
        Ok(())
    }

    /// Passes over what is left of the current byte.
    pub(super) fn align(&mut self) {
        self.taken += usize::from(self.left);
        self.left = 0;
    }

    /// How many bits were taken.
    pub(super) fn position(&self) -> usize {
        self.taken
    }

    /// Whether `count` more bits can be read. For plain bytes only.
    pub(super) fn has(&self, count: usize) -> bool {
        self.rest.len().saturating_mul(8).saturating_add(usize::from(self.left)) >= count
    }

    /// `ue(v)`: an unsigned Exp-Golomb code of up to 32 bits, at most `max`.
    pub(super) fn ue(&mut self, field: &'static str, max: u32) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Error::Invalid { field, value: u64::from(u32::MAX) });
            }
        }
        let value = (1u64 << zeros) - 1 + u64::from(self.bits(zeros)?);
        match u32::try_from(value) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(Error::Invalid { field, value }),
        }
    }

    /// Passes over an Exp-Golomb code of any value, signed or not.
    pub(super) fn skip_golomb(&mut self, field: &'static str) -> Result<(), Error> {
        self.ue(field, u32::MAX).map(drop)
    }

    /// `se(v)`: a signed Exp-Golomb code.
    pub(super) fn se(&mut self, field: &'static str) -> Result<i64, Error> {
        let code = i64::from(self.ue(field, u32::MAX)?);
        Ok(if code & 1 == 1 { (code + 1) / 2 } else { -code / 2 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::testing::escape;

    proptest! {
        #[test]
        fn an_escaped_payload_reads_as_itself(
            payload in prop::collection::vec(prop::sample::select(vec![0u8, 0, 0, 1, 3, 4, 255]), 0..60),
        ) {
            let escaped = escape(&payload);
            let mut bits = Bits::of_nal("test", &escaped);
            for &byte in &payload {
                prop_assert_eq!(bits.byte(), Ok(byte));
            }
            prop_assert!(bits.flag().is_err());
        }
    }

    #[test]
    fn reads_exp_golomb_codes() {
        // 1 | 010 | 011 | 00100 | 00101 → 0 1 2 3 4
        let mut bits = Bits::new("test", &[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        for expected in 0..5 {
            assert_eq!(bits.ue("n", 10).unwrap(), expected);
        }
        let mut bits = Bits::new("test", &[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let signed: Vec<i64> = (0..5).map(|_| bits.se("n").unwrap()).collect();
        assert_eq!(signed, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn refuses_codes_above_their_maximum_and_endless_ones() {
        let mut bits = Bits::new("test", &[0b0010_1000]);
        assert_eq!(bits.ue("n", 3), Err(Error::Invalid { field: "n", value: 4 }));
        assert!(matches!(Bits::new("test", &[0; 9]).ue("n", u32::MAX), Err(Error::Invalid { .. })));
        assert_eq!(Bits::new("test", &[0; 2]).ue("n", 9), Err(Error::Truncated("test")));
    }

    #[test]
    fn reads_the_largest_code() {
        // 31 zeros, a one, 31 ones: 2³² - 2.
        let mut bits = Bits::new("test", &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(bits.ue("n", u32::MAX).unwrap(), u32::MAX - 1);
    }

    #[test]
    fn drops_emulation_prevention_bytes() {
        let mut bits = Bits::of_nal("test", &[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3]);
        let read: Vec<u8> = (0..8).map(|_| bits.byte().unwrap()).collect();
        assert_eq!(read, [0, 0, 1, 0, 0, 0, 0, 3]);
        assert_eq!(bits.byte(), Err(Error::Truncated("test")));
        // An escape at the very end, as after trailing zeros.
        let mut bits = Bits::of_nal("test", &[0, 0, 3]);
        assert_eq!(bits.bits(16).unwrap(), 0);
        assert!(bits.flag().is_err());
    }
}
