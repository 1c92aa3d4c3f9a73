//! What the edge counts. No label has a stream's name: their number has no bound.

use control_api::grant::Refused;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::cache::{Full, Kind};
use crate::fanout::{Format, Over, Skips};
use crate::guard::Denial;
use crate::sound::SoundMetrics;

/// The edge's metrics.
pub(crate) struct Metrics {
    all_viewers: IntGaugeVec,
    viewers: [IntGauge; Format::ALL.len()],
    all_joins: IntCounterVec,
    joins: [IntCounter; Format::ALL.len()],
    skips: IntCounterVec,
    skips_lagged: IntCounter,
    skips_late: IntCounter,
    drops: IntCounterVec,
    drops_lagged: IntCounter,
    drops_stalled: IntCounter,
    drops_paused: IntCounter,
    drops_expired: IntCounter,
    /// Streams that are pulled.
    pub(crate) feeds: IntGauge,
    /// Pulls that were lost and begun again.
    pub(crate) feed_reconnects: IntCounter,
    /// Requests to the upstream for relays.
    pub(crate) upstream_relay: IntCounter,
    upstream_hls: [IntCounter; Kind::ALL.len()],
    upstream: IntCounterVec,
    cache_hits: [IntCounter; Kind::ALL.len()],
    all_cache_hits: IntCounterVec,
    cache_misses: [IntCounter; Kind::ALL.len()],
    all_cache_misses: IntCounterVec,
    cache_evictions: IntCounterVec,
    /// Segments, parts and init segments that left memory for others.
    pub(crate) cache_evictions_objects: IntCounter,
    /// Playlists that left memory before their time, or found no room.
    pub(crate) cache_evictions_playlists: IntCounter,
    cache_bytes: IntGaugeVec,
    /// Bytes of segments, parts and init segments in memory.
    pub(crate) cache_memory: IntGauge,
    /// Bytes that are reserved on disk; 0 if it is not used.
    pub(crate) cache_disk: IntGauge,
    cache_disk_hits: [IntCounter; Kind::ALL.len()],
    all_cache_disk_hits: IntCounterVec,
    disk_bytes: IntCounterVec,
    /// Bytes of bodies that were read from disk.
    pub(crate) cache_disk_read: IntCounter,
    /// Bytes that were written to disk, in whole pages.
    pub(crate) cache_disk_written: IntCounter,
    disk_faults: [IntCounter; DiskFault::ALL.len()],
    all_disk_faults: IntCounterVec,
    disk_skips: IntCounterVec,
    /// Files that were not read, because too many are being read.
    pub(crate) cache_disk_busy: IntCounter,
    /// Files that were not written, because too much waits to be.
    pub(crate) cache_disk_dropped: IntCounter,
    /// Files that were not written, because they are too large.
    pub(crate) cache_disk_large: IntCounter,
    /// Playlists from before that were handed out because the upstream could not say better.
    pub(crate) cache_stale: IntCounter,
    prefetches: IntCounterVec,
    /// Parts that were fetched ahead and then asked for.
    pub(crate) prefetch_used: IntCounter,
    /// Parts that were fetched ahead and that nobody asked for.
    pub(crate) prefetch_wasted: IntCounter,
    /// Parts that were not fetched ahead, because too many are.
    pub(crate) prefetch_refused: IntCounter,
    /// Requests that got the answer of another one's upstream request.
    pub(crate) coalesced: IntCounter,
    /// Requests that were answered from the memory of what is absent.
    pub(crate) absent_hits: IntCounter,
    no_flights: IntCounterVec,
    /// HTTP connections.
    pub(crate) connections: IntGauge,
    /// Connections to the RTMP listener of an edge alone.
    pub(crate) rtmp_connections: IntGauge,
    pub(crate) forwarded: IntGauge,
    pub(crate) srt_connections: IntGauge,
    pub(crate) srt_refused: IntCounter,
    pub(crate) srt_packets: IntCounterVec,
    pub(crate) srt_rtt: Histogram,
    /// Ends of sessions for which whoever is to hear of them had no room.
    pub(crate) sessions_untold: IntCounter,
    protocols: IntCounterVec,
    /// Connections that spoke HTTP/1.
    pub(crate) http1: IntCounter,
    /// Connections that spoke HTTP/2.
    pub(crate) http2: IntCounter,
    /// Connections that spoke HTTP/3.
    pub(crate) http3: IntCounter,
    /// HTTP/2 connections that were ended because of too many frames that ask for nothing.
    pub(crate) floods: IntCounter,
    handshakes: IntCounterVec,
    handshakes_done: IntCounter,
    handshakes_failed: IntCounter,
    handshakes_late: IntCounter,
    refused: IntCounterVec,
    /// Connections closed at once, because there were too many in total.
    pub(crate) refused_total: IntCounter,
    /// Connections closed at once, because there were too many from the address.
    pub(crate) refused_address: IntCounter,
    not_served: IntCounterVec,
    /// Requests of addresses whose rate could not be remembered.
    pub(crate) rates_unknown: IntCounter,
    /// Lines of the access log for which there was no room.
    pub(crate) log_dropped: IntCounter,
    /// Writes of the access log that failed.
    pub(crate) log_failed: IntCounter,
    /// Bits sent a second, measured.
    pub(crate) egress: IntGauge,
    responses: [IntCounter; CLASSES.len()],
    all_responses: IntCounterVec,
    /// Bytes written to sockets.
    pub(crate) sent_bytes: IntCounter,
    windows: GaugeVec,
    /// Viewers that were hung up on because something here panicked.
    pub(crate) faults: IntCounter,
    pub(crate) sound: SoundMetrics,
}

/// Round-trip times in seconds: a machine's own network, a city, the world, and beyond.
const SRT_RTT_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6];

/// Classes of status codes, from 100 on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What goes wrong with the disk of the HLS cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// It could not be opened.
    Open,
    /// A read failed.
    Read,
    /// A write failed.
    Write,
    /// It took too long to read.
    Timeout,
    /// What was there is not what was written.
    Checksum,
}

impl DiskFault {
    const ALL: [Self; 5] = [Self::Open, Self::Read, Self::Write, Self::Timeout, Self::Checksum];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Timeout => "timeout",
            Self::Checksum => "checksum",
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    #[allow(clippy::expect_used, reason = "names and labels are constants, which a test creates")]
    pub(crate) fn new() -> Self {
        Self::create().expect("names and labels are well-formed")
    }

    fn create() -> Result<Self, prometheus::Error> {
        // Each label's value is resolved here: a counter that is still 0 shows, too.
        let help = "Viewers by protocol, without HLS";
        let all_viewers = IntGaugeVec::new(Opts::new("weir_edge_viewers", help), &["protocol"])?;
        let all_joins = counters("viewer_joins", "Viewers that began to watch", "protocol")?;
        let skips = counters("viewer_skips", "Skips of viewers to another keyframe", "reason")?;
        let drops = counters("viewer_drops", "Viewers that were dropped", "reason")?;
        let upstream = counters("upstream_requests", "Requests to the upstream", "kind")?;
        let protocols = counters("protocol_connections", "HTTP connections by what they spoke", "protocol")?;
        let handshakes = counters("tls_handshakes", "TLS handshakes by what became of them", "result")?;
        let not_served =
            counters("requests_refused", "Requests and addresses that were not served", "reason")?;
        let all = Refused::ALL.into_iter().map(Denial::Grant).chain(Denial::OTHERS);
        all.for_each(|denial| not_served.with_label_values(&[denial.reason()]).reset());
        let all_cache_hits = counters("cache_hits", "HLS requests answered from memory", "kind")?;
        let help = "HLS requests answered neither from memory nor by what another one began";
        let all_cache_misses = counters("cache_misses", help, "kind")?;
        let help = "HLS files that left the cache for others";
        let cache_evictions = counters("cache_evictions", help, "kind")?;
        let help = "HLS requests answered from disk";
        let all_cache_disk_hits = counters("cache_disk_hits", help, "kind")?;
        let help = "Bytes of HLS files read from disk and written to it";
        let disk_bytes = counters("cache_disk_bytes", help, "operation")?;
        let help = "Failures of the HLS cache's disk";
        let all_disk_faults = counters("cache_disk_errors", help, "operation")?;
        let help = "HLS files not read from disk (busy) or not written to it (queue full, too large)";
        let disk_skips = counters("cache_disk_skips", help, "reason")?;
        let help = "Bytes of HLS files in memory, without playlists, and for them on disk";
        let cache_bytes = IntGaugeVec::new(Opts::new("weir_edge_cache_bytes", help), &["tier"])?;
        let help = "Parts to fetch ahead: used by somebody, wasted, or refused for their number";
        let prefetches = counters("prefetches", help, "outcome")?;
        let help = "HLS requests refused because as many wait as may: of an address or stream, unannounced ones, or all";
        let no_flights = counters("hls_waits_refused", help, "reason")?;
        Full::ALL.iter().for_each(|full| no_flights.with_label_values(&[full.name()]).reset());
        let all_responses = counters("responses", "HTTP responses by class of status", "class")?;
        let refused = counters("connections_refused", "Connections closed at once", "reason")?;
        Ok(Self {
            viewers: Format::ALL.map(|format| all_viewers.with_label_values(&[format.name()])),
            all_viewers,
            joins: Format::ALL.map(|format| all_joins.with_label_values(&[format.name()])),
            all_joins,
            skips_lagged: skips.with_label_values(&["lagged"]),
            skips_late: skips.with_label_values(&["late"]),
            skips,
            drops_lagged: drops.with_label_values(&["lagged"]),
            drops_stalled: drops.with_label_values(&["stalled"]),
            drops_paused: drops.with_label_values(&["paused"]),
            drops_expired: drops.with_label_values(&["expired"]),
            drops,
            feeds: IntGauge::new("weir_edge_feeds", "Streams that are pulled from the upstream")?,
            feed_reconnects: counter("feed_reconnects", "Pulls that were lost and begun again")?,
            upstream_relay: upstream.with_label_values(&["relay"]),
            upstream_hls: Kind::ALL.map(|kind| upstream.with_label_values(&[kind.name()])),
            upstream,
            cache_hits: Kind::ALL.map(|kind| all_cache_hits.with_label_values(&[kind.name()])),
            all_cache_hits,
            cache_misses: Kind::ALL.map(|kind| all_cache_misses.with_label_values(&[kind.name()])),
            all_cache_misses,
            cache_evictions_objects: cache_evictions.with_label_values(&["object"]),
            cache_evictions_playlists: cache_evictions.with_label_values(&["playlist"]),
            cache_evictions,
            cache_memory: cache_bytes.with_label_values(&["memory"]),
            cache_disk: cache_bytes.with_label_values(&["disk"]),
            cache_bytes,
            cache_disk_hits: Kind::ALL.map(|kind| all_cache_disk_hits.with_label_values(&[kind.name()])),
            all_cache_disk_hits,
            cache_disk_read: disk_bytes.with_label_values(&["read"]),
            cache_disk_written: disk_bytes.with_label_values(&["write"]),
            disk_bytes,
            disk_faults: DiskFault::ALL.map(|fault| all_disk_faults.with_label_values(&[fault.name()])),
            all_disk_faults,
            cache_disk_busy: disk_skips.with_label_values(&["busy"]),
            cache_disk_dropped: disk_skips.with_label_values(&["queue"]),
            cache_disk_large: disk_skips.with_label_values(&["large"]),
            disk_skips,
            cache_stale: counter("cache_stale", "Playlists from before, handed out for want of better")?,
            prefetch_used: prefetches.with_label_values(&["used"]),
            prefetch_refused: prefetches.with_label_values(&["refused"]),
            prefetch_wasted: prefetches.with_label_values(&["wasted"]),
            prefetches,
            coalesced: counter("coalesced_requests", "Requests answered by another one's upstream request")?,
            no_flights,
            absent_hits: counter("absent_hits", "Requests answered from the memory of what is absent")?,
            connections: IntGauge::new("weir_edge_connections", "HTTP connections")?,
            forwarded: IntGauge::new(
                "weir_edge_forwarded_publishers",
                "Publishers that are passed on to their origin.",
            )?,
            sessions_untold: counter(
                "sessions_untold",
                "Ends of sessions that the control plane is not told of",
            )?,
            rtmp_connections: IntGauge::new(
                "weir_edge_rtmp_connections",
                "Connections to the RTMP listener of an edge alone",
            )?,
            srt_connections: IntGauge::new(
                "weir_edge_srt_connections",
                "Connections to the SRT listener of an edge alone",
            )?,
            srt_refused: counter("srt_refused", "Callers that the SRT listener of an edge alone refused")?,
            srt_packets: IntCounterVec::new(
                Opts::new(
                    "weir_edge_srt_packets_total",
                    "Packets for SRT players: sent, lost (reported missing), retransmitted, dropped (too late to send)",
                ),
                &["kind"],
            )?,
            srt_rtt: Histogram::with_opts(
                HistogramOpts::new(
                    "weir_edge_srt_rtt_seconds",
                    "Round-trip times of SRT players, of each once a second",
                )
                .buckets(SRT_RTT_BUCKETS.to_vec()),
            )?,
            http1: protocols.with_label_values(&["h1"]),
            http2: protocols.with_label_values(&["h2"]),
            http3: protocols.with_label_values(&["h3"]),
            protocols,
            floods: counter("http2_floods", "HTTP/2 connections ended for frames that ask for nothing")?,
            handshakes_done: handshakes.with_label_values(&["done"]),
            handshakes_failed: handshakes.with_label_values(&["failed"]),
            handshakes_late: handshakes.with_label_values(&["timeout"]),
            handshakes,
            refused_total: refused.with_label_values(&["total"]),
            refused_address: refused.with_label_values(&["address"]),
            refused,
            not_served,
            rates_unknown: counter("rates_unknown", "Requests let through for want of room for their rate")?,
            log_dropped: counter("access_log_dropped", "Lines of the access log dropped for want of room")?,
            log_failed: counter("access_log_failed", "Failures to write the access log")?,
            egress: IntGauge::new("weir_edge_egress_bytes_per_second", "Bytes sent a second, smoothed")?,
            responses: CLASSES.map(|class| all_responses.with_label_values(&[class])),
            all_responses,
            sent_bytes: counter("sent_bytes", "Bytes written to clients' sockets")?,
            faults: counter("viewer_faults", "Viewers hung up on because of a fault of the server")?,
            windows: GaugeVec::new(
                Opts::new("weir_edge_flush_window_seconds", "How long flushes of latency auto wait"),
                &["shard"],
            )?,
            sound: SoundMetrics::create()?,
        })
    }

    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        self.sound.register(registry)?;
        registry.register(Box::new(self.all_viewers.clone()))?;
        registry.register(Box::new(self.all_joins.clone()))?;
        registry.register(Box::new(self.skips.clone()))?;
        registry.register(Box::new(self.drops.clone()))?;
        registry.register(Box::new(self.feeds.clone()))?;
        registry.register(Box::new(self.feed_reconnects.clone()))?;
        registry.register(Box::new(self.upstream.clone()))?;
        registry.register(Box::new(self.coalesced.clone()))?;
        registry.register(Box::new(self.all_cache_hits.clone()))?;
        registry.register(Box::new(self.all_cache_misses.clone()))?;
        registry.register(Box::new(self.cache_evictions.clone()))?;
        registry.register(Box::new(self.cache_bytes.clone()))?;
        registry.register(Box::new(self.all_cache_disk_hits.clone()))?;
        registry.register(Box::new(self.disk_bytes.clone()))?;
        registry.register(Box::new(self.all_disk_faults.clone()))?;
        registry.register(Box::new(self.disk_skips.clone()))?;
        registry.register(Box::new(self.cache_stale.clone()))?;
        registry.register(Box::new(self.prefetches.clone()))?;
        registry.register(Box::new(self.absent_hits.clone()))?;
        registry.register(Box::new(self.no_flights.clone()))?;
        registry.register(Box::new(self.connections.clone()))?;
        registry.register(Box::new(self.rtmp_connections.clone()))?;
        registry.register(Box::new(self.forwarded.clone()))?;
        registry.register(Box::new(self.srt_connections.clone()))?;
        registry.register(Box::new(self.srt_refused.clone()))?;
        registry.register(Box::new(self.srt_packets.clone()))?;
        registry.register(Box::new(self.srt_rtt.clone()))?;
        registry.register(Box::new(self.sessions_untold.clone()))?;
        registry.register(Box::new(self.protocols.clone()))?;
        registry.register(Box::new(self.handshakes.clone()))?;
        registry.register(Box::new(self.floods.clone()))?;
        registry.register(Box::new(self.not_served.clone()))?;
        registry.register(Box::new(self.rates_unknown.clone()))?;
        registry.register(Box::new(self.egress.clone()))?;
        registry.register(Box::new(self.log_dropped.clone()))?;
        registry.register(Box::new(self.log_failed.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.all_responses.clone()))?;
        registry.register(Box::new(self.windows.clone()))?;
        registry.register(Box::new(self.faults.clone()))?;
        registry.register(Box::new(self.sent_bytes.clone()))
    }

    /// Viewers of a wire format.
    pub(crate) fn viewers(&self, format: Format) -> i64 {
        self.viewers.get(format.index()).map_or(0, IntGauge::get)
    }

    /// A shard's flush window.
    pub(crate) fn window(&self, shard: usize) -> Gauge {
        self.windows.with_label_values(&[&shard.to_string()])
    }

    /// A file was in memory.
    pub(crate) fn cache_hit(&self, kind: Kind) {
        if let Some(hits) = self.cache_hits.get(kind.index()) {
            hits.inc();
        }
    }

    /// A file was on disk.
    pub(crate) fn cache_disk_hit(&self, kind: Kind) {
        if let Some(hits) = self.cache_disk_hits.get(kind.index()) {
            hits.inc();
        }
    }

    #[cfg(test)]
    pub(crate) fn cache_disk_hits(&self, kind: Kind) -> u64 {
        self.cache_disk_hits.get(kind.index()).map_or(0, IntCounter::get)
    }

    /// The disk did not do as it was told.
    pub(crate) fn disk_fault(&self, fault: DiskFault) {
        if let Some(faults) = self.disk_faults.get(fault as usize) {
            faults.inc();
        }
    }

    /// A file was neither in memory nor asked for.
    pub(crate) fn cache_miss(&self, kind: Kind) {
        if let Some(misses) = self.cache_misses.get(kind.index()) {
            misses.inc();
        }
    }

    /// The upstream is asked for a file.
    pub(crate) fn upstream_asked(&self, kind: Kind) {
        if let Some(asked) = self.upstream_hls.get(kind.index()) {
            asked.inc();
        }
    }

    /// A viewer began to watch.
    pub(crate) fn joined(&self, format: Format) {
        if let (Some(viewers), Some(joins)) =
            (self.viewers.get(format.index()), self.joins.get(format.index()))
        {
            viewers.inc();
            joins.inc();
        }
    }

    /// A viewer left.
    pub(crate) fn left(&self, format: Format) {
        if let Some(viewers) = self.viewers.get(format.index()) {
            viewers.dec();
        }
    }

    /// A viewer that had skipped so often before has now skipped so often.
    pub(crate) fn skipped(&self, before: Skips, now: Skips) {
        self.skips_lagged.inc_by(now.lagged - before.lagged);
        self.skips_late.inc_by(now.late - before.late);
    }

    /// A viewer was dropped, if the reason is not that the stream ended.
    pub(crate) fn dropped(&self, over: Over) {
        match over {
            Over::Ended => {}
            Over::Lagged => self.drops_lagged.inc(),
            Over::Stalled => self.drops_stalled.inc(),
            Over::Paused => self.drops_paused.inc(),
            Over::Expired => self.drops_expired.inc(),
        }
    }

    /// A TLS handshake succeeded, failed, or was not completed in time.
    pub(crate) fn shaken<T, E, L>(&self, handshake: &Result<Result<T, E>, L>) {
        match handshake {
            Ok(Ok(_)) => self.handshakes_done.inc(),
            Ok(Err(_)) => self.handshakes_failed.inc(),
            Err(_) => self.handshakes_late.inc(),
        }
    }

    /// Somebody can't wait for an answer.
    pub(crate) fn no_flight(&self, full: Full) {
        self.no_flights.with_label_values(&[full.name()]).inc();
    }

    /// Somebody is not served.
    pub(crate) fn denied(&self, denial: Denial) {
        self.not_served.with_label_values(&[denial.reason()]).inc();
    }

    /// A response's head was made.
    pub(crate) fn responded(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        if let Some(responses) = self.responses.get(class) {
            responses.inc();
        }
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
        metrics.skipped(Skips::default(), Skips { lagged: 2, late: 1 });
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains(r#"weir_edge_viewers{protocol="flv"} 1"#), "{text}");
        assert!(text.contains(r#"weir_edge_viewer_skips_total{reason="lagged"} 2"#), "{text}");
    }
}
