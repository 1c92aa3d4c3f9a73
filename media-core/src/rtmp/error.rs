//! Why a session ends by itself.

use crate::amf0;

use super::chunk;

/// What did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// The handshake.
    Handshake,
    /// A publish or play command after the handshake.
    Request,
    /// The first audio or video message after the publish was accepted.
    FirstFrame,
    /// Any byte of a publisher.
    Idle,
    /// The server's consent, of a client.
    Answer,
}

impl Deadline {
    /// A word for logs and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Request => "request",
            Self::FirstFrame => "first_frame",
            Self::Idle => "idle",
            Self::Answer => "answer",
        }
    }
}

/// Why a session ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer does not speak RTMP, or only its encrypted variant.
    #[error("not an RTMP handshake")]
    Handshake,
    /// Chunks or messages beyond the limits, or against the rules.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A message that RTMP cannot carry was to be sent.
    #[error(transparent)]
    TooLong(#[from] chunk::TooLong),
    /// A command that is not AMF0.
    #[error("a command is malformed: {0}")]
    Amf(#[from] amf0::Error),
    /// A command without a name.
    #[error("a command has no name")]
    NoCommandName,
    /// A protocol control message too short for what it is.
    #[error("a control message of type {0} is too short")]
    ShortControl(u8),
    /// An aggregate whose parts do not fill it.
    #[error("an aggregate message is cut short")]
    Aggregate,
    /// More events than the session keeps came in one piece of input.
    #[error("too many messages at once")]
    TooManyMessages,
    /// More media came before the publish was accepted than the session keeps.
    #[error("media came before the publish was accepted")]
    MediaTooEarly,
    /// More answers were asked for than the session keeps.
    #[error("too many answers are waiting")]
    TooMuchOutput,
    /// Something did not happen in time.
    #[error("timed out waiting for {}", .0.name())]
    Timeout(Deadline),
    /// The server refused, in its own words.
    #[error("the server refused: {code}: {description}")]
    Refused {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// For people.
        description: String,
    },
}

impl Error {
    /// A word for metric labels: a bounded set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Chunk(_) | Self::TooLong(_) => "chunk",
            Self::Amf(_) | Self::NoCommandName => "command",
            Self::ShortControl(_) => "control",
            Self::Aggregate => "aggregate",
            Self::TooManyMessages | Self::MediaTooEarly | Self::TooMuchOutput => "flood",
            Self::Timeout(deadline) => match deadline {
                Deadline::Handshake => "handshake_timeout",
                Deadline::Request => "request_timeout",
                Deadline::FirstFrame => "first_frame_timeout",
                Deadline::Idle => "idle_timeout",
                Deadline::Answer => "answer_timeout",
            },
            Self::Refused { .. } => "refused",
        }
    }
}
