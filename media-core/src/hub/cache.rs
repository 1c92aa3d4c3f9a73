//! The GOP cache: the newest units of a stream, from which every consumer reads.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Unit;
use crate::frame::{Timescale, Timestamp};

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Bytes of payload at most, whatever the GOP's length.
    pub bytes: usize,
    /// Milliseconds of media at most.
    pub span_ms: i64,
}

impl Default for CacheLimits {
    /// 32 MiB (10 s at 25 Mbit/s) and 30 s.
    fn default() -> Self {
        Self { bytes: 32 << 20, span_ms: 30_000 }
    }
}

/// Milliseconds kept of a stream without video, where every unit is a join point.
const AUDIO_SPAN_MS: i64 = 2_000;

/// Two GOPs: the one that new consumers join at, and the one before for those that lag a little.
#[derive(Debug)]
pub(super) struct Cache {
    limits: CacheLimits,
    units: VecDeque<Arc<Unit>>,
    bytes: usize,
    next_sequence: u64,
    /// Sequences of the newest two keyframes of the main picture.
    gop: Option<u64>,
    previous_gop: Option<u64>,
}

/// What a cursor finds.
pub(super) enum Read {
    Unit(Arc<Unit>),
    /// Not there yet.
    Later,
    /// Evicted; the cursor goes on at this sequence.
    Lost(u64),
}

impl Cache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        Self { limits, units: VecDeque::new(), bytes: 0, next_sequence: 0, gop: None, previous_gop: None }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn newest(&self) -> Option<&Arc<Unit>> {
        self.units.back()
    }

    pub(super) fn push(&mut self, unit: Unit) {
        let has_video = unit.tracks.has_video();
        let now_ms = position_ms(&unit);
        if has_video && unit.is_join_point() {
            self.previous_gop = self.gop.replace(unit.sequence);
        }
        self.bytes += unit.frame.data.len();
        self.next_sequence = unit.sequence + 1;
        self.units.push_back(Arc::new(unit));

        let span_ms = if has_video { self.limits.span_ms } else { AUDIO_SPAN_MS };
        let keep_from = if has_video { self.previous_gop } else { None };
        while self.units.len() > 1
            && let Some(front) = self.units.front()
            && (keep_from.is_some_and(|keep| front.sequence < keep)
                || self.bytes > self.limits.bytes
                || now_ms - position_ms(front) > span_ms)
        {
            self.bytes -= front.frame.data.len();
            self.units.pop_front();
        }
    }

    pub(super) fn read(&self, sequence: u64) -> Read {
        let Some(front) = self.units.front() else { return Read::Later };
        match sequence.checked_sub(front.sequence) {
            None => Read::Lost(self.join_point()),
            Some(at) => match usize::try_from(at).ok().and_then(|at| self.units.get(at)) {
                Some(unit) => Read::Unit(Arc::clone(unit)),
                None => Read::Later,
            },
        }
    }

    /// Where a new consumer begins: the newest keyframe; the oldest unit of a stream without video; the live
    /// edge while no keyframe is kept.
    pub(super) fn join_point(&self) -> u64 {
        let Some(front) = self.units.front() else { return self.next_sequence };
        match self.gop {
            Some(gop) if gop >= front.sequence => gop,
            _ if self.newest().is_some_and(|u| u.tracks.has_video()) => self.next_sequence,
            _ => front.sequence,
        }
    }
}

fn position_ms(unit: &Unit) -> i64 {
    let scale = unit.track().map_or(Timescale::HZ_90K, |t| t.timescale);
    Timestamp(unit.frame.dts.0).millis(scale)
}
