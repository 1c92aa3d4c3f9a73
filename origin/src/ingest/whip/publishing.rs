//! From a peer's frames to the hub's.

use media_core::hub::Revoked;
use media_core::rtp::Depacketized;
use rtc::Ended;
use tokio::runtime::Handle;

use crate::Publication;
use crate::loudness::Loudness;
use crate::opening::Opening;

/// A publisher's stream. Frames come on a thread of WebRTC's, which has no runtime: what is started there runs in the one
/// that the offer came in.
pub(super) struct Publishing {
    publication: Publication,
    opening: Opening,
    runtime: Handle,
    loudness: Loudness,
}

impl Publishing {
    pub(super) fn new(publication: Publication, opening: Opening, runtime: Handle) -> Self {
        Self { publication, opening, runtime, loudness: Loudness::default() }
    }
}

impl rtc::Sink for Publishing {
    fn media(&mut self, item: Depacketized) -> Result<(), Ended> {
        let _runtime = self.runtime.enter();
        match item {
            Depacketized::Tracks(tracks) => self.publication.set_tracks(tracks).map_err(why),
            Depacketized::Frame(frame) => {
                let key = self.opening.waits_for(&frame);
                self.publication.push(frame).map_err(why)?;
                if let Some(track) = key {
                    self.opening.keyframe(track, self.publication.stream());
                }
                Ok(())
            }
            // Counted where it was found.
            Depacketized::KeyframeWanted(_) | Depacketized::Dropped(..) => Ok(()),
        }
    }

    fn audio_level(&mut self, level: u8) {
        let smoothed = self.loudness.push(level);
        self.publication.stream().set_audio_level(smoothed);
    }

    fn may_stay(&mut self) -> Result<(), Ended> {
        self.publication.is_revoked().map_or(Ok(()), |revoked| Err(why(revoked)))
    }

    fn wants_keyframe(&mut self) -> bool {
        self.publication.stream().take_keyframe_wanted()
    }

    fn ended(self: Box<Self>, why: Ended) {
        let _runtime = self.runtime.enter();
        tracing::info!(stream = %self.publication.key(), reason = why.name(), "publisher disconnected");
        // The stream's grace begins in that runtime, too.
        drop(self.publication);
    }
}

/// Why a peer whose publication ended so is over.
fn why(revoked: Revoked) -> Ended {
    match revoked {
        Revoked::Draining => Ended::Draining,
        Revoked::Ended => Ended::Stream,
        _ => Ended::Revoked,
    }
}
