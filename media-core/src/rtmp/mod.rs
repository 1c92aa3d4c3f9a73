//! RTMP (Adobe RTMP 1.0, Enhanced RTMP v2 connect extensions) without sockets.
//!
//! [`server::Session`] and [`client::Session`] are handed bytes and the time and hand back bytes,
//! events and the next deadline. The contract, after each `handle_input` or `handle_timeout`: drain
//! `poll_event` until `None`, then `poll_output` until `None`, then wait no longer than
//! `poll_timeout`. An error ends the session: send what `poll_output` still has, then close.
//!
//! Media passes as [`Message`]s, whose bodies are those of FLV tags. What they mean is not known here.

mod aggregate;
pub mod chunk;
pub mod client;
mod command;
mod connect;
mod control;
mod error;
mod handshake;
mod message;
pub mod server;
mod status;
mod transport;

pub use command::Command;
pub use connect::{AUDIO_FOUR_CCS, Capabilities, Connect, VIDEO_FOUR_CCS};
pub use error::{Deadline, Error};
pub use message::{Kind, Message};
pub use status::{Level, Refusal, Status};

/// The chunk size that every session here sends with: known beforehand, so that the chunks of a stream
/// can be made once for all its viewers. Large, so that few messages need a second chunk; common
/// servers use the same.
pub const CHUNK_SIZE: usize = 60_000;

#[cfg(test)]
mod tests;
