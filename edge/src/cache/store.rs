//! Objects whose names never mean anything else: segments, parts and init segments, in memory, by size.
//!
//! What is asked for again and again stays, what was asked for once goes first (S3-FIFO); a look into the table takes
//! a read lock of one shard and changes nothing but a counter.

use std::sync::Arc;

use foyer::{Cache, CacheBuilder, Event, EventListener, HybridCacheProperties, S3FifoConfig};

use super::object::Object;
use crate::metrics::Metrics;

/// Locks of the table. Each has its share of the memory, in which the largest segment must fit.
const SHARDS: usize = 8;

/// Objects by path.
pub(crate) struct Store {
    memory: Cache<String, Stored, foyer::DefaultHasher, HybridCacheProperties>,
    /// Larger ones would push everything else out of their shard.
    max_object_bytes: usize,
    metrics: Arc<Metrics>,
}

/// An object in the table.
#[derive(Debug, Clone)]
struct Stored(Arc<Object>);

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
    /// Keeps at most so many bytes in memory.
    pub(crate) fn new(memory_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let memory = CacheBuilder::new(memory_bytes)
            .with_shards(SHARDS)
            .with_eviction_config(S3FifoConfig::default())
            .with_weighter(|path: &String, stored: &Stored| path.len() + stored.0.cost())
            .with_event_listener(Arc::new(Leaving(Arc::clone(&metrics))))
            .build();
        Self { memory, max_object_bytes: memory_bytes / SHARDS, metrics }
    }

    pub(crate) fn get(&self, path: &str) -> Option<Arc<Object>> {
        self.memory.get(path).map(|entry| Arc::clone(&entry.value().0))
    }

    pub(crate) fn insert(&self, path: &str, object: &Arc<Object>) {
        if object.cost() > self.max_object_bytes {
            return;
        }
        self.memory.insert(path.to_owned(), Stored(Arc::clone(object)));
        self.metrics.cache_memory.set(i64::try_from(self.memory.usage()).unwrap_or(i64::MAX));
    }
}
