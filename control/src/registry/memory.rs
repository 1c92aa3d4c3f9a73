//! A registry in the memory of the one replica that uses it.
//!
//! There is no task behind it. Leases are ended by whoever asks next, and a watch wakes by itself when the next lease ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::history::History;
use super::{
    Change, Entry, Expect, LeaseId, MAX_TTL, Registry, RegistryError, Revision, Snapshot, Watch, check,
};

/// What the registry holds at most. Each says no to a write, not to what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Values: four million, for a cluster's million of streams with room.
    pub(super) keys: usize,
    /// Bytes of names and values: 2 GiB, which etcd holds by default.
    pub(super) bytes: usize,
    /// Leases: one for each value.
    pub(super) leases: usize,
    /// Changes that a watch can begin with: a replica that was busy for seconds goes on without listing all anew.
    pub(super) changes: usize,
    /// Bytes of those changes.
    pub(super) change_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys: 4 << 20, bytes: 2 << 30, leases: 4 << 20, changes: 64 << 10, change_bytes: 64 << 20 }
    }
}

/// Revisions begin at the milliseconds since 1970 times 2^`CLOCK_BITS`. So they are higher after a restart than before, if
/// fewer than 1024 changes were made in each millisecond on average and the clock was not set back over the restart; and
/// until the year 2248 they are integers that JSON's readers keep (2^53).
const CLOCK_BITS: u32 = 10;

/// A registry in memory.
pub struct Memory(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Changes when there is something for watches to look at.
    news: watch::Sender<()>,
}

impl Memory {
    /// Without values.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(now.as_millis()).unwrap_or_default() << CLOCK_BITS;
        Self(Arc::new(Inner { state: Mutex::new(State::new(start, limits)), news: watch::Sender::new(()) }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("keys", &self.0.state.lock().entries.len()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Does something to a state without leases that have ended, and tells watches what came of it.
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let (result, tell) = {
            let mut state = self.state.lock();
            let revision = state.revision;
            state.end_leases(Instant::now());
            let result = what(&mut state);
            // A watch sleeps until the end of the next lease. One that ends earlier matters to it once there is a value under
            // it, which is a change.
            (result, state.revision != revision)
        };
        if tell {
            self.news.send_replace(());
        }
        result
    }
}

#[async_trait]
impl Registry for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        Ok(self.0.with(|state| state.entries.get(key).map(|stored| stored.entry(key))))
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, RegistryError> {
        Ok(self.0.with(|state| Snapshot {
            entries: state
                .entries
                .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, stored)| stored.entry(key))
                .collect(),
            revision: state.revision,
        }))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>, RegistryError> {
        check(key, &value)?;
        self.0.with(|state| state.put(key, value, expect, lease))
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, RegistryError> {
        Ok(self.0.with(|state| state.is_as(key, expect) && state.remove(key)))
    }

    async fn lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.0.with(|state| state.lease(Instant::now(), ttl.min(MAX_TTL)))
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.0.with(|state| state.renew(Instant::now(), lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.0.with(|state| state.end_lease(lease));
        Ok(())
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, RegistryError> {
        let watcher = Watcher {
            news: self.0.news.subscribe(),
            inner: self.0.clone(),
            prefix: prefix.to_owned(),
            after,
        };
        Ok(Box::new(watcher))
    }
}

/// A watch: a place in the history. One that falls behind what is kept is told so.
struct Watcher {
    inner: Arc<Inner>,
    news: watch::Receiver<()>,
    prefix: String,
    after: Revision,
}

#[async_trait]
impl Watch for Watcher {
    async fn next(&mut self) -> Result<Vec<Change>, RegistryError> {
        loop {
            self.news.mark_unchanged();
            let (news, due) =
                self.inner.with(|state| (state.history.after(self.after, &self.prefix), state.due()));
            let news = news?;
            self.after = news.reached;
            if !news.changes.is_empty() {
                return Ok(news.changes);
            }
            if !news.complete {
                continue;
            }
            tokio::select! {
                // Its sender lives as long as `inner`.
                _ = self.news.changed() => {}
                () = until(due) => {}
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

struct State {
    entries: BTreeMap<String, Stored>,
    /// Bytes of names and values.
    bytes: usize,
    leases: HashMap<LeaseId, Lease, ahash::RandomState>,
    /// When each lease ends.
    ends: BTreeSet<(Instant, i64)>,
    last_lease: i64,
    revision: Revision,
    history: History,
    limits: Limits,
}

struct Stored {
    value: Bytes,
    revision: Revision,
    lease: Option<LeaseId>,
}

impl Stored {
    fn entry(&self, key: &str) -> Entry {
        Entry { key: key.to_owned(), value: self.value.clone(), revision: self.revision }
    }
}

struct Lease {
    ttl: Duration,
    end: Instant,
    keys: BTreeSet<String>,
}

impl State {
    fn new(start: u64, limits: Limits) -> Self {
        Self {
            entries: BTreeMap::new(),
            bytes: 0,
            leases: HashMap::default(),
            ends: BTreeSet::new(),
            // Leases too are not to be taken for those of an earlier run.
            last_lease: i64::try_from(start).unwrap_or_default(),
            revision: Revision(start),
            history: History::new(Revision(start), limits.changes, limits.change_bytes),
            limits,
        }
    }

    /// When the next lease ends.
    fn due(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    fn is_as(&self, key: &str, expect: Expect) -> bool {
        match expect {
            Expect::Anything => true,
            Expect::Absent => !self.entries.contains_key(key),
            Expect::At(revision) => self.entries.get(key).is_some_and(|stored| stored.revision == revision),
        }
    }

    fn next_revision(&mut self) -> Revision {
        self.revision.0 += 1;
        self.revision
    }

    fn put(
        &mut self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>, RegistryError> {
        if !self.is_as(key, expect) {
            return Ok(None);
        }
        if lease.is_some_and(|lease| !self.leases.contains_key(&lease)) {
            return Err(RegistryError::LeaseEnded);
        }
        let old = self.entries.get(key).map(|stored| (key.len() + stored.value.len(), stored.lease));
        let bytes = self.bytes + key.len() + value.len() - old.map_or(0, |(bytes, _)| bytes);
        if old.is_none() && self.entries.len() >= self.limits.keys {
            return Err(RegistryError::Full("there are too many values"));
        }
        if bytes > self.limits.bytes && bytes > self.bytes {
            return Err(RegistryError::Full("the values are too many bytes"));
        }
        self.bytes = bytes;
        self.leave_lease(key, old.and_then(|(_, lease)| lease));
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.insert(key.to_owned());
        }
        let revision = self.next_revision();
        let stored = Stored { value, revision, lease };
        self.history.push(Change::Put(stored.entry(key)));
        self.entries.insert(key.to_owned(), stored);
        Ok(Some(revision))
    }

    /// Whether there was something to remove.
    fn remove(&mut self, key: &str) -> bool {
        let Some(stored) = self.entries.remove(key) else { return false };
        self.bytes -= key.len() + stored.value.len();
        self.leave_lease(key, stored.lease);
        let revision = self.next_revision();
        self.history.push(Change::Deleted { key: key.to_owned(), revision });
        true
    }

    fn leave_lease(&mut self, key: &str, lease: Option<LeaseId>) {
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.remove(key);
        }
    }

    fn lease(&mut self, now: Instant, ttl: Duration) -> Result<LeaseId, RegistryError> {
        if self.leases.len() >= self.limits.leases {
            return Err(RegistryError::Full("there are too many leases"));
        }
        self.last_lease += 1;
        let lease = Lease { ttl, end: now + ttl, keys: BTreeSet::new() };
        self.ends.insert((lease.end, self.last_lease));
        self.leases.insert(LeaseId(self.last_lease), lease);
        Ok(LeaseId(self.last_lease))
    }

    fn renew(&mut self, now: Instant, id: LeaseId) -> Result<(), RegistryError> {
        let lease = self.leases.get_mut(&id).ok_or(RegistryError::LeaseEnded)?;
        self.ends.remove(&(lease.end, id.0));
        lease.end = now + lease.ttl;
        self.ends.insert((lease.end, id.0));
        Ok(())
    }

    fn end_leases(&mut self, now: Instant) {
        while let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            self.end_lease(LeaseId(id));
        }
    }

    fn end_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        self.ends.remove(&(lease.end, id.0));
        for key in lease.keys {
            self.remove(&key);
        }
    }
}
