//! What hooks count, as `weir_control_hook_*`.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::event::EventKind;

/// Up to the longest that a question may take.
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The endpoint has it.
    Delivered,
    /// The endpoint does not want it (4xx).
    Rejected,
    /// It was tried too often or for too long.
    GivenUp,
}

/// Why an event was not kept, or not kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drop {
    /// The journal has no room.
    Full,
    /// Its endpoint is no longer configured.
    Unconfigured,
    /// It is longer than an event may be.
    TooLarge,
    /// It could not be written.
    Disk,
    /// Its record in the journal is damaged.
    Damaged,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// All endpoints agreed.
    Allowed,
    /// One refused.
    Refused,
    /// One that has to agree gave no answer.
    ErrorRefused,
    /// No endpoint refused, and one that need not agree gave no answer.
    ErrorAllowed,
    /// Too many questions at once.
    BusyRefused,
    /// The same, and no endpoint has to agree.
    BusyAllowed,
}

/// What hooks count. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    deliveries: IntCounterVec,
    attempts: IntCounterVec,
    queue: IntGaugeVec,
    queue_bytes: IntGauge,
    journal_bytes: IntGauge,
    dropped: IntCounterVec,
    admissions: IntCounterVec,
    admission_seconds: HistogramVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let queue = IntGaugeVec::new(
            Opts::new("weir_control_hook_queue_events", "Events that an endpoint has not had yet."),
            &["endpoint"],
        )?;
        registry.register(Box::new(queue.clone()))?;
        let admission_seconds = HistogramVec::new(
            HistogramOpts::new(
                "weir_control_hook_admission_seconds",
                "How long publishers and players waited for an answer.",
            )
            .buckets(SECONDS.to_vec()),
            &["event"],
        )?;
        registry.register(Box::new(admission_seconds.clone()))?;
        Ok(Self {
            deliveries: counters(
                "weir_control_hook_deliveries_total",
                "Events that are done with at an endpoint, by how that ended.",
                &["event", "outcome"],
            )?,
            attempts: counters(
                "weir_control_hook_attempts_total",
                "Requests to endpoints, by the class of the answer's status or why there was none.",
                &["result"],
            )?,
            queue,
            queue_bytes: gauge(
                "weir_control_hook_queue_bytes",
                "Bytes of events that some endpoint has not had yet.",
            )?,
            journal_bytes: gauge("weir_control_hook_journal_bytes", "Bytes of the journal's files.")?,
            dropped: counters(
                "weir_control_hook_dropped_total",
                "Events that were lost before an endpoint was done with them, by reason.",
                &["reason"],
            )?,
            admissions: counters(
                "weir_control_hook_admissions_total",
                "Publishers and players that endpoints were asked about, by what was decided.",
                &["event", "outcome"],
            )?,
            admission_seconds,
        })
    }

    pub(super) fn done(&self, kind: EventKind, how: Delivery) {
        let how = match how {
            Delivery::Delivered => "delivered",
            Delivery::Rejected => "rejected",
            Delivery::GivenUp => "given_up",
        };
        self.deliveries.with_label_values(&[kind.name(), how]).inc();
    }

    pub(super) fn attempted(&self, result: &str) {
        self.attempts.with_label_values(&[result]).inc();
    }

    pub(super) fn queued(&self, endpoint: &str, change: i64) {
        self.queue.with_label_values(&[endpoint]).add(change);
    }

    pub(super) fn held(&self, queue_bytes: u64, journal_bytes: u64) {
        self.queue_bytes.set(i64::try_from(queue_bytes).unwrap_or(i64::MAX));
        self.journal_bytes.set(i64::try_from(journal_bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn dropped(&self, why: Drop, events: u64) {
        let why = match why {
            Drop::Full => "full",
            Drop::Unconfigured => "unconfigured",
            Drop::TooLarge => "too_large",
            Drop::Disk => "disk",
            Drop::Damaged => "damaged",
        };
        self.dropped.with_label_values(&[why]).inc_by(events);
    }

    pub(super) fn decided(&self, kind: EventKind, how: Admission, after: Duration) {
        let how = match how {
            Admission::Allowed => "allowed",
            Admission::Refused => "refused",
            Admission::ErrorRefused => "error_refused",
            Admission::ErrorAllowed => "error_allowed",
            Admission::BusyRefused => "busy_refused",
            Admission::BusyAllowed => "busy_allowed",
        };
        self.admissions.with_label_values(&[kind.name(), how]).inc();
        self.admission_seconds.with_label_values(&[kind.name()]).observe(after.as_secs_f64());
    }
}

/// The class of a status, for [`Metrics::attempted`].
pub(super) fn class(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
