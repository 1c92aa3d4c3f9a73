//! The video parameter set (ITU-T H.265 §7.3.2.1), for its timing.

use super::super::bits::Bits;
use super::super::{Error, frame_rate as reduced};
use super::profile::ProfileTierLevel;
use super::{NAL_VPS, payload};

const WHAT: &str = "HEVC VPS";

/// Pictures that a decoder holds at most (§A.4.2).
const MAX_REORDERING: u32 = 16;

/// Pictures per second, where the VPS has timing information.
pub(super) fn frame_rate(unit: &[u8]) -> Result<Option<(u32, u32)>, Error> {
    let mut bits = Bits::of_nal(WHAT, payload(unit, NAL_VPS, WHAT)?);
    bits.skip(12)?; // id, base layer flags, vps_max_layers_minus1
    let max_sub_layers_minus1 = sub_layers(&mut bits)?;
    bits.skip(1 + 16)?; // vps_temporal_id_nesting_flag, 0xffff
    ProfileTierLevel::parse(&mut bits, max_sub_layers_minus1)?;
    sub_layer_ordering(&mut bits, max_sub_layers_minus1)?;
    let max_layer_id = bits.bits(6)?;
    for _ in 0..bits.ue("vps_num_layer_sets_minus1", 1023)? {
        bits.skip(max_layer_id + 1)?;
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let units_in_tick = u64::from(bits.bits(32)?);
    let time_scale = u64::from(bits.bits(32)?);
    Ok(reduced(time_scale, units_in_tick))
}

/// `…_max_sub_layers_minus1`: three bits, 7 is forbidden.
pub(super) fn sub_layers(bits: &mut Bits<'_>) -> Result<u8, Error> {
    match u8::try_from(bits.bits(3)?) {
        Ok(count) if count < 7 => Ok(count),
        _ => Err(Error::Invalid { field: "max_sub_layers_minus1", value: 7 }),
    }
}

/// The decoded picture buffer's size, reordering and latency, of each sub-layer or of the highest. How many pictures may be
/// decoded before one that is shown earlier, with all sub-layers.
pub(super) fn sub_layer_ordering(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<u8, Error> {
    let first = if bits.flag()? { 0 } else { max_sub_layers_minus1 };
    let mut reordering = 0;
    for _ in first..=max_sub_layers_minus1 {
        bits.skip_golomb("max_dec_pic_buffering_minus1")?;
        reordering = bits.ue("max_num_reorder_pics", u32::MAX)?;
        bits.skip_golomb("max_latency_increase_plus1")?;
    }
    // More than a decoder may hold makes no sense, and costs what comes behind it nothing.
    Ok(u8::try_from(reordering.min(MAX_REORDERING)).unwrap_or_default())
}

#[cfg(test)]
pub(super) mod testing {
    //! A VPS with timing information.

    use crate::codec::testing::{binary, escape};

    pub(in super::super) fn with_timing(units_in_tick: u32, time_scale: u32) -> Vec<u8> {
        let profile = format!("{:08b}{:032b}{:048b}{:08b}", 1, 0x6000_0000, 0, 93);
        let ordering = "1 1 1 1";
        // Two layer sets, so that one is told by its flags.
        let layers = "000000 010 1";
        let timing = format!("1 {units_in_tick:032b} {time_scale:032b} 0 0 1 1");
        let bits = format!("0000 11 000000 000 1 {:016b} {profile} {ordering} {layers} {timing}", 0xffff);
        [&[0x40, 1][..], &escape(&binary(&bits))].concat()
    }

    #[test]
    fn reads_the_timing_behind_the_layer_sets() {
        assert_eq!(super::frame_rate(&with_timing(1_001, 60_000)).unwrap(), Some((60_000, 1_001)));
        assert_eq!(super::frame_rate(&with_timing(0, 60_000)).unwrap(), None);
        let unit = with_timing(1, 25);
        for length in 0..unit.len() - 1 {
            assert!(super::frame_rate(&unit[..length]).is_err(), "{length}");
        }
    }
}
