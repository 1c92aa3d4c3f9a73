//! The GOP cache: the newest units of a stream, from which every consumer reads.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{TrackSet, Unit};
use crate::frame::{Timescale, Timestamp};

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Bytes in memory at most, whatever the GOP's length.
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

/// How far behind the newest unit a new consumer begins where there is no keyframe, in milliseconds: players like a
/// short burst to begin with.
const LEAD_MS: i64 = 2_000;

/// Kept in any case, within the limits: what one read of a publisher's socket yields is pushed before any consumer
/// runs, however many GOPs it is.
const MIN_BYTES: usize = 256 << 10;

/// Milliseconds kept in any case, within the limits.
const MIN_SPAN_MS: i64 = 5_000;

/// What a unit takes besides its payload: itself, and about 64 bytes for its payload's reference count and for
/// places in the row that are free. Tiny frames would otherwise be free.
const UNIT_BYTES: usize = size_of::<Unit>() + 64;

/// Two GOPs: the one that new consumers join at, and the one before for those that lag a little.
#[derive(Debug)]
pub(super) struct Cache {
    limits: CacheLimits,
    units: VecDeque<Unit>,
    bytes: usize,
    next_sequence: u64,
    /// Sequences of the newest two keyframes of the main picture.
    gop: Option<u64>,
    previous_gop: Option<u64>,
}

/// What a cursor finds.
pub(super) enum Read {
    Unit(Unit),
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

    pub(super) fn newest(&self) -> Option<&Unit> {
        self.units.back()
    }

    pub(super) fn push(&mut self, unit: Unit) {
        let has_video = unit.tracks.has_video();
        let now_ms = position_ms(&unit);
        if has_video && unit.is_join_point() {
            self.previous_gop = self.gop.replace(unit.sequence);
        }
        self.bytes += unit_bytes(&unit);
        if self.newest().is_none_or(|newest| !Arc::ptr_eq(&newest.tracks, &unit.tracks)) {
            self.bytes += tracks_bytes(&unit.tracks);
        }
        self.next_sequence = unit.sequence + 1;
        self.units.push_back(unit);

        let keep_from = if has_video { self.previous_gop } else { Some(self.next_sequence) };
        while self.units.len() > 1
            && let Some(front) = self.units.front()
        {
            let span_ms = now_ms - position_ms(front);
            let dispensable = self.bytes > MIN_BYTES
                && span_ms > MIN_SPAN_MS
                && keep_from.is_some_and(|keep| front.sequence < keep);
            if !dispensable && self.bytes <= self.limits.bytes && span_ms <= self.limits.span_ms {
                break;
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(oldest) = self.units.pop_front() else { return };
        self.bytes -= unit_bytes(&oldest);
        if self.units.front().is_none_or(|front| !Arc::ptr_eq(&front.tracks, &oldest.tracks)) {
            self.bytes -= tracks_bytes(&oldest.tracks);
        }
    }

    pub(super) fn read(&self, sequence: u64) -> Read {
        let Some(front) = self.units.front() else { return Read::Later };
        match sequence.checked_sub(front.sequence) {
            None => Read::Lost(self.join_point()),
            Some(at) => match usize::try_from(at).ok().and_then(|at| self.units.get(at)) {
                Some(unit) => Read::Unit(unit.clone()),
                None => Read::Later,
            },
        }
    }

    /// The oldest unit that reading can start at, or where a new consumer begins.
    pub(super) fn oldest_join_point(&self) -> u64 {
        let oldest = self.units.iter().find(|unit| unit.is_join_point());
        oldest.map_or_else(|| self.join_point(), |unit| unit.sequence)
    }

    /// Where a new consumer begins: the newest keyframe; without one, or without video, a little behind the live
    /// edge.
    pub(super) fn join_point(&self) -> u64 {
        let (Some(front), Some(newest)) = (self.units.front(), self.units.back()) else {
            return self.next_sequence;
        };
        if newest.tracks.has_video()
            && let Some(gop) = self.gop
            && gop >= front.sequence
        {
            return gop;
        }
        let from_ms = position_ms(newest) - LEAD_MS;
        let recent = self.units.iter().rev().take_while(|unit| position_ms(unit) >= from_ms);
        recent.last().map_or(self.next_sequence, |unit| unit.sequence)
    }
}

fn unit_bytes(unit: &Unit) -> usize {
    unit.frame.data.len() + UNIT_BYTES
}

/// What a set of tracks takes, as long as any unit has it.
fn tracks_bytes(tracks: &TrackSet) -> usize {
    tracks.tracks.iter().map(|track| track.config.len() + size_of_val(track)).sum()
}

fn position_ms(unit: &Unit) -> i64 {
    let scale = unit.track().map_or(Timescale::HZ_90K, |t| t.timescale);
    Timestamp(unit.frame.dts.0).millis(scale)
}
