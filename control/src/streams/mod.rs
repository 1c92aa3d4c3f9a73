//! Streams: who may publish which, and where each is.
//!
//! A record is changed by compare-and-swap alone, so that of all replicas that see that something is due one does it; that
//! one says so ([`News`]).

mod claim;
mod due;
mod held;
mod kick;
mod record;
mod service;
mod standby;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use control_api::RESERVED_APPS;
use control_api::rpc;
use control_api::rpc::publish_request::As;
use parking_lot::RwLock;
use tokio::sync::broadcast;

use crate::nodes::{Caller, Nodes, Why};
use crate::registry::{Change, Entry, Expect, Registry, RegistryError, Revision};
use crate::replica::Clock;
use crate::replica::follow::{Step, follow};
pub(crate) use record::{Record, State};
pub(crate) use service::Service;
use standby::standbys_with;

/// Of records, in the registry.
const PREFIX: &str = "streams/";

/// How often a change is tried again that others change at the same time.
const ATTEMPTS: usize = 8;

/// How far the clock of an origin may be ahead of ours before its epochs are not believed.
const MAX_AHEAD_MS: u64 = 60_000;

/// Changes that wait for edges that follow streams, and news that wait for hooks.
const MAX_CHANGED: usize = 4_096;
const MAX_NEWS: usize = 65_536;

/// How often it is looked whether news are taken.
const LOOK_FOR_NEWS: Duration = Duration::from_millis(10);

/// Longest app or name, in bytes: as the media path has it.
const MAX_PART_BYTES: usize = 255;

/// What has happened to a stream, told once in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Published,
    Dropped,
    Resumed,
    Ended,
}

impl What {
    pub(crate) const ALL: [Self; 4] = [Self::Published, Self::Dropped, Self::Resumed, Self::Ended];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Dropped => "dropped",
            Self::Resumed => "resumed",
            Self::Ended => "ended",
        }
    }
}

/// Something that has happened, and the stream's record since then.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) what: What,
    pub(crate) record: Arc<Record>,
}

/// Why a stream can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("{0} is no stream's name")]
    Name(String),
    #[error("{path} is being published already, at {node}")]
    Busy { path: String, node: String },
    #[error("{0} has as many backup publishers as it may have")]
    Backups(String),
    #[error("others change this stream at the same time")]
    Contended,
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// All streams. Clones are the same.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    nodes: Nodes,
    grace: Duration,
    clock: Clock,
    known: RwLock<Table>,
    /// Paths of streams that changed.
    changed: broadcast::Sender<Arc<str>>,
    news: broadcast::Sender<News>,
    closing: AtomicBool,
}

/// Streams as the registry has them.
#[derive(Default)]
struct Table {
    by_path: HashMap<Arc<str>, Kept>,
    /// Those that live at a node.
    by_node: HashMap<String, BTreeSet<Arc<str>>>,
    /// When something is due: the end of a grace, or of a record.
    due: BTreeSet<(u64, Arc<str>)>,
}

#[derive(Clone)]
struct Kept {
    record: Record,
    revision: Revision,
}

/// What a publisher wants.
pub(crate) struct Wanted {
    pub(crate) key: rpc::StreamKey,
    pub(crate) epoch: u64,
    pub(crate) takeover: bool,
    pub(crate) protocol: String,
    pub(crate) remote_addr: String,
    pub(crate) purpose: As,
    /// Of its URL, without keys and grants.
    pub(crate) query: String,
}

/// Which lease of an origin is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Whatever it has.
    Any,
    /// The one of this epoch.
    Epoch(u64),
    /// What it was given when it proposed this epoch, or an earlier one; it was not told the one that it got.
    Proposal(u64),
}

/// What a publisher gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// The stream, under this epoch.
    Held(u64),
    /// Nothing yet: it is a backup.
    Standby,
}

impl Streams {
    pub(crate) fn new(registry: Arc<dyn Registry>, nodes: Nodes, grace: Duration, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            registry,
            nodes,
            grace,
            clock,
            known: RwLock::default(),
            changed: broadcast::channel(MAX_CHANGED).0,
            news: broadcast::channel(MAX_NEWS).0,
            closing: AtomicBool::new(false),
        }))
    }

    /// A stream that has not ended.
    pub(crate) fn get(&self, path: &str) -> Option<Record> {
        let known = self.0.known.read();
        known.by_path.get(path).map(|known| known.record.clone()).filter(Record::is_there)
    }

    /// All that have not ended, ordered by path.
    pub(crate) fn all(&self) -> Vec<Record> {
        let known = self.0.known.read();
        let mut all: Vec<Record> =
            known.by_path.values().map(|known| known.record.clone()).filter(Record::is_there).collect();
        drop(known);
        all.sort_by(|one, other| (&one.app, &one.name).cmp(&(&other.app, &other.name)));
        all
    }

    /// How many live, and how many wait for their publisher.
    pub(crate) fn counts(&self) -> (i64, i64) {
        let known = self.0.known.read();
        let there = known.by_path.values().filter(|known| known.record.is_there());
        there.fold(
            (0, 0),
            |(live, dropped), known| {
                if known.record.is_live() { (live + 1, dropped) } else { (live, dropped + 1) }
            },
        )
    }

    /// Nothing that is due is done any more.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    /// Resolves when whoever listens has taken all news, or after that time.
    pub(crate) async fn all_news_taken(&self, within: Duration) {
        let taken = async {
            while !self.0.news.is_empty() {
                tokio::time::sleep(LOOK_FOR_NEWS).await;
            }
        };
        // What is left is lost, as it is when a process is killed.
        let _ = tokio::time::timeout(within, taken).await;
    }

    /// Paths of streams that change from now on, whoever changes them.
    pub(crate) fn changed(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.changed.subscribe()
    }

    /// Whether a stream has a publisher, as the registry has it: this replica may be late.
    pub(crate) async fn is_live(&self, path: &str) -> Result<bool, RegistryError> {
        let found = self.read(&format!("{PREFIX}{path}")).await?;
        Ok(found.is_some_and(|(record, _)| record.is_live()))
    }

    /// What has happened, from now on, as far as this replica made it happen.
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.0.news.subscribe()
    }

    /// Where it is, for edges.
    pub(crate) fn locate(&self, key: &rpc::StreamKey) -> rpc::Location {
        let absent = || rpc::Location { key: Some(key.clone()), ..rpc::Location::default() };
        let Some(record) = self.get(&key.path()) else { return absent() };
        let node = self.0.nodes.get(&record.node);
        let relay = node.filter(|node| node.record.instance == record.instance);
        record.location(relay.and_then(|node| node.record.addresses.relay))
    }

    /// The lease of a stream for a publisher at that origin.
    pub(crate) async fn publish(&self, caller: &Caller, wanted: &Wanted) -> Result<Lease, LeaseError> {
        let path = path(&wanted.key)?;
        let key = format!("{PREFIX}{path}");
        let is_backup = wanted.purpose != As::Publisher;
        for _ in 0..ATTEMPTS {
            let before = self.read(&key).await?;
            let now_ms = (self.0.clock)();
            let floor = before.as_ref().map_or(0, |(record, _)| record.epoch + 1);
            let own = if is_ahead(wanted.epoch, now_ms) {
                self.refuses(
                    Why::Clock,
                    caller,
                    "the clock of an origin is ahead; its epochs are not believed",
                );
                now_ms
            } else {
                wanted.epoch
            };
            let continued = before.as_ref().map(|(record, _)| record).filter(|record| record.is_there());
            if self.waits(caller, wanted, before.as_ref().map(|(record, _)| record)).await? {
                match &before {
                    // It is told of in a moment, and its backups with it.
                    None => return Ok(Lease::Standby),
                    Some((record, revision)) if self.add_standby(caller, record, *revision).await? => {
                        return Ok(Lease::Standby);
                    }
                    Some(_) => continue,
                }
            }
            let record = Record {
                app: wanted.key.app.clone(),
                name: wanted.key.name.clone(),
                epoch: own.max(floor),
                proposed: wanted.epoch,
                state: State::Live,
                node: caller.name.clone(),
                instance: caller.instance,
                started_at_ms: continued.map_or(now_ms, |record| record.started_at_ms),
                protocol: wanted.protocol.clone(),
                remote_addr: wanted.remote_addr.clone(),
                backup: is_backup,
                standbys: standbys_with(before.as_ref().map(|(record, _)| record), caller, is_backup),
            };
            let expect = before.as_ref().map_or(Expect::Absent, |(_, revision)| Expect::At(*revision));
            if !self.write(&record, expect).await? {
                continue;
            }
            if let Some(before) = continued {
                self.take_from(before, &record).await;
            }
            let what = if continued.is_some() { What::Resumed } else { What::Published };
            self.say(what, &record);
            return Ok(Lease::Held(record.epoch));
        }
        Err(LeaseError::Contended)
    }

    /// Whoever had the stream before is to stop: an older epoch is served to nobody, and its publisher learns why.
    async fn take_from(&self, before: &Record, now: &Record) {
        if (&before.node, before.instance) == (&now.node, now.instance) {
            return;
        }
        let kick = rpc::Kick { app: before.app.clone(), name: before.name.clone(), epoch: before.epoch };
        if let Err(error) = self.0.nodes.tell(&before.node, rpc::command::Command::Kick(kick)).await {
            tracing::warn!(stream = %before.path(), node = %before.node, %error, "an origin is not told that it lost a stream");
        }
    }

    /// The publisher at that origin has gone: for good, or for the grace period.
    pub(crate) async fn release(
        &self,
        caller: &Caller,
        key: &rpc::StreamKey,
        of: Of,
        dropped: bool,
    ) -> Result<(), LeaseError> {
        let now_ms = (self.0.clock)();
        let state = if dropped { State::Dropped(now_ms) } else { State::Ended(now_ms) };
        let own = |record: &Record| {
            let is_meant = match of {
                Of::Any => true,
                Of::Epoch(epoch) => record.epoch == epoch,
                Of::Proposal(proposed) => record.proposed <= proposed,
            };
            is_meant && record.is_of(caller) && (record.is_live() || !dropped && record.is_there())
        };
        self.become_if(&path(key)?, state, own).await?;
        Ok(())
    }

    fn refuses(&self, why: Why, caller: &Caller, what: &str) {
        let refusals = self.0.nodes.refusals();
        refusals.count(why);
        if refusals.is_news(why, &caller.name) {
            tracing::warn!(node = caller.name, "{what}");
        }
    }

    /// Changes the state of a stream for which `condition` holds. Whether this replica did it.
    async fn become_if(
        &self,
        path: &str,
        state: State,
        condition: impl Fn(&Record) -> bool,
    ) -> Result<bool, LeaseError> {
        let key = format!("{PREFIX}{path}");
        for _ in 0..ATTEMPTS {
            let Some((record, revision)) = self.read(&key).await? else { return Ok(false) };
            if !condition(&record) {
                return Ok(false);
            }
            let record = Record { state, ..record };
            if self.write(&record, Expect::At(revision)).await? {
                match state {
                    State::Live => self.say(What::Resumed, &record),
                    State::Dropped(_) => {
                        self.say(What::Dropped, &record);
                        self.promote(&record).await;
                    }
                    State::Ended(_) => self.say(What::Ended, &record),
                }
                return Ok(true);
            }
        }
        Err(LeaseError::Contended)
    }

    async fn read(&self, key: &str) -> Result<Option<(Record, Revision)>, RegistryError> {
        let entry = self.0.registry.get(key).await?;
        Ok(entry.and_then(|entry| Some((read(&entry)?, entry.revision))))
    }

    async fn write(&self, record: &Record, expect: Expect) -> Result<bool, RegistryError> {
        let key = format!("{PREFIX}{}", record.path());
        let value =
            serde_json::to_vec(record).map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let revision = self.0.registry.put(&key, Bytes::from(value), expect, None).await?;
        if let Some(revision) = revision {
            // Who reads it next has not to wait for the watch.
            self.apply_record(record.clone(), revision);
        }
        Ok(revision.is_some())
    }

    fn say(&self, what: What, record: &Record) {
        tracing::info!(stream = %record.path(), epoch = record.epoch, node = %record.node, "{}", what.name());
        // Nobody may listen.
        let _ = self.0.news.send(News { what, record: Arc::new(record.clone()) });
    }

    /// Follows the registry; never ends.
    pub(crate) async fn follow(self) {
        let registry = Arc::clone(&self.0.registry);
        follow(registry, PREFIX, move |step| self.apply(step)).await;
    }

    fn apply(&self, step: Step) {
        match step {
            Step::All(entries) => {
                let mut there = BTreeSet::new();
                for entry in entries {
                    if let Some(record) = read(&entry) {
                        there.insert(record.path());
                        self.apply_record(record, entry.revision);
                    }
                }
                let gone: Vec<Arc<str>> = {
                    let known = self.0.known.read();
                    known.by_path.keys().filter(|path| !there.contains(&***path)).cloned().collect()
                };
                gone.iter().for_each(|path| self.forget(path, Revision(u64::MAX)));
            }
            Step::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(entry) => {
                            if let Some(record) = read(&entry) {
                                self.apply_record(record, entry.revision);
                            }
                        }
                        Change::Deleted { key, revision } => {
                            self.forget(key.strip_prefix(PREFIX).unwrap_or_default(), revision);
                        }
                    }
                }
            }
        }
    }

    fn apply_record(&self, record: Record, revision: Revision) {
        let path: Arc<str> = record.path().into();
        {
            let mut known = self.0.known.write();
            if known.by_path.get(&path).is_some_and(|known| known.revision >= revision) {
                return;
            }
            known.unlink(&path, self.0.grace);
            known.link(&path, &record, self.0.grace);
            known.by_path.insert(Arc::clone(&path), Kept { record, revision });
        }
        // Nobody may listen.
        let _ = self.0.changed.send(path);
    }

    fn forget(&self, path: &str, revision: Revision) {
        let mut known = self.0.known.write();
        if known.by_path.get(path).is_none_or(|known| known.revision > revision) {
            return;
        }
        known.unlink(path, self.0.grace);
        known.by_path.remove(path);
        drop(known);
        let _ = self.0.changed.send(path.into());
    }
}

impl Table {
    fn link(&mut self, path: &Arc<str>, record: &Record, grace: Duration) {
        if record.is_live() {
            self.by_node.entry(record.node.clone()).or_default().insert(Arc::clone(path));
        }
        if let Some(at) = due::at(record.state, grace) {
            self.due.insert((at, Arc::clone(path)));
        }
    }

    fn unlink(&mut self, path: &str, grace: Duration) {
        let Some((path, known)) = self.by_path.get_key_value(path) else { return };
        if let Some(at) = due::at(known.record.state, grace) {
            self.due.remove(&(at, Arc::clone(path)));
        }
        if let Some(paths) = self.by_node.get_mut(&known.record.node) {
            paths.remove(path);
            if paths.is_empty() {
                self.by_node.remove(&known.record.node);
            }
        }
    }
}

/// Whether an epoch lies in the future.
fn is_ahead(epoch: u64, now_ms: u64) -> bool {
    epoch > now_ms.saturating_add(MAX_AHEAD_MS)
}

/// `app/name`, if it may be a stream's.
fn path(key: &rpc::StreamKey) -> Result<String, LeaseError> {
    let good = |part: &str| {
        (1..=MAX_PART_BYTES).contains(&part.len())
            && !part.contains('/')
            && !part.chars().any(char::is_control)
    };
    if !good(&key.app) || !good(&key.name) || RESERVED_APPS.contains(&&*key.app) {
        return Err(LeaseError::Name(format!("{:?}", key.path())));
    }
    Ok(key.path())
}

fn read(entry: &Entry) -> Option<Record> {
    serde_json::from_slice(&entry.value)
        .inspect_err(
            |error| tracing::warn!(key = entry.key, %error, "the registry has a stream that is none"),
        )
        .ok()
}
