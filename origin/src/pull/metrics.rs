//! The metrics of pulls, `weir_origin_pull…`.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::remote::gauges;

/// Labels are words from this program only.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) pulls: IntGaugeVec,
    pub(super) failures: IntCounterVec,
    pub(super) lost: IntCounterVec,
    pub(super) left_out: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            pulls: gauges("weir_origin_pulls", "Pulls by state: idle, connecting, live, waiting.")?,
            failures: IntCounterVec::new(
                Opts::new("weir_origin_pull_failures_total", "Times that a pull failed or ended, by reason."),
                &["reason"],
            )?,
            lost: IntCounterVec::new(
                Opts::new(
                    "weir_origin_pull_lost_packets_total",
                    "Packets of sources that never came, by protocol.",
                ),
                &["protocol"],
            )?,
            left_out: IntCounter::new(
                "weir_origin_pulls_left_out_total",
                "Pulls that were wanted beyond origin.remote.max_pulls.",
            )?,
        };
        registry.register(Box::new(metrics.pulls.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.lost.clone()))?;
        registry.register(Box::new(metrics.left_out.clone()))?;
        Ok(metrics)
    }
}
