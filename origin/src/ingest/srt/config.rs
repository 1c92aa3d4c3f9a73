//! The SRT listener's part of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use srt::{Options, PassphraseConfig};

/// The SRT listener: who may connect, with which passphrase, and how long a peer may be silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it listens.
    pub enabled: bool,
    /// Where it listens (UDP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at once, publishers and players; further ones are refused. Each that receives has a thread.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: from one /64); further ones are refused.
    pub max_connections_per_address: usize,
    /// Milliseconds that packets may be late, at least: who connects may want more.
    pub latency_ms: u64,
    /// Milliseconds after which a peer of which nothing was heard is gone.
    pub peer_idle_ms: u64,
    /// Milliseconds after its acceptance in which a publisher must have sent a first frame that can be used.
    pub first_frame_timeout_ms: u64,
    /// Milliseconds after which a publisher that sends no media is disconnected.
    pub idle_timeout_ms: u64,
    /// Streams that are encrypted, and with what.
    pub passphrases: Vec<PassphraseConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10_080)),
            max_connections: 1_000,
            max_connections_per_address: 100,
            latency_ms: 120,
            peer_idle_ms: 5_000,
            first_frame_timeout_ms: 10_000,
            idle_timeout_ms: 15_000,
            passphrases: Vec::new(),
        }
    }
}

impl Config {
    pub(super) fn options(&self) -> Options {
        Options {
            latency: Duration::from_millis(self.latency_ms),
            idle: Duration::from_millis(self.peer_idle_ms),
            ..Options::default()
        }
    }
}
