//! The feed's bytes → marks and tags.

use bytes::Bytes;

use super::Mark;
use crate::flv::{self, BodyRole, Reader, TagKind};

/// Why a feed was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no FLV.
    #[error(transparent)]
    Flv(#[from] flv::Error),
    /// A mark that lacks a number.
    #[error("the feed has a mark that cannot be read")]
    BadMark,
    /// Media before the first mark.
    #[error("the feed begins without a mark")]
    NoMark,
}

/// What a feed holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Says what the next frame is.
    Mark(Mark),
    /// A frame, a sequence header or the metadata.
    Tag(Tag),
}

/// A tag of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Audio, video or script data.
    pub kind: TagKind,
    /// Decoding time in milliseconds, modulo 2³².
    pub timestamp_ms: u32,
    /// What stands behind the tag header: also the body of an RTMP message.
    pub body: Bytes,
    /// All of the tag, with its header and PreviousTagSize.
    pub tag: Bytes,
    /// A frame that reading can start at: a keyframe of the main picture, or any frame of a
    /// stream without video.
    pub is_keyframe: bool,
    /// It sets a decoder up.
    pub is_sequence_header: bool,
    /// It is `onMetaData`. The sequence headers of all tracks follow, and replace those before.
    pub is_metadata: bool,
    /// The frame's number in the stream; of a sequence header or metadata that of the next frame.
    pub sequence: u64,
}

/// Reads a feed. Push bytes as they come, then call [`Decoder::next_event`] until it returns `Ok(None)`. Tags that lie
/// whole in one pushed piece are slices of it.
#[derive(Debug, Default)]
pub struct Decoder {
    reader: Reader,
    /// The sequence of the next frame, once a mark told.
    next: Option<u64>,
    /// The number of the main picture in the current set of tracks: the lowest of its video tracks.
    main_picture: Option<u8>,
}

impl Decoder {
    /// At the beginning of a feed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the feed.
    pub fn push(&mut self, bytes: Bytes) {
        self.reader.push(bytes);
    }

    /// What comes next; `Ok(None)` if it needs more bytes.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        while let Some((tag, bytes)) = self.reader.next_with_bytes()? {
            if tag.kind == TagKind::Script && Mark::is(&tag.body) {
                let mark = Mark::read(&tag.body).ok_or(Error::BadMark)?;
                self.next = Some(mark.sequence);
                return Ok(Some(Event::Mark(mark)));
            }
            let sequence = self.next.ok_or(Error::NoMark)?;
            let role = flv::body_role(tag.kind, &tag.body);
            let is_metadata = role == BodyRole::Metadata;
            let is_sequence_header = matches!(role, BodyRole::SequenceHeader { .. });
            let mut is_keyframe = false;
            match role {
                BodyRole::Metadata => self.main_picture = None,
                BodyRole::SequenceHeader { track_index } => {
                    if tag.kind == TagKind::Video {
                        self.main_picture =
                            Some(self.main_picture.map_or(track_index, |m| m.min(track_index)));
                    }
                }
                BodyRole::Frame { keyframe, track_index } => {
                    is_keyframe = self
                        .main_picture
                        .is_none_or(|main| keyframe && track_index == main && tag.kind == TagKind::Video);
                    self.next = Some(sequence.wrapping_add(1));
                }
                BodyRole::Other => continue,
            }
            let flv::Tag { kind, timestamp_ms, body } = tag;
            return Ok(Some(Event::Tag(Tag {
                kind,
                timestamp_ms,
                body,
                tag: bytes,
                is_keyframe,
                is_sequence_header,
                is_metadata,
                sequence,
            })));
        }
        Ok(None)
    }
}
