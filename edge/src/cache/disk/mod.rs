//! What leaves memory, on disk: foyer's hybrid cache, in a folder of its own, sized in bytes.
//!
//! Whatever the disk does, viewers are served: it has threads of its own, who waits for it waits for a moment only,
//! and after an error it is not used again. What is found after a restart may be handed out without asking anybody: a
//! name never stands for other bytes, and its bytes are checked against a sum (of 64 bits, with the name).

mod engine;
mod folder;
mod record;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use foyer::{
    BlockEngineConfig, Cache, DefaultHasher, DeviceBuilder, FsDeviceBuilder, HybridCache,
    HybridCacheBuilderPhaseMemory, HybridCacheProperties, PsyncIoEngineConfig, Spawner,
};
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::object::Object;
use super::store::Stored;
use crate::metrics::{DiskFault, Metrics};
use engine::GuardedConfig;
use folder::{Folder, FolderError};

/// What is forgotten at once, oldest first; also the size of a file in the folder. The place on disk follows from it, so
/// that another value makes what is there useless.
const BLOCK_BYTES: usize = 16 << 20;

/// foyer gathers what is written in a buffer of this size, while another one is being written: 32 MiB of memory.
const BUFFER_BYTES: usize = 16 << 20;

/// Reads at once. Each has a buffer of its file's size (11 MiB at most, mostly a tenth of it) until the disk has answered;
/// what more is asked for is had from upstream.
const MAX_READS: usize = 32;

/// Threads that wait for the disk.
const IO_THREADS: usize = 8;

/// How long somebody waits for the disk before the upstream is asked: it is there for what is slower than this.
const READ_PATIENCE: Duration = Duration::from_millis(500);

/// How long the start waits for the folder, in which the beginning of each block is read.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// Where the disk's part of the cache is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) bytes: usize,
    block_bytes: usize,
}

impl Place {
    /// So many bytes in a folder that is used for nothing else.
    pub(crate) fn new(folder: PathBuf, bytes: usize) -> Self {
        Self { folder, bytes, block_bytes: BLOCK_BYTES }
    }
}

/// Why there is nothing on disk.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Folder(#[from] FolderError),
    #[error("threads for it can't be started: {0}")]
    Threads(std::io::Error),
    #[error("{0}")]
    Foyer(#[from] foyer::Error),
    #[error("it did not answer within {} s", OPEN_PATIENCE.as_secs())]
    Late,
    #[error("opening it was given up")]
    Lost,
}

/// The disk's part of the cache.
pub(crate) struct Disk {
    hybrid: HybridCache<String, Stored>,
    spawner: Spawner,
    reads: Arc<Semaphore>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Nobody else uses the folder.
    _folder: Folder,
}

/// Whether the disk is used.
#[derive(Debug)]
struct Health {
    off: AtomicBool,
    folder: PathBuf,
    metrics: Arc<Metrics>,
}

impl Health {
    fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Says so once; what comes after is counted.
    fn failed(&self, fault: DiskFault, error: &dyn std::fmt::Display) {
        self.metrics.disk_fault(fault);
        if self.off.swap(true, Ordering::Relaxed) {
            return;
        }
        self.metrics.cache_disk.set(0);
        tracing::error!(
            folder = %self.folder.display(), %error,
            "the disk of the HLS cache failed: it is not used again before a restart, memory goes on alone",
        );
    }
}

impl Disk {
    /// Opens the folder, with what is in it, under a memory. Without it there is a log line, and memory alone.
    pub(super) fn open(
        place: Place,
        memory: HybridCacheBuilderPhaseMemory<String, Stored, DefaultHasher>,
        metrics: &Arc<Metrics>,
    ) -> Option<Self> {
        let folder = place.folder.clone();
        match Self::try_open(place, memory, metrics) {
            Ok(disk) => Some(disk),
            Err(error) => {
                metrics.disk_fault(DiskFault::Open);
                tracing::error!(
                    folder = %folder.display(), %error,
                    "cannot keep HLS files on disk (edge.cache.disk_bytes, edge.cache.folder): memory goes on alone",
                );
                None
            }
        }
    }

    fn try_open(
        place: Place,
        memory: HybridCacheBuilderPhaseMemory<String, Stored, DefaultHasher>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        // Threads of its own: however slow the disk is, nobody who serves viewers waits in their place.
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(IO_THREADS)
            .thread_name("weir-disk")
            .enable_time()
            .build()
            .map_err(OpenError::Threads)?;
        let spawner = Spawner::from(runtime);
        let health = Arc::new(Health {
            off: AtomicBool::new(false),
            folder: place.folder.clone(),
            metrics: Arc::clone(metrics),
        });
        let (done, opened) = mpsc::sync_channel(1);
        let opening = open(place, memory, spawner.clone(), Arc::clone(&health));
        drop(spawner.spawn(async move {
            // If it was given up meanwhile, it is closed again.
            let _ = done.send(opening.await);
        }));
        let (folder, hybrid, bytes) = match opened.recv_timeout(OPEN_PATIENCE) {
            Ok(opened) => opened?,
            Err(RecvTimeoutError::Timeout) => return Err(OpenError::Late),
            Err(RecvTimeoutError::Disconnected) => return Err(OpenError::Lost),
        };
        metrics.cache_disk.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(Self {
            hybrid,
            spawner,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            health,
            metrics: Arc::clone(metrics),
            _folder: folder,
        })
    }

    /// The memory above it: what leaves it goes to disk.
    pub(super) fn memory(&self) -> Cache<String, Stored, DefaultHasher, HybridCacheProperties> {
        self.hybrid.memory().clone()
    }

    /// What is there by that name, which goes to memory again. Does not wait longer than is worth it.
    pub(super) async fn load(&self, path: &str) -> Option<Arc<Object>> {
        // A look into memory: what is not there costs the disk nothing.
        if self.health.is_off() || !self.hybrid.storage().may_contains(path) {
            return None;
        }
        let Ok(slot) = Arc::clone(&self.reads).try_acquire_owned() else {
            self.metrics.cache_disk_busy.inc();
            return None;
        };
        let found = self.hybrid.get(path);
        // Who asks may leave; the place is free when the disk has answered.
        let reading = self.spawner.spawn(async move {
            let found = found.await;
            drop(slot);
            found
        });
        match timeout(READ_PATIENCE, reading).await {
            // An error was counted where it came from.
            Ok(found) => found.ok()?.ok()?.map(|entry| Arc::clone(&entry.value().0)),
            Err(_) => {
                self.metrics.disk_fault(DiskFault::Timeout);
                None
            }
        }
    }

    /// Resolves when all that has left memory is on disk.
    #[cfg(test)]
    pub(super) async fn settled(&self) {
        self.hybrid.storage().wait().await;
    }
}

/// On the disk's own threads.
async fn open(
    place: Place,
    memory: HybridCacheBuilderPhaseMemory<String, Stored, DefaultHasher>,
    spawner: Spawner,
    health: Arc<Health>,
) -> Result<(Folder, HybridCache<String, Stored>, u64), OpenError> {
    let folder = Folder::open(&place.folder, place.bytes, place.block_bytes)?;
    let device = FsDeviceBuilder::new(folder.blocks()).with_capacity(place.bytes).build()?;
    let blocks = BlockEngineConfig::new(device)
        .with_block_size(place.block_bytes)
        .with_buffer_pool_size(BUFFER_BYTES)
        .with_submit_queue_size_threshold(BUFFER_BYTES);
    let hybrid = memory
        .storage()
        .with_spawner(spawner)
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(GuardedConfig { blocks, block_bytes: place.block_bytes, health })
        .build()
        .await?;
    let bytes = folder.reserve()?;
    Ok((folder, hybrid, bytes))
}
