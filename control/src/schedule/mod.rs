//! Where viewers and publishers are sent: nodes, their load and a stream in, a ranking out. No I/O and no clock.
//!
//! Bounded-load weighted rendezvous hashing (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016).
//! A stream wants the nodes of a group in an order of its own, which is the same for all replicas; a node that comes or goes
//! changes no other's place in it. The first node takes its viewers until it is over (1 + ε) times the group's mean, then the
//! next one does: few viewers stay on one edge, and many spread over as many as they fill.
//!
//! The nearest group is asked first: the nodes with the viewer's region and ISP, then with its region, with its ISP, all.
//! Each has its own mean. Where a node is in the group of a busy region, the quiet ones elsewhere are no reason to send its
//! viewers there; that it is nearly full ([`Config::full`]) is.
//!
//! Decisions read an immutable table and atomics. Whoever changes nodes or tells their load takes a lock that they don't.

mod fleet;
mod gate;
mod hash;
mod ring;
mod table;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use fleet::{Fleet, Status};

/// How much a stream wants a node, whatever that carries: of several it wants the one most that has the highest.
pub(crate) fn preference(node: &str, stream: &str) -> u64 {
    hash::mix(hash::node(node) ^ hash::stream(stream))
}

/// Nodes that a fleet may have: what the tables of one replica are measured with, ten times over.
pub const MAX_NODES: usize = 100_000;

/// A node's weight may be at most this, since its part of the tables grows with it.
pub const MAX_WEIGHT: f32 = 100.0;

/// Entries that a ranking has at most.
pub const MAX_RANKED: usize = 16;

/// Where a node or a viewer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels {
    /// Such as `eu-west`.
    pub region: Option<String>,
    /// Of whose network, such as `telecom`.
    pub isp: Option<String>,
}

impl Labels {
    /// Both.
    #[must_use]
    pub fn new(region: &str, isp: &str) -> Self {
        Self { region: Some(region.to_owned()), isp: Some(isp.to_owned()) }
    }
}

/// An edge that viewers, or an origin that publishers can be sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// No other node of the fleet has it. The streams that it gets depend on it.
    pub name: String,
    /// Where it is.
    pub labels: Labels,
    /// Its share of streams is to another's as their weights are; above 0 and at most [`MAX_WEIGHT`]. Capacity says only how
    /// full a node is, so that a larger one has a larger weight in the same measure if it is to be as full.
    pub weight: f32,
    /// Bits per second that it can send; above 0.
    pub capacity_bps: u64,
    /// Connections that it can have; above 0.
    pub max_connections: u32,
}

impl Node {
    fn check(&self) -> Result<(), NodeError> {
        if !(self.weight > 0.0 && self.weight <= MAX_WEIGHT) {
            return Err(NodeError::Weight(self.weight));
        }
        if self.capacity_bps == 0 || self.max_connections == 0 {
            return Err(NodeError::Capacity);
        }
        Ok(())
    }
}

/// Why a node can't be in a fleet.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Not above 0, above [`MAX_WEIGHT`], or no number.
    #[error("a weight of {0} is not above 0 and at most {MAX_WEIGHT}")]
    Weight(f32),
    /// It can send nothing, or have no connection.
    #[error("a node without capacity")]
    Capacity,
    /// There are [`MAX_NODES`].
    #[error("{MAX_NODES} nodes are there already")]
    TooMany,
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Bits per second that it sends.
    pub bandwidth_bps: u64,
    /// Of all its processors, from 0 to 1.
    pub cpu: f32,
    /// That it has.
    pub connections: u32,
    /// Streams that it pulls, or has from publishers.
    pub warm_streams: u32,
}

/// What an operator can set of the scheduling.
///
/// How full a node is, is one number: 1 if it sends what it can, has as many connections as it can, or its processors have
/// nothing to spare, whichever is nearest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// No node gets more than 1 + ε times as full as its group is on average, as far as who is sent there decides that: it
    /// takes nobody a little below, until it is only 1 + ε/2 times as full.
    pub epsilon: f32,
    /// A node no fuller than this is never stepped over for others being emptier: spreading the viewers of a quiet fleet
    /// would have each stream pulled by many edges.
    pub idle: f32,
    /// A node as full as this takes nobody, however full the others are.
    pub full: f32,
    /// Of those who were sent to a node between two of its reports, the part that the second one can't have counted yet.
    pub unreported: f32,
    /// Replicas that decide, each for as many. None hears of what the others decide before a node's next report, so that each
    /// counts what it decides itself this many times.
    pub replicas: u32,
    /// Bits per second that one more is expected to cost, as long as a node's own reports don't say.
    pub expected_bps: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { epsilon: 0.25, idle: 0.1, full: 0.9, unreported: 0.25, replicas: 1, expected_bps: 3_000_000 }
    }
}
