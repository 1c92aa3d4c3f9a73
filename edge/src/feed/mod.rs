//! One pull per stream, whatever number and kind of viewers watch it here.
//!
//! The first viewer's request starts a *feed*, concurrent first ones share it, and it lingers for a
//! while after the last one left. A feed is a task that reads the relay and writes the fan-out; where somebody wants other
//! sound, a second task reads that and writes a fan-out of its own.

mod aac;
mod pull;
mod reading;
mod recode;
mod resume;
mod timeline;
mod trace;
mod viewer;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use control_api::Viewers;
use control_api::trace::{Context, Tracer};
use http::{HeaderValue, Request};
use media_core::frame::Codec;
use media_core::hub::{Epoch, StreamKey};
use parking_lot::Mutex;
use tokio::sync::watch;

use aac::Aac;
pub(crate) use viewer::Viewer;

use crate::config::{FanoutConfig, FeedConfig};
use crate::fanout::{Fanout, Format, Start};
use crate::metrics::Metrics;
use crate::negative::Absent;
use crate::seldom::Seldom;
use crate::shard::Window;
use crate::sound::{Sounds, Wanted};
use crate::upstream::{Upstream, ask, segment};

/// How long the answer may take to a question for a keyframe: the next one comes by itself.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(2);

/// Why somebody can't watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The origin has no such stream.
    #[error("the stream is not live")]
    Absent,
    /// The origin doesn't answer, or not as it should.
    #[error("the stream's origin can't be reached")]
    Unavailable,
    /// No origin that could have it answers now.
    #[error("the stream's origin can't be reached at the moment")]
    Away,
    /// As many streams or viewers as configured.
    #[error("this server is full")]
    Full,
}

/// All feeds.
pub(crate) struct Feeds {
    config: FeedConfig,
    fanout: FanoutConfig,
    upstream: Upstream,
    pub(crate) sounds: Arc<Sounds>,
    metrics: Arc<Metrics>,
    absent: Absent,
    /// Lines about streams that can't be had, or not at the moment: viewers cause them, with names that they may make up.
    unavailable: Seldom,
    away: Seldom,
    tracer: OnceLock<Tracer>,
    feeds: Mutex<HashMap<StreamKey, Arc<Feed>>>,
    /// Those who watch by WebRTC.
    webrtc: Arc<AtomicU64>,
}

/// One stream's feed.
struct Feed {
    key: StreamKey,
    /// The edges that it is pulled through.
    via: Option<HeaderValue>,
    fanout: Fanout,
    /// The same with AAC for Opus, while somebody wants it.
    aac: Mutex<Weak<Aac>>,
    /// Those who watch or are about to.
    seats: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
    /// The highest epoch that the stream is known to have somewhere: an older one is not for viewers any more.
    newest: watch::Sender<Epoch>,
    /// The span of the pull that it reads or has read last.
    trace: Mutex<Option<Context>>,
    viewers: [AtomicU64; Format::ALL.len()],
    webrtc: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Live,
    Refused(Refusal),
}

impl Feeds {
    pub(crate) fn new(
        config: FeedConfig,
        fanout: FanoutConfig,
        upstream: Upstream,
        sounds: Arc<Sounds>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let absent = Absent::new(Duration::from_millis(config.absent_ttl_ms));
        let (unavailable, away, tracer, feeds, webrtc) = Default::default();
        Arc::new(Self {
            config,
            fanout,
            upstream,
            sounds,
            metrics,
            absent,
            unavailable,
            away,
            tracer,
            feeds,
            webrtc,
        })
    }

    /// Pulls and viewers are traced from now on. Once: later ones change nothing.
    pub(crate) fn trace_by(&self, tracer: Tracer) {
        // Whoever is first stays.
        let _ = self.tracer.set(tracer);
    }

    pub(crate) fn tracer(&self) -> &Tracer {
        self.tracer.get().unwrap_or(&Tracer::OFF)
    }

    /// The span in which a stream was pulled, if it is.
    pub(crate) fn trace(&self, key: &StreamKey) -> Option<Context> {
        let feed = self.feeds.lock().get(key).map(Arc::clone)?;
        feed.trace()
    }

    /// Somebody who watches a stream can't go on without a keyframe: its publisher is asked, by way of its origin. Whether
    /// that helps is seen in the feed.
    pub(crate) async fn want_keyframe(&self, key: &StreamKey) {
        let uri = format!("/relay/{}/{}?keyframe", segment(key.app()), segment(key.name()));
        let Ok(request) = Request::get(uri).body(()) else { return };
        let answer = tokio::time::timeout(KEYFRAME_PATIENCE, ask(&self.upstream, request)).await;
        match answer {
            Ok(Ok(answer)) => tracing::debug!(stream = %key, status = %answer.status(), "keyframe asked for"),
            Ok(Err(error)) => tracing::debug!(stream = %key, error, "a keyframe can't be asked for"),
            Err(_) => tracing::debug!(stream = %key, "nobody answers who was asked for a keyframe"),
        }
    }

    /// Lets somebody watch a stream that so many watch by HLS; resolves once the upstream has answered.
    pub(crate) async fn join(
        self: &Arc<Self>,
        key: &StreamKey,
        format: Format,
        (start, wanted): (Start, Wanted),
        hls: u64,
    ) -> Result<Viewer, Refusal> {
        let seat = self.settled(key, hls, None).await?;
        let aac = (wanted == Wanted::Aac).then(|| self.aac(&seat.feed));
        Ok(Viewer::new(seat, aac, format, start, Arc::clone(&self.metrics)))
    }

    /// The same for who passes a stream on: an edge, which has come the way that `via` names, or a part of this one.
    pub(crate) async fn relay(
        self: &Arc<Self>,
        key: &StreamKey,
        start: Start,
        via: Option<HeaderValue>,
    ) -> Result<Viewer, Refusal> {
        let seat = self.settled(key, 0, via).await?;
        Ok(Viewer::new(seat, None, Format::Relay, start, Arc::clone(&self.metrics)))
    }

    /// The fan-out of a feed with AAC for Opus.
    fn aac(&self, feed: &Feed) -> Arc<Aac> {
        let mut place = feed.aac.lock();
        if let Some(aac) = place.upgrade().filter(|aac| !aac.is_over()) {
            return aac;
        }
        let sound = self.sounds.of(&feed.key, Codec::Aac);
        let aac = Arc::new(Aac::start(feed, Fanout::new(&self.fanout, now()), sound));
        *place = Arc::downgrade(&aac);
        aac
    }

    /// A seat in a feed whose upstream has answered.
    async fn settled(
        self: &Arc<Self>,
        key: &StreamKey,
        hls: u64,
        via: Option<HeaderValue>,
    ) -> Result<Seat, Refusal> {
        let seat = self.seat(key, via)?;
        let mut phase = seat.feed.phase.subscribe();
        let phase = match phase.wait_for(|phase| *phase != Phase::Starting).await {
            Ok(phase) => *phase,
            Err(_) => Phase::Refused(Refusal::Unavailable),
        };
        if let Phase::Refused(refusal) = phase {
            return Err(refusal);
        }
        if (*seat.feed.seats.borrow() as u64).saturating_add(hls) > self.max_viewers_per_stream() {
            return Err(Refusal::Full);
        }
        Ok(seat)
    }

    /// A place among those who watch a stream, for somebody who does not read the feed by itself; so many watch by HLS.
    pub(crate) async fn attend(self: &Arc<Self>, key: &StreamKey, hls: u64) -> Result<Audience, Refusal> {
        let seat = self.settled(key, hls, None).await?;
        Ok(Audience::new(seat, Arc::clone(&self.webrtc)))
    }

    /// How many may watch a stream by HLS, beside those who have a feed of it.
    pub(crate) fn room(&self, key: &StreamKey) -> u64 {
        let seats = self.feeds.lock().get(key).map_or(0, |feed| *feed.seats.borrow());
        self.max_viewers_per_stream().saturating_sub(seats as u64)
    }

    fn max_viewers_per_stream(&self) -> u64 {
        self.fanout.max_viewers_per_stream as u64
    }

    /// How long a stream's flushes wait for viewers that don't choose.
    pub(crate) fn latency(&self, key: &StreamKey) -> Window {
        self.fanout.latency_of(key)
    }

    /// Who watches a stream.
    pub(crate) fn viewers(&self, key: &StreamKey) -> Viewers {
        self.feeds.lock().get(key).map(|feed| feed.viewers()).unwrap_or_default()
    }

    /// The stream has that epoch by now, wherever it is.
    pub(crate) fn moved(&self, key: &StreamKey, epoch: Epoch) {
        if let Some(feed) = self.feeds.lock().get(key) {
            feed.newest.send_if_modified(|newest| {
                let later = epoch > *newest;
                *newest = epoch.max(*newest);
                later
            });
        }
    }

    /// The streams that are pulled.
    pub(crate) fn keys(&self) -> Vec<StreamKey> {
        self.feeds.lock().keys().cloned().collect()
    }

    /// Who watches anything.
    pub(crate) fn all_viewers(&self) -> Viewers {
        let count = |format| u64::try_from(self.metrics.viewers(format)).unwrap_or_default();
        Viewers {
            flv: count(Format::Flv),
            ws_flv: count(Format::WsFlv),
            rtmp: count(Format::Rtmp),
            hls: 0,
            ts: count(Format::Ts),
            srt: count(Format::Srt),
            webrtc: self.webrtc.load(Ordering::Relaxed),
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.feeds.lock().len()
    }

    /// A seat in a feed that is there or begins.
    fn seat(self: &Arc<Self>, key: &StreamKey, via: Option<HeaderValue>) -> Result<Seat, Refusal> {
        let mut feeds = self.feeds.lock();
        let count = feeds.len();
        match feeds.entry(key.clone()) {
            Entry::Occupied(entry) => Ok(Seat::new(entry.get())),
            Entry::Vacant(entry) => {
                if self.absent.get(key, now()).is_some() {
                    self.metrics.absent_hits.inc();
                    return Err(Refusal::Absent);
                }
                if count >= self.config.max_feeds {
                    return Err(Refusal::Full);
                }
                let feed = Arc::new(Feed {
                    key: key.clone(),
                    via,
                    fanout: Fanout::new(&self.fanout, now()),
                    aac: Mutex::default(),
                    seats: watch::Sender::new(0),
                    phase: watch::Sender::new(Phase::Starting),
                    newest: watch::Sender::default(),
                    trace: Mutex::default(),
                    viewers: Default::default(),
                    webrtc: AtomicU64::new(0),
                });
                let seat = Seat::new(&feed);
                entry.insert(Arc::clone(&feed));
                pull::start(Arc::clone(self), feed);
                Ok(seat)
            }
        }
    }
}

impl Feed {
    fn viewers(&self) -> Viewers {
        let count = |format: Format| {
            self.viewers.get(format.index()).map_or(0, |count| count.load(Ordering::Relaxed))
        };
        Viewers {
            flv: count(Format::Flv) + count(Format::ChunkedFlv),
            ws_flv: count(Format::WsFlv),
            rtmp: count(Format::Rtmp),
            hls: 0,
            ts: count(Format::Ts) + count(Format::ChunkedTs),
            srt: count(Format::Srt),
            webrtc: self.webrtc.load(Ordering::Relaxed),
        }
    }

    fn trace(&self) -> Option<Context> {
        self.trace.lock().clone()
    }

    /// The first answer: those who wait for it go on. Later ones change nothing.
    fn settle(&self, answer: Phase) {
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Starting;
            if first {
                *phase = answer;
            }
            first
        });
    }
}

/// What keeps a feed running.
struct Seat {
    feed: Arc<Feed>,
}

impl Seat {
    fn new(feed: &Arc<Feed>) -> Self {
        feed.seats.send_modify(|seats| *seats += 1);
        Self { feed: Arc::clone(feed) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.feed.seats.send_modify(|seats| *seats -= 1);
    }
}

/// Somebody who watches a stream by WebRTC, in the counts. Dropping it is leaving.
pub(crate) struct Audience {
    seat: Seat,
    all: Arc<AtomicU64>,
}

impl Audience {
    fn new(seat: Seat, all: Arc<AtomicU64>) -> Self {
        seat.feed.webrtc.fetch_add(1, Ordering::Relaxed);
        all.fetch_add(1, Ordering::Relaxed);
        Self { seat, all }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.seat.feed.webrtc.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time, which tests may hold.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
