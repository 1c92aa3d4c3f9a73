//! H.264 / AVC.
use bytes::Bytes;

use super::Error;

/// An `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3) with 4-byte NAL unit lengths.
pub fn config_from_parameter_sets(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, Error> {
    let _ = (sps, pps);
    Err(Error::NoParameterSet("SPS"))
}
