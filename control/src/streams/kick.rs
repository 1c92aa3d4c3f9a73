//! Ending a stream, wherever its publishers are.

use control_api::rpc;

use super::Streams;
use crate::registry::RegistryError;

impl Streams {
    /// Its publisher is told and disconnected. `false`: there is no such stream.
    pub(crate) async fn kick(&self, path: &str) -> Result<bool, RegistryError> {
        let Some(record) = self.get(path) else { return Ok(false) };
        let kick = rpc::Kick { app: record.app.clone(), name: record.name.clone(), epoch: 0 };
        // Its backups are not to go on with it, either: before it, and whether or not each of them can be told.
        let mut all_told = Ok(());
        for standby in record.standbys.iter().filter(|standby| standby.node != record.node) {
            let told = self.0.nodes.tell(&standby.node, rpc::command::Command::Kick(kick.clone())).await;
            all_told = all_told.and(told.map(|_| ()));
        }
        if !self.0.nodes.tell(&record.node, rpc::command::Command::Kick(kick)).await? {
            return Ok(false);
        }
        all_told.map(|()| true)
    }
}
