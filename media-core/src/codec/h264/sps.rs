//! The sequence parameter set (ISO/IEC 14496-10 §7.3.2.1.1) up to its VUI timing.

use super::super::bits::Bits;
use super::super::{Error, MAX_PICTURE_SIDE, frame_rate, picture_side};
use super::{NAL_SPS, unit_type};

const WHAT: &str = "H.264 SPS";

/// The profile without B slices (§A.2.1).
const BASELINE: u8 = 66;

/// What a sequence parameter set says about the picture.
#[derive(Debug)]
pub(super) struct Sps {
    pub(super) profile_idc: u8,
    /// The byte of `constraint_set0_flag` … between profile and level.
    pub(super) constraints: u8,
    pub(super) level_idc: u8,
    pub(super) chroma_format_idc: u8,
    pub(super) bit_depth_luma_minus8: u8,
    pub(super) bit_depth_chroma_minus8: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: Option<(u32, u32)>,
    /// Pictures that may be decoded before one that is shown earlier, where it tells (§E.2.1 `max_num_reorder_frames`).
    pub(super) reordering: Option<u8>,
}

/// Profiles whose SPS tells the chroma format.
const fn tells_chroma_format(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

impl Sps {
    /// Whether the decoder configuration record of this profile has the chroma format extension.
    pub(super) const fn has_chroma_format(&self) -> bool {
        tells_chroma_format(self.profile_idc)
    }

    /// Of a whole NAL unit with its header byte.
    pub(super) fn parse(unit: &[u8]) -> Result<Self, Error> {
        match unit_type(unit) {
            Some(NAL_SPS) => {}
            Some(other) => {
                return Err(Error::Invalid { field: "nal_unit_type of the SPS", value: other.into() });
            }
            None => return Err(Error::Truncated(WHAT)),
        }
        let mut bits = Bits::of_nal(WHAT, unit.get(1..).unwrap_or_default());
        let profile_idc = bits.byte()?;
        let constraints = bits.byte()?;
        let level_idc = bits.byte()?;
        bits.ue("seq_parameter_set_id", 31)?;
        let chroma =
            if tells_chroma_format(profile_idc) { Chroma::parse(&mut bits)? } else { Chroma::default_420() };
        bits.ue("log2_max_frame_num_minus4", 12)?;
        let in_order = picture_order_is_decoding_order(&mut bits)? || profile_idc == BASELINE;
        bits.ue("max_num_ref_frames", 16)?;
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let (width, height) = picture_size(&mut bits, &chroma)?;
        // A picture plays without its timing, and some cameras write a VUI that ends early.
        let mut frame_rate = None;
        let mut reordering = in_order.then_some(0);
        if bits.flag()?
            && let Ok(rate) = vui_frame_rate(&mut bits)
        {
            frame_rate = rate;
            reordering = reordering.or_else(|| vui_reordering(&mut bits).unwrap_or_default());
        }
        Ok(Self {
            profile_idc,
            constraints,
            level_idc,
            chroma_format_idc: chroma.format_idc,
            bit_depth_luma_minus8: chroma.bit_depth_luma_minus8,
            bit_depth_chroma_minus8: chroma.bit_depth_chroma_minus8,
            width,
            height,
            frame_rate,
            reordering,
        })
    }
}

/// What the profiles above High add before the frame numbers.
struct Chroma {
    format_idc: u8,
    separate_planes: bool,
    bit_depth_luma_minus8: u8,
    bit_depth_chroma_minus8: u8,
}

impl Chroma {
    const fn default_420() -> Self {
        Self { format_idc: 1, separate_planes: false, bit_depth_luma_minus8: 0, bit_depth_chroma_minus8: 0 }
    }

    fn parse(bits: &mut Bits<'_>) -> Result<Self, Error> {
        let format_idc = small(bits, "chroma_format_idc", 3)?;
        let separate_planes = format_idc == 3 && bits.flag()?;
        let bit_depth_luma_minus8 = small(bits, "bit_depth_luma_minus8", 6)?;
        let bit_depth_chroma_minus8 = small(bits, "bit_depth_chroma_minus8", 6)?;
        bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.flag()? {
            for list in 0..if format_idc == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Ok(Self { format_idc, separate_planes, bit_depth_luma_minus8, bit_depth_chroma_minus8 })
    }

    /// Luma samples per cropping unit, across and (for frames) down.
    const fn crop_unit(&self) -> (u64, u64) {
        match self.format_idc {
            1 if !self.separate_planes => (2, 2),
            2 if !self.separate_planes => (2, 1),
            _ => (1, 1),
        }
    }
}

/// An Exp-Golomb code that fits a byte.
fn small(bits: &mut Bits<'_>, field: &'static str, max: u8) -> Result<u8, Error> {
    let value = bits.ue(field, u32::from(max))?;
    u8::try_from(value).map_err(|_| Error::Invalid { field, value: value.into() })
}

/// §7.3.2.1.1.1: the list ends where its next scale becomes zero.
fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Result<(), Error> {
    let mut last = 8;
    for _ in 0..size {
        let next = (last + bits.se("delta_scale")?).rem_euclid(256);
        if next == 0 {
            break;
        }
        last = next;
    }
    Ok(())
}

/// Passes over how pictures are ordered; whether they are shown as they are decoded (§8.2.1.3).
fn picture_order_is_decoding_order(bits: &mut Bits<'_>) -> Result<bool, Error> {
    match bits.ue("pic_order_cnt_type", 2)? {
        0 => bits.ue("log2_max_pic_order_cnt_lsb_minus4", 12).map(|_| false),
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.skip_golomb("offset_for_non_ref_pic")?;
            bits.skip_golomb("offset_for_top_to_bottom_field")?;
            for _ in 0..bits.ue("num_ref_frames_in_pic_order_cnt_cycle", 255)? {
                bits.skip_golomb("offset_for_ref_frame")?;
            }
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Width and height in luma samples, after cropping (§7.4.2.1.1, equations 7-19 to 7-22).
fn picture_size(bits: &mut Bits<'_>, chroma: &Chroma) -> Result<(u32, u32), Error> {
    const MAX_MBS_MINUS1: u32 = MAX_PICTURE_SIDE / 16 - 1;
    let width_in_mbs = bits.ue("pic_width_in_mbs_minus1", MAX_MBS_MINUS1)? + 1;
    let height_in_map_units = bits.ue("pic_height_in_map_units_minus1", MAX_MBS_MINUS1)? + 1;
    let frame_mbs_only = bits.flag()?;
    if !frame_mbs_only {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let fields: u32 = if frame_mbs_only { 1 } else { 2 };
    let (unit_x, unit_y) = chroma.crop_unit();
    let unit_y = unit_y * u64::from(fields);
    let (mut across, mut down) = (0, 0);
    if bits.flag()? {
        let mut offset = |field| bits.ue(field, u32::MAX).map(u64::from);
        across = unit_x * (offset("frame_crop_left_offset")? + offset("frame_crop_right_offset")?);
        down = unit_y * (offset("frame_crop_top_offset")? + offset("frame_crop_bottom_offset")?);
    }
    Ok((
        picture_side("picture width", width_in_mbs * 16, across)?,
        picture_side("picture height", height_in_map_units * 16 * fields, down)?,
    ))
}

/// The VUI parameters (§E.1.1) up to the timing; two ticks make a frame.
fn vui_frame_rate(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, Error> {
    const EXTENDED_SAR: u8 = 255;
    if bits.flag()? && bits.byte()? == EXTENDED_SAR {
        bits.skip(32)?; // sar_width, sar_height
    }
    if bits.flag()? {
        bits.skip(1)?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.skip(24)?; // colour description
        }
    }
    if bits.flag()? {
        bits.skip_golomb("chroma_sample_loc_type_top_field")?;
        bits.skip_golomb("chroma_sample_loc_type_bottom_field")?;
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let units_in_tick = u64::from(bits.bits(32)?);
    let time_scale = u64::from(bits.bits(32)?);
    // fixed_frame_rate_flag: one that is missing costs what stands behind it only.
    let _ = bits.skip(1);
    Ok(frame_rate(time_scale, 2 * units_in_tick))
}

/// The VUI parameters (§E.1.1) behind the timing, up to the reordering.
fn vui_reordering(bits: &mut Bits<'_>) -> Result<Option<u8>, Error> {
    let (nal, vcl) = (skip_buffering(bits)?, skip_buffering(bits)?);
    if nal || vcl {
        bits.skip(1)?; // low_delay_hrd_flag
    }
    bits.skip(1)?; // pic_struct_present_flag
    if !bits.flag()? {
        return Ok(None);
    }
    bits.skip(1)?; // motion_vectors_over_pic_boundaries_flag
    for _ in 0..4 {
        bits.skip_golomb("a limit of the bitstream")?;
    }
    small(bits, "max_num_reorder_frames", 16).map(Some)
}

/// `hrd_parameters` (§E.1.2), if they are there.
fn skip_buffering(bits: &mut Bits<'_>) -> Result<bool, Error> {
    if !bits.flag()? {
        return Ok(false);
    }
    let buffers = bits.ue("cpb_cnt_minus1", 31)? + 1;
    bits.skip(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..buffers {
        bits.skip_golomb("bit_rate_value_minus1")?;
        bits.skip_golomb("cpb_size_value_minus1")?;
        bits.skip(1)?; // cbr_flag
    }
    bits.skip(20)?; // lengths of delays and times
    Ok(true)
}
