//! Blocking playlist reload: when a request may be answered (RFC 8216bis §6.2.5.2).

use std::time::Duration;

use super::{Query, Window};

/// How far a stream is: the segment that grows, and its parts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Media sequence number of the segment that the next part belongs to.
    pub msn: u64,
    /// Parts it has.
    pub parts: u32,
    /// No part follows, ever.
    pub ended: bool,
}

/// What a playlist request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Answer now.
    Ready,
    /// Ask again when the window changed.
    Wait,
    /// It asks for what is too far ahead: 400.
    TooFarAhead,
}

/// How many segments behind the last complete one may be asked for.
const MAX_SEGMENTS_AHEAD: u64 = 2;

/// The Advance Part Limit: three seconds' worth of parts below a second, three parts otherwise.
fn advance_part_limit(part_target: Duration) -> u32 {
    if part_target >= Duration::from_secs(1) {
        return 3;
    }
    let limit = Duration::from_secs(3).as_nanos() / part_target.as_nanos().max(1);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

impl Window {
    /// Whether a playlist request may be answered.
    pub fn reload(&self, query: &Query) -> Reload {
        let now = self.position();
        if now.ended {
            return Reload::Ready;
        }
        // There is no segment before the first, so asking for one is asking for any playlist. Players do that whose
        // origin has started anew.
        let Some(msn) = query.msn.filter(|msn| *msn >= self.first_msn()) else {
            // A playlist without a single segment makes players give up.
            return if self.is_ready() { Reload::Ready } else { Reload::Wait };
        };
        let complete = now.msn.saturating_sub(1);
        if msn > complete.saturating_add(MAX_SEGMENTS_AHEAD) {
            return Reload::TooFarAhead;
        }
        let Some(part) = query.part else {
            return if msn <= complete { Reload::Ready } else { Reload::Wait };
        };
        if msn > complete {
            // Parts from the newest to the one asked for, if the segments between end right now.
            let ahead = if msn == now.msn {
                part.saturating_add(1).saturating_sub(now.parts)
            } else {
                part.saturating_add(1)
            };
            if ahead > advance_part_limit(self.part_target()) {
                return Reload::TooFarAhead;
            }
        }
        // A part behind a segment's last is part 0 of the next one.
        let past_the_last = self.segment(msn).is_some_and(|s| s.complete && part >= s.part_count());
        let (msn, part) = if past_the_last { (msn.saturating_add(1), 0) } else { (msn, part) };
        if (msn, part) < (now.msn, now.parts) { Reload::Ready } else { Reload::Wait }
    }
}
