//! The chunk stream (RTMP 1.0 §5.3): messages are cut into chunks, chunks of different messages may
//! interleave, and headers leave out what repeats.

mod reader;
mod writer;

pub use reader::{Error, MAX_CHUNK_STREAMS, MAX_INTERLEAVED_BYTES, MAX_MESSAGE_BYTES, Reader};
pub use writer::{TooLong, write};

use bytes::Bytes;

/// The chunk size both sides start with (§5.4.1).
pub const INITIAL_CHUNK_SIZE: usize = 128;

/// What a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The chunk stream it travels on: 2 for protocol control, 3 to 65,599 for the rest.
    pub chunk_stream: u32,
    /// What it is: one of [`type_id`].
    pub type_id: u8,
    /// The message stream it belongs to; 0 for the connection itself.
    pub stream_id: u32,
    /// Milliseconds from an arbitrary start, wrapping at 2³².
    pub timestamp_ms: u32,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it says of itself.
    pub header: Header,
    /// Its payload.
    pub body: Bytes,
}

/// Message types (§5.4 and §7.1).
pub mod type_id {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio: the body of an FLV audio tag.
    pub const AUDIO: u8 = 8;
    /// Video: the body of an FLV video tag.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3, in practice a 0 byte and AMF0.
    pub const DATA_AMF3: u8 = 15;
    /// Command in AMF3, in practice a 0 byte and AMF0.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0: the body of an FLV script tag.
    pub const DATA_AMF0: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND_AMF0: u8 = 20;
    /// Aggregate: FLV tags one after the other.
    pub const AGGREGATE: u8 = 22;
}

#[cfg(test)]
mod tests;
