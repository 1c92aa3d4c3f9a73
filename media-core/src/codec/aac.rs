//! AAC.
use bytes::Bytes;

use super::Error;

/// An AAC-LC `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
pub fn low_complexity_config(sample_rate: u32, channels: u8) -> Result<Bytes, Error> {
    let _ = (sample_rate, channels);
    Err(Error::Truncated("not yet written"))
}
