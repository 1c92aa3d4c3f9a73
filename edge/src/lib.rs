//! The edge: one pull from upstream per stream, any number of viewers.
//!
//! A viewer's request finds (or starts) the stream's *feed*; the feed's tags are grouped into *flush
//! units* and encoded once per wire format into a *ring*; a viewer is a cursor into that ring and a
//! socket, on the thread of a *shard*. HLS requests pass to the upstream, many equal ones as one.

mod audience;
mod cache;
mod config;
mod fanout;
mod feed;
mod guard;
mod http;
mod metrics;
mod negative;
mod places;
mod rtmp;
mod seldom;
mod sessions;
mod shard;
mod socket;
mod sound;
mod srt;
mod traced;
mod upstream;
mod whep;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZero;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control_api::Viewers;
use control_api::trace::Tracer;
use media_core::hub::{Epoch, StreamKey};
use tokio::net::TcpListener;

pub use self::srt::SrtPlay;
pub use config::{
    AccessLogConfig, CacheConfig, Config, FanoutBackend, FanoutConfig, FeedConfig, GuardConfig, HlsConfig,
    HttpConfig, RtmpConfig, SoundConfig, StreamLatency, TlsConfig, UpstreamConfig,
};
pub use guard::Access;
pub use http::{CertificateError, Certificates, Https, Listeners};
pub use rtmp::{Ingests, Play};
pub use sessions::{Doorkeeper, Session, TurnedAway};
pub use shard::Window;
pub use upstream::{Body, BoxError, OriginUrlError, Origins, Pages, TrustError, Upstream, UpstreamError};

use feed::Feeds;
use guard::Guard;
use metrics::Metrics;
use sessions::Sessions;
use shard::{Patience, Shards};
use sound::Sounds;
use upstream::Via;

/// How long the end waits for those who are hung up on, and then for the disk that the access log is on.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// Players who were being let in when the others were cut are cut so long after.
const CUT_AGAIN: Duration = Duration::from_secs(1);

/// The edge role. Clones are the same edge.
#[derive(Clone)]
pub struct Edge {
    shared: Arc<http::Shared>,
}

/// What the edge does over all streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Viewers by protocol.
    pub viewers: Viewers,
    /// Bytes written to clients' sockets since the process began.
    pub bytes_out: u64,
}

impl Edge {
    /// An edge that has its streams from `upstream` and shows them to whom `access` lets. Without `pages`, what is
    /// not media is 404. Fails where threads can't be started or the access log
    /// can't be opened.
    pub fn new(config: Config, access: Access, upstream: Upstream, pages: Option<Pages>) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let via = Via::new();
        let upstream = via.named(upstream);
        let absent_ttl = Duration::from_millis(config.feed.absent_ttl_ms);
        let grace = Duration::from_millis(config.feed.grace_ms);
        let times = (absent_ttl, grace);
        let hls = http::Hls::new(
            &config.hls,
            &config.guard,
            &config.cache,
            times,
            upstream.clone(),
            Arc::clone(&metrics),
        );
        let count = match config.fanout.shards {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let patience = Patience {
            stall: Duration::from_millis(config.http.write_stall_ms),
            pause: Duration::from_millis(config.fanout.max_pause_ms),
        };
        let shards = Shards::start(count, config.fanout.backend, patience, &metrics)?;
        let sounds = Sounds::new(&config.sound, Arc::clone(&metrics));
        let feeds = Feeds::new(config.feed, config.fanout, upstream, sounds, Arc::clone(&metrics));
        let guard = Guard::new(&config.guard, &config.access_log, access, Arc::clone(&metrics))?;
        let shared = http::Shared {
            config: config.http,
            tls: config.tls,
            rtmp: config.rtmp,
            srt: srt::Players::new(config.srt),
            feeds,
            shards,
            hls,
            via,
            pages,
            guard,
            sessions: Arc::new(Sessions::new(metrics.sessions_untold.clone())),
            ingests: OnceLock::new(),
            whep: OnceLock::new(),
            metrics,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Pulls and viewers are traced from now on. Once for an edge: later ones change nothing.
    pub fn trace_by(&self, tracer: Tracer) {
        self.shared.feeds.trace_by(tracer);
    }

    /// Takes over what can change at run time: who may play, and the rules of [`GuardConfig`]. Opens the access log
    /// again.
    pub fn reload(&self, config: &Config, play: control_api::grant::Play) {
        self.shared.guard.reload(&config.guard, play);
        self.shared.hls.reload(&config.guard);
        self.shared.guard.reopen_log();
    }

    /// Hangs up on all who are still there, and writes the access log to its end. To be called when the listeners have
    /// ended or were aborted: nobody is let in any more.
    pub async fn end(&self) {
        let http::Shared { shards, guard, srt, .. } = &*self.shared;
        guard.ends();
        let all_left = async {
            srt.cut.send_replace(true);
            shards.end().await;
            guard.all_left().await;
        };
        if tokio::time::timeout(END_DEADLINE, all_left).await.is_err() {
            tracing::warn!("some did not leave in time, and are not in the access log");
        }
        if tokio::time::timeout(END_DEADLINE, guard.flush_log()).await.is_err() {
            tracing::warn!("the access log was not written to its end");
        }
    }

    /// Puts the edge's metrics (`weir_edge_…`) into `registry`.
    pub fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        self.shared.metrics.register(registry)
    }

    /// Serves HTTP/1.1, HTTP/2 and HTTP/3 on `listeners` until `drain` resolves; then stops accepting, lets what
    /// is in flight finish until the configured deadline, cuts the rest and returns. Fails at once where TLS can't
    /// be had.
    pub async fn serve_http(
        &self,
        listeners: Listeners,
        drain: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        http::serve(Arc::clone(&self.shared), listeners, drain).await
    }

    /// Serves RTMP players on a listener of its own, until `drain` resolves; those who play then go on.
    pub async fn serve_rtmp(&self, listener: TcpListener, drain: impl Future<Output = ()> + Send) {
        rtmp::listener::serve(self, listener, drain).await;
    }

    /// Lets an RTMP player in, or tells it why not; resolves when that is settled. The player is served until it
    /// leaves, the stream ends, or the last clone of the edge is dropped.
    pub async fn serve_play(&self, play: Play) {
        rtmp::serve(&self.shared, play).await;
    }

    /// Whether an SRT caller may play, as far as it can be said at once.
    pub fn may_play_srt(
        &self,
        peer: SocketAddr,
        id: &::srt::stream_id::StreamId,
    ) -> Result<(), ::srt::Reject> {
        srt::may(&self.shared, peer, id)
    }

    /// Serves an SRT player until it leaves, the stream ends, or the edge ends.
    pub async fn serve_srt_play(&self, play: SrtPlay) {
        srt::serve(&self.shared, play).await;
    }

    /// Serves SRT players at a port of its own, until `drain` resolves; those who play then go on.
    pub async fn serve_srt(
        &self,
        port: UdpSocket,
        passphrases: ::srt::Passphrases,
        drain: impl Future<Output = ()> + Send,
    ) -> Result<(), ::srt::Error> {
        srt::listener::serve(self, port, passphrases, drain).await
    }

    /// Waits until the RTMP and SRT players have `left`. Hangs up on whoever has not by the configured deadline.
    pub async fn drain_players(&self, left: impl Future<Output = ()>) {
        let mut left = std::pin::pin!(left);
        let deadline = Duration::from_millis(self.shared.config.drain_ms);
        if tokio::time::timeout(deadline, left.as_mut()).await.is_ok() {
            return;
        }
        tracing::info!("cutting players that have not finished");
        loop {
            self.shared.shards.cut(shard::Transport::Rtmp);
            self.shared.srt.cut.send_replace(true);
            if tokio::time::timeout(CUT_AGAIN, left.as_mut()).await.is_ok() {
                return;
            }
        }
    }

    /// Who watches the stream by this edge.
    pub fn viewers(&self, key: &StreamKey) -> Viewers {
        Viewers { hls: self.shared.hls.viewers(key), ..self.shared.feeds.viewers(key) }
    }

    /// The stream has that epoch by now, wherever it is: viewers are served no older one from here on.
    pub fn moved(&self, key: &StreamKey, epoch: Epoch) {
        self.shared.feeds.moved(key, epoch);
    }

    /// Streams that are pulled or watched by this edge.
    pub fn pulled(&self) -> Vec<StreamKey> {
        let mut keys = self.shared.feeds.keys();
        keys.extend(self.shared.hls.watched());
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Streams that somebody watches by this edge, and who does.
    pub fn watched(&self) -> Vec<(StreamKey, Viewers)> {
        let counted = self.pulled().into_iter().map(|key| {
            let viewers = self.viewers(&key);
            (key, viewers)
        });
        counted.filter(|(_, viewers)| viewers.total() > 0).collect()
    }

    /// Publishers that come to this edge's RTMP listener are passed on to origins that it names. Once for an edge: later
    /// ones change nothing.
    pub fn publish_by(&self, ingests: Arc<dyn Ingests>) {
        // Whoever is first stays.
        let _ = self.shared.ingests.set(ingests);
    }

    /// Streams can be watched by WebRTC from now on (WHEP), with media by that server. Once for an edge: later ones
    /// change nothing.
    pub fn watch_by(&self, server: rtc::Server) {
        // Whoever is first stays.
        let _ = self.shared.whep.set(whep::Whep::new(server));
    }

    /// Whoever comes from now on is let in by it, too. Once for an edge: later ones change nothing.
    pub fn decide_by(&self, doorkeeper: Arc<dyn Doorkeeper>) {
        self.shared.sessions.set_doorkeeper(doorkeeper);
    }

    /// Those who watch, or watch that stream, the oldest first; and how many there are.
    pub fn sessions(&self, key: Option<&StreamKey>, limit: usize) -> (Vec<Arc<Session>>, usize) {
        // Who watches by HLS has left when it is found that it asks for nothing any more.
        self.shared.hls.all_viewers();
        self.shared.sessions.list(key, limit)
    }

    /// Viewers and bytes over all streams.
    pub fn totals(&self) -> Totals {
        let viewers = Viewers { hls: self.shared.hls.all_viewers(), ..self.shared.feeds.all_viewers() };
        Totals { viewers, bytes_out: self.shared.metrics.sent_bytes.get() }
    }
}
