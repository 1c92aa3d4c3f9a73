//! Somebody who watches by FLV, WebSocket or RTMP.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use control_api::trace::Context as Trace;

use super::aac::Aac;
use super::{Seat, now};
use crate::fanout::{Ahead, Format, Outlet, Over, Reader, Skips, Start, Step};
use crate::metrics::Metrics;

/// A cursor, and a place in the counts. Dropping it is leaving.
pub(crate) struct Viewer {
    reader: Reader,
    seat: Seat,
    format: Format,
    metrics: Arc<Metrics>,
    counted_skips: Skips,
    /// Whose ring it watches, if that is not the feed's own.
    _aac: Option<Arc<Aac>>,
}

impl Viewer {
    pub(super) fn new(
        seat: Seat,
        aac: Option<Arc<Aac>>,
        format: Format,
        start: Start,
        metrics: Arc<Metrics>,
    ) -> Self {
        let fanout = aac.as_ref().map_or(&seat.feed.fanout, |aac| &aac.fanout);
        let reader = fanout.enter(format, start);
        if let Some(count) = seat.feed.viewers.get(format.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        metrics.joined(format);
        Self { reader, seat, format, metrics, counted_skips: Skips::default(), _aac: aac }
    }

    /// The next bytes to send, all of them; or why there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Over>> {
        let next = self.reader.poll_next(cx, now());
        self.count(match next {
            Poll::Ready(Err(over)) => Some(over),
            _ => None,
        });
        next
    }

    /// What it does next, beside a follower that has read all before the unit `until`.
    pub(crate) fn step(&mut self, until: u64, now: Instant) -> Step {
        let step = self.reader.step(until, now);
        self.count(match step {
            Step::Over(over) => Some(over),
            _ => None,
        });
        step
    }

    fn count(&mut self, over: Option<Over>) {
        let skips = self.reader.skips();
        if skips != self.counted_skips {
            self.metrics.skipped(self.counted_skips, skips);
            self.counted_skips = skips;
        }
        if let Some(over) = over {
            self.metrics.dropped(over);
        }
    }

    /// Appends the units that follow, as far as [`Self::step`] goes and as many as fill that many bytes.
    pub(crate) fn ahead(&self, until: u64, bytes: usize, out: &mut Vec<Ahead>) {
        self.reader.ahead(until, bytes, out);
    }

    /// The next unit, which [`Self::ahead`] found, is being sent.
    pub(crate) fn advance(&mut self, version: u32) {
        self.reader.advance(version);
    }

    /// Whether the unit of that number comes next.
    pub(crate) fn is_at(&self, sequence: u64) -> bool {
        self.reader.is_at(sequence)
    }

    /// A follower sent it all before the unit of that number.
    pub(crate) fn carry_to(&mut self, sequence: u64, version: u32) {
        self.reader.carry_to(sequence, version);
    }

    /// The span in which its stream was pulled.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.seat.feed.trace()
    }

    /// The ring it watches.
    pub(crate) fn outlet(&self) -> &Arc<Outlet> {
        self.reader.outlet()
    }

    /// It is let go for a reason that its ring does not know.
    pub(crate) fn dropped(&self, over: Over) {
        self.metrics.dropped(over);
    }

    /// Forgets what was not sent yet and starts anew, at the next keyframe.
    pub(crate) fn start_over(&mut self) {
        self.reader.start_over();
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Some(count) = self.seat.feed.viewers.get(self.format.index()) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.left(self.format);
    }
}
