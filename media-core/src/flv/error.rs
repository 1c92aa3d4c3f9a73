//! Why FLV bytes were refused.

use crate::frame::TrackId;
use crate::{amf0, codec};

/// Why FLV bytes, or an audio or video body, were refused. Nothing that follows can be trusted
/// after an error of [`super::Reader`]; after one of [`super::Demuxer`] the publisher cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream does not begin with an FLV version 1 header.
    #[error("not an FLV version 1 stream")]
    NotFlv,
    /// The header's DataOffset is below its own 9 bytes or beyond what a header may sensibly have.
    #[error("FLV header of {0} bytes")]
    HeaderSize(u32),
    /// A tag of a type that is none of audio, video, script; or one that is encrypted.
    #[error("FLV tag type {0:#04x}")]
    TagType(u8),
    /// A tag that announces more than the limit.
    #[error("FLV tag of {0} bytes is over the limit")]
    TagTooLarge(usize),
    /// The size behind a tag is not the one before it.
    #[error("FLV PreviousTagSize is {found}, not {expected}")]
    PreviousTagSize {
        /// What the tag's own size makes it.
        expected: u32,
        /// What stands there.
        found: u32,
    },
    /// A body ends inside the named structure.
    #[error("{0} ends early")]
    Truncated(&'static str),
    /// A codec that a legacy body names by number and that is not carried.
    #[error("{kind} codec {number} of FLV is not supported")]
    LegacyCodec {
        /// `audio` or `video`.
        kind: &'static str,
        /// `CodecID` or `SoundFormat`.
        number: u8,
    },
    /// A codec that an enhanced body names by fourCC and that is not carried.
    #[error("codec {} is not supported", .0.escape_ascii())]
    FourCc([u8; 4]),
    /// A packet type that Enhanced RTMP v2 does not have.
    #[error("{kind} packet type {number} of Enhanced RTMP is unknown")]
    PacketType {
        /// `audio` or `video`.
        kind: &'static str,
        /// The number.
        number: u8,
    },
    /// A multitrack type that Enhanced RTMP v2 does not have.
    #[error("multitrack type {0} of Enhanced RTMP is unknown")]
    MultitrackType(u8),
    /// More tracks than the limit.
    #[error("track {0} is one too many")]
    TooManyTracks(TrackId),
    /// A decoder configuration over the limit.
    #[error("decoder configuration of {0} bytes is over the limit")]
    ConfigTooLarge(usize),
    /// A decoder configuration or a frame that its codec refuses.
    #[error("track {track}: {source}")]
    Codec {
        /// The track.
        track: TrackId,
        /// Why.
        source: codec::Error,
    },
    /// Script data that is no AMF0.
    #[error(transparent)]
    ScriptData(#[from] amf0::Error),
}
