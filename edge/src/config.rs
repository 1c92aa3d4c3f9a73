//! The edge's part of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use control_api::{Network, Secret};
use media_core::hub::StreamKey;
use serde::{Deserialize, Serialize};
use srt::PassphraseConfig;

use crate::shard::Window;

/// How the edge serves viewers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP listener's connections.
    pub http: HttpConfig,
    /// HTTPS.
    pub tls: TlsConfig,
    /// Who is served, and how much.
    pub guard: GuardConfig,
    /// What is written of each request.
    pub access_log: AccessLogConfig,
    /// The RTMP listener of an edge that is a process of its own.
    pub rtmp: RtmpConfig,
    /// The SRT listener of an edge that is a process of its own.
    pub srt: SrtConfig,
    /// Where an edge that is a process of its own has its streams from.
    pub upstream: UpstreamConfig,
    /// The pull of a stream from its origin.
    pub feed: FeedConfig,
    /// Sending a stream to its viewers.
    pub fanout: FanoutConfig,
    /// Sound that is transcoded for viewers.
    pub sound: SoundConfig,
    /// HLS requests.
    pub hls: HlsConfig,
    /// HLS files that are kept.
    pub cache: CacheConfig,
}

/// The HTTP listener's connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at once; further ones are closed at once.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: from one /64); further ones are closed at once. Of
    /// [`GuardConfig::trusted_proxies`] there may be more.
    pub max_connections_per_address: usize,
    /// Milliseconds that a client has for sending a request's head, and that an idle connection is kept.
    pub header_timeout_ms: u64,
    /// Milliseconds that a client has for sending the body of a request to the API.
    pub body_timeout_ms: u64,
    /// Milliseconds that a client may take nothing of what is sent to it before it is cut off.
    pub write_stall_ms: u64,
    /// What other edges must bring to pull from this one. Without it they can't.
    pub relay_key: Option<Secret>,
    /// Milliseconds that live viewers have for finishing once the server drains.
    pub drain_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            max_connections: 50_000,
            max_connections_per_address: 10_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            write_stall_ms: 15_000,
            relay_key: None,
            drain_ms: 10_000,
        }
    }
}

/// HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Where it listens: by TCP and, for HTTP/3, by UDP.
    pub listen: Option<SocketAddr>,
    /// PEM file with the certificate and those that sign it.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// Whether HTTP/3 is served beside HTTP/1.1 and HTTP/2.
    pub http3: bool,
    /// Milliseconds that a client has for the TLS handshake.
    pub handshake_timeout_ms: u64,
}

impl TlsConfig {
    /// Port 8443 everywhere.
    const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);

    /// Where HTTPS listens, which it does if an address or a certificate is configured.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.or(self.certificate.is_some().then_some(Self::LISTEN))
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { listen: None, certificate: None, key: None, http3: true, handshake_timeout_ms: 5_000 }
    }
}

/// Who is served, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Networks that are served by HTTP and may play by RTMP; none is all.
    pub allow: Vec<Network>,
    /// Networks that are not, also if they are allowed.
    pub deny: Vec<Network>,
    /// Proxies whose `X-Forwarded-For` says who asks.
    pub trusted_proxies: Vec<Network>,
    /// Origins (`https://example.com`) whose pages may read media and open WebSockets; `*` is all.
    pub cors_origins: Vec<String>,
    /// Hosts whose pages may show media; none is all.
    pub referers: Vec<String>,
    /// Whether a player that names no page may show media where `referers` has hosts.
    pub empty_referer: bool,
    /// Requests a second from one address (of IPv6: from one /64), bursts of twice as many; 0 is no limit.
    pub max_requests_per_second_per_address: u32,
    /// Viewers at once over all streams and protocols, of them 400,000 by HLS at most; further ones are refused.
    pub max_viewers: u64,
    /// Viewers by HLS at once at one address (of IPv6: at one /64), which are told apart by the session that their grant
    /// names or by their User-Agent; further ones are refused. 0 is no limit.
    pub max_hls_viewers_per_address: usize,
    /// Megabits (10⁶) a second that the process sends, above which no further viewer is let in; 0 is no limit.
    pub max_egress_mbps: u64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            trusted_proxies: Vec::new(),
            cors_origins: vec!["*".into()],
            referers: Vec::new(),
            empty_referer: true,
            max_requests_per_second_per_address: 0,
            max_viewers: 1_000_000,
            max_hls_viewers_per_address: 1_000,
            max_egress_mbps: 0,
        }
    }
}

/// What is written of each request and player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// `off`, `stdout`, or the file that lines are added to.
    pub path: String,
    /// Seconds after which a viewer that stays is written again; 0 is never.
    pub interval_s: u64,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { path: "off".into(), interval_s: 300 }
    }
}

/// The RTMP listener of an edge that is a process of its own. Where an origin is in the process, its listener is for
/// players, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtmpConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at once; further ones are closed at once.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: from one /64); further ones are closed at once.
    pub max_connections_per_address: usize,
    /// Milliseconds that a client has for the handshake, and then for asking to play.
    pub handshake_timeout_ms: u64,
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1935)),
            max_connections: 50_000,
            max_connections_per_address: 10_000,
            handshake_timeout_ms: 5_000,
        }
    }
}

/// The SRT listener of an edge that is a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SrtConfig {
    /// Whether it listens.
    pub enabled: bool,
    /// Where it listens (UDP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at once; further ones are refused.
    pub max_connections: usize,
    /// Connections at once from one address (of IPv6: from one /64); further ones are refused.
    pub max_connections_per_address: usize,
    /// Milliseconds that packets may be late, at least: who connects may want more.
    pub latency_ms: u64,
    /// Milliseconds after which a peer of which nothing was heard is gone.
    pub peer_idle_ms: u64,
    /// Streams that are encrypted, and with what.
    pub passphrases: Vec<PassphraseConfig>,
}

impl Default for SrtConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10_080)),
            max_connections: 5_000,
            max_connections_per_address: 1_000,
            latency_ms: 120,
            peer_idle_ms: 5_000,
            passphrases: Vec::new(),
        }
    }
}

/// Where an edge that is a process of its own has its streams from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Origins, or edges that serve relays, as `http://host:port` or `https://host:port`.
    pub origins: Vec<String>,
    /// PEM file with the certificates that sign those of origins asked by https; without it, those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// Their key: an origin's `origin.http.key`, an edge's `edge.http.relay_key`.
    pub key: Option<Secret>,
    /// Milliseconds that connecting may take.
    pub connect_timeout_ms: u64,
    /// Milliseconds that the first byte of what is not to wait for media may take.
    pub first_byte_timeout_ms: u64,
    /// Milliseconds in which nothing of a body may come. A stream whose publisher dropped sends nothing.
    pub stall_timeout_ms: u64,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            ca: None,
            key: None,
            connect_timeout_ms: 2_000,
            first_byte_timeout_ms: 4_000,
            stall_timeout_ms: 20_000,
        }
    }
}

/// The pull of a stream from its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedConfig {
    /// Milliseconds that a stream is still pulled after its last viewer left.
    pub linger_ms: u64,
    /// Milliseconds that viewers wait for a stream whose origin was lost, while it is asked again.
    pub grace_ms: u64,
    /// Milliseconds that the origin has for answering a request for a stream.
    pub connect_timeout_ms: u64,
    /// Milliseconds that a stream's absence is remembered, so that asking for it again costs the origin
    /// nothing.
    pub absent_ttl_ms: u64,
    /// Streams pulled at once; viewers of further ones are refused.
    pub max_feeds: usize,
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            linger_ms: 30_000,
            grace_ms: 15_000,
            connect_timeout_ms: 5_000,
            absent_ttl_ms: 1_000,
            max_feeds: 10_000,
        }
    }
}

/// Sound that is transcoded for viewers: AAC into Opus for WebRTC, Opus into AAC for those who ask for it (`?audio=aac`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoundConfig {
    /// Streams whose sound is transcoded at once, of which each takes about a hundredth of a core; viewers of further ones
    /// have it as it was published. With 0 none is.
    pub max_streams: usize,
}

impl Default for SoundConfig {
    fn default() -> Self {
        Self { max_streams: 100 }
    }
}

/// Sending a stream to its viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FanoutConfig {
    /// Bytes kept of a stream for one wire format. A viewer that falls further behind skips to the newest
    /// keyframe; a GOP longer than this cannot be joined at its start.
    pub ring_bytes: usize,
    /// Milliseconds that what is older than the newest keyframe is kept for viewers that are behind.
    pub ring_ms: u64,
    /// Threads that send to viewers; 0 is one a core.
    pub shards: usize,
    /// How long what is to be sent waits for more, so that one write sends it all: `frame`, `auto` or milliseconds.
    /// Viewers choose another by `?latency=`.
    pub latency: Window,
    /// Other values of it for some streams: the first that matches holds.
    pub streams: Vec<StreamLatency>,
    /// How the sockets of a flush are written.
    pub backend: FanoutBackend,
    /// Milliseconds that sound may wait for the picture with which it is sent.
    pub audio_delay_ms: u64,
    /// Milliseconds that a viewer may be behind what it could have been sent since it began. Then it skips to the newest
    /// keyframe, or waits for the next one.
    pub max_lag_ms: u64,
    /// Skips a minute after which a viewer is dropped, because its line is too slow for the stream.
    pub max_skips_per_minute: u32,
    /// Milliseconds that an RTMP player may pause.
    pub max_pause_ms: u64,
    /// Viewers at once of one stream by all protocols; further ones are refused.
    pub max_viewers_per_stream: usize,
}

impl FanoutConfig {
    /// How long a stream's flushes wait for viewers that don't choose.
    pub(crate) fn latency_of(&self, key: &StreamKey) -> Window {
        let rule =
            self.streams.iter().find(|rule| control_api::pattern::matches(&rule.streams, key.as_str()));
        rule.map_or(self.latency, |rule| rule.latency)
    }
}

/// How the sockets of a flush are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanoutBackend {
    /// Whichever was the faster when it was measured, if it can be had.
    Auto,
    /// One system call each.
    Send,
    /// One for many (io_uring).
    IoUring,
}

/// How long the flushes of some streams wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamLatency {
    /// Streams that it is for, as `app/name`; `*` stands for any characters.
    pub streams: String,
    /// As [`FanoutConfig::latency`].
    pub latency: Window,
}

impl Default for FanoutConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 16 * 1024 * 1024,
            ring_ms: 10_000,
            shards: 0,
            latency: Window::Auto,
            streams: Vec::new(),
            backend: FanoutBackend::Auto,
            audio_delay_ms: 100,
            max_lag_ms: 10_000,
            max_skips_per_minute: 6,
            max_pause_ms: 60_000,
            max_viewers_per_stream: 50_000,
        }
    }
}

/// HLS requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HlsConfig {
    /// Bytes of the largest playlist, part or segment that is passed on.
    pub max_object_bytes: usize,
    /// Milliseconds that a blocking playlist reload or a part that is announced may take.
    pub request_timeout_ms: u64,
    /// Milliseconds after its last playlist request that an HLS client counts as a viewer.
    pub viewer_ttl_ms: u64,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self { max_object_bytes: 64 * 1024 * 1024, request_timeout_ms: 30_000, viewer_ttl_ms: 10_000 }
    }
}

/// HLS files that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of parts, segments and playlists that are kept in memory.
    pub memory_bytes: usize,
    /// Bytes on disk for parts, segments and init segments that leave memory; 0 keeps none there.
    pub disk_bytes: usize,
    /// Folder for them, which nothing else uses; by default one in the data folder.
    pub folder: Option<PathBuf>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 256 * 1024 * 1024, disk_bytes: 0, folder: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_matches_says_how_long_a_streams_flushes_wait() {
        let rule = |streams: &str, latency| StreamLatency { streams: streams.to_owned(), latency };
        let streams = vec![rule("live/low-*", Window::Frame), rule("live/*", Window::Fixed(100))];
        let config = FanoutConfig { streams, ..FanoutConfig::default() };
        let of = |app, name| config.latency_of(&StreamKey::parse(app, name, &[]).unwrap());
        assert_eq!(of("live", "low-1"), Window::Frame);
        assert_eq!(of("live", "a"), Window::Fixed(100));
        assert_eq!(of("cam", "a"), Window::Auto);
    }
}
