//! The RTMP listener's part of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use media_core::rtmp::server;
use serde::{Deserialize, Serialize};

/// The RTMP listener: who may connect, and how long a client may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at once, publishers and players; further ones are closed at once.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: from one /64); further ones are closed at once.
    pub max_connections_per_address: usize,
    /// Milliseconds that a client has for the handshake.
    pub handshake_timeout_ms: u64,
    /// Milliseconds after the handshake in which a client must ask to publish or to play.
    pub request_timeout_ms: u64,
    /// Milliseconds after its acceptance in which a publisher must send its first audio or video message.
    pub first_frame_timeout_ms: u64,
    /// Milliseconds after which a publisher that sends nothing is disconnected.
    pub idle_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1935)),
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            handshake_timeout_ms: 5_000,
            request_timeout_ms: 10_000,
            first_frame_timeout_ms: 10_000,
            idle_timeout_ms: 15_000,
        }
    }
}

/// A day: what is meant as "never" must not overflow a clock.
const MAX_TIMEOUT_MS: u64 = 86_400_000;

impl Config {
    pub(super) fn session(&self) -> server::Config {
        let time = |ms: u64| Duration::from_millis(ms.min(MAX_TIMEOUT_MS));
        server::Config {
            handshake_timeout: time(self.handshake_timeout_ms),
            request_timeout: time(self.request_timeout_ms),
            first_frame_timeout: time(self.first_frame_timeout_ms),
            idle_timeout: time(self.idle_timeout_ms),
        }
    }
}
