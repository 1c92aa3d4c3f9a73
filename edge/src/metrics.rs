//! What the edge counts. No label has a stream's name: their number has no bound.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::fanout::{Format, Over};

/// The edge's metrics.
pub(crate) struct Metrics {
    viewers: IntGaugeVec,
    joins: IntCounterVec,
    skips: IntCounterVec,
    drops: IntCounterVec,
    /// Streams that are pulled.
    pub(crate) feeds: IntGauge,
    /// Pulls that were lost and begun again.
    pub(crate) feed_reconnects: IntCounter,
    /// Requests to the upstream for relays.
    pub(crate) upstream_relay: IntCounter,
    /// Requests to the upstream for HLS files.
    pub(crate) upstream_hls: IntCounter,
    upstream: IntCounterVec,
    /// Requests that got the answer of another one's upstream request.
    pub(crate) coalesced: IntCounter,
    /// Requests that were answered from the memory of what is absent.
    pub(crate) absent_hits: IntCounter,
    /// HTTP connections.
    pub(crate) connections: IntGauge,
    refused: IntCounterVec,
    responses: IntCounterVec,
    /// Bytes written to sockets.
    pub(crate) sent_bytes: IntCounter,
}

impl Metrics {
    #[allow(clippy::expect_used, reason = "names and labels are constants, which a test creates")]
    pub(crate) fn new() -> Self {
        Self::create().expect("names and labels are well-formed")
    }

    fn create() -> Result<Self, prometheus::Error> {
        let upstream = counters("upstream_requests", "Requests to the upstream", "kind")?;
        Ok(Self {
            viewers: IntGaugeVec::new(
                Opts::new("weir_edge_viewers", "Viewers by protocol, without HLS"),
                &["protocol"],
            )?,
            joins: counters("viewer_joins", "Viewers that began to watch", "protocol")?,
            skips: counters("viewer_skips", "Skips of viewers to a newer keyframe", "reason")?,
            drops: counters("viewer_drops", "Viewers that were dropped", "reason")?,
            feeds: IntGauge::new("weir_edge_feeds", "Streams that are pulled from the upstream")?,
            feed_reconnects: counter("feed_reconnects", "Pulls that were lost and begun again")?,
            upstream_relay: upstream.with_label_values(&["relay"]),
            upstream_hls: upstream.with_label_values(&["hls"]),
            upstream,
            coalesced: counter("coalesced_requests", "Requests answered by another one's upstream request")?,
            absent_hits: counter("absent_hits", "Requests answered from the memory of what is absent")?,
            connections: IntGauge::new("weir_edge_connections", "HTTP connections")?,
            refused: counters("connections_refused", "HTTP connections closed at once", "reason")?,
            responses: counters("responses", "HTTP responses by class of status", "class")?,
            sent_bytes: counter("sent_bytes", "Bytes written to clients' sockets")?,
        })
    }

    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.viewers.clone()))?;
        registry.register(Box::new(self.joins.clone()))?;
        registry.register(Box::new(self.skips.clone()))?;
        registry.register(Box::new(self.drops.clone()))?;
        registry.register(Box::new(self.feeds.clone()))?;
        registry.register(Box::new(self.feed_reconnects.clone()))?;
        registry.register(Box::new(self.upstream.clone()))?;
        registry.register(Box::new(self.coalesced.clone()))?;
        registry.register(Box::new(self.absent_hits.clone()))?;
        registry.register(Box::new(self.connections.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.responses.clone()))?;
        registry.register(Box::new(self.sent_bytes.clone()))
    }

    /// Viewers of a wire format.
    pub(crate) fn viewers(&self, format: Format) -> IntGauge {
        self.viewers.with_label_values(&[format.name()])
    }

    /// A viewer began to watch.
    pub(crate) fn joined(&self, format: Format) {
        self.joins.with_label_values(&[format.name()]).inc();
        self.viewers(format).inc();
    }

    /// A viewer left, having skipped that often.
    pub(crate) fn left(&self, format: Format) {
        self.viewers(format).dec();
    }

    /// A viewer skipped because it lagged.
    pub(crate) fn skipped(&self, times: u64) {
        self.skips.with_label_values(&["lagged"]).inc_by(times);
    }

    /// A viewer was dropped, if the reason is not that the stream ended.
    pub(crate) fn dropped(&self, over: Over) {
        let reason = match over {
            Over::Ended => return,
            Over::Lagged => "lagged",
            Over::Stalled => "stalled",
        };
        self.drops.with_label_values(&[reason]).inc();
    }

    /// A connection was closed at once, by `total` or `address`.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A response's head was made.
    pub(crate) fn responded(&self, status: http::StatusCode) {
        let class = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.responses.with_label_values(&[class]).inc();
    }
}

fn counter(name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    IntCounter::new(format!("weir_edge_{name}_total"), help)
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("weir_edge_{name}_total"), help), &[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_registered() {
        let registry = Registry::new();
        let metrics = Metrics::new();
        metrics.register(&registry).unwrap();
        metrics.joined(Format::Flv);
        metrics.skipped(2);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains(r#"weir_edge_viewers{protocol="flv"} 1"#), "{text}");
        assert!(text.contains(r#"weir_edge_viewer_skips_total{reason="lagged"} 2"#), "{text}");
    }
}
