//! Somebody who watches by WebRTC: their places, and what the access log says of them.

use std::sync::Arc;
use std::time::Instant;

use rtc::{Ended, Watcher};

use super::source::Source;
use crate::feed::Audience;
use crate::guard::{Record, Seat};
use crate::metrics::Metrics;

/// A viewer's hold on all that is held for one.
pub(crate) struct Watching {
    /// Its place among viewers, and its session.
    pub(crate) seat: Seat,
    /// Its grant expires then.
    pub(crate) until: Option<Instant>,
    pub(crate) record: Option<Record>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Watching {
    pub(super) fn of(self, source: Arc<Source>, audience: Audience) -> Viewer {
        Viewer { watching: self, counted: 0, _source: source, _audience: audience }
    }
}

/// The same, of a stream.
pub(super) struct Viewer {
    watching: Watching,
    /// Bytes that are in the metrics.
    counted: u64,
    _source: Arc<Source>,
    _audience: Audience,
}

impl Viewer {
    fn count(&mut self, bytes: u64) {
        self.watching.metrics.sent_bytes.inc_by(bytes.saturating_sub(self.counted));
        self.counted = bytes;
    }
}

impl Watcher for Viewer {
    fn may_stay(&mut self, bytes: u64) -> Result<(), Ended> {
        self.count(bytes);
        if let Some(record) = &mut self.watching.record {
            record.so_far(bytes);
        }
        match self.watching.until {
            Some(until) if Instant::now() >= until => Err(Ended::Revoked),
            _ => Ok(()),
        }
    }

    fn ended(mut self: Box<Self>, why: Ended, bytes: u64) {
        self.count(bytes);
        let Self { watching: Watching { seat, record, .. }, .. } = *self;
        // A session is over before it is logged.
        drop(seat);
        if let Some(record) = record {
            record.end(bytes, why.name());
        }
    }
}
