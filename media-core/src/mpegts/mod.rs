//! MPEG-2 transport streams (ISO/IEC 13818-1, ITU-T H.222.0): packets of 188 bytes in, tracks and frames out, and back.
//!
//! The demultiplexer is our own. mpeg2ts-reader 0.18 wants whole packets in every call and gives up the rest of a call at
//! the first byte that is no sync byte, keeps a filter for each of 8,192 PIDs that a stranger uses, and wants a PES
//! header in one packet; what is left of it after that is less than what stands here.

mod demux;
mod mux;
mod packet;
mod pes;
mod section;
mod tables;

pub use demux::{Demuxed, Demuxer};
pub use mux::Muxer;
pub use packet::PACKET_BYTES;

/// What went wrong on the way in, since the demuxer began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets that did not follow the one before on their PID: what was being put together was dropped.
    pub continuity_errors: u64,
    /// Times that no sync byte stood where a packet was to begin.
    pub resyncs: u64,
    /// Packets that the line before us marked as damaged.
    pub transport_errors: u64,
    /// Packets that are scrambled, which weir has no key for.
    pub scrambled: u64,
    /// Packets whose adaptation field or PID is a lie.
    pub malformed_packets: u64,
    /// Sections of tables that are too long, have a wrong checksum or contradict themselves.
    pub malformed_sections: u64,
    /// PES packets that end early, are too large or have no header or timestamp that can be used.
    pub malformed_pes: u64,
    /// Access units of which nothing can be made: unknown layers, no configuration yet, lost synchronization.
    pub dropped_frames: u64,
    /// Jumps of the programme's clock, announced or not.
    pub discontinuities: u64,
}

/// `stream_type` of a PMT (ISO/IEC 13818-1 table 2-34).
mod stream_type {
    pub(super) const MPEG1_AUDIO: u8 = 0x03;
    pub(super) const MPEG2_AUDIO: u8 = 0x04;
    /// What it is stands in the descriptors.
    pub(super) const PRIVATE_PES: u8 = 0x06;
    pub(super) const ADTS: u8 = 0x0f;
    pub(super) const LATM: u8 = 0x11;
    pub(super) const H264: u8 = 0x1b;
    pub(super) const H265: u8 = 0x24;
}

/// Ticks of the 90 kHz clock that timestamps and the base of the PCR count, modulo 2³³.
const CLOCK_MASK: u64 = (1 << 33) - 1;

#[cfg(test)]
mod tests;
