//! A viewer's place in a ring.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::relay;

use super::format::Format;
use super::ring::{Over, Ring};

/// The span over which skips are counted.
const SKIP_WINDOW: Duration = Duration::from_secs(60);

/// Where a viewer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the newest keyframe: a picture at once. At the live edge, if that is too long ago.
    Gop,
    /// At the next keyframe: as late as can be. At the live edge, if none comes for too long.
    Live,
    /// Where that frame is, which an edge has already, so that it misses none. As [`Start::Gop`], if it is gone.
    After(relay::Place),
}

/// Units that are found ahead at most.
pub(crate) const GATHER: usize = 32;

/// A unit that a viewer can be sent together with what is before it.
#[derive(Debug, Clone)]
pub(crate) struct Ahead {
    pub(crate) bytes: Bytes,
    /// Of the track set that decodes it.
    pub(crate) version: u32,
}

/// What a viewer does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends these bytes, all of them, before the next step.
    Send(Bytes),
    /// Waits for the ring's next unit.
    Wait,
    /// Leaves.
    Over(Over),
}

/// The number of the unit that a viewer sends next, and what it needs to get there.
#[derive(Debug)]
pub(crate) struct Cursor {
    place: Place,
    /// Of the track set that the viewer's decoder was told of.
    version: u32,
    max_skips: u32,
    skips: u32,
    skips_since: Option<Instant>,
    total_skips: u64,
}

#[derive(Debug)]
enum Place {
    /// Not yet started; waits for a join point at or behind that number.
    Before(u64),
    /// What a decoder must be told comes first.
    Opening(u64, Bytes),
    At(u64),
}

impl Cursor {
    /// A new viewer's. It may skip `max_skips` times a minute.
    pub(crate) fn new(ring: &Ring, start: Start, max_skips: u32) -> Self {
        let (place, version) = match start {
            Start::Gop => (Place::Before(0), 0),
            Start::Live => (Place::Before(ring.next()), 0),
            Start::After(place) => match ring.find(place) {
                Some((sequence, unit, frames)) => {
                    // Only relays know their frames.
                    let head = Format::Relay.head(&frames.headers, unit.timestamp_ms, Some(frames.mark));
                    (Place::Opening(sequence, head), unit.version)
                }
                None => (Place::Before(0), 0),
            },
        };
        Self { place, version, max_skips, skips: 0, skips_since: None, total_skips: 0 }
    }

    /// How often it lost its place.
    pub(crate) fn skips(&self) -> u64 {
        self.total_skips
    }

    /// Starts anew, at the next keyframe.
    pub(crate) fn start_over(&mut self, ring: &Ring) {
        self.place = Place::Before(ring.next());
    }

    /// The next step, which counts as done. Units from number `until` on are left to those who send them to many
    /// viewers at once.
    pub(crate) fn step(&mut self, ring: &Ring, until: u64, now: Instant) -> Step {
        match self.place {
            Place::Before(from) => self.enter(ring, from),
            Place::Opening(next, ref mut head) => {
                let head = std::mem::take(head);
                self.place = Place::At(next);
                Step::Send(head)
            }
            Place::At(next) if next < ring.first() => self.skip(ring, now),
            Place::At(next) if next >= until && next < ring.next() => Step::Wait,
            Place::At(next) => self.follow(ring, next),
        }
    }

    /// Appends the units that follow, before the unit `until`, as many as fill that many bytes.
    pub(crate) fn ahead(&self, ring: &Ring, until: u64, bytes: usize, out: &mut Vec<Ahead>) {
        let Place::At(next) = self.place else { return };
        let mut room = bytes;
        for sequence in (next..until).take(GATHER) {
            let Some(unit) = ring.get(sequence).filter(|_| room > 0) else { return };
            room = room.saturating_sub(unit.bytes.len());
            out.push(Ahead { bytes: unit.bytes.clone(), version: unit.version });
        }
    }

    /// The next unit counts as done.
    pub(crate) fn advance(&mut self, version: u32) {
        if let Place::At(next) = &mut self.place {
            *next += 1;
            self.version = version;
        }
    }

    /// Whether the unit of that number comes next.
    pub(crate) fn is_at(&self, sequence: u64) -> bool {
        matches!(self.place, Place::At(next) if next == sequence)
    }

    /// All before the unit of that number was sent to it with others.
    pub(crate) fn carry_to(&mut self, sequence: u64, version: u32) {
        self.place = Place::At(sequence);
        self.version = version;
    }

    fn enter(&mut self, ring: &Ring, from: u64) -> Step {
        let found = match ring.newest_point() {
            Some((sequence, unit, entry)) if sequence >= from => Some((sequence, unit.version, entry)),
            Some(_) => None,
            None => ring.pointless_entry().map(|(version, entry)| (ring.next(), version, entry)),
        };
        match found {
            Some((sequence, version, entry)) => {
                self.place = Place::At(sequence);
                self.version = version;
                Step::Send(entry.head.clone())
            }
            None => idle(ring),
        }
    }

    fn follow(&mut self, ring: &Ring, next: u64) -> Step {
        match ring.get(next) {
            Some(unit) => {
                self.place = Place::At(next + 1);
                self.version = unit.version;
                Step::Send(unit.bytes.clone())
            }
            None => idle(ring),
        }
    }

    /// The unit it wants is gone: goes on at the newest keyframe.
    fn skip(&mut self, ring: &Ring, now: Instant) -> Step {
        let (sequence, version, entry) = match ring.newest_point() {
            Some((sequence, unit, entry)) => (sequence, unit.version, Some(entry)),
            None => match ring.pointless_entry() {
                Some((version, entry)) => (ring.next(), version, Some(entry)),
                None => (ring.first(), self.version, None),
            },
        };
        self.total_skips += 1;
        if self.skips_since.is_none_or(|since| now.saturating_duration_since(since) > SKIP_WINDOW) {
            self.skips_since = Some(now);
            self.skips = 0;
        }
        self.skips += 1;
        if self.skips > self.max_skips {
            return Step::Over(Over::Lagged);
        }
        self.place = Place::At(sequence);
        match entry {
            Some(entry) if version != self.version => {
                self.version = version;
                Step::Send(entry.resumption.clone())
            }
            _ => self.follow(ring, sequence),
        }
    }
}

fn idle(ring: &Ring) -> Step {
    if ring.is_ended() { Step::Over(Over::Ended) } else { Step::Wait }
}
