//! H.265 / HEVC.
use bytes::Bytes;

use super::Error;

/// An `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §8.3.3) with 4-byte NAL unit lengths.
pub fn config_from_parameter_sets(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, Error> {
    let _ = (vps, sps, pps);
    Err(Error::NoParameterSet("SPS"))
}
