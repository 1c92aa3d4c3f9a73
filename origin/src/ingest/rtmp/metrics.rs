//! The RTMP listener's metrics, `weir_origin_rtmp_…`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and a gauge; labels are words from this program only.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) connections: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) refused_connections: IntCounterVec,
    pub(super) refused_publishes: IntCounterVec,
    pub(super) plays: IntCounter,
    pub(super) closed: IntCounterVec,
    pub(super) bad_messages: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_reason = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["reason"]);
        let metrics = Self {
            connections: IntGauge::new(
                "weir_origin_rtmp_connections",
                "RTMP connections, of publishers and players.",
            )?,
            accepted: IntCounter::new("weir_origin_rtmp_accepted_total", "RTMP connections accepted.")?,
            refused_connections: by_reason(
                "weir_origin_rtmp_refused_connections_total",
                "RTMP connections closed at once, by the limit that they exceeded.",
            )?,
            refused_publishes: by_reason(
                "weir_origin_rtmp_refused_publishes_total",
                "Publishers refused, by reason.",
            )?,
            plays: IntCounter::new("weir_origin_rtmp_plays_total", "Requests to play by RTMP.")?,
            closed: by_reason(
                "weir_origin_rtmp_closed_total",
                "RTMP connections that ended before they were handed on, by reason.",
            )?,
            bad_messages: by_reason(
                "weir_origin_rtmp_bad_messages_total",
                "Audio, video and data messages that could not be used, by reason.",
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.accepted.clone()))?;
        registry.register(Box::new(metrics.refused_connections.clone()))?;
        registry.register(Box::new(metrics.refused_publishes.clone()))?;
        registry.register(Box::new(metrics.plays.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.bad_messages.clone()))?;
        Ok(metrics)
    }
}
