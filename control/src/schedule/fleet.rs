//! The nodes of one role: who is there, and how full.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::gate::{self, LEVELS, State};
use super::ring::{self, Point, Ring};
use super::table::{NO_RING, Table, keys};
use super::{Config, Labels, Load, MAX_NODES, Node, NodeError, hash};

/// What only those see who change something.
#[derive(Debug, Default)]
struct Members {
    by_name: HashMap<String, Member>,
    /// Slots of the table that nobody has, behind which all below `slots` are taken.
    free: Vec<u32>,
    slots: u32,
    /// Rings of the table without members.
    idle_rings: Vec<u32>,
    /// Since how full the groups are was last counted.
    reports: usize,
}

#[derive(Debug)]
struct Member {
    slot: u32,
    load: Load,
}

/// What a change does to a ring.
#[derive(Debug, Default)]
struct Edit {
    gone: Vec<u32>,
    new: Vec<Point>,
}

/// A node as the fleet sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What it is.
    pub node: Arc<Node>,
    /// What it said last.
    pub load: Load,
    /// How full it is, with those who were sent there since.
    pub fullness: f32,
    /// Whether it takes nobody, since it is going.
    pub drained: bool,
    /// Whether it takes nobody, since it went over the mean of all nodes and is not clearly back yet.
    pub closed: bool,
}

/// The nodes of one role, with their load.
///
/// Decisions ([`rank`](Self::rank)) take no lock. All others take one, for microseconds; one that changes which nodes there
/// are, for as long as a copy of the tables takes.
pub struct Fleet {
    config: Config,
    table: ArcSwap<Table>,
    members: Mutex<Members>,
    /// Decisions that went on to another order of their stream.
    spilled: AtomicU64,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("nodes", &self.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// Without nodes.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let all = (hash::group(None, None), 0);
        let table = Table {
            nodes: Vec::new(),
            groups: Vec::new(),
            states: Arc::new([]),
            rings: vec![Arc::new(Ring::empty())],
            by_labels: HashMap::from([all]),
        };
        Self {
            config,
            table: ArcSwap::from_pointee(table),
            members: Mutex::default(),
            spilled: AtomicU64::new(0),
        }
    }

    /// Nodes that are in it, drained ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.lock().by_name.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a node in, or changes it: its load stays as it was, and so does its drain.
    ///
    /// # Errors
    ///
    /// When it can't be one; nothing was done then.
    pub fn set(&self, node: Node) -> Result<(), NodeError> {
        self.set_all([node])
    }

    /// Takes many nodes in, or changes them, for the price of one.
    ///
    /// # Errors
    ///
    /// When one of them can't be a node, or all are too many; nothing was done then.
    pub fn set_all(&self, nodes: impl IntoIterator<Item = Node>) -> Result<(), NodeError> {
        // Each name once.
        let nodes: BTreeMap<String, Node> = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        nodes.values().try_for_each(Node::check)?;
        let mut members = self.members.lock();
        let new = nodes.keys().filter(|name| !members.by_name.contains_key(*name)).count();
        if members.by_name.len() + new > MAX_NODES {
            return Err(NodeError::TooMany);
        }
        let mut table = Table::clone(&self.table.load());
        let mut edits = HashMap::new();
        grow(&mut table, members.by_name.len() + new);
        for node in nodes.into_values() {
            place(&mut table, &mut members, &mut edits, node, &self.config);
        }
        self.publish(table, &mut members, edits);
        Ok(())
    }

    /// Takes a node out. Whether it was in.
    pub fn remove(&self, name: &str) -> bool {
        self.remove_all([name]) > 0
    }

    /// Takes many nodes out for the price of one. How many were in.
    pub fn remove_all<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> usize {
        let mut members = self.members.lock();
        let mut table = Table::clone(&self.table.load());
        let (mut edits, mut gone) = (HashMap::new(), 0);
        for name in names {
            let Some(member) = members.by_name.remove(name) else { continue };
            leave(&mut table, &mut edits, member.slot);
            if let Some(node) = table.nodes.get_mut(member.slot as usize) {
                *node = None;
            }
            members.free.push(member.slot);
            gone += 1;
        }
        if gone > 0 {
            self.publish(table, &mut members, edits);
        }
        gone
    }

    /// What a node says of itself. Whether it is in the fleet.
    pub fn load(&self, name: &str, load: Load) -> bool {
        let mut members = self.members.lock();
        let table = self.table.load();
        let Some(member) = members.by_name.get_mut(name) else { return false };
        member.load = load;
        let Some((state, node)) = table.state(member.slot).zip(table.node(member.slot)) else { return false };
        let was_heard = state.is_heard();
        let (before, full) = state.report(node, &load, &self.config);
        for (level, ring) in table.rings_of(member.slot) {
            if !state.is_drained() {
                // In this order the mean of one node is at no moment that of none.
                ring.enter(true, full);
                ring.leave(was_heard, before);
            }
            // It closes now, even if nobody asks before it is emptier again.
            state.is_closed(level, ring.bounds(&self.config));
        }
        members.reports += 1;
        // A decision by an older table may have been counted there; once a round of reports all is counted anew.
        if members.reports >= members.by_name.len() {
            members.reports = 0;
            table.rings.iter().for_each(|ring| table.count(ring));
        }
        true
    }

    /// A node that is drained takes nobody, until it is not any more. Whether it is in the fleet.
    pub fn drain(&self, name: &str, drained: bool) -> bool {
        let members = self.members.lock();
        let table = self.table.load();
        let Some(member) = members.by_name.get(name) else { return false };
        let Some(state) = table.state(member.slot) else { return false };
        if state.set_drained(drained) {
            let (heard, full) = (state.is_heard(), state.full());
            for (_, ring) in table.rings_of(member.slot) {
                if drained { ring.leave(heard, full) } else { ring.enter(heard, full) }
            }
        }
        true
    }

    /// Where to send a viewer of `stream` who is near `near`: the first node, which is counted as having one more, and those
    /// to go to if it fails. At most `count` and [`MAX_RANKED`](super::MAX_RANKED); fewer if there are not as many, and none only if all nodes
    /// are drained.
    #[must_use]
    pub fn rank(&self, stream: &str, near: &Labels, count: usize) -> Vec<Arc<Node>> {
        self.choose(stream, None, near, count)
    }

    /// The same for a stream of that many bits per second. Between two reports of its node a hot stream of a high bitrate
    /// fills it by more than others do.
    #[must_use]
    pub fn rank_at(&self, stream: &str, bps: u64, near: &Labels, count: usize) -> Vec<Arc<Node>> {
        self.choose(stream, Some(bps), near, count)
    }

    fn choose(&self, stream: &str, bps: Option<u64>, near: &Labels, count: usize) -> Vec<Arc<Node>> {
        let table = self.table.load();
        let picks = table.pick(hash::stream(stream), near, count, &self.config, || {
            hash::mix(self.spilled.fetch_add(1, Relaxed))
        });
        if let Some(first) = picks.slots().first() {
            table.assign(*first, bps, &self.config);
        }
        picks.slots().iter().filter_map(|slot| table.node(*slot).cloned()).collect()
    }

    /// What [`rank`](Self::rank) would say, without anybody being sent there.
    #[must_use]
    pub fn preview(&self, stream: &str, near: &Labels, count: usize) -> Vec<Arc<Node>> {
        let table = self.table.load();
        let picks = table.pick(hash::stream(stream), near, count, &self.config, || 0);
        picks.slots().iter().filter_map(|slot| table.node(*slot).cloned()).collect()
    }

    /// All nodes, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let members = self.members.lock();
        let table = self.table.load();
        let status = |member: &Member| {
            let (state, node) = table.state(member.slot).zip(table.node(member.slot))?;
            let (level, all) = table.rings_of(member.slot).last()?;
            Some(Status {
                node: node.clone(),
                load: member.load,
                fullness: gate::share(state.full()),
                drained: state.is_drained(),
                closed: state.is_closed(level, all.bounds(&self.config)),
            })
        };
        let mut statuses: Vec<Status> = members.by_name.values().filter_map(status).collect();
        statuses.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        statuses
    }

    /// Bytes of the tables, without the nodes' names.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let members = self.members.lock();
        self.table.load().bytes() + members.by_name.capacity() * size_of::<(String, Member)>()
    }

    /// Makes the rings that a change asks for, and then the table the one that decisions read.
    fn publish(&self, mut table: Table, members: &mut Members, edits: HashMap<u32, Edit>) {
        for (id, mut edit) in edits {
            let Some(ring) = table.rings.get(id as usize) else { continue };
            edit.gone.sort_unstable();
            let ring = Arc::new(ring.edited(&edit.gone, &edit.new));
            table.count(&ring);
            // The ring of all stays, for who comes next.
            if ring.is_empty() && id != 0 {
                table.by_labels.retain(|_, other| *other != id);
                members.idle_rings.push(id);
            }
            if let Some(place) = table.rings.get_mut(id as usize) {
                *place = ring;
            }
        }
        self.table.store(Arc::new(table));
    }
}

/// Makes room for so many nodes.
fn grow(table: &mut Table, nodes: usize) {
    if nodes > table.states.len() {
        let new = nodes.next_power_of_two() - table.states.len();
        let states = table.states.iter().map(State::copy);
        table.states = states.chain(std::iter::repeat_with(State::default).take(new)).collect();
    }
    let len = nodes.max(table.nodes.len());
    table.nodes.resize(len, None);
    table.groups.resize(len, [NO_RING; LEVELS]);
}

/// Puts a node into its slot and its rings.
fn place(
    table: &mut Table,
    members: &mut Members,
    edits: &mut HashMap<u32, Edit>,
    node: Node,
    config: &Config,
) {
    let known = members.by_name.get(&node.name).map(|member| (member.slot, member.load));
    let slot = known.map_or_else(|| members.free_slot(), |(slot, _)| slot);
    let before = table.node(slot).cloned();
    if let Some(state) = table.state(slot) {
        match known {
            Some((_, load)) => state.learn(&node, &load, config),
            None => state.begin(&node, config),
        }
    }
    let node = Arc::new(node);
    if let Some(place) = table.nodes.get_mut(slot as usize) {
        *place = Some(node.clone());
    }
    if known.is_none() {
        members.by_name.insert(node.name.clone(), Member { slot, load: Load::default() });
    }
    if before.is_some_and(|before| before.labels == node.labels && before.weight == node.weight) {
        return;
    }
    leave(table, edits, slot);
    let groups = keys(&node.labels).map(|key| key.map_or(NO_RING, |key| ring_for(table, members, key)));
    if let Some(place) = table.groups.get_mut(slot as usize) {
        *place = groups;
    }
    for id in groups.into_iter().filter(|id| *id != NO_RING) {
        let edit = edits.entry(id).or_default();
        edit.new.extend(ring::points(hash::node(&node.name), slot, node.weight));
    }
}

/// Takes a slot out of its rings.
fn leave(table: &mut Table, edits: &mut HashMap<u32, Edit>, slot: u32) {
    let Some(groups) = table.groups.get_mut(slot as usize) else { return };
    for id in std::mem::replace(groups, [NO_RING; LEVELS]).into_iter().filter(|id| *id != NO_RING) {
        edits.entry(id).or_default().gone.push(slot);
    }
}

/// The ring of a group, which is made if there is none.
fn ring_for(table: &mut Table, members: &mut Members, key: u64) -> u32 {
    if let Some(id) = table.by_labels.get(&key) {
        return *id;
    }
    let id = members.idle_rings.pop().unwrap_or_else(|| {
        table.rings.push(Arc::new(Ring::empty()));
        // Each node is in four at most, so that there are far fewer than 2^32.
        u32::try_from(table.rings.len() - 1).unwrap_or(NO_RING)
    });
    table.by_labels.insert(key, id);
    id
}

impl Members {
    fn free_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }
}
