//! The last seconds of a stream in one wire format, as flush units that viewers share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::relay::{Mark, Place};

use super::headers::Headers;

/// A flush as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Contiguous and framed; never changed.
    pub(crate) bytes: Bytes,
    /// Decoding time of its first tag in milliseconds, modulo 2³².
    pub(crate) timestamp_ms: u32,
    /// Of the track set that decodes it.
    pub(crate) version: u32,
    /// For viewers that start here, where that is possible.
    pub(crate) entry: Option<Entry>,
    /// Has frames, not only headers.
    pub(crate) media: bool,
    /// Which frames: where readers may go on who have some of them.
    pub(crate) frames: Option<Frames>,
}

/// What a unit consists of.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    /// Of the first frame.
    pub(crate) mark: Mark,
    /// The sequence of the last one.
    pub(crate) last: u64,
    /// What decodes them.
    pub(crate) headers: Arc<Headers>,
}

impl Frames {
    fn have(&self, place: Place) -> bool {
        place.epoch == self.mark.epoch && (self.mark.sequence..=self.last).contains(&place.sequence)
    }
}

impl Unit {
    /// What keeping it costs in memory: small units would otherwise be many.
    fn cost(&self) -> usize {
        let entry = self.entry.as_ref().map_or(0, |entry| entry.head.len() + entry.resumption.len());
        self.bytes.len() + entry + size_of::<(Self, Instant)>()
    }
}

/// What a viewer must be sent before a unit from which it goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Of someone new.
    pub(crate) head: Bytes,
    /// Of someone who skipped from units of another track set.
    pub(crate) resumption: Bytes,
}

/// Media behind a keyframe, in milliseconds, after which nobody starts there any more, as an origin begins its feeds
/// without one from then on: real encoders' GOPs are shorter, so the next one may never come, and a burst that long
/// would not be live. Media, not time since it came: an origin sends a GOP so far at once to the first who asks.
pub(super) const MAX_POINT_AGE_MS: u32 = 20_000;

/// How much later, in milliseconds, one timestamp is than another. Both wrap; one that is before the other is as late.
pub(super) fn media_ms(from_ms: u32, to_ms: u32) -> u32 {
    let ms = to_ms.wrapping_sub(from_ms);
    if ms > u32::MAX / 2 { 0 } else { ms }
}

/// How much a ring holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes in memory.
    pub(crate) bytes: usize,
    /// Age of units behind which no join point stands that is in use.
    pub(crate) age: Duration,
}

/// Why no more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The stream ended.
    Ended,
    /// The viewer's line is too slow for the stream.
    Lagged,
    /// The viewer takes nothing.
    Stalled,
    /// The viewer wants nothing for too long.
    Paused,
    /// The viewer may watch no longer.
    Expired,
}

/// A bounded row of units, counted from 0. The oldest make room for the newest.
#[derive(Debug)]
pub(crate) struct Ring {
    limits: Limits,
    units: VecDeque<(Unit, Instant)>,
    first: u64,
    bytes: usize,
    newest_point: Option<u64>,
    /// For starting where there is no join point: the newest headers.
    fallback: Option<(u32, Entry)>,
    ended: bool,
}

impl Ring {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            units: VecDeque::new(),
            first: 0,
            bytes: 0,
            newest_point: None,
            fallback: None,
            ended: false,
        }
    }

    /// Appends a unit and lets go of what is over the limits.
    pub(crate) fn push(&mut self, unit: Unit, now: Instant) {
        if unit.entry.is_some() {
            self.newest_point = Some(self.next());
        } else if unit.media && self.point_age_ms(&unit).is_some_and(|age| age > MAX_POINT_AGE_MS) {
            self.newest_point = None;
        }
        self.bytes += unit.cost();
        self.units.push_back((unit, now));
        while let Some((oldest, at)) = self.units.front() {
            let needed = self.newest_point.is_some_and(|point| self.first >= point);
            let too_old = !needed && now.saturating_duration_since(*at) > self.limits.age;
            // The newest unit stays, whatever its size: it has been read from the wire under a limit.
            let too_much = self.bytes > self.limits.bytes && self.units.len() > 1;
            if !(too_old || too_much) {
                break;
            }
            self.bytes -= oldest.cost();
            self.units.pop_front();
            self.first += 1;
        }
        if self.newest_point.is_some_and(|point| point < self.first) {
            self.newest_point = None;
        }
    }

    fn point_age_ms(&self, newest: &Unit) -> Option<u32> {
        let point = self.get(self.newest_point?)?;
        Some(media_ms(point.timestamp_ms, newest.timestamp_ms))
    }

    /// What starting without a join point takes, until the next change of tracks.
    pub(crate) fn set_fallback(&mut self, version: u32, entry: Entry) {
        self.fallback = Some((version, entry));
    }

    /// No more units come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The number of the oldest unit that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the unit that will be pushed next.
    pub(crate) fn next(&self) -> u64 {
        self.first + u64::try_from(self.units.len()).unwrap_or(u64::MAX)
    }

    /// Of the newest track set that it knows of; 0 before the first.
    pub(crate) fn version(&self) -> u32 {
        let newest = self.units.back().map(|(unit, _)| unit.version);
        newest.or(self.fallback.as_ref().map(|(version, _)| *version)).unwrap_or_default()
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Unit> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.units.get(index).map(|(unit, _)| unit)
    }

    /// The unit that has a frame.
    pub(crate) fn find(&self, place: Place) -> Option<(u64, &Unit, &Frames)> {
        let has = |(unit, _): &(Unit, _)| unit.frames.as_ref().is_some_and(|frames| frames.have(place));
        let index = self.units.iter().rposition(has)?;
        let (unit, _) = self.units.get(index)?;
        Some((self.first + index as u64, unit, unit.frames.as_ref()?))
    }

    /// When the unit of that number came.
    pub(crate) fn arrived(&self, sequence: u64) -> Option<Instant> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.units.get(index).map(|(_, at)| *at)
    }

    /// Where viewers can start, with its unit.
    pub(crate) fn newest_point(&self) -> Option<(u64, &Unit, &Entry)> {
        let sequence = self.newest_point?;
        let unit = self.get(sequence)?;
        Some((sequence, unit, unit.entry.as_ref()?))
    }

    /// How to start at the live edge of a stream that has frames, but no join point within the limits.
    pub(crate) fn pointless_entry(&self) -> Option<(u32, &Entry)> {
        let has_media = self.units.back().is_some_and(|(unit, _)| unit.media);
        if self.newest_point.is_some() || !has_media {
            return None;
        }
        self.fallback.as_ref().map(|(version, entry)| (*version, entry))
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
