//! An accepted event, as it waits for its endpoints.

use bytes::Bytes;

use super::event::{Event, EventId, EventKind, StreamName};
use super::target::Message;

/// An accepted event. Its bytes are those of the journal's record, so that each attempt sends the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its place in the order of all.
    pub(super) seq: u64,
    pub(super) kind: EventKind,
    pub(super) id: EventId,
    pub(super) stream: StreamName,
    /// When it was accepted, in milliseconds since 1970 of this machine; what the event itself says is the node's.
    pub(super) accepted_ms: u64,
    /// The event as JSON.
    pub(super) body: Bytes,
}

impl Held {
    /// Of its record; `None` if the body is no event.
    pub(super) fn parse(seq: u64, accepted_ms: u64, body: Bytes) -> Option<Self> {
        let event: Event = serde_json::from_slice(&body).ok()?;
        Some(Self { seq, kind: event.kind(), id: event.id, stream: event.stream, accepted_ms, body })
    }

    /// What is sent of it.
    pub(super) fn message(&self) -> Message {
        Message { kind: self.kind, id: self.id, body: self.body.clone() }
    }
}
