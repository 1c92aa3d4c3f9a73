//! Opus.
use bytes::Bytes;

use super::Error;

/// Samples that a packet plays, at 48 kHz, from its TOC (RFC 6716 §3.1); at most 5760.
pub fn packet_samples(packet: &[u8]) -> Result<u32, Error> {
    let _ = packet;
    Err(Error::Truncated("Opus packet"))
}

/// An identification header (RFC 7845 §5.1) for mono or stereo, where a publisher sends none.
pub fn identification_header(channels: u8, input_sample_rate: u32) -> Result<Bytes, Error> {
    let _ = (channels, input_sample_rate);
    Err(Error::Truncated("not yet written"))
}
