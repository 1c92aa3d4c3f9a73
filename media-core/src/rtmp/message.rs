//! Media messages, as they pass between a session and its application.

use bytes::{Buf, Bytes};

use super::chunk::{self, Header, type_id};

/// What a media message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The body of an FLV audio tag.
    Audio,
    /// The body of an FLV video tag.
    Video,
    /// The body of an FLV script tag: AMF0, beginning with a name such as `onMetaData`.
    Data,
}

/// A media message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub kind: Kind,
    /// Milliseconds from an arbitrary start, wrapping at 2³².
    pub timestamp_ms: u32,
    /// An FLV tag's body.
    pub body: Bytes,
}

impl Kind {
    /// The chunk stream that messages of this kind are sent on. Each kind has its own, as some players
    /// expect.
    pub const fn chunk_stream(self) -> u32 {
        match self {
            Self::Data => 5,
            Self::Audio => 4,
            Self::Video => 6,
        }
    }

    /// The message type on the wire.
    pub const fn type_id(self) -> u8 {
        match self {
            Self::Audio => type_id::AUDIO,
            Self::Video => type_id::VIDEO,
            Self::Data => type_id::DATA_AMF0,
        }
    }

    /// The header of a message of this kind.
    pub const fn header(self, stream_id: u32, timestamp_ms: u32) -> Header {
        Header { chunk_stream: self.chunk_stream(), type_id: self.type_id(), stream_id, timestamp_ms }
    }
}

/// The AMF0 string that encoders put before the script tag's own body.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
/// Data messages that are between client and server and no part of the stream, by their beginnings.
const NOT_MEDIA: &[&[u8]] =
    &[b"\x02\x00\x0f@clearDataFrame", b"\x02\x00\x11|RtmpSampleAccess", b"\x02\x00\x08onStatus"];

impl Message {
    /// From the wire: `None` for what is not media, and for messages without a body, which say nothing.
    /// `@setDataFrame` is unwrapped.
    pub(super) fn from_chunk(message: chunk::Message) -> Option<Self> {
        let chunk::Message { header, mut body } = message;
        let kind = match header.type_id {
            type_id::AUDIO => Kind::Audio,
            type_id::VIDEO => Kind::Video,
            type_id::DATA_AMF0 => Kind::Data,
            type_id::DATA_AMF3 => {
                if body.first() == Some(&0) {
                    body.advance(1);
                }
                Kind::Data
            }
            _ => return None,
        };
        if kind == Kind::Data {
            if body.starts_with(SET_DATA_FRAME) {
                body.advance(SET_DATA_FRAME.len());
            } else if NOT_MEDIA.iter().any(|name| body.starts_with(name)) {
                return None;
            }
        }
        (!body.is_empty()).then_some(Self { kind, timestamp_ms: header.timestamp_ms, body })
    }
}
