//! A peer on its shard.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::receiving::Receiving;
use super::viewing::Viewing;
use super::{Count, Ended};
use crate::peer::Peer;

/// Addresses that a peer may be answered at.
pub(super) const MAX_ADDRESSES: usize = 8;

/// What it does.
pub(super) enum Task {
    Receive(Box<Receiving>),
    View(Box<Viewing>),
}

/// See the module.
pub(super) struct Seat {
    pub(super) ufrag: String,
    pub(super) peer: Box<dyn Peer>,
    pub(super) task: Task,
    pub(super) count: Count,
    pub(super) begun: Instant,
    pub(super) connected: bool,
    /// It has something to say, and is among those who are asked next.
    pub(super) dirty: bool,
    /// When its timer is due next, and when it is looked at.
    pub(super) due: Instant,
    pub(super) armed: Option<Instant>,
    /// Our address that it sends to.
    pub(super) local: Option<IpAddr>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Seat {
    pub(super) fn end(self, why: Ended) {
        self.count.ended(why);
        match self.task {
            Task::Receive(receiving) => receiving.end(why),
            Task::View(viewing) => viewing.end(why),
        }
    }
}
