//! The publishing end of a stream.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Epoch, Stream, StreamKey};
use crate::frame::{Frame, Track};

/// Why a producer may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Revoked {
    /// Another publisher has the stream now.
    #[error("another publisher took the stream over")]
    TakenOver,
    /// An operator ended the stream.
    #[error("an operator ended the stream")]
    Kicked,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The stream is over.
    #[error("the stream has ended")]
    Ended,
}

/// The right to publish a stream. Dropping it interrupts the stream.
#[derive(Debug)]
pub struct Producer {
    stream: Arc<Stream>,
    epoch: Epoch,
    revoked: oneshot::Receiver<Revoked>,
}

impl Producer {
    pub(super) fn new(stream: Arc<Stream>, epoch: Epoch) -> Self {
        let revoked = stream.begin(epoch);
        Self { stream, epoch, revoked }
    }

    /// The stream's name.
    pub fn key(&self) -> &StreamKey {
        self.stream.key()
    }

    /// The stream, which another publisher may have by now.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The lease it publishes under.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Says which tracks there are; all of them, each time one changes. The same again changes nothing.
    pub fn set_tracks(&mut self, tracks: Vec<Track>) -> Result<(), Revoked> {
        self.stream.set_tracks(self.epoch, tracks)
    }

    /// Says what the encoder calls itself.
    pub fn set_encoder(&mut self, encoder: &str) -> Result<(), Revoked> {
        self.stream.set_encoder(self.epoch, encoder)
    }

    /// Appends a frame, its timestamps repaired. `false`: dropped, since it belongs to none of the tracks.
    pub fn push(&mut self, frame: Frame) -> Result<bool, Revoked> {
        self.stream.push(self.epoch, frame)
    }

    /// Whether the producer may not go on, without waiting.
    pub fn is_revoked(&mut self) -> Option<Revoked> {
        match self.revoked.try_recv() {
            Ok(revoked) => Some(revoked),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Revoked::Ended),
        }
    }

    /// Completes when the producer may not go on. Cancel-safe; after it completed, don't call it again.
    pub async fn revoked(&mut self) -> Revoked {
        (&mut self.revoked).await.unwrap_or(Revoked::Ended)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stream.interrupt(self.epoch);
    }
}
