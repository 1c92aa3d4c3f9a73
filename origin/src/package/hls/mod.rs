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
use media_core::hls::Window;
use media_core::hub::{Consumer, StreamKey};
use parking_lot::RwLock;
use tokio::time::{Instant, sleep_until};

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
    opus_as_aac: bool,
    metrics: HlsMetrics,
    /// Where the media sequence numbers of a stream that begins now start.
    first_msn: fn() -> u64,
    streams: RwLock<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    /// A live stream has one entry; behind it may be one that ended under the same name, whose objects some players
    /// still fetch. Newest first.
    by_key: AHashMap<StreamKey, Vec<Arc<Live>>>,
    /// In the order in which they ended, and until when they are served. While there is one, a task waits to forget it.
    ended: VecDeque<(Instant, Arc<Live>)>,
}

impl Packagers {
    /// No packagers yet.
    pub fn new(config: &HlsConfig, metrics: HlsMetrics) -> Result<Self, HlsConfigError> {
        Self::counting_from(config, metrics, unix_s)
    }

    fn counting_from(
        config: &HlsConfig,
        metrics: HlsMetrics,
        first_msn: fn() -> u64,
    ) -> Result<Self, HlsConfigError> {
        let opus_as_aac = config.opus_as_aac;
        let config = config.checked()?;
        Ok(Self(Arc::new(Inner { config, opus_as_aac, metrics, first_msn, streams: RwLock::default() })))
    }

    /// Packages the stream until it ends, in a task of its own. Call it within a tokio runtime, when the stream starts:
    /// `Registry::with_on_start`.
    pub fn start(&self, consumer: Consumer) {
        let window = Window::starting_at(self.0.config.clone(), (self.0.first_msn)());
        let live = Arc::new(Live::new(consumer.key().clone(), window, self.0.metrics.clone()));
        {
            let mut streams = self.0.streams.write();
            let entry = streams.by_key.entry(consumer.key().clone()).or_default();
            entry.insert(0, Arc::clone(&live));
            entry.truncate(2);
        }
        let packagers = self.clone();
        tokio::spawn(async move {
            packager::run(consumer, &live, packagers.0.opus_as_aac).await;
            packagers.ended(live);
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

    /// The Availability Duration (RFC 8216bis §6.2.2) of what is listed at the end: a segment's own, and that of the
    /// longest playlist, which has the window and less than a target duration more. Players that joined just before the
    /// end still have the whole of it to play.
    fn served_after_the_end(&self) -> Duration {
        let config = &self.0.config;
        Duration::from_millis(config.window_ms.into()) + config.target_duration() * 2
    }

    fn ended(&self, live: Arc<Live>) {
        let mut streams = self.0.streams.write();
        if !live.with_window(Window::is_ready) {
            // There is nothing to serve, and it would hide what ended before it under the same name.
            return streams.remove(&live);
        }
        if streams.ended.is_empty() {
            tokio::spawn(self.clone().forget_ended());
        }
        streams.ended.push_back((Instant::now() + self.served_after_the_end(), live));
        if streams.ended.len() > MAX_ENDED
            && let Some((_, oldest)) = streams.ended.pop_front()
        {
            streams.remove(&oldest);
        }
    }

    /// Forgets the streams that ended when their time is up, until there is none.
    async fn forget_ended(self) {
        loop {
            let Some(until) = self.0.streams.write().forget_until(Instant::now()) else { return };
            sleep_until(until).await;
        }
    }
}

/// The seconds since 1970: the media sequence numbers of a stream go on where it is published again after its end, here
/// or at an origin that was restarted, and players need not know. Segments last a second or more, so a stream's numbers
/// do not overtake the clock; and those of today are numbers that every player can hold, below 2³¹.
fn unix_s() -> u64 {
    crate::origin::unix_ms() / 1_000
}

impl Streams {
    /// Forgets the streams whose time is up. When that of the next one is.
    fn forget_until(&mut self, now: Instant) -> Option<Instant> {
        while let Some((until, live)) = self.ended.front() {
            if *until > now {
                return Some(*until);
            }
            let live = Arc::clone(live);
            self.ended.pop_front();
            self.remove(&live);
        }
        None
    }

    fn remove(&mut self, live: &Arc<Live>) {
        if let Some(lives) = self.by_key.get_mut(live.key()) {
            lives.retain(|l| !Arc::ptr_eq(l, live));
            if lives.is_empty() {
                self.by_key.remove(live.key());
            }
        }
    }
}

#[cfg(test)]
mod tests;
