//! `profile_tier_level()` (ITU-T H.265 §7.3.3).

use super::super::Error;
use super::super::bits::Bits;

/// The general profile, tier and level.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProfileTierLevel {
    space: u8,
    high_tier: bool,
    profile_idc: u8,
    compatibility: u32,
    constraints: [u8; 6],
    level_idc: u8,
}

impl ProfileTierLevel {
    /// With `profilePresentFlag` set; sub-layers are passed over.
    pub(super) fn parse(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<Self, Error> {
        let first = bits.byte()?;
        let compatibility = bits.bits(32)?;
        let mut constraints = [0; 6];
        for byte in &mut constraints {
            *byte = bits.byte()?;
        }
        let level_idc = bits.byte()?;
        skip_sub_layers(bits, max_sub_layers_minus1)?;
        Ok(Self {
            space: first >> 6,
            high_tier: first & 0x20 != 0,
            profile_idc: first & 0x1f,
            compatibility,
            constraints,
            level_idc,
        })
    }

    /// The twelve bytes as they stand in a decoder configuration record.
    pub(super) fn bytes(&self) -> [u8; 12] {
        let first = self.space << 6 | u8::from(self.high_tier) << 5 | self.profile_idc;
        let [c0, c1, c2, c3] = self.compatibility.to_be_bytes();
        let [k0, k1, k2, k3, k4, k5] = self.constraints;
        [first, c0, c1, c2, c3, k0, k1, k2, k3, k4, k5, self.level_idc]
    }

    /// The `codecs` string: `hvc1.2.4.L120.90` (ISO/IEC 14496-15 Annex E.3).
    pub(super) fn rfc6381(&self) -> String {
        let space = match self.space {
            1 => "A",
            2 => "B",
            3 => "C",
            _ => "",
        };
        let tier = if self.high_tier { 'H' } else { 'L' };
        let compatibility = self.compatibility.reverse_bits();
        let mut text = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", self.profile_idc, self.level_idc);
        let used = self.constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for byte in self.constraints.iter().take(used) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }
}

fn skip_sub_layers(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<(), Error> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    if max_sub_layers_minus1 == 0 {
        return Ok(());
    }
    let mut present = 0;
    for _ in 0..max_sub_layers_minus1 {
        present += if bits.flag()? { PROFILE_BITS } else { 0 };
        present += if bits.flag()? { LEVEL_BITS } else { 0 };
    }
    bits.skip(2 * u32::from(8u8.saturating_sub(max_sub_layers_minus1)))?;
    bits.skip(present)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_part_that_is_not_the_default() {
        let main = [0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93];
        let parsed = ProfileTierLevel::parse(&mut Bits::new("test", &main), 0).unwrap();
        assert_eq!(parsed.rfc6381(), "hvc1.1.6.L93.B0");
        assert_eq!(parsed.bytes(), main);

        let odd = [0x64, 0x08, 0, 0, 0, 0x9d, 0x08, 0, 0x10, 0, 0, 180];
        let parsed = ProfileTierLevel::parse(&mut Bits::new("test", &odd), 0).unwrap();
        assert_eq!(parsed.rfc6381(), "hvc1.A4.10.H180.9D.8.0.10");
    }

    #[test]
    fn passes_over_sub_layers() {
        // Two sub-layers below the highest: the first with profile and level, the second with a level.
        let mut data = vec![0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, 0b1101_0000, 0];
        data.extend([0; 11 + 1 + 1]);
        data.push(0xff);
        let mut bits = Bits::new("test", &data);
        ProfileTierLevel::parse(&mut bits, 2).unwrap();
        assert_eq!(bits.byte(), Ok(0xff));
    }
}
