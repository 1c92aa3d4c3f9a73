//! `weir_rtc_…`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::peer::Counts;

/// What is counted of peers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Peers, by what they do.
    pub(crate) peers: IntGaugeVec,
    /// Peers that were accepted, by what they do.
    pub(crate) accepted: IntCounterVec,
    /// Offers that were refused, by reason.
    pub(crate) refused: IntCounterVec,
    /// Peers that ended, by reason.
    pub(crate) ended: IntCounterVec,
    /// Datagrams that came.
    pub(crate) received: IntCounter,
    /// Datagrams that were sent.
    pub(crate) sent: IntCounter,
    /// Datagrams that were not for anybody or could not be sent or handed on, by reason.
    pub(crate) dropped: IntCounterVec,
    /// Keyframes that publishers were asked for.
    pub(crate) keyframes_asked: IntCounter,
    /// Access units of publishers that could not be used, by reason.
    pub(crate) damaged: IntCounterVec,
    /// Keyframes that viewers asked for.
    pub(crate) keyframes_wanted: IntCounter,
    /// Viewers who begin anew at a keyframe, by reason.
    pub(crate) restarts: IntCounterVec,
    /// Packets of media, by direction.
    pub(crate) packets: IntCounterVec,
    /// Packets of them that viewers were sent again.
    pub(crate) resent: IntCounter,
    /// Messages of what is lacking (NACK), by what the peer does.
    pub(crate) nacks: IntCounterVec,
    /// What viewers' lines take, each viewer's once a second.
    pub(crate) estimates: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let peers =
            IntGaugeVec::new(Opts::new("weir_rtc_peers", "WebRTC peers, by what they do"), &["role"])?;
        registry.register(Box::new(peers.clone()))?;
        let buckets = [1.25e4, 3.125e4, 6.25e4, 1.25e5, 2.5e5, 5e5, 1e6, 2e6, 4e6].to_vec();
        let estimates = HistogramOpts::new(
            "weir_rtc_estimate_bytes",
            "What viewers' lines take in bytes a second, as far as what they were sent shows; each viewer's once a second",
        );
        let estimates = Histogram::with_opts(estimates.buckets(buckets))?;
        registry.register(Box::new(estimates.clone()))?;
        Ok(Self {
            peers,
            accepted: counters("weir_rtc_accepted_total", "Offers that were accepted", "role")?,
            refused: counters("weir_rtc_refused_total", "Offers that were refused", "reason")?,
            ended: counters("weir_rtc_ended_total", "WebRTC peers that ended", "reason")?,
            received: counter("weir_rtc_datagrams_received_total", "Datagrams that came")?,
            sent: counter("weir_rtc_datagrams_sent_total", "Datagrams that were sent")?,
            dropped: counters(
                "weir_rtc_datagrams_dropped_total",
                "Datagrams that were for nobody, or could not be sent or handed on",
                "reason",
            )?,
            keyframes_asked: counter(
                "weir_rtc_keyframes_asked_total",
                "Keyframes that publishers were asked for",
            )?,
            damaged: counters(
                "weir_rtc_damaged_total",
                "Access units of publishers that could not be used",
                "reason",
            )?,
            keyframes_wanted: counter(
                "weir_rtc_keyframes_wanted_total",
                "Keyframes that viewers asked for (PLI and FIR)",
            )?,
            restarts: counters(
                "weir_rtc_restarts_total",
                "Viewers who begin anew at a keyframe: they asked, a thread of ours was late, or they asked too often and wait for the next",
                "reason",
            )?,
            packets: counters("weir_rtc_packets_total", "Packets of media", "direction")?,
            resent: counter(
                "weir_rtc_resent_packets_total",
                "Packets of media that viewers were sent again",
            )?,
            nacks: counters(
                "weir_rtc_nacks_total",
                "NACKs: of viewers who lack packets, and to publishers whose packets are lacking",
                "role",
            )?,
            estimates,
        })
    }

    /// Adds what a peer has counted.
    pub(crate) fn add(&self, watches: bool, counts: Counts) {
        let Counts { received, sent, resent, nacks } = counts;
        self.packets.with_label_values(&["received"]).inc_by(received);
        self.packets.with_label_values(&["sent"]).inc_by(sent);
        self.resent.inc_by(resent);
        self.nacks.with_label_values(&[if watches { "play" } else { "publish" }]).inc_by(nacks);
    }
}
