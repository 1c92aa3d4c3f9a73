//! The edge: one pull from upstream per stream, any number of viewers.
//!
//! A viewer's request finds (or starts) the stream's *feed*; the feed's tags are grouped into *flush
//! units* and encoded once per wire format into a *ring*; a viewer is a cursor into that ring and a
//! socket. HLS requests pass to the upstream, many equal ones as one.

mod audience;
mod cache;
mod config;
mod fanout;
mod feed;
mod http;
mod metrics;
mod negative;
mod rtmp;
mod session;
mod socket;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use control_api::Viewers;
use media_core::hub::StreamKey;
use tokio::net::TcpListener;

pub use config::{Config, FanoutConfig, FeedConfig, HlsConfig, HttpConfig};
pub use rtmp::Play;
pub use upstream::{Body, BoxError, Pages, Upstream};

use feed::Feeds;
use metrics::Metrics;

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
    /// An edge that has its streams from `upstream`. Without `pages`, what is not media is 404.
    pub fn new(config: Config, upstream: Upstream, pages: Option<Pages>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let absent_ttl = Duration::from_millis(config.feed.absent_ttl_ms);
        let hls = http::Hls::new(config.hls, absent_ttl, upstream.clone(), Arc::clone(&metrics));
        let feeds = Feeds::new(config.feed, config.fanout, upstream, Arc::clone(&metrics));
        Self { shared: Arc::new(http::Shared { config: config.http, feeds, hls, pages, metrics }) }
    }

    /// Puts the edge's metrics (`weir_edge_…`) into `registry`.
    pub fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        self.shared.metrics.register(registry)
    }

    /// Serves HTTP/1.1 and HTTP/2 on `listener` until `drain` resolves; then stops accepting, lets what
    /// is in flight finish until the configured deadline, cuts the rest and returns.
    pub async fn serve_http(&self, listener: TcpListener, drain: impl Future<Output = ()> + Send) {
        http::serve(Arc::clone(&self.shared), listener, drain).await;
    }

    /// Serves an RTMP player until it leaves or the stream ends. Dropping the future hangs up.
    pub async fn serve_play(&self, play: Play) {
        let max_stall = Duration::from_millis(self.shared.config.write_stall_ms);
        rtmp::serve(&self.shared.feeds, &self.shared.metrics, max_stall, play).await;
    }

    /// Who watches the stream by this edge.
    pub fn viewers(&self, key: &StreamKey) -> Viewers {
        Viewers { hls: self.shared.hls.viewers(key), ..self.shared.feeds.viewers(key) }
    }

    /// Viewers and bytes over all streams.
    pub fn totals(&self) -> Totals {
        let viewers = Viewers { hls: self.shared.hls.all_viewers(), ..self.shared.feeds.all_viewers() };
        Totals { viewers, bytes_out: self.shared.metrics.sent_bytes.get() }
    }
}
