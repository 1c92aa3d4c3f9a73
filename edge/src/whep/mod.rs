//! WHEP out: `POST /{app}/{name}/whep` watches by WebRTC, `…/whep/{session}` is its session.
//!
//! All who watch a stream so share one more reader of its feed ([`source`]), which makes RTP payloads of its frames once.

mod source;
mod watching;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use media_core::frame::Codec;
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use rtc::resource::{Welcome, problem, refusal};
use rtc::{Server, Unwatchable};

use crate::feed::{Audience, Feeds, Refusal};
use crate::upstream::segment;
use source::Source;
pub(crate) use watching::Watching;

/// How long a viewer's offer waits for the first frames of a stream that was not watched so: a keyframe may be seconds away.
const FIRST_FRAMES: Duration = Duration::from_secs(8);

/// Those who watch by WebRTC.
pub(crate) struct Whep {
    pub(crate) server: Server,
    sources: Mutex<HashMap<StreamKey, Weak<Source>>>,
}

/// A stream that is ready to be watched, and a place among those who do.
pub(crate) struct Joined {
    source: Arc<Source>,
    audience: Audience,
    sent: Vec<rtc::peer::Sent>,
    left_out: Vec<Codec>,
}

impl Whep {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, sources: Mutex::default() }
    }

    /// Waits until a stream can be watched, that so many watch by HLS; or says why it can't.
    pub(crate) async fn join(
        &self,
        feeds: &Arc<Feeds>,
        key: &StreamKey,
        hls: u64,
    ) -> Result<Joined, NotJoined> {
        let audience = feeds.attend(key, hls).await?;
        let source = self.source(feeds, key).await?;
        // Whether it is or not, its tracks say what there is.
        let ready = tokio::time::timeout(FIRST_FRAMES, source.broadcast.ready()).await;
        let (sent, left_out) = source.broadcast.tracks()?;
        if ready.is_err() {
            return Err(NotJoined::NoPicture);
        }
        Ok(Joined { source, audience, sent, left_out })
    }

    async fn source(&self, feeds: &Arc<Feeds>, key: &StreamKey) -> Result<Arc<Source>, Refusal> {
        let running = || self.sources.lock().get(key).and_then(Weak::upgrade).filter(|s| !s.is_over());
        if let Some(source) = running() {
            return Ok(source);
        }
        let source = Source::start(feeds, key, &self.server).await?;
        let mut sources = self.sources.lock();
        // Somebody may have been faster.
        if let Some(other) = sources.get(key).and_then(Weak::upgrade).filter(|s| !s.is_over()) {
            return Ok(other);
        }
        sources.retain(|_, source| source.strong_count() > 0);
        sources.insert(key.clone(), Arc::downgrade(&source));
        Ok(source)
    }

    /// Answers an offer.
    #[allow(clippy::result_large_err, reason = "it is the answer then, and made once a viewer")]
    pub(crate) fn accept(
        &self,
        key: &StreamKey,
        joined: Joined,
        offer: &str,
        watching: Watching,
    ) -> Result<Welcome, Response<Bytes>> {
        let Joined { source, audience, sent, left_out } = joined;
        let prepared = self.server.prepare_play(offer, sent).map_err(|error| refusal(&error))?;
        let broadcast = Arc::clone(&source.broadcast);
        let watcher = watching.of(source, audience);
        let accepted = prepared.play(&broadcast, Box::new(watcher)).map_err(|error| refusal(&error))?;
        let endpoint = format!("/{}/{}/whep", segment(key.app()), segment(key.name()));
        let warning = (!left_out.is_empty()).then(|| {
            let names: Vec<&str> = left_out.iter().map(|codec| codec.name()).collect();
            format!("WebRTC does not carry {}: that track is left out", names.join(" and "))
        });
        Ok(Welcome { accepted, endpoint, warning })
    }
}

/// Why a stream can't be watched by WebRTC at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotJoined {
    /// It can't be watched at all.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It can be, but not so.
    #[error(transparent)]
    Unwatchable(#[from] Unwatchable),
    /// It has no keyframe.
    #[error("the stream has sent no keyframe for {} seconds", FIRST_FRAMES.as_secs())]
    NoPicture,
}

impl NotJoined {
    /// Its name in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(_) => "stream",
            Self::Unwatchable(unwatchable) => unwatchable.reason(),
            Self::NoPicture => "no_picture",
        }
    }

    /// What the viewer is told.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let status = match self {
            Self::Refused(refusal) => crate::http::refused_with(*refusal),
            Self::Unwatchable(Unwatchable::Ended) => StatusCode::NOT_FOUND,
            Self::Unwatchable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NoPicture => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, &self.to_string())
    }
}
