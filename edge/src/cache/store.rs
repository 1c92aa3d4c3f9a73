//! Objects whose names never mean anything else: segments, parts and init segments, in memory by size, then on disk.
//!
//! What is asked for again and again stays, what was asked for once goes first (S3-FIFO); a look into the table takes
//! a read lock of one shard and changes nothing but a counter. What leaves goes to disk, if there is one.

use std::sync::Arc;

use foyer::{
    Cache, CacheBuilder, DefaultHasher, Event, EventListener, HybridCacheBuilder, HybridCacheProperties,
    S3FifoConfig,
};

use super::disk::{Disk, Place};
use super::object::Object;
use crate::metrics::Metrics;

/// Locks of the table. Each has its share of the memory, in which the largest segment must fit.
const SHARDS: usize = 8;

/// Objects by path.
pub(crate) struct Store {
    memory: Cache<String, Stored, DefaultHasher, HybridCacheProperties>,
    disk: Option<Disk>,
    /// Larger ones would push everything else out of their shard.
    max_object_bytes: usize,
    metrics: Arc<Metrics>,
}

/// An object in the table.
#[derive(Debug, Clone)]
pub(super) struct Stored(pub(super) Arc<Object>);

struct Leaving(Arc<Metrics>);

impl EventListener for Leaving {
    type Key = String;
    type Value = Stored;

    fn on_leave(&self, reason: Event, _: &String, _: &Stored) {
        if reason == Event::Evict {
            self.0.cache_evictions_objects.inc();
        }
    }
}

impl Store {
    /// Keeps at most so many bytes in memory, and what the place has room for on disk. A disk that can't be used is
    /// logged and counted.
    pub(crate) fn new(memory_bytes: usize, disk: Option<Place>, metrics: Arc<Metrics>) -> Self {
        let disk = disk.and_then(|place| {
            let builder = HybridCacheBuilder::new()
                // What is in memory can be fetched again, and a process that ends has no time.
                .with_flush_on_close(false)
                .with_event_listener(Arc::new(Leaving(Arc::clone(&metrics))))
                .memory(memory_bytes)
                .with_shards(SHARDS)
                .with_eviction_config(S3FifoConfig::default())
                .with_weighter(weight);
            Disk::open(place, builder, &metrics)
        });
        let memory = disk.as_ref().map(Disk::memory).unwrap_or_else(|| {
            CacheBuilder::new(memory_bytes)
                .with_shards(SHARDS)
                .with_eviction_config(S3FifoConfig::default())
                .with_weighter(weight)
                .with_event_listener(Arc::new(Leaving(Arc::clone(&metrics))))
                .build()
        });
        Self { memory, disk, max_object_bytes: memory_bytes / SHARDS, metrics }
    }

    /// What is in memory.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Object>> {
        self.memory.get(path).map(|entry| Arc::clone(&entry.value().0))
    }

    /// What is on disk, and in memory from then on.
    pub(crate) async fn load(&self, path: &str) -> Option<Arc<Object>> {
        let object = self.disk.as_ref()?.load(path).await?;
        self.count();
        Some(object)
    }

    pub(crate) fn insert(&self, path: &str, object: &Arc<Object>) {
        if object.cost() > self.max_object_bytes {
            return;
        }
        self.memory.insert(path.to_owned(), Stored(Arc::clone(object)));
        self.count();
    }

    fn count(&self) {
        self.metrics.cache_memory.set(i64::try_from(self.memory.usage()).unwrap_or(i64::MAX));
    }

    /// Resolves when all that has left memory is on disk.
    #[cfg(test)]
    pub(super) async fn settled(&self) {
        if let Some(disk) = &self.disk {
            disk.settled().await;
        }
    }
}

#[allow(clippy::ptr_arg, reason = "what foyer calls")]
fn weight(path: &String, stored: &Stored) -> usize {
    path.len() + stored.0.cost()
}
