//! Everything of weir that needs no socket, file, clock or configuration.
//!
//! One frame type stands in the middle ([`frame`]); every protocol in maps to it and every protocol
//! out maps from it. No protocol module knows another. Protocols are state machines: bytes and the
//! time go in; bytes, events and the next deadline come out.

#![forbid(unsafe_code)]

pub mod amf0;
pub mod codec;
pub mod flv;
pub mod fmp4;
pub mod frame;
pub mod hls;
pub mod hub;
pub mod mpegts;
pub mod relay;
pub mod rtmp;
pub mod rtp;
