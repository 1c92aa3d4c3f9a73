//! How full a node is, and whether that lets it take one more.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{Config, Load, Node, hash};

/// How full a node is stands in atomics as a whole number; this is one that is quite full. It leaves room for 1000 times
/// that, and a viewer of 0.5 Mbit/s on a node of 100 Gbit/s is still more than nothing.
const FULL: f32 = (1u32 << 22) as f32;

/// What a report says is cut off here, and decisions no longer add above it: whoever is that full is full, and a sum of
/// any number of nodes is far from wrapping.
const MOST: f32 = 100.0;

/// Nodes close when they are this part of ε above the mean: what is known of them is as old as a heartbeat, and with the
/// last one who is let in a node is to be within ε yet.
const CLOSE: f32 = 0.9;

/// So far above the mean, in parts of ε, nodes begin to take fewer streams, and those that were closed open again.
const OPEN: f32 = 0.5;

/// A node's own figures say what one more costs once it has clearly more connections than these; before, what is expected.
const EXPECTED_WEIGHT: f32 = 200.0;

/// As a number for atomics.
pub(super) fn units(full: f32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "between 0 and 100 * 2^22, and 0 for what is no number"
    )]
    {
        (full.clamp(0.0, MOST) * FULL) as u32
    }
}

/// As a share of a node that is quite full.
pub(super) fn share(units: u32) -> f32 {
    units as f32 / FULL
}

/// How full a node is: as full as that of its means which is most used.
pub(super) fn fullness(node: &Node, load: &Load) -> f32 {
    let bandwidth = load.bandwidth_bps as f32 / node.capacity_bps as f32;
    let connections = load.connections as f32 / node.max_connections as f32;
    bandwidth.max(load.cpu).max(connections)
}

/// By how much one more fills a node, going by what those cost that it has.
fn step(node: &Node, load: &Load, config: &Config) -> f32 {
    let connections = load.connections as f32;
    let bandwidth = load.bandwidth_bps as f32 + EXPECTED_WEIGHT * config.expected_bps as f32;
    let each_bps = bandwidth / (connections + EXPECTED_WEIGHT);
    // A node that is idle but for something else counts as one with a few viewers.
    let cpu = load.cpu / (connections + EXPECTED_WEIGHT);
    (each_bps / node.capacity_bps as f32).max(cpu).max(1.0 / node.max_connections as f32)
}

/// Where the nodes of a group begin to be stepped over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// A node as full as this takes nobody, until it is no fuller than `some`.
    pub(super) all: u32,
    /// Above this a node takes the fewer streams the nearer it is to `all`.
    pub(super) some: u32,
}

impl Bounds {
    /// Of a group that is so full on average.
    pub(super) fn new(mean: u32, config: &Config) -> Self {
        let (close, open) = (1.0 + CLOSE * config.epsilon, 1.0 + OPEN * config.epsilon);
        let bound = (share(mean) * close).max(config.idle).min(config.full);
        Self { all: units(bound), some: units(bound * open / close) }
    }
}

/// Groups that a node is in, each with its own average and so its own bounds.
pub(super) const LEVELS: usize = 4;

/// What changes between two decisions. Nobody waits for anybody here: a decision that misses what another one adds at the
/// same moment is as good.
#[derive(Debug, Default)]
pub(super) struct State {
    /// How full it is: what it said last, and what was decided since.
    full: AtomicU32,
    /// The part of that which it said.
    said: AtomicU32,
    /// By how much one more fills it.
    step: AtomicU32,
    /// Bit n: it went over the bound of its group of level n and is not clearly below it yet.
    closed: AtomicU8,
    drained: AtomicBool,
    /// Whether it has said anything.
    heard: AtomicBool,
    /// Of its name.
    seed: AtomicU64,
}

impl State {
    /// For a node that is new here.
    pub(super) fn begin(&self, node: &Node, config: &Config) {
        self.full.store(0, Relaxed);
        self.said.store(0, Relaxed);
        self.closed.store(0, Relaxed);
        self.drained.store(false, Relaxed);
        self.heard.store(false, Relaxed);
        self.seed.store(hash::node(&node.name), Relaxed);
        self.learn(node, &Load::default(), config);
    }

    /// For a node that has other limits now.
    pub(super) fn learn(&self, node: &Node, load: &Load, config: &Config) {
        self.step.store(units(step(node, load, config)).max(1), Relaxed);
    }

    /// The same in another place.
    pub(super) fn copy(&self) -> Self {
        Self {
            full: self.full.load(Relaxed).into(),
            said: self.said.load(Relaxed).into(),
            step: self.step.load(Relaxed).into(),
            closed: self.closed.load(Relaxed).into(),
            drained: self.drained.load(Relaxed).into(),
            heard: self.heard.load(Relaxed).into(),
            seed: self.seed.load(Relaxed).into(),
        }
    }

    /// What it says of itself. How full it was thought to be, and how full it is.
    pub(super) fn report(&self, node: &Node, load: &Load, config: &Config) -> (u32, u32) {
        self.learn(node, load, config);
        let decided = self.full().saturating_sub(self.said.load(Relaxed));
        let said = units(fullness(node, load));
        // Those who were sent there a moment ago are not in what it says.
        let full = said + units(share(decided) * config.unreported);
        self.said.store(said, Relaxed);
        self.heard.store(true, Relaxed);
        (self.full.swap(full, Relaxed), full)
    }

    /// One more is sent there, who takes so many bits per second if that is known. By how much fuller the node is now.
    pub(super) fn assign(&self, node: &Node, bps: Option<u64>, config: &Config) -> i64 {
        if self.full() >= units(MOST) {
            return 0;
        }
        let known =
            bps.map(|bps| (bps as f32 / node.capacity_bps as f32).max(1.0 / node.max_connections as f32));
        let each = known.map_or_else(|| self.step.load(Relaxed), |each| units(each).max(1));
        // Other replicas send as many, by the same order.
        let fuller = each.saturating_mul(config.replicas.max(1)).min(units(MOST));
        self.full.fetch_add(fuller, Relaxed);
        i64::from(fuller)
    }

    /// How full it is by estimate.
    pub(super) fn full(&self) -> u32 {
        self.full.load(Relaxed)
    }

    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Whether that changed it.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Relaxed) != drained
    }

    /// Whether it is over the bound of its group of this level, or was and is not clearly below it.
    pub(super) fn is_closed(&self, level: usize, bounds: Bounds) -> bool {
        let (full, bit) = (self.full(), 1u8 << level);
        let was_closed = self.closed.load(Relaxed) & bit != 0;
        let is_closed = full >= bounds.all || was_closed && full > bounds.some;
        if is_closed && !was_closed {
            self.closed.fetch_or(bit, Relaxed);
        } else if was_closed && !is_closed {
            self.closed.fetch_and(!bit, Relaxed);
        }
        is_closed
    }

    /// Whether it takes a viewer of `stream`.
    ///
    /// Between the bounds it takes a share of streams, and always the same ones: if it took either all or none, all of its
    /// streams would be pulled by their next nodes as well, each time that it is closed.
    pub(super) fn takes(&self, stream: u64, level: usize, bounds: Bounds) -> bool {
        if self.is_closed(level, bounds) {
            return false;
        }
        let over = self.full().saturating_sub(bounds.some);
        if over == 0 {
            return true;
        }
        // Of 2^16 parts of the way from one bound to the other.
        let way = u64::from(bounds.all.saturating_sub(bounds.some).max(1));
        let pressed = (u64::from(over) << 16) / way;
        self.draw(stream) >> 48 >= pressed
    }

    /// A number that only this node has for this stream.
    pub(super) fn draw(&self, stream: u64) -> u64 {
        hash::mix(stream ^ self.seed.load(Relaxed))
    }
}
