//! Backup publishers: origins that have one of a stream, and are told when it is needed.

use control_api::rpc;
use control_api::rpc::command::Command;

use super::record::Standby;
use super::{ATTEMPTS, LeaseError, PREFIX, Record, Streams};
use crate::nodes::Caller;
use crate::registry::{Expect, Revision};

/// Backups that a stream may have: more are of no use, and its record names them all.
const MAX_STANDBYS: usize = 4;

/// The backups of a stream whose record is written anew; with `caller`, if it has one.
pub(super) fn standbys_with(before: Option<&Record>, caller: &Caller, is_backup: bool) -> Vec<Standby> {
    let mut standbys = before.map(|record| record.standbys.clone()).unwrap_or_default();
    if is_backup && before.is_none_or(|record| record.standby(caller).is_none()) {
        add(&mut standbys, caller);
    }
    standbys
}

/// One of an earlier process of the same name is no more. `false`: there is no room.
fn add(standbys: &mut Vec<Standby>, caller: &Caller) -> bool {
    standbys.retain(|one| one.node != caller.name);
    if standbys.len() >= MAX_STANDBYS {
        return false;
    }
    standbys.push(Standby { node: caller.name.clone(), instance: caller.instance });
    true
}

impl Streams {
    /// Notes that an origin has a backup of a stream. `false`: others have changed it.
    pub(super) async fn add_standby(
        &self,
        caller: &Caller,
        record: &Record,
        revision: Revision,
    ) -> Result<bool, LeaseError> {
        if record.standby(caller).is_some() {
            return Ok(true);
        }
        let mut record = record.clone();
        if record.standbys.len() >= MAX_STANDBYS {
            record.standbys.retain(|one| self.0.nodes.is_there(&one.node, one.instance));
        }
        if !add(&mut record.standbys, caller) {
            return Err(LeaseError::Backups(record.path()));
        }
        Ok(self.write(&record, Expect::At(revision)).await?)
    }

    /// Confirms that an origin has a backup of a stream, which it is told to promote if the stream has no publisher.
    pub(super) async fn keep_standby(&self, caller: &Caller, path: &str) -> Result<(), LeaseError> {
        // What this replica knows answers almost all of them.
        let known = self.get(path);
        if known.as_ref().is_some_and(|record| record.is_live() && record.standby(caller).is_some()) {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let before = self.read(&format!("{PREFIX}{path}")).await?;
            match before.filter(|(record, _)| record.is_there()) {
                Some((record, revision)) => {
                    if !self.add_standby(caller, &record, revision).await? {
                        continue;
                    }
                    if !record.is_live() {
                        self.tell_to_promote(&caller.name, path).await;
                    }
                }
                None => self.tell_to_promote(&caller.name, path).await,
            }
            return Ok(());
        }
        Err(LeaseError::Contended)
    }

    /// The backup of a stream has left.
    pub(super) async fn forget_standby(&self, caller: &Caller, path: &str) -> Result<(), LeaseError> {
        for _ in 0..ATTEMPTS {
            let Some((mut record, revision)) = self.read(&format!("{PREFIX}{path}")).await? else {
                return Ok(());
            };
            let Some(at) = record.standby(caller) else { return Ok(()) };
            record.standbys.remove(at);
            if self.write(&record, Expect::At(revision)).await? {
                return Ok(());
            }
        }
        Err(LeaseError::Contended)
    }

    /// Whether somebody could go on with a stream at once, if the origin that has it does not.
    pub(super) fn has_backup_elsewhere(&self, record: &Record) -> bool {
        record
            .standbys
            .iter()
            .any(|one| one.node != record.node && self.0.nodes.is_there(&one.node, one.instance))
    }

    /// A stream has no publisher: its backups are to go on with it. The first that asks for the lease gets it.
    pub(super) async fn promote(&self, record: &Record) {
        for standby in &record.standbys {
            if self.0.nodes.is_there(&standby.node, standby.instance) {
                self.tell_to_promote(&standby.node, &record.path()).await;
            }
        }
    }

    async fn tell_to_promote(&self, node: &str, path: &str) {
        let Some((app, name)) = path.split_once('/') else { return };
        let promote = rpc::Promote { app: app.to_owned(), name: name.to_owned() };
        // It confirms its backup every few seconds, and is told again then.
        if let Err(error) = self.0.nodes.tell(node, Command::Promote(promote)).await {
            tracing::warn!(stream = path, node, %error, "an origin is not told to promote its backup");
        }
    }
}
