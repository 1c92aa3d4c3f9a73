//! The origin's metrics. None has a stream's name as a label: streams come and go without bound.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and gauges, `weir_origin_…`.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) streams: IntGauge,
    pub(crate) publishers: IntGauge,
    pub(crate) backups: IntGauge,
    pub(crate) publishes: IntCounter,
    pub(crate) refusals: IntCounterVec,
    pub(crate) received_bytes: IntCounter,
    pub(crate) video_frames: IntCounter,
    pub(crate) audio_frames: IntCounter,
    pub(crate) nudged: IntCounter,
    pub(crate) jumps: IntCounter,
    pub(crate) relay_readers: IntGauge,
    pub(crate) relay_skips: IntCounter,
    pub(crate) relay_resumptions: IntCounter,
    pub(crate) http_refusals: IntCounter,
    pub(crate) http_handshake_failures: IntCounter,
    frames: IntCounterVec,
    repairs: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let vector =
            |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let frames =
            vector("weir_origin_received_frames_total", "Frames that publishers sent, by kind.", "kind")?;
        let repairs = vector(
            "weir_origin_timestamp_repairs_total",
            "Timestamps nudged forward to keep them rising, and jumps of a publisher's clock that were closed.",
            "kind",
        )?;
        Ok(Self {
            streams: IntGauge::new("weir_origin_streams", "Streams that are live or in their grace period.")?,
            publishers: IntGauge::new("weir_origin_publishers", "Publishers connected.")?,
            backups: IntGauge::new("weir_origin_backups", "Backup publishers connected.")?,
            publishes: IntCounter::new("weir_origin_publishes_total", "Times that a publisher began.")?,
            refusals: vector(
                "weir_origin_publish_refusals_total",
                "Publishers refused for the stream's sake, by reason.",
                "reason",
            )?,
            received_bytes: IntCounter::new(
                "weir_origin_received_bytes_total",
                "Bytes of media that publishers sent.",
            )?,
            video_frames: frames.with_label_values(&["video"]),
            audio_frames: frames.with_label_values(&["audio"]),
            nudged: repairs.with_label_values(&["nudge"]),
            jumps: repairs.with_label_values(&["jump"]),
            relay_readers: IntGauge::new(
                "weir_origin_relay_readers",
                "Relay responses being sent to edges.",
            )?,
            relay_skips: IntCounter::new(
                "weir_origin_relay_skips_total",
                "Times that an edge read too slowly and was moved on to a keyframe.",
            )?,
            relay_resumptions: IntCounter::new(
                "weir_origin_relay_resumptions_total",
                "Times that an edge whose connection broke was sent what follows what it had.",
            )?,
            http_refusals: IntCounter::new(
                "weir_origin_http_refusals_total",
                "Requests of edges refused because their key is missing or wrong.",
            )?,
            http_handshake_failures: IntCounter::new(
                "weir_origin_http_handshake_failures_total",
                "TLS handshakes with edges that failed or took too long.",
            )?,
            frames,
            repairs,
        })
    }

    /// Puts them into `registry`.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.publishers.clone()))?;
        registry.register(Box::new(self.backups.clone()))?;
        registry.register(Box::new(self.publishes.clone()))?;
        registry.register(Box::new(self.refusals.clone()))?;
        registry.register(Box::new(self.received_bytes.clone()))?;
        registry.register(Box::new(self.frames.clone()))?;
        registry.register(Box::new(self.repairs.clone()))?;
        registry.register(Box::new(self.relay_readers.clone()))?;
        registry.register(Box::new(self.relay_skips.clone()))?;
        registry.register(Box::new(self.relay_resumptions.clone()))?;
        registry.register(Box::new(self.http_refusals.clone()))?;
        registry.register(Box::new(self.http_handshake_failures.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_grows_with_the_streams() {
        let registry = Registry::new();
        let metrics = Metrics::new().unwrap();
        metrics.register(&registry).unwrap();
        metrics.refusals.with_label_values(&["busy"]).inc();
        let families = registry.gather();
        assert_eq!(families.len(), 13);
        for family in families {
            assert!(family.name().starts_with("weir_origin_"), "{}", family.name());
            for label in family.get_metric().iter().flat_map(|m| m.get_label()) {
                assert!(["kind", "reason"].contains(&label.name()), "{}", label.name());
            }
        }
        assert!(metrics.register(&registry).is_err());
    }
}
