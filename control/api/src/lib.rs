//! What the roles of weir say to each other, and what they read alike: types, traits and no I/O.
//!
//! The control plane knows origins and edges only through [`Cluster`]; the binary composes the real
//! roles behind it.

#![forbid(unsafe_code)]

mod coding;
pub mod grant;
mod network;
pub mod pattern;
mod remote;
pub mod rpc;
mod secret;
pub mod stream;
pub mod trace;

use async_trait::async_trait;

pub use coding::{accepts_brotli, accepts_gzip};
pub use network::{Network, NoNetwork};
pub use remote::{RemoteInfo, RemoteState, Standing, shown_url};
pub use secret::Secret;
pub use stream::{
    ClusterStats, HlsState, LineInfo, MediaClock, PublisherInfo, StreamInfo, StreamState, TrackInfo, Viewers,
};

/// What parts a conference's name and a member's id in the name of the member's stream; neither has it.
pub const MEMBER_SEPARATOR: char = '~';

/// First path segments that pages and APIs use, and that therefore no stream's app may have.
pub const RESERVED_APPS: &[&str] = &[
    "api", "assets", "chat", "console", "healthz", "metrics", "readyz", "relay", "studio", "sub", "watch",
    "ws",
];

/// Why a cluster could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No such stream is live.
    #[error("no stream {app}/{name} is live")]
    NoSuchStream {
        /// Its app.
        app: String,
        /// Its name.
        name: String,
    },
    /// What the cluster agrees on can't be reached; it may be tried again.
    #[error("the cluster cannot do this at the moment: {0}")]
    Unavailable(String),
}

/// The media side as the control plane sees it.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// All streams that are live or in their grace period, ordered by app and name.
    async fn streams(&self) -> Vec<StreamInfo>;

    /// One stream.
    async fn stream(&self, app: &str, name: &str) -> Option<StreamInfo>;

    /// Ends the stream: its publisher is told and disconnected, its viewers' streams end.
    async fn kick(&self, app: &str, name: &str) -> Result<(), ClusterError>;

    /// Totals.
    async fn stats(&self) -> ClusterStats;
}
