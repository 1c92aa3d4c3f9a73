//! Where viewers and publishers are sent: what the schedule knows of nodes.

use control_api::rpc;
use tokio::time::Instant;

use super::{Known, Nodes, Record};
use crate::schedule::{self, Labels};

/// What a line carries whose node does not say.
const UNKNOWN_CAPACITY_BPS: u64 = 1_000_000_000;

impl Nodes {
    /// The edges for a viewer: the best first, and those to go to if it fails.
    pub(crate) fn edges_for(&self, path: &str, near: &Labels, count: usize) -> Vec<Known> {
        let ranked = self.0.edges.rank(path, near, count);
        let known = self.0.known.read();
        ranked.iter().filter_map(|node| known.get(&node.name).cloned()).collect()
    }

    /// The origins for a publisher, the best first.
    pub(crate) fn origins_for(&self, path: &str, near: &Labels, count: usize) -> Vec<Known> {
        let ranked = self.0.ingest.rank(path, near, count);
        ranked.iter().filter_map(|node| self.get(&node.name)).collect()
    }

    /// A node is not heard here any more, whatever the registry has of it; another replica may hear it by now.
    pub(super) fn is_away(&self, record: &Record) {
        let mut known = self.0.known.write();
        if let Some(node) = known.get_mut(&record.name)
            && (node.record.instance, &node.record.replica) == (record.instance, &record.replica)
        {
            node.record.away_since_ms = record.away_since_ms;
            node.silent_since.get_or_insert_with(Instant::now);
            self.schedule(node);
        }
    }

    /// What a node carries now.
    pub(super) fn carries(&self, name: &str, load: rpc::Load) {
        let carried = schedule::Load {
            bandwidth_bps: load.out_bps,
            cpu: load.cpu,
            connections: load.connections,
            warm_streams: load.streams,
        };
        self.0.edges.load(name, carried);
        self.0.ingest.load(name, schedule::Load { bandwidth_bps: load.in_bps, ..carried });
        if let Some(known) = self.0.known.write().get_mut(name) {
            known.load = load;
        }
    }

    /// Whether and how much is sent there from now on.
    pub(super) fn schedule(&self, known: &Known) {
        let record = &known.record;
        let node = schedule::Node {
            name: record.name.clone(),
            labels: Labels { region: record.region.clone(), isp: record.isp.clone() },
            weight: record.weight.min(schedule::MAX_WEIGHT),
            capacity_bps: if record.capacity_bps == 0 { UNKNOWN_CAPACITY_BPS } else { record.capacity_bps },
            max_connections: if record.max_connections == 0 { u32::MAX } else { record.max_connections },
        };
        let roles = [(record.role.is_edge(), &self.0.edges), (record.role.is_origin(), &self.0.ingest)];
        for (_, fleet) in roles.into_iter().filter(|(has, _)| *has) {
            match fleet.set(node.clone()) {
                Ok(()) => {
                    fleet.drain(&node.name, !known.takes());
                }
                Err(error) => tracing::error!(node = %node.name, %error, "nobody can be sent to a node"),
            }
        }
    }
}
