//! Who may have a stream, and where it may be published.

use control_api::rpc::publish_request::As;

use super::{LeaseError, Record, Streams, Wanted};
use crate::nodes::{Caller, Known};
use crate::schedule::Labels;

/// Origins that a publisher is told of: one to go to, and those to try if that fails.
const ORIGINS: usize = 3;

impl Streams {
    /// Whether a publisher is to wait, as backups do; who does not wait is refused instead.
    pub(super) async fn waits(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        before: Option<&Record>,
    ) -> Result<bool, LeaseError> {
        if wanted.purpose == As::Standby {
            return Ok(true);
        }
        // Its own origin says that nobody publishes it there.
        let Some(record) = before.filter(|record| record.is_live() && !record.is_of(caller)) else {
            return Ok(false);
        };
        let gives_way = wanted.purpose == As::Publisher && (wanted.takeover || record.backup);
        if gives_way || !self.0.nodes.is_heard(&record.node, record.instance).await? {
            return Ok(false);
        }
        if wanted.purpose == As::Backup {
            return Ok(true);
        }
        Err(LeaseError::Busy { path: record.path(), node: record.node.clone() })
    }

    /// Where a publisher is to go, the best first: to the origin that has the stream, or had it a moment ago, if that still
    /// takes publishers. A backup goes to another one, if there is another.
    pub(crate) fn origins_for(&self, path: &str, near: &Labels, backup: bool) -> Vec<Known> {
        let nodes = &self.0.nodes;
        let own = self.get(path).and_then(|record| {
            let node = nodes.get(&record.node)?;
            (node.record.instance == record.instance && node.takes()).then_some(node)
        });
        let mut all = nodes.origins_for(path, near, ORIGINS);
        if let Some(own) = own {
            all.retain(|node| node.record.name != own.record.name);
            all.insert(0, own);
        }
        if backup && all.len() > 1 {
            all.rotate_left(1);
        }
        all
    }
}
