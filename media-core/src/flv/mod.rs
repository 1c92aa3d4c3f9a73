//! FLV: tags, and the audio and video bodies that FLV tags and RTMP messages share.
//!
//! References: *Adobe Flash Video File Format Specification* 10.1 (the container and the legacy
//! bodies) and *Enhanced RTMP v2* (fourCC codecs, ModEx, multitrack).
//!
//! Bytes become [`Tag`]s in a [`Reader`]; tags become tracks and frames in a [`Demuxer`]. The way
//! back is [`sequence_header`], [`frame_body`] and [`metadata`], which make bodies, and
//! [`write_tag`], which frames them.

mod body;
mod demux;
mod enhanced;
mod error;
mod metadata;
mod mux;
mod reader;
mod role;
mod tag;
#[cfg(test)]
pub(crate) mod testing;

pub use body::Body;
pub use demux::{Demuxed, Demuxer, Dropped};
pub use error::Error;
pub use metadata::{METADATA_TIMESTAMP_MS, metadata};
pub(crate) use metadata::{is_script, script};
pub use mux::{frame_body, sequence_header, timestamp_ms};
pub use reader::Reader;
pub use role::{BodyRole, body_role};
pub(crate) use tag::TAG_OVERHEAD_BYTES;
pub use tag::{Tag, TagKind, header, write_tag};
