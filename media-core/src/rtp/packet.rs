//! What of an RTP packet the payload formats see.

use std::sync::Arc;

/// A packet that came, without its header: whose SSRC and payload type name the track, the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The sequence number, as it is in the header.
    pub sequence: u16,
    /// The timestamp, as it is in the header, in ticks of the format's clock.
    pub timestamp: u32,
    /// The marker bit: the last packet of an access unit, of video.
    pub marker: bool,
    /// What follows the header and its extensions, without padding. Shared, never copied.
    pub payload: Arc<[u8]>,
}

/// A payload to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The marker bit that belongs to it.
    pub marker: bool,
    /// The bytes, one allocation for all who receive them.
    pub data: Arc<[u8]>,
}
