//! The nodes of one label group, so arranged that those which come first for a stream are found without asking all.
//!
//! A node's score for a stream depends on these two alone, as in any rendezvous hashing, and the best score comes first.
//! Hashed pair by pair, 10,000 scores take tens of microseconds. So a score is a distance here: a node has points on a
//! circle, in number by its weight, a stream has [`PROBES`], and the score is the shortest way from a probe on to a point.
//! That is found in a sorted table. One probe would be a consistent hash with all its unevenness; the shortest of many ways
//! evens it out (Appleton, O'Reilly: Multi-Probe Consistent Hashing, 2015), and what a node leaves goes to all others.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

use super::gate::Bounds;
use super::hash;

/// Places on the circle that a stream looks from. More are fairer and slower.
pub(super) const PROBES: usize = 16;

/// Places on the circle of a node of weight 1. With more of them, those that come after a node are more different ones.
const POINTS: f64 = 8.0;

/// Of a node, on the circle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    position: u64,
    /// Whose it is.
    pub(super) slot: u32,
    /// How many of 2^32 streams see it: what is left of a weight behind whole points.
    seen_by: u32,
}

impl Point {
    fn is_seen_by(&self, stream: u64) -> bool {
        self.seen_by == u32::MAX || hash::mix(stream ^ self.position) >> 32 < u64::from(self.seen_by)
    }
}

/// The points of a node. A higher weight adds to those of a lower one, and takes away none.
pub(super) fn points(seed: u64, slot: u32, weight: f32) -> impl Iterator<Item = Point> {
    let whole = f64::from(weight) * POINTS;
    (0u32..).map_while(move |at| {
        let left = whole - f64::from(at);
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and 2^32")]
        let seen_by = if left >= 1.0 { u32::MAX } else { (left * f64::from(u32::MAX)) as u32 };
        (left > 0.0).then(|| Point { position: hash::nth(seed, at), slot, seen_by })
    })
}

/// The nodes of a group. What they are never changes: another one takes its place.
#[derive(Debug)]
pub(super) struct Ring {
    /// By position.
    points: Box<[Point]>,
    /// For each value of a position's highest bits the first point that has it or comes after it.
    bins: Box<[u32]>,
    /// Bits of a position below those.
    shift: u32,
    /// Whose points these are, each once.
    members: Box<[u32]>,
    /// Of the members that may be chosen those who have said how full they are, and the others.
    heard: Tally,
    unheard: Tally,
}

/// How full some nodes are together, and how many they are.
#[derive(Debug, Default)]
struct Tally {
    sum: AtomicI64,
    nodes: AtomicU32,
}

impl Tally {
    fn mean(&self) -> Option<u32> {
        let nodes = self.nodes.load(Relaxed);
        // A sum below zero: a decision was counted in the ring before this one.
        let sum = u64::try_from(self.sum.load(Relaxed)).unwrap_or_default();
        (nodes > 0).then(|| u32::try_from(sum / u64::from(nodes)).unwrap_or(u32::MAX))
    }
}

impl Ring {
    /// Of these points; `members` are sorted.
    fn new(points: Vec<Point>, members: Vec<u32>) -> Self {
        let bits = points.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        let mut bins = Vec::with_capacity(1 << bits);
        let mut next = 0u32;
        for bin in 0..1u64 << bits {
            while points.get(next as usize).is_some_and(|point| point.position >> shift < bin) {
                next += 1;
            }
            bins.push(next);
        }
        Self {
            points: points.into_boxed_slice(),
            bins: bins.into_boxed_slice(),
            shift,
            members: members.into_boxed_slice(),
            heard: Tally::default(),
            unheard: Tally::default(),
        }
    }

    /// Without anybody.
    pub(super) fn empty() -> Self {
        Self::new(Vec::new(), Vec::new())
    }

    /// The same without the points of `gone`, which are sorted, and with those that are `new`. Nothing is known of its load yet.
    pub(super) fn edited(&self, gone: &[u32], new: &[Point]) -> Self {
        let stays = |slot: &u32| gone.binary_search(slot).is_err();
        let mut points: Vec<Point> = Vec::with_capacity(self.points.len() + new.len());
        points.extend(self.points.iter().filter(|point| stays(&point.slot)));
        points.extend(new);
        // A stable sort merges what is in order already.
        points.sort_by_key(|point| point.position);
        let mut members: Vec<u32> = Vec::with_capacity(self.members.len() + 1);
        members.extend(self.members.iter().filter(|slot| stays(slot)));
        members.extend(new.iter().map(|point| point.slot));
        members.sort_unstable();
        members.dedup();
        Self::new(points, members)
    }

    /// Whose points these are.
    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Bytes of its tables.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.points)
            + size_of_val(&*self.bins)
            + size_of_val(&*self.members)
            + size_of::<Self>()
    }

    fn tally(&self, heard: bool) -> &Tally {
        if heard { &self.heard } else { &self.unheard }
    }

    /// Sets how full those are together who were heard of or were not, and how many they are.
    pub(super) fn reset(&self, heard: bool, sum: i64, nodes: u32) {
        let tally = self.tally(heard);
        tally.sum.store(sum, Relaxed);
        tally.nodes.store(nodes, Relaxed);
    }

    /// One of them is fuller by so much.
    pub(super) fn add(&self, heard: bool, fuller: i64) {
        self.tally(heard).sum.fetch_add(fuller, Relaxed);
    }

    /// One that is so full is counted from now on.
    pub(super) fn enter(&self, heard: bool, full: u32) {
        self.add(heard, i64::from(full));
        self.tally(heard).nodes.fetch_add(1, Relaxed);
    }

    /// One that is so full is no longer counted.
    pub(super) fn leave(&self, heard: bool, full: u32) {
        self.add(heard, -i64::from(full));
        self.tally(heard).nodes.fetch_sub(1, Relaxed);
    }

    /// How full they are on average. Who was not heard of yet says nothing of that, if others do: after a restart the first
    /// ones to be heard would be far above a mean with all others at nothing, and be closed.
    pub(super) fn mean(&self) -> u32 {
        self.heard.mean().or_else(|| self.unheard.mean()).unwrap_or_default()
    }

    /// Where its members begin to be stepped over.
    pub(super) fn bounds(&self, config: &super::Config) -> Bounds {
        Bounds::new(self.mean(), config)
    }

    /// The points in the order in which `stream` wants them. A node comes once for each of its points and each probe.
    pub(super) fn walk(&self, stream: u64) -> Walk<'_> {
        let mut walk = Walk { ring: self, stream, probes: [0; PROBES], at: [0; PROBES], ways: [END; PROBES] };
        for (number, ((probe, at), way)) in
            (0..).zip(walk.probes.iter_mut().zip(&mut walk.at).zip(&mut walk.ways))
        {
            *probe = hash::nth(stream, number);
            *at = self.first_from(*probe);
            *way = self.points.get(*at as usize).map_or(END, |point| point.position.wrapping_sub(*probe));
        }
        walk
    }

    fn first_from(&self, probe: u64) -> u32 {
        let bin = usize::try_from(probe >> self.shift).unwrap_or_default();
        let mut at = self.bins.get(bin).copied().unwrap_or_default();
        while self.points.get(at as usize).is_some_and(|point| point.position < probe) {
            at += 1;
        }
        if (at as usize) < self.points.len() { at } else { 0 }
    }
}

/// Of a probe that has gone round.
const END: u64 = u64::MAX;

/// The points of a [`Ring`] in the order of a stream.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    ring: &'a Ring,
    stream: u64,
    probes: [u64; PROBES],
    /// The next point of each probe, and how far it is.
    at: [u32; PROBES],
    ways: [u64; PROBES],
}

impl Iterator for Walk<'_> {
    /// Whose point comes next.
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            let (mut nearest, mut shortest) = (0, END);
            for (number, way) in self.ways.iter().enumerate() {
                if *way < shortest {
                    (nearest, shortest) = (number, *way);
                }
            }
            if shortest == END {
                return None;
            }
            let probe = *self.probes.get(nearest)?;
            let (at, way) = (self.at.get_mut(nearest)?, self.ways.get_mut(nearest)?);
            let point = self.ring.points.get(*at as usize)?;
            *at = if *at as usize + 1 < self.ring.points.len() { *at + 1 } else { 0 };
            let on = self.ring.points.get(*at as usize)?.position.wrapping_sub(probe);
            *way = if on > shortest { on } else { END };
            if point.is_seen_by(self.stream) {
                return Some(point.slot);
            }
        }
    }
}
