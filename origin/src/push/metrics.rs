//! The metrics of pushes, `weir_origin_push…`.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::remote::gauges;

/// Labels are words from this program only.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) pushes: IntGaugeVec,
    pub(super) failures: IntCounterVec,
    pub(super) sent_bytes: IntCounter,
    pub(super) dropped: IntCounter,
    pub(super) left_out: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            pushes: gauges("weir_origin_pushes", "Pushes by state: idle, connecting, live, waiting.")?,
            failures: IntCounterVec::new(
                Opts::new("weir_origin_push_failures_total", "Times that a push failed or ended, by reason."),
                &["reason"],
            )?,
            sent_bytes: IntCounter::new(
                "weir_origin_push_sent_bytes_total",
                "Bytes of MPEG-TS that pushes sent.",
            )?,
            dropped: IntCounter::new(
                "weir_origin_push_dropped_packets_total",
                "Packets of pushes that were given up since they would have come too late.",
            )?,
            left_out: IntCounter::new(
                "weir_origin_pushes_left_out_total",
                "Pushes that were wanted beyond origin.remote.max_pushes.",
            )?,
        };
        registry.register(Box::new(metrics.pushes.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.sent_bytes.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.left_out.clone()))?;
        Ok(metrics)
    }
}
