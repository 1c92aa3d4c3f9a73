//! What a world looks like at one moment.

use super::world::{World, bitrate};

/// How unevenly edges are full.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Balance {
    /// Of all edges.
    pub(crate) mean: f64,
    /// The fullest edge to the mean of all, and to that of its region and ISP in the group where that is worst.
    pub(crate) over_all: f64,
    pub(crate) over_group: f64,
}

impl Balance {
    pub(crate) fn of(world: &World) -> Self {
        let mut groups = vec![(0.0, 0.0, 0.0f64); world.groups()];
        for edge in world.edges.iter().filter(|edge| edge.up) {
            let (sum, count, most) = &mut groups[edge.group];
            *sum += edge.full();
            *count += 1.0;
            *most = most.max(edge.full());
        }
        let (sum, count, most) = groups
            .iter()
            .fold((0.0, 0.0, 0.0f64), |all, group| (all.0 + group.0, all.1 + group.1, all.2.max(group.2)));
        let mean = sum / count;
        let over = groups.iter().filter(|group| group.0 > 0.0).map(|group| group.2 / (group.0 / group.1));
        Self { mean, over_all: most / mean, over_group: over.fold(0.0, f64::max) }
    }

    /// The worse of both.
    pub(crate) fn worst(self, other: Self) -> Self {
        Self {
            mean: other.mean,
            over_all: self.over_all.max(other.over_all),
            over_group: self.over_group.max(other.over_group),
        }
    }
}

/// What edges pull, and what they would by other rules. A pull is of one stream by one edge.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Egress {
    pub(crate) pulls: Pulls,
    /// One edge for each stream, which could not send it to all its viewers.
    pub(crate) single: Pulls,
    /// One edge for each stream, region and ISP.
    pub(crate) local: Pulls,
    /// Each viewer at any edge of his region and ISP.
    pub(crate) random: Pulls,
    /// To viewers.
    pub(crate) sent_bps: f64,
}

/// A number, and bits per second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulls {
    pub(crate) count: f64,
    pub(crate) bps: f64,
}

impl Pulls {
    fn add(&mut self, stream: u32, count: f64) {
        self.count += count;
        self.bps += count * bitrate(stream) as f64;
    }
}

impl Egress {
    pub(crate) fn of(world: &World) -> Self {
        let mut egress = Self::default();
        let mut sizes = vec![0.0; world.groups()];
        let mut pairs: Vec<(u32, u32, u32)> = Vec::new();
        for edge in world.edges.iter().filter(|edge| edge.up) {
            sizes[edge.group] += 1.0;
            egress.sent_bps += edge.bandwidth_bps as f64;
            for (stream, viewers) in edge.pairs() {
                egress.pulls.add(stream, 1.0);
                pairs.push((stream, edge.group as u32, viewers));
            }
        }
        pairs.sort_unstable();
        for same in pairs.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (stream, group, _) = same[0];
            egress.local.add(stream, 1.0);
            let viewers: f64 = same.iter().map(|(_, _, viewers)| f64::from(*viewers)).sum();
            let edges: f64 = sizes[group as usize];
            egress.random.add(stream, edges * (1.0 - (1.0 - 1.0 / edges).powf(viewers)));
        }
        for (stream, watching) in (0..).zip(&world.watching) {
            if *watching > 0 {
                egress.single.add(stream, 1.0);
            }
        }
        egress
    }
}
