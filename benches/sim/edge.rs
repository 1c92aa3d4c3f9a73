//! An edge: how many watch each stream there, and nothing of who they are.

use control::schedule::{Load, Node};

use super::chance::Chance;

/// An edge and its viewers.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) node: Node,
    /// Of its labels.
    pub(crate) group: usize,
    /// Whether it answers.
    pub(crate) up: bool,
    /// Streams that it pulls, and the viewers of each.
    streams: Vec<u32>,
    viewers: Vec<u32>,
    pub(crate) watching: usize,
    pub(crate) bandwidth_bps: u64,
}

impl Edge {
    pub(crate) fn new(node: Node, group: usize) -> Self {
        let (streams, viewers) = (Vec::new(), Vec::new());
        Self { node, group, up: true, streams, viewers, watching: 0, bandwidth_bps: 0 }
    }

    /// How full it really is.
    pub(crate) fn full(&self) -> f64 {
        self.bandwidth_bps as f64 / self.node.capacity_bps as f64
    }

    /// What it says in a heartbeat.
    pub(crate) fn load(&self) -> Load {
        Load {
            bandwidth_bps: self.bandwidth_bps,
            // Measured with weir: sending is the most of it, and the line is full before the processors are.
            cpu: (self.full() * 0.6) as f32,
            connections: self.watching as u32,
            warm_streams: self.streams.len() as u32,
        }
    }

    /// Streams that it pulls, and how many watch each.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.streams.iter().copied().zip(self.viewers.iter().copied())
    }

    /// Somebody comes for a stream of that bitrate.
    pub(crate) fn join(&mut self, stream: u32, bps: u64) {
        match self.streams.iter().position(|other| *other == stream) {
            Some(at) => self.viewers[at] += 1,
            None => {
                self.streams.push(stream);
                self.viewers.push(1);
            }
        }
        self.watching += 1;
        self.bandwidth_bps += bps;
    }

    /// One of its viewers goes, any of them: the stream that was watched.
    pub(crate) fn leave(&mut self, chance: &mut Chance, bps: impl Fn(u32) -> u64) -> u32 {
        let mut nth = chance.below(self.watching) as u32;
        let is_it = |viewers: &u32| {
            let is_it = nth < *viewers;
            nth = nth.wrapping_sub(*viewers);
            is_it
        };
        let at = self.viewers.iter().position(is_it).expect("as many as are watching");
        let stream = self.streams[at];
        self.viewers[at] -= 1;
        if self.viewers[at] == 0 {
            self.viewers.swap_remove(at);
            self.streams.swap_remove(at);
        }
        self.watching -= 1;
        self.bandwidth_bps -= bps(stream);
        stream
    }

    /// All its viewers, who have to go elsewhere.
    pub(crate) fn fail(&mut self) -> Vec<(u32, u32)> {
        self.up = false;
        (self.watching, self.bandwidth_bps) = (0, 0);
        std::mem::take(&mut self.streams).into_iter().zip(std::mem::take(&mut self.viewers)).collect()
    }
}
