//! What origins have: it is confirmed every few seconds, and written down anew where it was not known any more.

use control_api::rpc;

use super::standby::standbys_with;
use super::{ATTEMPTS, LeaseError, PREFIX, Record, State, Streams, What, is_ahead, path};
use crate::nodes::{Caller, Why};
use crate::registry::Expect;

impl Streams {
    /// Confirms what an origin has. What it has no more comes back.
    pub(crate) async fn renew(
        &self,
        caller: &Caller,
        held: Vec<rpc::Held>,
    ) -> Result<Vec<rpc::Held>, LeaseError> {
        let mut lost = Vec::new();
        for held in held {
            let Some(key) = held.key.as_ref() else { continue };
            let Ok(path) = path(key) else { continue };
            if held.standby {
                match self.keep_standby(caller, &path).await {
                    Err(error @ (LeaseError::Backups(_) | LeaseError::Contended)) => {
                        tracing::debug!(stream = path, node = caller.name, %error, "a backup is not noted");
                    }
                    kept => kept?,
                }
                continue;
            }
            // What this replica knows answers almost all of them.
            let known = self.get(&path);
            let same = |record: &Record| {
                let state = if held.interrupted { !record.is_live() } else { record.is_live() };
                state
                    && (&record.node, record.instance, record.epoch)
                        == (&caller.name, caller.instance, held.epoch)
            };
            if known.as_ref().is_some_and(same) {
                continue;
            }
            if !self.confirm(caller, &path, key, &held).await? {
                lost.push(held);
            }
        }
        Ok(lost)
    }

    /// Writes down that an origin has a stream, unless somebody has it under a higher epoch.
    async fn confirm(
        &self,
        caller: &Caller,
        path: &str,
        key: &rpc::StreamKey,
        held: &rpc::Held,
    ) -> Result<bool, LeaseError> {
        let registry_key = format!("{PREFIX}{path}");
        for _ in 0..ATTEMPTS {
            let before = self.read(&registry_key).await?;
            let now_ms = (self.0.clock)();
            if let Some((record, _)) = &before {
                let own = (&record.node, record.instance) == (&caller.name, caller.instance);
                // A newer lease of its own is used in a moment, or given back; until then it has what it has.
                if own && record.epoch > held.epoch && record.is_there() {
                    return Ok(true);
                }
                if record.epoch > held.epoch || record.epoch == held.epoch && !own {
                    self.refuses(
                        Why::Outdated,
                        caller,
                        "an origin has an older epoch of a stream than another",
                    );
                    return Ok(false);
                }
                // Or a wrong clock would win over all others.
                if is_ahead(held.epoch, now_ms) && !is_ahead(record.epoch, now_ms) && record.is_live() && !own
                {
                    self.refuses(
                        Why::Clock,
                        caller,
                        "the clock of an origin is ahead; its epochs are not believed",
                    );
                    return Ok(false);
                }
            }
            if let Some((record, _)) = &before
                && held.backup
                && !record.backup
                && record.is_live()
                && !record.is_of(caller)
                && self.0.nodes.is_heard(&record.node, record.instance).await?
            {
                // A backup was let in while its origin was cut off.
                return Ok(false);
            }
            let state = if held.interrupted { State::Dropped(now_ms) } else { State::Live };
            let continued = before.as_ref().map(|(record, _)| record).filter(|record| record.is_there());
            if continued
                .is_some_and(|record| record.epoch == held.epoch && held.interrupted && !record.is_live())
            {
                return Ok(true);
            }
            let record = Record {
                app: key.app.clone(),
                name: key.name.clone(),
                epoch: held.epoch,
                proposed: held.epoch,
                state,
                node: caller.name.clone(),
                instance: caller.instance,
                started_at_ms: continued.map_or(now_ms, |record| record.started_at_ms),
                protocol: continued.map(|record| record.protocol.clone()).unwrap_or_default(),
                remote_addr: continued.map(|record| record.remote_addr.clone()).unwrap_or_default(),
                backup: held.backup,
                standbys: standbys_with(before.as_ref().map(|(record, _)| record), caller, false),
            };
            let expect = before.as_ref().map_or(Expect::Absent, |(_, revision)| Expect::At(*revision));
            if self.write(&record, expect).await? {
                if let Some(before) = continued {
                    self.take_from(before, &record).await;
                }
                let what = match (continued, held.interrupted) {
                    (None, _) => What::Published,
                    (Some(_), true) => What::Dropped,
                    (Some(_), false) => What::Resumed,
                };
                self.say(what, &record);
                return Ok(true);
            }
        }
        Err(LeaseError::Contended)
    }
}
