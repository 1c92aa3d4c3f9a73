//! The sequence header (AV1 §5.5).

use super::super::bits::Bits;
use super::super::{Error, frame_rate, picture_side};
use crate::frame::VideoParams;

const WHAT: &str = "AV1 sequence header";

/// What a sequence header says about the pictures.
#[derive(Debug)]
pub(in crate::codec) struct SequenceHeader {
    pub(super) reduced_still_picture: bool,
    profile: u8,
    level_idx: u8,
    high_tier: bool,
    width: u32,
    height: u32,
    frame_rate: Option<(u32, u32)>,
    color: Color,
}

/// `color_config()` (§5.5.2).
#[derive(Debug, Default)]
struct Color {
    high_bitdepth: bool,
    twelve_bit: bool,
    monochrome: bool,
    subsampling_x: bool,
    subsampling_y: bool,
    sample_position: u8,
    /// Primaries, transfer characteristics and matrix coefficients, where described.
    description: Option<[u8; 3]>,
    full_range: bool,
}

/// What the operating points and the timing say (§5.5.1).
#[derive(Default)]
struct Operation {
    level_idx: u8,
    high_tier: bool,
    frame_rate: Option<(u32, u32)>,
}

impl SequenceHeader {
    /// Of an OBU's payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut bits = Bits::new(WHAT, payload);
        let profile = narrow(&mut bits, 3)?;
        if profile > 2 {
            return Err(Error::Invalid { field: "seq_profile", value: profile.into() });
        }
        bits.skip(1)?; // still_picture
        let reduced_still_picture = bits.flag()?;
        let operation = if reduced_still_picture {
            Operation { level_idx: narrow(&mut bits, 5)?, ..Operation::default() }
        } else {
            Operation::parse(&mut bits)?
        };
        let width_bits = narrow(&mut bits, 4)? + 1;
        let height_bits = narrow(&mut bits, 4)? + 1;
        let width = bits.bits(width_bits)? + 1;
        let height = bits.bits(height_bits)? + 1;
        let width = picture_side("max_frame_width_minus_1", width, 0)?;
        let height = picture_side("max_frame_height_minus_1", height, 0)?;
        skip_tools(&mut bits, reduced_still_picture)?;
        let color = Color::parse(&mut bits, profile)?;
        bits.skip(1)?; // film_grain_params_present
        let Operation { level_idx, high_tier, frame_rate } = operation;
        Ok(Self { reduced_still_picture, profile, level_idx, high_tier, width, height, frame_rate, color })
    }

    /// The four bytes before the OBUs of an `AV1CodecConfigurationRecord`.
    pub(super) fn record_head(&self) -> [u8; 4] {
        let Color { high_bitdepth, twelve_bit, monochrome, subsampling_x, subsampling_y, .. } = self.color;
        let flags = [self.high_tier, high_bitdepth, twelve_bit, monochrome, subsampling_x, subsampling_y];
        let flags = flags.into_iter().fold(0, |byte, flag| byte << 1 | u8::from(flag));
        [0x81, self.profile << 5 | self.level_idx, flags << 2 | self.color.sample_position, 0]
    }

    /// The picture, and its `codecs` string: `av01.P.LLT.DD`, and the rest where it is not the
    /// usual 4:2:0 in BT.709 or of no said colour (AV1 in ISOBMFF §5).
    pub(in crate::codec) fn describe(&self) -> (VideoParams, String) {
        let color = &self.color;
        let depth = match (color.high_bitdepth, color.twelve_bit) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };
        let tier = if self.high_tier { 'H' } else { 'M' };
        let mut rfc6381 = format!("av01.{}.{:02}{tier}.{depth:02}", self.profile, self.level_idx);
        let usual = !color.monochrome
            && color.subsampling_x
            && color.subsampling_y
            && !color.full_range
            && matches!(color.description, None | Some([1, 1, 1] | [2, 2, 2]));
        if !usual {
            const UNSPECIFIED: [u8; 3] = [2, 2, 2];
            let [primaries, transfer, matrix] = color.description.unwrap_or(UNSPECIFIED);
            let [mono, x, y, full] =
                [color.monochrome, color.subsampling_x, color.subsampling_y, color.full_range].map(u8::from);
            let position = color.sample_position;
            rfc6381.push_str(&format!(
                ".{mono}.{x}{y}{position}.{primaries:02}.{transfer:02}.{matrix:02}.{full}"
            ));
        }
        (VideoParams { width: self.width, height: self.height, frame_rate: self.frame_rate }, rfc6381)
    }
}

/// Up to 8 bits.
fn narrow(bits: &mut Bits<'_>, count: u8) -> Result<u8, Error> {
    let value = bits.bits(count)?;
    u8::try_from(value).map_err(|_| Error::Invalid { field: WHAT, value: value.into() })
}

impl Operation {
    /// From `timing_info_present_flag` to the end of the operating points; the first point counts.
    fn parse(bits: &mut Bits<'_>) -> Result<Self, Error> {
        let mut operation = Self::default();
        let mut delay_bits = None;
        if bits.flag()? {
            let units_in_tick = u64::from(bits.bits(32)?);
            let time_scale = u64::from(bits.bits(32)?);
            if bits.flag()? {
                let ticks = u64::from(bits.ue("num_ticks_per_picture_minus_1", u32::MAX)?) + 1;
                operation.frame_rate = frame_rate(time_scale, units_in_tick.saturating_mul(ticks));
            }
            if bits.flag()? {
                delay_bits = Some(narrow(bits, 5)? + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        let initial_display_delay = bits.flag()?;
        for point in 0..=bits.bits(5)? {
            bits.skip(12)?; // operating_point_idc
            let level_idx = narrow(bits, 5)?;
            let high_tier = level_idx > 7 && bits.flag()?;
            if point == 0 {
                (operation.level_idx, operation.high_tier) = (level_idx, high_tier);
            }
            if let Some(delay_bits) = delay_bits
                && bits.flag()?
            {
                bits.skip(2 * u32::from(delay_bits) + 1)?;
            }
            if initial_display_delay && bits.flag()? {
                bits.skip(4)?;
            }
        }
        Ok(operation)
    }
}

/// From `frame_id_numbers_present_flag` to `enable_restoration`.
fn skip_tools(bits: &mut Bits<'_>, reduced_still_picture: bool) -> Result<(), Error> {
    if !reduced_still_picture && bits.flag()? {
        bits.skip(4 + 3)?;
    }
    bits.skip(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if !reduced_still_picture {
        bits.skip(4)?; // interintra, masked compound, warped motion, dual filter
        let order_hint = bits.flag()?;
        if order_hint {
            bits.skip(2)?; // enable_jnt_comp, enable_ref_frame_mvs
        }
        let screen_content = bits.flag()? || bits.flag()?;
        if screen_content && !bits.flag()? {
            bits.skip(1)?; // seq_force_integer_mv
        }
        if order_hint {
            bits.skip(3)?; // order_hint_bits_minus_1
        }
    }
    bits.skip(3) // enable_superres, enable_cdef, enable_restoration
}

impl Color {
    fn parse(bits: &mut Bits<'_>, profile: u8) -> Result<Self, Error> {
        const SRGB: [u8; 3] = [1, 13, 0];
        let mut color = Self { high_bitdepth: bits.flag()?, ..Self::default() };
        color.twelve_bit = profile == 2 && color.high_bitdepth && bits.flag()?;
        color.monochrome = profile != 1 && bits.flag()?;
        if bits.flag()? {
            color.description = Some([bits.byte()?, bits.byte()?, bits.byte()?]);
        }
        if color.monochrome {
            color.full_range = bits.flag()?;
            (color.subsampling_x, color.subsampling_y) = (true, true);
            return Ok(color);
        }
        if color.description == Some(SRGB) {
            color.full_range = true;
        } else {
            color.full_range = bits.flag()?;
            (color.subsampling_x, color.subsampling_y) = match profile {
                0 => (true, true),
                1 => (false, false),
                _ if color.twelve_bit => {
                    let x = bits.flag()?;
                    (x, x && bits.flag()?)
                }
                _ => (true, false),
            };
            if color.subsampling_x && color.subsampling_y {
                color.sample_position = narrow(bits, 2)?;
            }
        }
        bits.skip(1)?; // separate_uv_delta_q
        Ok(color)
    }
}
