//! What decisions read, and how they are made.

use std::collections::HashMap;
use std::sync::Arc;

use super::gate::{Bounds, LEVELS, State};
use super::ring::Ring;
use super::{Config, Labels, MAX_RANKED, Node, hash};

/// Closed nodes that a decision meets in a stream's order before it goes on to other orders.
const MAX_CLOSED: usize = 48;

/// And in another order, or where the whole group is full.
const FEW_CLOSED: usize = 8;

/// How many other orders a stream has that is on more nodes than `MAX_CLOSED`. It has filled these itself: to go past all of
/// them each time would take the longer the hotter it is. In an order of a few it finds others, and once those are full in
/// one of many.
const ORDERS: [u64; 3] = [16, 256, 4096];

/// Points of a group that a decision looks at, nodes that it has chosen already and drained ones among them.
const MAX_STEPS: usize = 256;

/// With so few nodes all are looked at before a ranking is left shorter than was asked for.
const FEW: usize = 64;

/// A node is in no group of that level.
pub(super) const NO_RING: u32 = u32::MAX;

/// What decisions read. It never changes but for what is atomic in it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Nodes in the slots that they keep as long as they are here.
    pub(super) nodes: Vec<Option<Arc<Node>>>,
    /// Their groups, from the nearest to all.
    pub(super) groups: Vec<[u32; LEVELS]>,
    /// As long as `nodes` or longer. Tables share it.
    pub(super) states: Arc<[State]>,
    pub(super) rings: Vec<Arc<Ring>>,
    /// Rings by the hash of their labels.
    pub(super) by_labels: HashMap<u64, u32>,
}

/// The hashes of the groups for these labels by level; `None` where there is no such group.
pub(super) fn keys(labels: &Labels) -> [Option<u64>; LEVELS] {
    let (region, isp) = (labels.region.as_deref(), labels.isp.as_deref());
    [
        region.and(isp).map(|_| hash::group(region, isp)),
        region.map(|_| hash::group(region, None)),
        isp.map(|_| hash::group(None, isp)),
        Some(hash::group(None, None)),
    ]
}

impl Table {
    fn ring(&self, id: u32) -> Option<&Arc<Ring>> {
        self.rings.get(id as usize)
    }

    /// The groups of a slot.
    pub(super) fn rings_of(&self, slot: u32) -> impl Iterator<Item = (usize, &Ring)> {
        let ids = self.groups.get(slot as usize).into_iter().flatten();
        ids.enumerate().filter_map(|(level, id)| Some((level, &**self.ring(*id)?)))
    }

    /// The groups for a viewer there, from the nearest to all.
    fn rings_near(&self, near: &Labels) -> impl Iterator<Item = (usize, &Ring)> {
        let ids = keys(near).into_iter().map(|key| self.by_labels.get(&key?));
        ids.enumerate().filter_map(|(level, id)| Some((level, &**self.ring(*id?)?)))
    }

    pub(super) fn state(&self, slot: u32) -> Option<&State> {
        self.states.get(slot as usize)
    }

    pub(super) fn node(&self, slot: u32) -> Option<&Arc<Node>> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    /// Counts anew how full a group is.
    pub(super) fn count(&self, ring: &Ring) {
        let states = ring.members().iter().filter_map(|slot| self.state(*slot));
        let (mut heard, mut unheard) = ((0, 0), (0, 0));
        for state in states.filter(|state| !state.is_drained()) {
            let (sum, nodes) = if state.is_heard() { &mut heard } else { &mut unheard };
            *sum += i64::from(state.full());
            *nodes += 1;
        }
        ring.reset(true, heard.0, heard.1);
        ring.reset(false, unheard.0, unheard.1);
    }

    /// The first `count` nodes for `stream`. `chance` says which of its other orders is next.
    pub(super) fn pick(
        &self,
        stream: u64,
        near: &Labels,
        count: usize,
        config: &Config,
        chance: impl Fn() -> u64,
    ) -> Picks {
        let wanted = count.min(MAX_RANKED);
        let mut picks = Picks { slots: [0; MAX_RANKED], len: 0, wanted };
        let mut spare = Spare { slots: [(0, 0, 0); MAX_RANKED], len: 0, wanted };
        if picks.is_done() {
            return picks;
        }
        // The nearest group, and its size.
        let mut nearest = None;
        for (level, ring) in self.rings_near(near) {
            let (size, is_last) = (ring.members().len(), level + 1 == LEVELS);
            // All others contain a group by both labels, and the last one contains all: of its size, they are the same.
            let is_same = nearest.is_some_and(|(first, members)| members == size && (first == 0 || is_last));
            let bounds = ring.bounds(config);
            // The mean is below both bounds but where these are as high as they may be.
            let is_full = ring.mean() >= bounds.some;
            // Where all are full, it takes no less time to find that out, and viewers had better stay near.
            if is_same || is_full && nearest.is_some() && !is_last {
                continue;
            }
            nearest.get_or_insert((level, size));
            let mut group = Group { level, ring, bounds, left: size, picks: &mut picks, spare: &mut spare };
            if group.ask(self, stream, stream, if is_full { FEW_CLOSED } else { MAX_CLOSED }) && !is_full {
                let chance = chance();
                for orders in ORDERS {
                    let order = hash::mix(stream.wrapping_add(1 + chance % orders));
                    if !group.ask(self, stream, order, FEW_CLOSED) {
                        break;
                    }
                }
            }
            if picks.is_done() {
                return picks;
            }
        }
        // Too few take anybody: then the least full ones of those that were asked. If none of these is alive, of all.
        let all = self.rings_near(&Labels::default()).next();
        if let Some((_, all)) =
            all.filter(|(_, all)| all.members().len() <= FEW || picks.len + spare.len == 0)
        {
            for slot in all.members() {
                if let Some(state) = self.state(*slot).filter(|state| !state.is_drained()) {
                    spare.offer(state.full(), state.draw(stream), *slot);
                }
            }
        }
        for (_, _, slot) in spare.slots.iter().take(spare.len) {
            picks.push(*slot);
        }
        picks
    }

    /// Counts one more on a node, who takes so many bits per second if that is known.
    pub(super) fn assign(&self, slot: u32, bps: Option<u64>, config: &Config) {
        let Some((state, node)) = self.state(slot).zip(self.node(slot)) else { return };
        let fuller = state.assign(node, bps, config);
        for (_, ring) in self.rings_of(slot) {
            ring.add(state.is_heard(), fuller);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let rings: usize = self.rings.iter().map(|ring| ring.bytes() + size_of::<Arc<Ring>>()).sum();
        let node = size_of::<Option<Arc<Node>>>() + size_of::<[u32; LEVELS]>();
        rings
            + self.nodes.capacity() * node
            + size_of_val(&*self.states)
            + self.by_labels.capacity() * size_of::<(u64, u32)>()
    }
}

/// A group that is asked for a ranking.
struct Group<'a> {
    level: usize,
    ring: &'a Ring,
    bounds: Bounds,
    /// Members that are not chosen yet.
    left: usize,
    picks: &'a mut Picks,
    spare: &'a mut Spare,
}

impl Group<'_> {
    /// Goes through the members in an order of the stream's. Whether that ended with so many that are closed.
    fn ask(&mut self, table: &Table, stream: u64, order: u64, max_closed: usize) -> bool {
        let mut closed = 0;
        for slot in self.ring.walk(order).take(MAX_STEPS) {
            let Some(state) = table.state(slot).filter(|state| !state.is_drained()) else { continue };
            if state.takes(stream, self.level, self.bounds) {
                self.left -= usize::from(self.picks.push(slot));
            } else {
                self.spare.offer(state.full(), state.draw(stream), slot);
                closed += 1;
            }
            if self.picks.is_done() || self.left == 0 {
                return false;
            }
            if closed == max_closed {
                return true;
            }
        }
        false
    }
}

/// A ranking that is being made.
pub(super) struct Picks {
    slots: [u32; MAX_RANKED],
    len: usize,
    wanted: usize,
}

impl Picks {
    fn is_done(&self) -> bool {
        self.len >= self.wanted
    }

    pub(super) fn slots(&self) -> &[u32] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    /// Whether that is one more.
    fn push(&mut self, slot: u32) -> bool {
        if self.is_done() || self.slots().contains(&slot) {
            return false;
        }
        let Some(place) = self.slots.get_mut(self.len) else { return false };
        *place = slot;
        self.len += 1;
        true
    }
}

/// The least full of the nodes that were stepped over: how full each is, its place among those as full, and which it is.
struct Spare {
    slots: [(u32, u64, u32); MAX_RANKED],
    len: usize,
    wanted: usize,
}

impl Spare {
    fn offer(&mut self, full: u32, place: u64, slot: u32) {
        let kept = self.slots.get(..self.len).unwrap_or_default();
        if kept.iter().any(|(_, _, other)| *other == slot) {
            return;
        }
        let at = kept.partition_point(|other| *other < (full, place, slot));
        if self.len < self.wanted {
            self.len += 1;
        }
        // What falls off the end was the fullest.
        if let Some(rest) = self.slots.get_mut(at..self.len)
            && let Some(last) = rest.last_mut()
        {
            *last = (full, place, slot);
            rest.rotate_right(1);
        }
    }
}
