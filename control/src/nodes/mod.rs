//! Nodes: who is there, what it carries, and what it is told.
//!
//! A node's record is in the registry, under the lease of the replica that hears it. A replica that dies takes its lease
//! with it; by then its nodes have gone on to another one, which has written their records again.

mod beat;
mod exchange;
mod orders;
mod pace;
mod pass;
mod record;
mod refusals;
mod sending;
mod service;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::registry::{Change, Entry, Expect, Registry, RegistryError, Revision};
use crate::replica::follow::Step;
use crate::replica::{Clock, lease};
use crate::schedule::{self, Fleet};
pub(crate) use pass::{Caller, Passes};
pub(crate) use record::BadNode;
pub(crate) use record::Record;
pub use record::{Addresses, Role};
pub(crate) use refusals::{Refusals, Why};
pub(crate) use service::Service;
use sessions::Questions;
pub(crate) use sessions::{Filter, MAX_SESSIONS, SessionsError};

/// Of records, in the registry.
pub(crate) const PREFIX: &str = "nodes/";

/// Of the instances that an operator wants drained.
const DRAINS: &str = "drains/";

/// How often a record is written again that others change at the same time.
const ATTEMPTS: usize = 8;

/// Commands that wait for a node, at most: it reads them at once, or is not there.
const MAX_COMMANDS: usize = 64;

/// How patient replicas are with nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How often heartbeats are expected.
    pub(crate) heartbeat: Duration,
    /// A node that was not heard for so long takes nobody new, and has as long again to come back.
    pub(crate) silence: Duration,
}

/// What a replica has of its own, and with others.
pub(crate) struct Place {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) lease: lease::Current,
    /// Whether the registry answered when it was asked last.
    pub(crate) registry_is_up: Arc<AtomicBool>,
    /// Its name.
    pub(crate) replica: String,
    pub(crate) clock: Clock,
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Bad(#[from] BadNode),
    #[error("a node named {name} is there already, at {address}; give this one another name")]
    Taken { name: String, address: String },
    #[error("others change the record of this node at the same time")]
    Contended,
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A node as this replica knows it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) record: Record,
    revision: Revision,
    /// An operator wants it drained.
    pub(crate) drained: bool,
    pub(crate) load: rpc::Load,
    /// Since when it is known here that nobody hears it.
    silent_since: Option<Instant>,
}

impl Known {
    /// `ready`; `draining`: it takes nobody new; `away`: it has not been heard for seconds.
    pub(crate) fn state(&self) -> &'static str {
        match () {
            () if self.record.away_since_ms.is_some() => "away",
            () if !self.takes() => "draining",
            () => "ready",
        }
    }

    /// Whether somebody new may be sent there.
    pub(crate) fn takes(&self) -> bool {
        self.record.away_since_ms.is_none() && !self.record.draining && !self.drained
    }
}

/// All nodes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    lease: lease::Current,
    /// Whether the engines answered when they were asked last.
    registry_is_up: Arc<AtomicBool>,
    cache_is_up: AtomicBool,
    replica: String,
    patience: Patience,
    clock: Clock,
    /// As the registry has them.
    known: RwLock<BTreeMap<String, Known>>,
    /// Those whom viewers are sent to, and those for publishers.
    edges: Fleet,
    ingest: Fleet,
    /// Of the instances that are to be drained.
    drains: RwLock<HashMap<String, u64>>,
    /// Those that this replica hears.
    heard: Mutex<HashMap<String, Heard>>,
    /// Where edges find streams.
    origins: watch::Sender<rpc::Origins>,
    keys: watch::Sender<rpc::KeySet>,
    /// Which conferences there are, once that is known.
    conferences: watch::Sender<Option<Arc<rpc::Conferences>>>,
    /// What each origin is to call others for, by its name.
    remotes: watch::Sender<Arc<HashMap<String, rpc::Remotes>>>,
    /// What they said of that, by their names.
    remote_reports: Mutex<HashMap<String, Vec<rpc::RemoteReport>>>,
    /// What nodes are to ask.
    policy: watch::Sender<rpc::Policy>,
    /// The replica ends.
    closing: watch::Sender<bool>,
    questions: Questions,
    /// What other replicas tell of those that they hear.
    told: Mutex<HashMap<String, Arc<Mutex<Reports>>>>,
    next_order: AtomicU64,
    refusals: Refusals,
    /// How often one joined.
    joins: AtomicU64,
}

/// A node that this replica hears.
struct Heard {
    /// Of the call, so that the end of an older one is not taken for this one's.
    call: u64,
    /// Of the process, so that an order for one before it is not taken for this one's.
    instance: u64,
    commands: mpsc::Sender<rpc::Command>,
    reports: Arc<Mutex<Reports>>,
}

/// What a node has said of its streams, by `app/name`.
pub(crate) type Reports = HashMap<String, rpc::Report>;

impl Nodes {
    pub(crate) fn new(place: Place, patience: Patience, schedule: &schedule::Config) -> Self {
        let Place { registry, cache, lease, registry_is_up, replica, clock } = place;
        Self(Arc::new(Inner {
            registry,
            lease,
            registry_is_up,
            cache_is_up: AtomicBool::new(true),
            replica,
            patience,
            clock,
            known: RwLock::default(),
            edges: Fleet::new(schedule.clone()),
            ingest: Fleet::new(schedule.clone()),
            drains: RwLock::default(),
            heard: Mutex::default(),
            origins: watch::Sender::default(),
            keys: watch::Sender::default(),
            conferences: watch::Sender::default(),
            remotes: watch::Sender::default(),
            remote_reports: Mutex::default(),
            policy: watch::Sender::default(),
            closing: watch::Sender::new(false),
            questions: Questions::new(cache),
            told: Mutex::default(),
            next_order: AtomicU64::new(0),
            refusals: Refusals::default(),
            joins: AtomicU64::new(0),
        }))
    }

    /// Whether there is a lease to keep nodes under.
    pub(crate) fn is_leased(&self) -> bool {
        self.0.lease.borrow().is_some()
    }

    /// Whether registry and cache answered when they were asked last.
    pub(crate) fn engines_are_up(&self) -> [bool; 2] {
        [self.0.registry_is_up.load(Ordering::Relaxed), self.0.cache_is_up.load(Ordering::Relaxed)]
    }

    /// Waits until there is a lease to keep nodes under.
    #[cfg(test)]
    pub(crate) async fn until_leased(&self) {
        self.0.lease.clone().wait_for(Option::is_some).await.unwrap();
    }

    /// What nodes were refused.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// How often a node has joined here.
    pub(crate) fn joins(&self) -> u64 {
        self.0.joins.load(Ordering::Relaxed)
    }

    /// A node of that name, wherever it is heard.
    pub(crate) fn get(&self, name: &str) -> Option<Known> {
        self.0.known.read().get(name).cloned()
    }

    /// The change that made a node's record what it is here.
    fn revision(&self, name: &str) -> Revision {
        self.0.known.read().get(name).map(|known| known.revision).unwrap_or_default()
    }

    /// All nodes, ordered by name.
    pub(crate) fn all(&self) -> Vec<Known> {
        self.0.known.read().values().cloned().collect()
    }

    /// How long it is known here that nobody hears that process; `None`: it is another by now, or unknown.
    pub(crate) fn silent_for(&self, name: &str, instance: u64) -> Option<Duration> {
        let known = self.0.known.read();
        let node = known.get(name).filter(|known| known.record.instance == instance)?;
        Some(node.silent_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Whether that process is heard by any replica, as far as this one knows.
    pub(crate) fn is_there(&self, name: &str, instance: u64) -> bool {
        let known = self.0.known.read();
        let record = known.get(name).map(|known| &known.record);
        record.is_some_and(|record| record.instance == instance && record.away_since_ms.is_none())
    }

    /// Whether that process is heard by any replica, as the registry has it: this one may have just begun.
    pub(crate) async fn is_heard(&self, name: &str, instance: u64) -> Result<bool, RegistryError> {
        let entry = self.0.registry.get(&Record::key(name)).await?;
        let record = entry.as_ref().and_then(read);
        Ok(record.is_some_and(|record| record.instance == instance && record.away_since_ms.is_none()))
    }

    /// The reports of those nodes that this replica hears.
    pub(crate) fn reports(&self) -> Vec<(String, Arc<Mutex<Reports>>)> {
        let heard = self.0.heard.lock();
        heard.iter().map(|(name, heard)| (name.clone(), Arc::clone(&heard.reports))).collect()
    }

    /// The reports of all nodes, be it that other replicas hear them.
    pub(crate) fn all_reports(&self) -> Vec<Arc<Mutex<Reports>>> {
        let mut all: Vec<_> = self.reports().into_iter().map(|(_, reports)| reports).collect();
        let heard = self.0.heard.lock();
        let told = self.0.told.lock();
        all.extend(
            told.iter()
                .filter(|(name, _)| !heard.contains_key(*name))
                .map(|(_, reports)| Arc::clone(reports)),
        );
        all
    }

    /// What verifies grants from now on.
    pub(crate) fn set_keys(&self, keys: rpc::KeySet) {
        self.0.keys.send_if_modified(|now| {
            let other = *now != keys;
            *now = keys;
            other
        });
    }

    /// Which conferences there are from now on.
    pub(crate) fn set_conferences(&self, conferences: rpc::Conferences) {
        self.0.conferences.send_if_modified(|now| {
            let other = now.as_deref() != Some(&conferences);
            *now = Some(Arc::new(conferences));
            other
        });
    }

    /// What each origin is to call others for from now on.
    pub(crate) fn set_remotes(&self, remotes: HashMap<String, rpc::Remotes>) {
        self.0.remotes.send_if_modified(|now| {
            let other = **now != remotes;
            if other {
                *now = Arc::new(remotes);
            }
            other
        });
    }

    /// What a node says of what it calls others for.
    fn reports_remotes(&self, name: &str, reports: Vec<rpc::RemoteReport>) {
        self.0.remote_reports.lock().insert(name.to_owned(), reports);
    }

    /// What all nodes say of what they call others for, by their names.
    pub(crate) fn remote_reports(&self) -> Vec<(String, Vec<rpc::RemoteReport>)> {
        let reports = self.0.remote_reports.lock();
        reports.iter().map(|(name, reports)| (name.clone(), reports.clone())).collect()
    }

    /// The replica ends: nodes go on to another one.
    pub(crate) fn close(&self) {
        self.0.closing.send_replace(true);
    }

    /// What nodes are to ask from now on.
    pub(crate) fn set_policy(&self, policy: rpc::Policy) {
        self.0.policy.send_replace(policy);
    }

    /// Takes a node in. The same process may come again, and one that is at the same addresses follows one that died.
    pub(crate) async fn join(&self, node: &rpc::Node) -> Result<Record, JoinError> {
        let record = Record::of(node, &self.0.replica)?;
        let key = Record::key(&record.name);
        for _ in 0..ATTEMPTS {
            let expect = match self.0.registry.get(&key).await? {
                None => Expect::Absent,
                Some(entry) => {
                    match read(&entry) {
                        Some(before) if self.is_taken(&before, &record) => {
                            let at = before.addresses;
                            let address = at.http.or(at.relay).or(at.https).unwrap_or_default();
                            return Err(JoinError::Taken { name: record.name, address });
                        }
                        _ => {}
                    }
                    Expect::At(entry.revision)
                }
            };
            if self.write(&record, expect).await?.is_some() {
                self.0.joins.fetch_add(1, Ordering::Relaxed);
                return Ok(record);
            }
        }
        Err(JoinError::Contended)
    }

    fn is_taken(&self, before: &Record, record: &Record) -> bool {
        // Two processes can't listen at one address: the one before is no more.
        let follows = before.instance == record.instance || before.addresses == record.addresses;
        !follows && before.away_since_ms.is_none()
    }

    async fn write(&self, record: &Record, expect: Expect) -> Result<Option<Revision>, RegistryError> {
        let lease = *self.0.lease.borrow();
        let Some(lease) = lease else {
            return Err(RegistryError::Unavailable("this replica has no lease yet".to_owned()));
        };
        let value =
            serde_json::to_vec(record).map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let revision =
            self.0.registry.put(&Record::key(&record.name), Bytes::from(value), expect, Some(lease)).await?;
        if let Some(revision) = revision {
            // Who reads it next has not to wait for the watch.
            self.apply_record(record.clone(), revision);
        }
        Ok(revision)
    }

    /// Takes over what the registry has of records.
    pub(crate) fn apply(&self, step: Step) {
        match step {
            Step::All(entries) => {
                let names: Vec<String> = self.0.known.read().keys().cloned().collect();
                for name in names {
                    if !entries.iter().any(|entry| entry.key == Record::key(&name)) {
                        self.forget(&name, Revision(u64::MAX));
                    }
                }
                for entry in entries {
                    self.apply_entry(&entry);
                }
            }
            Step::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(entry) => self.apply_entry(&entry),
                        Change::Deleted { key, revision } => {
                            if let Some(name) = key.strip_prefix(PREFIX) {
                                self.forget(name, revision);
                            }
                        }
                    }
                }
            }
        }
        self.tell_origins();
    }

    fn apply_entry(&self, entry: &Entry) {
        if let Some(record) = read(entry) {
            self.apply_record(record, entry.revision);
        }
    }

    fn apply_record(&self, record: Record, revision: Revision) {
        let (name, instance) = (record.name.clone(), record.instance);
        let drained = self.0.drains.read().get(&name) == Some(&instance);
        let mut known = self.0.known.write();
        let before = known.get(&name);
        if before.is_some_and(|before| before.revision >= revision) {
            return;
        }
        let same = before.filter(|before| before.record.instance == instance);
        let (is_new, load) = (same.is_none(), same.map(|same| same.load).unwrap_or_default());
        let before = same.and_then(|same| same.silent_since);
        let silent_since = record.away_since_ms.map(|_| before.unwrap_or_else(Instant::now));
        let fresh = Known { record, revision, drained, load, silent_since };
        self.schedule(&fresh);
        known.insert(name.clone(), fresh);
        drop(known);
        if is_new {
            tracing::info!(node = %name, instance, "a node is there");
        }
        self.tell_origins();
    }

    fn forget(&self, name: &str, revision: Revision) {
        // Its record went with a lease: it is written again under the next.
        if self.0.heard.lock().contains_key(name) {
            return;
        }
        let mut known = self.0.known.write();
        if known.get(name).is_some_and(|known| known.revision <= revision) {
            known.remove(name);
            self.0.edges.remove(name);
            self.0.ingest.remove(name);
            self.0.told.lock().remove(name);
            self.0.remote_reports.lock().remove(name);
            tracing::warn!(node = %name, "a node is gone");
        }
    }

    fn tell_origins(&self) {
        let known = self.0.known.read();
        let at = known.values().filter(|known| known.record.role.is_origin());
        let at = at.map(|known| &known.record.addresses);
        let origins = rpc::Origins {
            urls: at.clone().filter_map(|at| at.relay.clone()).collect(),
            rtmp: at.filter_map(|at| at.ingest.clone()).collect(),
        };
        drop(known);
        self.0.origins.send_if_modified(|now| {
            let other = *now != origins;
            *now = origins;
            other
        });
    }

    /// Takes over which instances are to be drained.
    pub(crate) fn apply_drains(&self, step: Step) {
        let mut drains = self.0.drains.write();
        let instance = |entry: &Entry| std::str::from_utf8(&entry.value).ok()?.parse::<u64>().ok();
        let put = |drains: &mut HashMap<String, u64>, entry: &Entry| {
            if let (Some(name), Some(instance)) = (entry.key.strip_prefix(DRAINS), instance(entry)) {
                drains.insert(name.to_owned(), instance);
            }
        };
        match step {
            Step::All(entries) => {
                drains.clear();
                entries.iter().for_each(|entry| put(&mut drains, entry));
            }
            Step::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(entry) => put(&mut drains, &entry),
                        Change::Deleted { key, .. } => {
                            drains.remove(key.strip_prefix(DRAINS).unwrap_or_default());
                        }
                    }
                }
            }
        }
        for (name, known) in self.0.known.write().iter_mut() {
            known.drained = drains.get(name) == Some(&known.record.instance);
            self.schedule(known);
        }
    }

    /// What follows the registry: run each of them until the end.
    pub(crate) fn followers(&self) -> [futures_util::future::BoxFuture<'static, ()>; 3] {
        use crate::replica::follow::follow;
        use futures_util::FutureExt;
        let registry = || Arc::clone(&self.0.registry);
        let (records, drains, ordered) = (self.clone(), self.clone(), self.clone());
        let done = registry();
        [
            follow(registry(), PREFIX, move |step| records.apply(step)).boxed(),
            follow(registry(), DRAINS, move |step| drains.apply_drains(step)).boxed(),
            follow(registry(), orders::PREFIX, move |step| {
                for key in ordered.apply_orders(step) {
                    let done = Arc::clone(&done);
                    tokio::spawn(async move {
                        // Or its lease ends.
                        let _ = done.delete(&key, Expect::Anything).await;
                    });
                }
            })
            .boxed(),
        ]
    }
}

fn read(entry: &Entry) -> Option<Record> {
    serde_json::from_slice(&entry.value)
        .inspect_err(|error| tracing::warn!(key = entry.key, %error, "the registry has a node that is none"))
        .ok()
}
