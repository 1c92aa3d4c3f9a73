//! A cache in the memory of the one replica that uses it.
//!
//! There is no task behind it: every write to a shard first drops some of what is over there, the longest over first. A shard
//! that is full after that drops what would be over next: a cache may lose anything.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Cache, CacheError, check, countable};

/// Shards, so that writers don't wait for each other. A power of two.
const SHARDS: usize = 64;
/// What is over that a write drops at most: more than one, so that it can't pile up; few, so that no write takes long.
const SWEEP: usize = 4;

/// What the cache holds at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Values, groups or counters of one shard: a million of each over all.
    pub(super) entries: usize,
    /// Members of a group: ten for each of the 10,000 nodes that a cluster is planned for.
    pub(super) members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: (1 << 20) / SHARDS, members: 100_000 }
    }
}

/// A cache in memory.
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    hasher: ahash::RandomState,
    limits: Limits,
}

#[derive(Default)]
struct Shard {
    values: Table<Bytes>,
    groups: Table<HashMap<String, Bytes, ahash::RandomState>>,
    counters: Table<i64>,
}

impl Memory {
    /// Without anything in it.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: ahash::RandomState::new(), limits }
    }

    /// Things it holds, with what is over and not yet dropped.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Shard| {
            shard.values.entries.len() + shard.groups.entries.len() + shard.counters.entries.len()
        };
        self.shards.iter().map(|shard| count(&shard.lock())).sum()
    }

    /// Does something to the shard of a name.
    fn with<T>(&self, key: &str, what: impl FnOnce(&mut Shard, Instant) -> T) -> T {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        let now = Instant::now();
        match self.shards.get(hash) {
            Some(shard) => what(&mut shard.lock(), now),
            // There are as many as the hash is taken modulo.
            None => what(&mut Shard::default(), now),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[async_trait]
impl Cache for Memory {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        Ok(self.with(key, |shard, now| shard.values.get(key, now).map(|value| value.clone())))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        check(key, &value)?;
        self.with(key, |shard, now| {
            shard.values.put(key, value, now, now + countable(ttl), self.limits.entries);
        });
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), CacheError> {
        self.with(key, |shard, _| {
            shard.values.remove(key);
            shard.groups.remove(key);
            shard.counters.remove(key);
        });
        Ok(())
    }

    async fn set_members(
        &self,
        group: &str,
        members: Vec<(String, Bytes)>,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        for (name, value) in &members {
            check(name, value)?;
        }
        check(group, &[])?;
        if members.is_empty() {
            return Ok(());
        }
        self.with(group, |shard, now| {
            let end = now + countable(ttl);
            match shard.groups.get(group, now) {
                Some(all) => {
                    let new = members.iter().filter(|(name, _)| !all.contains_key(name)).count();
                    if all.len() + new > self.limits.members {
                        return Err(CacheError::Full("the group has too many members"));
                    }
                    all.extend(members);
                    shard.groups.extend(group, end);
                }
                None if members.len() > self.limits.members => {
                    return Err(CacheError::Full("the group has too many members"));
                }
                None => {
                    shard.groups.put(group, members.into_iter().collect(), now, end, self.limits.entries);
                }
            }
            Ok(())
        })
    }

    async fn members(&self, group: &str) -> Result<Vec<(String, Bytes)>, CacheError> {
        Ok(self.with(group, |shard, now| {
            let Some(members) = shard.groups.get(group, now) else { return Vec::new() };
            members.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        }))
    }

    async fn remove_members(&self, group: &str, members: &[String]) -> Result<(), CacheError> {
        self.with(group, |shard, now| {
            let Some(all) = shard.groups.get(group, now) else { return };
            for name in members {
                all.remove(name);
            }
            if all.is_empty() {
                shard.groups.remove(group);
            }
        });
        Ok(())
    }

    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, CacheError> {
        check(key, &[])?;
        self.with(key, |shard, now| {
            let Some(count) = shard.counters.get(key, now) else {
                shard.counters.put(key, by, now, now + countable(ttl), self.limits.entries);
                return Ok(by);
            };
            *count = count.checked_add(by).ok_or(CacheError::Full("the counter is at its end"))?;
            Ok(*count)
        })
    }
}

/// Things by name, each with a time at which it is over.
struct Table<T> {
    entries: HashMap<Arc<str>, Timed<T>, ahash::RandomState>,
    ends: BTreeSet<(Instant, Arc<str>)>,
}

struct Timed<T> {
    what: T,
    end: Instant,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: HashMap::default(), ends: BTreeSet::new() }
    }
}

impl<T> Table<T> {
    fn get(&mut self, key: &str, now: Instant) -> Option<&mut T> {
        self.entries.get_mut(key).filter(|timed| timed.end > now).map(|timed| &mut timed.what)
    }

    /// Keeps what is there until another time.
    fn extend(&mut self, key: &str, end: Instant) {
        let Some((key, mut timed)) = self.entries.remove_entry(key) else { return };
        self.ends.remove(&(timed.end, key.clone()));
        timed.end = end;
        self.ends.insert((end, key.clone()));
        self.entries.insert(key, timed);
    }

    fn put(&mut self, key: &str, what: T, now: Instant, end: Instant, limit: usize) {
        self.remove(key);
        self.sweep(now);
        while self.entries.len() >= limit.max(1) && self.drop_first() {}
        let key: Arc<str> = key.into();
        self.ends.insert((end, key.clone()));
        self.entries.insert(key, Timed { what, end });
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, timed)) = self.entries.remove_entry(key) {
            self.ends.remove(&(timed.end, key));
        }
    }

    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            match self.ends.first() {
                Some((end, _)) if *end <= now => self.drop_first(),
                _ => return,
            };
        }
    }

    /// Drops what is over first.
    fn drop_first(&mut self) -> bool {
        let Some((_, key)) = self.ends.pop_first() else { return false };
        self.entries.remove(&key).is_some()
    }
}
