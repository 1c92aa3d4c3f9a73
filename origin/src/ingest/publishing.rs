//! A publisher's stream, whatever the protocol: its frames go into the hub, and the first keyframe ends its opening.

use media_core::frame::{Frame, Track};
use media_core::hub::{Revoked, StreamKey};

use crate::Publication;
use crate::opening::Opening;

/// A publisher's stream.
#[derive(Debug)]
pub(super) struct Publishing {
    publication: Publication,
    opening: Opening,
    any_frame: bool,
}

impl Publishing {
    pub(super) fn new(publication: Publication, mut opening: Opening) -> Self {
        opening.admitted(publication.epoch());
        Self { publication, opening, any_frame: false }
    }

    /// Completes when the publisher may not go on.
    pub(super) async fn revoked(&mut self) -> Revoked {
        self.publication.revoked().await
    }

    /// Its name.
    pub(super) fn key(&self) -> &StreamKey {
        self.publication.key()
    }

    /// Whether there was a frame.
    pub(super) fn any_frame(&self) -> bool {
        self.any_frame
    }

    pub(super) fn frame(&mut self, frame: Frame) -> Result<(), Revoked> {
        self.any_frame = true;
        let key = self.opening.waits_for(&frame);
        self.publication.push(frame)?;
        if let Some(track) = key {
            self.opening.keyframe(track, self.publication.stream());
        }
        Ok(())
    }

    pub(super) fn tracks(&mut self, tracks: Vec<Track>) -> Result<(), Revoked> {
        self.publication.set_tracks(tracks)
    }

    pub(super) fn encoder(&mut self, name: &str) -> Result<(), Revoked> {
        self.publication.set_encoder(name)
    }
}
