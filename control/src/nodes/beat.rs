//! A node that is heard: its heartbeats, what it is told, and what becomes of its record when it is silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use control_api::rpc;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::pace::Pace;
use super::pass::RENEW;
use super::{Caller, Heard, MAX_COMMANDS, Nodes, Record, Reports, Why};
use crate::registry::{Expect, RegistryError, Revision};

/// Streams that one node may report: more than it can carry.
const MAX_REPORTS: usize = 200_000;

/// Pulls and pushes that one node may report: more than it may have.
const MAX_REMOTE_REPORTS: usize = 10_000;

/// How often a record is tried to be written while the registry is out of reach.
const RETRY: Duration = Duration::from_millis(500);

static CALLS: AtomicU64 = AtomicU64::new(1);

/// Makes another pass of a node.
pub(super) type MakePass = Box<dyn Fn() -> String + Send + Sync>;

/// What a node gets back.
pub(super) type Commands = mpsc::Receiver<Result<rpc::Command, Status>>;

impl Nodes {
    /// Hears a node. Its commands end when it is not to be heard any more, with the reason.
    pub(super) async fn hear(
        &self,
        caller: Caller,
        heartbeats: Streaming<rpc::Heartbeat>,
        pass: MakePass,
    ) -> Result<Commands, Status> {
        let key = Record::key(&caller.name);
        let entry = self.0.registry.get(&key).await.map_err(unavailable)?;
        let record = entry.as_ref().and_then(super::read).filter(|record| record.instance == caller.instance);
        let (Some(mut record), Some(entry)) = (record, entry) else {
            return Err(Status::aborted("this node is not known any more: register again"));
        };
        (record.replica, record.away_since_ms) = (self.0.replica.clone(), None);
        let (commands, waiting) = mpsc::channel(MAX_COMMANDS);
        let (out, answers) = mpsc::channel(MAX_COMMANDS);
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        let call = Call { nodes: self.clone(), record, call: number, reports: Arc::default(), pass };
        let heard =
            Heard { call: number, instance: caller.instance, commands, reports: Arc::clone(&call.reports) };
        // Before the record says so: the end of the call before looks here whether the record is still its own.
        let before = self.0.heard.lock().insert(caller.name, heard);
        let (tell, told) = oneshot::channel();
        // A task of its own, since a node that does not wait takes this one with it: who is entered is looked after.
        tokio::spawn(async move {
            match call.begins(entry.revision).await {
                Ok(()) => {
                    // The call before, of the same node, ends with its sender.
                    drop(before);
                    // Nobody may wait any more, which the call finds out.
                    let _ = tell.send(Ok(()));
                    call.run(heartbeats, waiting, out).await;
                }
                Err(status) => {
                    let _ = tell.send(Err(status));
                    call.failed(before).await;
                }
            }
        });
        told.await.map_err(|_| Status::unavailable("this replica fails"))??;
        Ok(answers)
    }
}

/// A call of a node.
struct Call {
    nodes: Nodes,
    record: Record,
    call: u64,
    reports: Arc<Mutex<Reports>>,
    pass: MakePass,
}

/// Why a call ended.
enum End {
    /// The node hung up, was silent for too long, or its line broke.
    Silent,
    /// Another call of the node, or another node of its name, has taken its place.
    Replaced,
    /// It said something that it must not.
    Refused(Status),
    /// This replica ends: the node goes on to another.
    Closing,
}

impl Call {
    /// Writes that the node is heard here.
    async fn begins(&self, known: Revision) -> Result<(), Status> {
        match self.nodes.write(&self.record, Expect::At(known)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Status::aborted("another process of this name has just registered")),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// It could not begin: the call before goes on, if there still is one, or the node is not heard.
    async fn failed(self, before: Option<Heard>) {
        if let Some(before) = before {
            let mut heard = self.nodes.0.heard.lock();
            let own = heard.get(&self.record.name).is_some_and(|heard| heard.call == self.call);
            // One that ends closes its commands before it looks whether the node is its own.
            if own && !before.commands.is_closed() {
                heard.insert(self.record.name.clone(), before);
                return;
            }
        }
        self.left().await;
    }

    async fn run(
        mut self,
        mut heartbeats: Streaming<rpc::Heartbeat>,
        mut commands: mpsc::Receiver<rpc::Command>,
        out: mpsc::Sender<Result<rpc::Command, Status>>,
    ) {
        let nodes = self.nodes.clone();
        let (mut lease, mut keys, mut origins) =
            (nodes.0.lease.clone(), nodes.0.keys.subscribe(), nodes.0.origins.subscribe());
        let mut policy = nodes.0.policy.subscribe();
        policy.mark_changed();
        let mut remotes = nodes.0.remotes.subscribe();
        remotes.mark_changed();
        let mut ordered: Option<rpc::Remotes> = None;
        let mut conferences = nodes.0.conferences.subscribe();
        conferences.mark_changed();
        lease.mark_unchanged();
        keys.mark_changed();
        origins.mark_changed();
        let mut closing = nodes.0.closing.subscribe();
        if *closing.borrow_and_update() {
            closing.mark_changed();
        }
        let mut passes = interval_at(Instant::now() + RENEW, RENEW);
        if self.is_drained() {
            let drain = rpc::command::Command::Drain(rpc::Drain { undo: false });
            let _ = out.try_send(Ok(rpc::Command { command: Some(drain) }));
        }
        let (orders, name) = (nodes.clone(), self.record.name.clone());
        // The registry may take its time, and the node's heartbeats and keys do not wait for it.
        tokio::spawn(async move {
            if let Err(error) = orders.orders_for(&name).await {
                tracing::warn!(node = %name, %error, "what a node was to be told by others is not known");
            }
        });
        let silence = nodes.0.patience.silence;
        let mut pace = Pace::new(nodes.0.patience.heartbeat, Instant::now());
        let end = loop {
            let next = async {
                sleep_until(pace.opens()).await;
                timeout(silence, heartbeats.message()).await
            };
            let command = tokio::select! {
                heartbeat = next => match heartbeat {
                    Ok(Ok(Some(heartbeat))) => {
                        if pace.took(Instant::now()) {
                            self.refuses(Why::Flood, "a node is listened to no faster, however fast its heartbeats are");
                        }
                        match self.heard(heartbeat).await {
                            Ok(()) => continue,
                            Err(end) => break end,
                        }
                    }
                    Ok(Err(status)) if Why::of(status.code()) == Some(Why::Malformed) => {
                        self.refuses(Why::Malformed, "what a node sends is no heartbeat");
                        break End::Refused(Status::invalid_argument("this is no heartbeat"));
                    }
                    _ => break End::Silent,
                },
                command = commands.recv() => match command {
                    Some(rpc::Command { command: Some(command) }) => command,
                    Some(_) => continue,
                    None => break End::Replaced,
                },
                Ok(()) = closing.changed() => break End::Closing,
                _ = passes.tick() => rpc::command::Command::Pass(rpc::Pass { token: (self.pass)() }),
                Ok(()) = keys.changed() => rpc::command::Command::Keys(keys.borrow_and_update().clone()),
                Ok(()) = policy.changed() => rpc::command::Command::Policy(*policy.borrow_and_update()),
                Ok(()) = origins.changed() => {
                    rpc::command::Command::Origins(origins.borrow_and_update().clone())
                }
                Ok(()) = conferences.changed() => {
                    let told = conferences.borrow_and_update().clone();
                    match told.filter(|_| self.record.role.is_origin()) {
                        Some(told) => rpc::command::Command::Conferences(rpc::Conferences::clone(&told)),
                        None => continue,
                    }
                }
                Ok(()) = remotes.changed() => {
                    let own = remotes.borrow_and_update().get(&self.record.name).cloned();
                    // One of whom nothing is known yet is told in a moment: what it does by now goes on until then.
                    match own {
                        Some(own) if ordered.as_ref() != Some(&own) => {
                            ordered = Some(own.clone());
                            rpc::command::Command::Remotes(own)
                        }
                        _ => continue,
                    }
                }
                // What was kept under the lease before is gone, or soon will be.
                Ok(()) = lease.changed() => {
                    if lease.borrow_and_update().is_some() && !self.written().await {
                        break End::Replaced;
                    }
                    continue;
                }
            };
            // A node that takes no commands is not there, whatever it says.
            match timeout(silence, out.send(Ok(rpc::Command { command: Some(command) }))).await {
                Ok(Ok(())) => {}
                _ => break End::Silent,
            }
        };
        let is_closing = matches!(end, End::Closing);
        let last = match end {
            End::Silent => None,
            End::Closing => Some(Status::unavailable("this replica ends")),
            End::Replaced => {
                Some(Status::aborted("another call of this node has taken the place of this one"))
            }
            End::Refused(status) => Some(status),
        };
        if let Some(status) = last {
            let _ = out.try_send(Err(status));
        }
        drop(out);
        // Nothing more is taken, nor is this call put back (`failed`).
        commands.close();
        if is_closing {
            // Another replica hears it in a moment; until then it is there as it was.
            self.is_unheard(&mut self.nodes.0.heard.lock());
            return;
        }
        self.left().await;
    }

    fn refuses(&self, why: Why, what: &str) {
        let refusals = self.nodes.refusals();
        refusals.count(why);
        if refusals.is_news(why, &self.record.name) {
            tracing::warn!(node = %self.record.name, "{what}");
        }
    }

    fn is_drained(&self) -> bool {
        let known = self.nodes.0.known.read();
        known.get(&self.record.name).is_some_and(|known| known.drained)
    }

    async fn heard(&mut self, heartbeat: rpc::Heartbeat) -> Result<(), End> {
        if let Some(load) = heartbeat.load {
            self.nodes.carries(&self.record.name, load);
        }
        {
            let mut reports = self.reports.lock();
            for report in heartbeat.reports {
                let path = format!("{}/{}", report.app, report.name);
                if report.gone {
                    reports.remove(&path);
                } else if reports.len() < MAX_REPORTS || reports.contains_key(&path) {
                    reports.insert(path, report);
                } else {
                    return Err(End::Refused(Status::resource_exhausted("too many streams are reported")));
                }
            }
        }
        if let Some(rpc::RemoteReports { reports }) = heartbeat.remotes {
            if reports.len() > MAX_REMOTE_REPORTS {
                return Err(End::Refused(Status::resource_exhausted(
                    "too many pulls and pushes are reported",
                )));
            }
            self.nodes.reports_remotes(&self.record.name, reports);
        }
        if let Some(sessions) = heartbeat.sessions {
            self.nodes.answered(sessions);
        }
        if heartbeat.draining != self.record.draining {
            self.record.draining = heartbeat.draining;
            if !self.written().await {
                return Err(End::Replaced);
            }
        }
        Ok(())
    }

    /// Writes the record as long as it is this process's. `false`: it is another's.
    async fn written(&self) -> bool {
        loop {
            let key = Record::key(&self.record.name);
            let result = async {
                let entry = self.nodes.0.registry.get(&key).await?;
                let expect = match &entry {
                    None => Expect::Absent,
                    Some(entry) => match super::read(entry) {
                        Some(record) if record.instance != self.record.instance => return Ok(Some(false)),
                        _ => Expect::At(entry.revision),
                    },
                };
                let written = self.nodes.write(&self.record, expect).await?;
                Ok::<_, RegistryError>(written.map(|_| true))
            };
            match result.await {
                Ok(Some(own)) => return own,
                Ok(None) => {}
                // The lease that comes next is told of, and brings us here again.
                Err(RegistryError::LeaseEnded) => return true,
                Err(error) => {
                    tracing::warn!(node = %self.record.name, %error, "the record of a node cannot be written");
                    tokio::time::sleep(RETRY).await;
                }
            }
            let heard = self.nodes.0.heard.lock();
            if heard.get(&self.record.name).is_none_or(|heard| heard.call != self.call) {
                return false;
            }
        }
    }

    /// Takes the node out of those that are heard. `false`: another call of it has taken this one's place.
    fn is_unheard(&self, heard: &mut HashMap<String, Heard>) -> bool {
        let own = heard.get(&self.record.name).is_some_and(|heard| heard.call == self.call);
        if own {
            heard.remove(&self.record.name);
        }
        own
    }

    /// The node is not heard any more: others are to know at once, and it is gone if it is not heard again.
    async fn left(mut self) {
        {
            let mut heard = self.nodes.0.heard.lock();
            if !self.is_unheard(&mut heard) {
                return;
            }
            self.record.away_since_ms = Some((self.nodes.0.clock)());
            // Here it holds at once, and everywhere as soon as the registry can be reached. Under the lock, or it could
            // come after what the next call writes.
            self.nodes.is_away(&self.record);
        }
        if !self.own_record_is(true).await {
            return;
        }
        tokio::time::sleep(self.nodes.0.patience.silence).await;
        self.own_record_is(false).await;
    }

    /// Writes the record, or deletes it, as soon as the registry can be reached. `false`: it is not this call's any more.
    async fn own_record_is(&self, there: bool) -> bool {
        let name = &self.record.name;
        loop {
            let done = async {
                let seen = self.nodes.revision(name);
                let revision = match self.entry().await? {
                    Found::Own(revision) => revision,
                    Found::Others => return Ok(Some(false)),
                    Found::Nothing => {
                        // It went with its lease, while the node was heard and so was not forgotten here.
                        self.nodes.forget(name, seen);
                        return Ok(Some(false));
                    }
                };
                if there {
                    let written = self.nodes.write(&self.record, Expect::At(revision)).await?;
                    return Ok::<_, RegistryError>(written.map(|_| true));
                }
                let deleted = self.nodes.0.registry.delete(&Record::key(name), Expect::At(revision)).await?;
                Ok(deleted.then_some(true))
            };
            match done.await {
                Ok(Some(own)) => return own,
                // Others have just changed it.
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(node = %name, %error, "that a node is gone cannot be written yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Whose the record is.
    async fn entry(&self) -> Result<Found, RegistryError> {
        let Some(entry) = self.nodes.0.registry.get(&Record::key(&self.record.name)).await? else {
            return Ok(Found::Nothing);
        };
        let own = super::read(&entry).is_some_and(|record| {
            record.instance == self.record.instance && record.replica == self.record.replica
        });
        let heard = self.nodes.0.heard.lock().contains_key(&self.record.name);
        Ok(if own && !heard { Found::Own(entry.revision) } else { Found::Others })
    }
}

/// What the registry has of a node that a call has heard.
enum Found {
    /// What this call wrote, by that change.
    Own(Revision),
    /// What another call, replica or process wrote, or is about to.
    Others,
    /// Nothing.
    Nothing,
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unavailable(error: RegistryError) -> Status {
    Status::unavailable(error.to_string())
}
