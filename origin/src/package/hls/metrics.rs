//! What HLS counts.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters, `weir_origin_hls_…`. Clones are the same.
#[derive(Debug, Clone)]
pub struct HlsMetrics {
    requests: IntCounterVec,
    pub(super) parts: IntCounter,
    pub(super) playlists_rendered: IntCounter,
    pub(super) playlists_compressed: IntCounter,
    pub(super) timeouts: IntCounter,
    pub(super) restarts: IntCounter,
    pub(super) hurried: IntCounter,
}

/// What a request asks for, as a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Multivariant,
    Playlist,
    BlockingPlaylist,
    Init,
    Segment,
    Part,
    /// No name that means anything.
    Unknown,
}

impl Asked {
    fn label(self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant",
            Self::Playlist => "playlist",
            Self::BlockingPlaylist => "blocking_playlist",
            Self::Init => "init",
            Self::Segment => "segment",
            Self::Part => "part",
            Self::Unknown => "unknown",
        }
    }
}

impl HlsMetrics {
    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new("weir_origin_hls_requests_total", "Requests for HLS, by what they ask for."),
                &["object"],
            )?,
            parts: IntCounter::new("weir_origin_hls_parts_total", "Parts made, each in all its renditions.")?,
            playlists_rendered: IntCounter::new(
                "weir_origin_hls_playlists_rendered_total",
                "Playlists rendered: at most one for each state of a stream and kind of request.",
            )?,
            playlists_compressed: IntCounter::new(
                "weir_origin_hls_playlists_compressed_total",
                "Rendered playlists that were also compressed.",
            )?,
            timeouts: IntCounter::new(
                "weir_origin_hls_timeouts_total",
                "Requests that waited for three target durations and were answered 503.",
            )?,
            restarts: IntCounter::new(
                "weir_origin_hls_restarts_total",
                "Times that a packager read too slowly, lost frames and began anew.",
            )?,
            hurried: IntCounter::new(
                "weir_origin_hls_hurried_segments_total",
                "Segments that left the playlist or memory before their time, since their stream has max_bytes.",
            )?,
        })
    }

    /// Puts them into `registry`.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.parts.clone()))?;
        registry.register(Box::new(self.playlists_rendered.clone()))?;
        registry.register(Box::new(self.playlists_compressed.clone()))?;
        registry.register(Box::new(self.timeouts.clone()))?;
        registry.register(Box::new(self.restarts.clone()))?;
        registry.register(Box::new(self.hurried.clone()))
    }

    pub(super) fn asked(&self, asked: Asked) {
        self.requests.with_label_values(&[asked.label()]).inc();
    }
}
