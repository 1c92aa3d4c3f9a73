//! `[rtc]` of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// How WebRTC is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it is served at all.
    pub enabled: bool,
    /// Where media comes and goes, by UDP.
    pub listen: SocketAddr,
    /// The addresses that peers are told to send to; none: those of the machine's interfaces. Behind NAT it is the
    /// address outside.
    pub advertise: Vec<IpAddr>,
    /// The port beside them; 0: the one listened on.
    pub advertise_port: u16,
    /// Threads for peers; 0: one a core.
    pub threads: usize,
    /// Peers at a time.
    pub max_peers: usize,
    /// How long a peer has for becoming connected, in milliseconds.
    pub handshake_timeout_ms: u32,
    /// How often publishers are asked for a keyframe, in milliseconds: browsers send none by themselves, and segments
    /// and viewers begin with one. 0: never.
    pub keyframe_interval_ms: u32,
    /// STUN and TURN servers that clients are told of (`Link` of RFC 9725 §4.4), as URLs.
    pub ice_servers: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8189),
            advertise: Vec::new(),
            advertise_port: 0,
            threads: 0,
            max_peers: 10_000,
            handshake_timeout_ms: 10_000,
            keyframe_interval_ms: 2_000,
            ice_servers: Vec::new(),
        }
    }
}
