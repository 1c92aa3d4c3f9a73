//! RTP payloads (RFC 3550, RFC 8834): frames → payloads, and payloads → tracks and frames.
//!
//! [`Packetizer`] makes the payloads of a track once for all who receive it; sequence numbers, SSRC, payload type and
//! encryption are each receiver's own and not its business. [`Depacketizer`] takes what came of one or more tracks in
//! any order, with losses, and hands out whole access units on one clock. Neither has a socket, and time is handed in.
//!
//! Carried: H.264 (RFC 6184, packetization-mode 1), HEVC (RFC 7798), AV1 (AOM's RTP specification), VP8
//! (RFC 7741), VP9 (RFC 9628), Opus (RFC 7587).

mod clock;
mod depacketize;
mod packet;
mod packetize;
mod reorder;
mod serial;
#[cfg(test)]
mod tests;

pub use clock::SenderReport;
pub use depacketize::{Damage, Depacketized, Depacketizer};
pub use packet::{Packet, Payload};
pub use packetize::{NotCarried, Packetizer};

/// The largest access unit that is put together: an 8K keyframe at a hundred megabits a second is smaller, and FLV,
/// which carries frames between machines, takes no larger ones.
const MAX_ACCESS_UNIT_BYTES: usize = 8 * 1024 * 1024 - 1024;
