//! The sequence parameter set (ITU-T H.265 §7.3.2.2) up to its VUI timing.

use super::super::bits::Bits;
use super::super::{Error, MAX_PICTURE_SIDE, frame_rate, picture_side};
use super::profile::ProfileTierLevel;
use super::vps::{sub_layer_ordering, sub_layers};
use super::{NAL_SPS, payload};

const WHAT: &str = "HEVC SPS";

/// Pictures in a reference picture set: `sps_max_dec_pic_buffering_minus1` is at most 15.
const MAX_REFERENCES: u32 = 16;

/// What a sequence parameter set says about the picture.
#[derive(Debug)]
pub(super) struct Sps {
    pub(super) profile: ProfileTierLevel,
    pub(super) max_sub_layers_minus1: u8,
    pub(super) temporal_id_nesting: bool,
    pub(super) chroma_format_idc: u8,
    pub(super) bit_depth_luma_minus8: u8,
    pub(super) bit_depth_chroma_minus8: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: Option<(u32, u32)>,
    /// Pictures that may be decoded before one that is shown earlier (`sps_max_num_reorder_pics`).
    pub(super) reordering: Option<u8>,
}

impl Sps {
    /// Of a whole NAL unit with its header.
    pub(super) fn parse(unit: &[u8]) -> Result<Self, Error> {
        let mut bits = Bits::of_nal(WHAT, payload(unit, NAL_SPS, WHAT)?);
        bits.skip(4)?; // sps_video_parameter_set_id
        let max_sub_layers_minus1 = sub_layers(&mut bits)?;
        let temporal_id_nesting = bits.flag()?;
        let profile = ProfileTierLevel::parse(&mut bits, max_sub_layers_minus1)?;
        bits.ue("sps_seq_parameter_set_id", 15)?;
        let chroma_format_idc = small(&mut bits, "chroma_format_idc", 3)?;
        let separate_planes = chroma_format_idc == 3 && bits.flag()?;
        let (width, height) = picture_size(&mut bits, chroma_format_idc, separate_planes)?;
        let bit_depth_luma_minus8 = small(&mut bits, "bit_depth_luma_minus8", 7)?;
        let bit_depth_chroma_minus8 = small(&mut bits, "bit_depth_chroma_minus8", 7)?;
        // A picture plays without its timing, which is far down: a set that ends or goes wrong
        // before it costs the frame rate only.
        let mut reordering = None;
        let frame_rate = timing(&mut bits, max_sub_layers_minus1, &mut reordering).unwrap_or_default();
        Ok(Self {
            profile,
            max_sub_layers_minus1,
            temporal_id_nesting,
            chroma_format_idc,
            bit_depth_luma_minus8,
            bit_depth_chroma_minus8,
            width,
            height,
            frame_rate,
            reordering,
        })
    }
}

/// An Exp-Golomb code that fits a byte.
fn small(bits: &mut Bits<'_>, field: &'static str, max: u8) -> Result<u8, Error> {
    let value = bits.ue(field, u32::from(max))?;
    u8::try_from(value).map_err(|_| Error::Invalid { field, value: value.into() })
}

/// Width and height in luma samples, after the conformance window (§7.4.3.2.1).
fn picture_size(
    bits: &mut Bits<'_>,
    chroma_format_idc: u8,
    separate_planes: bool,
) -> Result<(u32, u32), Error> {
    let coded_width = bits.ue("pic_width_in_luma_samples", MAX_PICTURE_SIDE)?;
    let coded_height = bits.ue("pic_height_in_luma_samples", MAX_PICTURE_SIDE)?;
    let (unit_x, unit_y) = match chroma_format_idc {
        1 if !separate_planes => (2, 2),
        2 if !separate_planes => (2, 1),
        _ => (1, 1),
    };
    let (mut across, mut down) = (0, 0);
    if bits.flag()? {
        let mut offset = |field| bits.ue(field, u32::MAX).map(u64::from);
        across = unit_x * (offset("conf_win_left_offset")? + offset("conf_win_right_offset")?);
        down = unit_y * (offset("conf_win_top_offset")? + offset("conf_win_bottom_offset")?);
    }
    Ok((
        picture_side("picture width", coded_width, across)?,
        picture_side("picture height", coded_height, down)?,
    ))
}

/// What lies between the bit depths and the VUI, and the VUI's timing.
fn timing(
    bits: &mut Bits<'_>,
    max_sub_layers_minus1: u8,
    reordering: &mut Option<u8>,
) -> Result<Option<(u32, u32)>, Error> {
    let poc_bits = small(bits, "log2_max_pic_order_cnt_lsb_minus4", 12)? + 4;
    *reordering = Some(sub_layer_ordering(bits, max_sub_layers_minus1)?);
    for _ in 0..6 {
        bits.skip_golomb("block size")?;
    }
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.flag()? {
        bits.skip(8)?; // pcm bit depths
        bits.skip_golomb("log2_min_pcm_luma_coding_block_size_minus3")?;
        bits.skip_golomb("log2_diff_max_min_pcm_luma_coding_block_size")?;
        bits.skip(1)?; // pcm_loop_filter_disabled_flag
    }
    let mut references = 0;
    for index in 0..bits.ue("num_short_term_ref_pic_sets", 64)? {
        references = skip_reference_set(bits, index, references)?;
    }
    if bits.flag()? {
        for _ in 0..bits.ue("num_long_term_ref_pics_sps", 32)? {
            bits.skip(u32::from(poc_bits) + 1)?;
        }
    }
    bits.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if bits.flag()? { vui_frame_rate(bits) } else { Ok(None) }
}

/// §7.3.4.
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Result<(), Error> {
    for size_id in 0..4u32 {
        for _ in (0..6).step_by(if size_id == 3 { 3 } else { 1 }) {
            if !bits.flag()? {
                bits.skip_golomb("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            let dc = u32::from(size_id > 1);
            for _ in 0..dc + 64.min(1 << (4 + (size_id << 1))) {
                bits.skip_golomb("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// `st_ref_pic_set` (§7.3.7): how many pictures it has, given the number in the set before.
fn skip_reference_set(bits: &mut Bits<'_>, index: u32, before: u32) -> Result<u32, Error> {
    if index != 0 && bits.flag()? {
        bits.skip(1)?; // delta_rps_sign
        bits.skip_golomb("abs_delta_rps_minus1")?;
        let mut count = 0;
        for _ in 0..=before {
            // used_by_curr_pic_flag, else use_delta_flag
            if bits.flag()? || bits.flag()? {
                count += 1;
            }
        }
        return if count <= MAX_REFERENCES {
            Ok(count)
        } else {
            Err(Error::Invalid { field: "NumDeltaPocs", value: count.into() })
        };
    }
    let negative = bits.ue("num_negative_pics", MAX_REFERENCES)?;
    let positive = bits.ue("num_positive_pics", MAX_REFERENCES - negative)?;
    for _ in 0..negative + positive {
        bits.skip_golomb("delta_poc_minus1")?;
        bits.skip(1)?; // used_by_curr_pic_flag
    }
    Ok(negative + positive)
}

/// The VUI parameters (§E.2.1) up to the timing.
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
    bits.skip(1)?; // neutral_chroma_indication_flag
    let pictures_are_fields = bits.flag()?;
    bits.skip(1)?; // frame_field_info_present_flag
    if bits.flag()? {
        for _ in 0..4 {
            bits.skip_golomb("def_disp_win_offset")?;
        }
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let units_in_tick = u64::from(bits.bits(32)?);
    let time_scale = u64::from(bits.bits(32)?);
    Ok(frame_rate(time_scale, units_in_tick * if pictures_are_fields { 2 } else { 1 }))
}
