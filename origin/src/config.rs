//! The origin's part of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use control_api::Secret;
use serde::{Deserialize, Serialize};

use crate::package::hls::HlsConfig;

/// How the origin takes streams in and hands them on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Streams: how many, and how long they wait for their publisher.
    pub streams: StreamsConfig,
    /// Who may publish.
    pub auth: crate::auth::Config,
    /// The RTMP listener.
    pub rtmp: crate::ingest::rtmp::Config,
    /// The SRT listener.
    pub srt: crate::ingest::srt::Config,
    /// The HTTP listener for edges, of an origin that is a process of its own.
    pub http: HttpConfig,
    /// Low-latency HLS.
    pub hls: HlsConfig,
}

/// The HTTP listener for edges, of an origin that is a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What edges must bring. Without it whoever reaches the listener can pull every stream.
    pub key: Option<Secret>,
    /// PEM file with the certificate that edges are shown, and those that sign it. With it they are served by TLS alone.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub certificate_key: Option<PathBuf>,
    /// Connections at once; further ones wait.
    pub max_connections: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            key: None,
            certificate: None,
            certificate_key: None,
            max_connections: 50_000,
        }
    }
}

/// Streams: how many, what is kept of each, and how long they wait for their publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Streams at once, live and interrupted.
    pub max_streams: usize,
    /// Milliseconds that a stream waits for its publisher's return after it dropped. Viewers stay connected.
    pub grace_ms: u64,
    /// Whether a second publisher of a live stream takes it over; else it is refused.
    pub takeover: bool,
    /// Bytes of media kept per stream for new viewers, at most. It holds the last two GOPs.
    pub cache_bytes: usize,
    /// Milliseconds of media kept per stream, at most.
    pub cache_span_ms: u32,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            max_streams: 10_000,
            grace_ms: 15_000,
            takeover: false,
            cache_bytes: 32 << 20,
            cache_span_ms: 30_000,
        }
    }
}
