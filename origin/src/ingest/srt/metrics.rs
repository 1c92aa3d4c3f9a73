//! The SRT listener's metrics, `weir_origin_srt_…`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use srt::Stats;

/// Round-trip times in seconds: a machine's own network, a city, the world, and beyond.
const RTT_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6];

/// Counters and gauges; labels are words from this program only.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) connections: IntGauge,
    pub(super) refused: IntCounterVec,
    pub(super) plays: IntCounter,
    pub(super) closed: IntCounterVec,
    pub(super) ts_errors: IntCounterVec,
    pub(super) undecodable: IntCounter,
    buffered: IntGauge,
    rtt: Histogram,
    packets: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |label: &str, name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            connections: IntGauge::new(
                "weir_origin_srt_connections",
                "SRT connections, of publishers and players.",
            )?,
            refused: by("reason", "weir_origin_srt_refused_total", "SRT callers refused, by reason.")?,
            plays: IntCounter::new("weir_origin_srt_plays_total", "Requests to play by SRT.")?,
            closed: by("reason", "weir_origin_srt_closed_total", "SRT publishers that ended, by reason.")?,
            ts_errors: by(
                "kind",
                "weir_origin_srt_ts_errors_total",
                "Mistakes in the MPEG-TS that SRT publishers sent, by kind.",
            )?,
            undecodable: IntCounter::new(
                "weir_origin_srt_undecodable_total",
                "SRT publishers who sent nothing that could be used.",
            )?,
            buffered: IntGauge::new(
                "weir_origin_srt_buffer_bytes",
                "Bytes that were received of SRT publishers and wait for their time.",
            )?,
            rtt: Histogram::with_opts(
                HistogramOpts::new(
                    "weir_origin_srt_rtt_seconds",
                    "Round-trip times of SRT publishers, of each once a second.",
                )
                .buckets(RTT_BUCKETS.to_vec()),
            )?,
            packets: by(
                "kind",
                "weir_origin_srt_packets_total",
                "Packets of SRT publishers: received, lost (found missing), retransmitted (received that were sent \
                 again), dropped (missing for good), undecrypted.",
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.plays.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.ts_errors.clone()))?;
        registry.register(Box::new(metrics.undecodable.clone()))?;
        registry.register(Box::new(metrics.buffered.clone()))?;
        registry.register(Box::new(metrics.rtt.clone()))?;
        registry.register(Box::new(metrics.packets.clone()))?;
        Ok(metrics)
    }
}

/// What of a connection's statistics is in the metrics already. Dropping it takes its gauges back.
#[derive(Debug)]
pub(super) struct Sampled {
    metrics: Metrics,
    last: Stats,
}

impl Sampled {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, last: Stats::default() }
    }

    /// Adds what came since the last time.
    pub(super) fn add(&mut self, stats: Stats) {
        let (Self { metrics, last }, now) = (&mut *self, stats);
        let kinds = [
            ("received", last.received_packets, now.received_packets),
            ("lost", last.receive_lost_packets, now.receive_lost_packets),
            ("retransmitted", last.receive_retransmitted_packets, now.receive_retransmitted_packets),
            ("dropped", last.receive_dropped_packets, now.receive_dropped_packets),
            ("undecrypted", last.undecrypted_packets, now.undecrypted_packets),
        ];
        for (kind, before, now) in kinds {
            metrics.packets.with_label_values(&[kind]).inc_by(now.saturating_sub(before));
        }
        metrics.rtt.observe(now.rtt.as_secs_f64());
        metrics.buffered.add(signed(now.receive_buffer_bytes) - signed(last.receive_buffer_bytes));
        *last = now;
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        self.metrics.buffered.sub(signed(self.last.receive_buffer_bytes));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_are_added_once_and_gauges_taken_back() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut sampled = Sampled::new(metrics.clone());
        let stats = |received_packets, receive_buffer_bytes| Stats {
            received_packets,
            receive_buffer_bytes,
            rtt: Duration::from_millis(20),
            ..Stats::default()
        };
        sampled.add(stats(10, 500));
        sampled.add(stats(15, 300));
        assert_eq!(metrics.packets.with_label_values(&["received"]).get(), 15);
        assert_eq!(metrics.buffered.get(), 300);
        drop(sampled);
        assert_eq!(metrics.buffered.get(), 0);
    }
}
