//! A viewer's place in a ring.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::relay;

use super::format::Format;
use super::ring::{Entry, Over, Ring};

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

/// How far a viewer may lag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// Skips a minute.
    pub(crate) skips: u32,
    /// Behind what it could have been sent since it began.
    pub(crate) lag: Duration,
}

/// How often a viewer lost its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Skips {
    /// What it wanted next was gone.
    pub(crate) lagged: u64,
    /// What it wanted next was too old.
    pub(crate) late: u64,
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
    allowance: Allowance,
    /// When it began, or went on after a skip: what came before then was not to be had earlier.
    began: Option<Instant>,
    skips: u32,
    skips_since: Option<Instant>,
    total_skips: Skips,
}

#[derive(Debug)]
enum Place {
    /// Not yet started; waits for a join point at or behind that number.
    Before(u64),
    /// What a decoder must be told comes first.
    Opening(u64, Bytes),
    /// That was sent; the first unit follows.
    First(u64),
    At(u64),
    /// Was too late; waits for a join point at or behind that number.
    Skipping(u64),
}

impl Cursor {
    /// A new viewer's.
    pub(crate) fn new(ring: &Ring, start: Start, allowance: Allowance) -> Self {
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
        Self {
            place,
            version,
            allowance,
            began: None,
            skips: 0,
            skips_since: None,
            total_skips: Skips::default(),
        }
    }

    /// How often it lost its place.
    pub(crate) fn skips(&self) -> Skips {
        self.total_skips
    }

    /// Starts anew, at the next keyframe.
    pub(crate) fn start_over(&mut self, ring: &Ring) {
        self.place = Place::Before(ring.next());
    }

    /// The next step, which counts as done. Who has all before the unit `until` is left to those who send what follows to
    /// many viewers at once. Who began behind it has all that there is: its first picture does not wait for others.
    pub(crate) fn step(&mut self, ring: &Ring, until: u64, now: Instant) -> Step {
        match self.place {
            Place::Before(from) => self.enter(ring, from, now),
            Place::Opening(next, ref mut head) => {
                let head = std::mem::take(head);
                self.place = Place::First(next);
                self.began = Some(now);
                Step::Send(head)
            }
            Place::First(next) | Place::At(next) if next < ring.first() => self.skip(ring, now),
            Place::At(next) if next == until && next < ring.next() => Step::Wait,
            Place::First(next) | Place::At(next) if self.is_late(ring, next, now) => {
                self.skip_late(ring, next, now)
            }
            Place::Skipping(from) => self.await_point(ring, from, now),
            Place::First(next) | Place::At(next) => self.follow(ring, next),
        }
    }

    /// Appends the units that follow, as far as [`Self::step`] goes and as many as fill that many bytes.
    pub(crate) fn ahead(&self, ring: &Ring, until: u64, bytes: usize, out: &mut Vec<Ahead>) {
        let (next, end) = match self.place {
            Place::At(next) if next <= until => (next, until),
            Place::First(next) if next < until => (next, until),
            Place::First(next) | Place::At(next) => (next, u64::MAX),
            Place::Before(_) | Place::Opening(..) | Place::Skipping(_) => return,
        };
        let mut room = bytes;
        for sequence in (next..end).take(GATHER) {
            let Some(unit) = ring.get(sequence).filter(|_| room > 0) else { return };
            room = room.saturating_sub(unit.bytes.len());
            out.push(Ahead { bytes: unit.bytes.clone(), version: unit.version });
        }
    }

    /// The next unit counts as done.
    pub(crate) fn advance(&mut self, version: u32) {
        if let Place::First(next) | Place::At(next) = self.place {
            self.place = Place::At(next + 1);
            self.version = version;
        }
    }

    /// Whether the unit of that number comes next.
    pub(crate) fn is_at(&self, sequence: u64) -> bool {
        matches!(self.place, Place::First(next) | Place::At(next) if next == sequence)
    }

    /// All before the unit of that number was sent to it with others.
    pub(crate) fn carry_to(&mut self, sequence: u64, version: u32) {
        self.place = Place::At(sequence);
        self.version = version;
    }

    fn enter(&mut self, ring: &Ring, from: u64, now: Instant) -> Step {
        match point(ring).filter(|(sequence, ..)| *sequence >= from) {
            Some((sequence, version, entry)) => {
                self.place = Place::First(sequence);
                self.version = version;
                self.began = Some(now);
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

    /// Whether the unit that it sends next could have been sent too long ago.
    fn is_late(&self, ring: &Ring, next: u64, now: Instant) -> bool {
        ring.arrived(next).is_some_and(|at| {
            let since = self.began.map_or(at, |began| began.max(at));
            now.saturating_duration_since(since) > self.allowance.lag
        })
    }

    /// The unit it wants is gone: goes on at the newest keyframe.
    fn skip(&mut self, ring: &Ring, now: Instant) -> Step {
        self.total_skips.lagged += 1;
        if !self.may_skip(now) {
            return Step::Over(Over::Lagged);
        }
        match point(ring) {
            Some((sequence, version, entry)) => self.go_on(ring, sequence, version, Some(entry), now),
            None => self.go_on(ring, ring.first(), self.version, None, now),
        }
    }

    /// The unit it wants is too old: goes on at the newest keyframe if that comes later, and else waits for the next.
    fn skip_late(&mut self, ring: &Ring, next: u64, now: Instant) -> Step {
        self.total_skips.late += 1;
        if !self.may_skip(now) {
            return Step::Over(Over::Lagged);
        }
        self.await_point(ring, next + 1, now)
    }

    fn await_point(&mut self, ring: &Ring, from: u64, now: Instant) -> Step {
        match point(ring).filter(|(sequence, ..)| *sequence >= from) {
            Some((sequence, version, entry)) => self.go_on(ring, sequence, version, Some(entry), now),
            None => {
                self.place = Place::Skipping(from);
                idle(ring)
            }
        }
    }

    /// Counts a skip. Whether it is within what is allowed.
    fn may_skip(&mut self, now: Instant) -> bool {
        if self.skips_since.is_none_or(|since| now.saturating_duration_since(since) > SKIP_WINDOW) {
            self.skips_since = Some(now);
            self.skips = 0;
        }
        self.skips += 1;
        self.skips <= self.allowance.skips
    }

    fn go_on(
        &mut self,
        ring: &Ring,
        sequence: u64,
        version: u32,
        entry: Option<&Entry>,
        now: Instant,
    ) -> Step {
        self.place = Place::First(sequence);
        self.began = Some(now);
        match entry {
            Some(entry) if version != self.version => {
                self.version = version;
                Step::Send(entry.resumption.clone())
            }
            _ => self.follow(ring, sequence),
        }
    }
}

/// Where one can start or go on, with its track set: the newest keyframe, or the live edge where there is none.
fn point(ring: &Ring) -> Option<(u64, u32, &Entry)> {
    match ring.newest_point() {
        Some((sequence, unit, entry)) => Some((sequence, unit.version, entry)),
        None => ring.pointless_entry().map(|(version, entry)| (ring.next(), version, entry)),
    }
}

fn idle(ring: &Ring) -> Step {
    if ring.is_ended() { Step::Over(Over::Ended) } else { Step::Wait }
}
