//! AV1.
use bytes::Bytes;

use super::Error;

/// An `AV1CodecConfigurationRecord` from the sequence header of a temporal unit; `None` where it
/// has no sequence header.
pub fn config_from_temporal_unit(data: &[u8]) -> Result<Option<Bytes>, Error> {
    let _ = data;
    Err(Error::NoSequenceHeader)
}
