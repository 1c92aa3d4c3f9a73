//! Low-latency HLS: a packager task for each stream, and the answers to requests for what it made.
//!
//! The task reads the stream from the hub, cuts it ([`media_core::hls::Segmenter`]) and puts parts into the stream's
//! window. Requests look into the window; those that must wait park on the stream's one notifier. Playlists are
//! rendered and compressed at the first request for them and then shared until the window changes, so a stream that
//! nobody watches over HLS costs neither. Parts and segments are sent as the bytes that the packager made.

mod answer;
mod config;
mod live;
mod metrics;
mod packager;
mod pieces;
mod playlists;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use control_api::HlsState;
use http::{HeaderMap, Response};
use media_core::hub::{Consumer, StreamKey};
use parking_lot::RwLock;

pub use config::{HlsConfig, HlsConfigError};
pub use metrics::HlsMetrics;

use crate::http::Body;
use live::Live;

/// Streams that ended and whose objects are still served, at most; the one that ended first goes first.
const MAX_ENDED: usize = 256;

/// The packagers of all streams. Clones are the same.
#[derive(Clone, Debug)]
pub struct Packagers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: media_core::hls::Config,
    metrics: HlsMetrics,
    streams: RwLock<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    /// A live stream has one entry; behind it may be one that ended under the same name, whose objects some players
    /// still fetch. Newest first.
    by_key: AHashMap<StreamKey, Vec<Arc<Live>>>,
    ended: VecDeque<Arc<Live>>,
}

impl Packagers {
    /// No packagers yet.
    pub fn new(config: &HlsConfig, metrics: HlsMetrics) -> Result<Self, HlsConfigError> {
        let config = config.checked()?;
        Ok(Self(Arc::new(Inner { config, metrics, streams: RwLock::default() })))
    }

    /// Packages the stream until it ends, in a task of its own. Call it within a tokio runtime, when the stream starts:
    /// `Registry::with_on_start`.
    pub fn start(&self, consumer: Consumer) {
        let live = Arc::new(Live::new(consumer.key().clone(), self.0.config.clone(), self.0.metrics.clone()));
        {
            let mut streams = self.0.streams.write();
            let entry = streams.by_key.entry(consumer.key().clone()).or_default();
            entry.insert(0, Arc::clone(&live));
            entry.truncate(2);
        }
        let packagers = self.clone();
        tokio::spawn(async move {
            packager::run(consumer, &live).await;
            packagers.ended(&live);
            // It goes before the time is up if more than MAX_ENDED end after it.
            let ended = Arc::downgrade(&live);
            drop(live);
            tokio::time::sleep(packagers.served_after_the_end()).await;
            if let Some(live) = ended.upgrade() {
                packagers.forget(&live);
            }
        });
    }

    /// Answers a GET (or HEAD) below `/{app}/{name}/`: `path` is what follows it, `query` what follows the `?`.
    pub async fn handle(
        &self,
        key: &StreamKey,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let found = self.0.streams.read().by_key.get(key).cloned().unwrap_or_default();
        let request = answer::Request { path, query: query.unwrap_or_default(), headers };
        answer::answer(&self.0.config, &self.0.metrics, &found, request).await
    }

    /// How the stream's packager is doing.
    pub fn state(&self, key: &StreamKey) -> HlsState {
        match self.0.streams.read().by_key.get(key).and_then(|lives| lives.first()) {
            Some(live) => live.state(),
            None => HlsState { ready: false, problem: None },
        }
    }

    /// Players that joined just before the end still have the whole window to play.
    fn served_after_the_end(&self) -> Duration {
        Duration::from_millis(self.0.config.window_ms.into())
    }

    fn ended(&self, live: &Arc<Live>) {
        let oldest = {
            let mut streams = self.0.streams.write();
            streams.ended.push_back(Arc::clone(live));
            if streams.ended.len() > MAX_ENDED { streams.ended.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.forget(&oldest);
        }
    }

    fn forget(&self, live: &Arc<Live>) {
        let mut streams = self.0.streams.write();
        streams.ended.retain(|l| !Arc::ptr_eq(l, live));
        if let Some(lives) = streams.by_key.get_mut(live.key()) {
            lives.retain(|l| !Arc::ptr_eq(l, live));
            if lives.is_empty() {
                streams.by_key.remove(live.key());
            }
        }
    }
}

#[cfg(test)]
mod tests;
