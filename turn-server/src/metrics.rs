//! What `/metrics` tells of the server.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) allocations: IntGauge,
    pub(crate) requests: IntCounter,
    /// From clients to peers.
    pub(crate) bytes_out: IntCounter,
    /// From peers to clients.
    pub(crate) bytes_in: IntCounter,
    refused: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let relayed = IntCounterVec::new(
            Opts::new("weir_turn_relayed_bytes_total", "Bytes relayed between clients and their peers."),
            &["direction"],
        )?;
        let metrics = Self {
            allocations: IntGauge::new("weir_turn_allocations", "Allocations that clients of TURN have.")?,
            requests: IntCounter::new("weir_turn_requests_total", "STUN and TURN requests that came.")?,
            bytes_out: relayed.with_label_values(&["to_peer"]),
            bytes_in: relayed.with_label_values(&["to_client"]),
            refused: IntCounterVec::new(
                Opts::new(
                    "weir_turn_refused_total",
                    "What TURN did not do: answer too often, take what is malformed or not allowed, relay to inner networks.",
                ),
                &["reason"],
            )?,
        };
        for reason in [
            "rate",
            "malformed",
            "credentials",
            "quota",
            "ports",
            "peer",
            "connections",
            "slow",
            "user",
            "grants",
        ] {
            metrics.refused.with_label_values(&[reason]);
        }
        registry.register(Box::new(metrics.allocations.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(relayed))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    #[cfg(test)]
    pub(crate) fn refusals(&self, reason: &str) -> u64 {
        self.refused.with_label_values(&[reason]).get()
    }
}
