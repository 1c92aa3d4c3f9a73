//! A peer on its shard.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::receiving::Receiving;
use super::viewing::Viewing;
use super::{Count, Ended};
use crate::metrics::Metrics;
use crate::peer::{Counts, Peer};

/// Addresses that a peer may be answered at.
pub(super) const MAX_ADDRESSES: usize = 8;

/// Checks that are remembered: two minutes of a browser's, which sends one in 2.5 s when all is well.
const MAX_CHECKS: usize = 48;

/// What it does.
pub(super) enum Task {
    Receive(Box<Receiving>),
    View(Box<Viewing>),
}

/// See the module.
pub(super) struct Seat {
    pub(super) ufrag: String,
    /// The fragment that its peer has since ICE was restarted.
    pub(super) renamed: Option<String>,
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
    /// The newest of its checks, and where they came from.
    pub(super) checks: VecDeque<([u8; 12], SocketAddr)>,
    /// What of its counts is in the metrics.
    pub(super) counted: Counts,
}

impl Seat {
    /// Whether a check came from another address before: whoever recorded one must not be able to have media sent
    /// elsewhere by it. A client that sends one again does so from the same address.
    pub(super) fn is_replay(&mut self, transaction: [u8; 12], from: SocketAddr) -> bool {
        if let Some((_, first)) = self.checks.iter().find(|(known, _)| *known == transaction) {
            return *first != from;
        }
        if self.checks.len() >= MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back((transaction, from));
        false
    }

    /// Adds to the metrics what came since.
    pub(super) fn tally(&mut self, metrics: &Metrics) {
        let counts = self.peer.counts();
        metrics.add(matches!(self.task, Task::View(_)), counts.since(self.counted));
        self.counted = counts;
        if matches!(self.task, Task::View(_))
            && let Some(bits) = self.peer.estimate()
        {
            #[allow(clippy::cast_precision_loss, reason = "it is a size")]
            metrics.estimates.observe(bits as f64 / 8.0);
        }
    }

    pub(super) fn end(self, why: Ended) {
        tracing::debug!(session = %self.ufrag, reason = why.name(), estimate_bits = self.peer.estimate(), "a WebRTC peer ended");
        self.count.ended(why);
        match self.task {
            Task::Receive(receiving) => receiving.end(why),
            Task::View(viewing) => viewing.end(why),
        }
    }
}
