//! foyer's engine for blocks on disk, and what is to be known of it: whether a write has failed.
//!
//! That engine logs a failed write and goes on in a state that it was not made for, so it is handed one batch at a time,
//! which is looked for in its index before the next one; what is missing there was not written. Pieces wait here, in a
//! queue with a bound, and not in the engine's, which has none in number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foyer::{
    Age, BlockEngineConfig, Device, Engine, EngineBuildContext, EngineConfig, HybridCacheProperties, Load,
    PieceRef, Result, StorageFilterResult,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::Health;
use crate::cache::store::Stored;
use crate::metrics::DiskFault;

/// Bytes that wait to be written, in memory that the cache is no longer charged for. What comes when they are too many
/// is forgotten: it is fetched again if somebody asks.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// The same in number: the smallest take a page each.
const MAX_QUEUED: usize = MAX_QUEUED_BYTES / PAGE;

/// Of what is written at once. With the largest file, it fits into the engine's buffer (`BUFFER_BYTES`).
const BATCH_BYTES: usize = 4 << 20;

/// Larger ones are kept in memory only: with a batch before it, it would not fit into the engine's buffer.
const MAX_FILE_BYTES: usize = 11 << 20;

/// What is written is rounded up to pages, and a block begins with one that says what is in it.
const PAGE: usize = 4096;

/// The engine's header of each entry.
const HEADER_BYTES: usize = 36;

type Piece = PieceRef<String, Stored, HybridCacheProperties>;
type Inner = Arc<dyn Engine<String, Stored, HybridCacheProperties>>;

/// Makes the engine.
#[derive(Debug)]
pub(super) struct GuardedConfig {
    pub(super) blocks: BlockEngineConfig<String, Stored, HybridCacheProperties>,
    pub(super) block_bytes: usize,
    pub(super) health: Arc<Health>,
}

impl EngineConfig<String, Stored, HybridCacheProperties> for GuardedConfig {
    fn build(self: Box<Self>, ctx: EngineBuildContext) -> BoxFuture<'static, Result<Inner>> {
        async move {
            let Self { blocks, block_bytes, health } = *self;
            let spawner = ctx.spawner.clone();
            let inner = EngineConfig::build(Box::new(blocks), ctx).await?;
            let (guarded, writing) = Guarded::new(inner, block_bytes, health);
            drop(spawner.spawn(writing));
            Ok(Arc::new(guarded) as Inner)
        }
        .boxed()
    }
}

impl From<GuardedConfig> for Box<dyn EngineConfig<String, Stored, HybridCacheProperties>> {
    fn from(config: GuardedConfig) -> Self {
        config.boxed()
    }
}

/// An engine that is no longer used after an error.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Inner,
    queue: mpsc::Sender<Job>,
    queued_bytes: Arc<AtomicUsize>,
    max_file_bytes: usize,
    health: Arc<Health>,
}

/// For whoever writes.
#[derive(Debug)]
enum Job {
    Write(Piece, usize),
    /// All before is to be on disk.
    Tell(oneshot::Sender<()>),
}

impl Guarded {
    /// The engine, and what writes while it is there.
    pub(super) fn new(
        inner: Inner,
        block_bytes: usize,
        health: Arc<Health>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let max_file_bytes = MAX_FILE_BYTES.min(block_bytes - PAGE);
        let writing = write(Arc::clone(&inner), jobs, Arc::clone(&queued_bytes), Arc::clone(&health));
        (Self { inner, queue, queued_bytes, max_file_bytes, health }, writing)
    }
}

/// What a piece takes on disk.
fn on_disk(estimated: usize) -> usize {
    (estimated + HEADER_BYTES).next_multiple_of(PAGE)
}

async fn write(
    inner: Inner,
    mut jobs: mpsc::Receiver<Job>,
    queued_bytes: Arc<AtomicUsize>,
    health: Arc<Health>,
) {
    while let Some(first) = jobs.recv().await {
        let (mut next, mut bytes, mut hashes, mut told) = (Some(first), 0, Vec::new(), Vec::new());
        while let Some(job) = next.take() {
            match job {
                Job::Write(piece, len) => {
                    hashes.push(piece.hash());
                    bytes += len;
                    inner.enqueue(piece, len);
                }
                Job::Tell(who) => told.push(who),
            }
            if bytes < BATCH_BYTES {
                next = jobs.try_recv().ok();
            }
        }
        inner.wait().await;
        queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !hashes.iter().all(|hash| inner.may_contains(*hash)) {
            // Whoever waits is told by the queue's end.
            return health
                .failed(DiskFault::Write, &"what was written is not there (is it full, or defect?)");
        }
        health.metrics.cache_disk_written.inc_by(bytes as u64);
        for who in told {
            // Whoever has left needs no answer.
            let _ = who.send(());
        }
    }
}

impl Engine<String, Stored, HybridCacheProperties> for Guarded {
    fn device(&self) -> &Arc<dyn Device> {
        self.inner.device()
    }

    fn filter(&self, _: u64, _: usize) -> StorageFilterResult {
        // What is refused here would be deleted, for which foyer has a queue without a bound.
        StorageFilterResult::Admit
    }

    fn enqueue(&self, piece: Piece, estimated_size: usize) {
        // What came from disk lately is there.
        if self.health.is_off() || matches!(piece.properties().age(), Age::Young) {
            return;
        }
        let len = on_disk(estimated_size);
        let metrics = &self.health.metrics;
        if len > self.max_file_bytes {
            return metrics.cache_disk_large.inc();
        }
        if self.queued_bytes.fetch_add(len, Ordering::Relaxed) + len > MAX_QUEUED_BYTES
            || self.queue.try_send(Job::Write(piece, len)).is_err()
        {
            self.queued_bytes.fetch_sub(len, Ordering::Relaxed);
            metrics.cache_disk_dropped.inc();
        }
    }

    fn load(&self, hash: u64) -> BoxFuture<'static, Result<Load<String, Stored, HybridCacheProperties>>> {
        if self.health.is_off() {
            return std::future::ready(Ok(Load::Miss)).boxed();
        }
        let (health, known) = (Arc::clone(&self.health), self.inner.may_contains(hash));
        let load = self.inner.load(hash);
        async move {
            let loaded = load.await;
            match &loaded {
                Ok(Load::Entry { value, .. }) => {
                    health.metrics.cache_disk_read.inc_by(value.0.body.len() as u64);
                }
                // It was there until its bytes were looked at.
                Ok(Load::Miss) if known => health.metrics.disk_fault(DiskFault::Checksum),
                Ok(_) => {}
                Err(error) => health.failed(DiskFault::Read, error),
            }
            loaded
        }
        .boxed()
    }

    fn delete(&self, _: u64) {
        // A name never stands for other bytes, so nothing is ever out of date.
    }

    fn may_contains(&self, hash: u64) -> bool {
        self.inner.may_contains(hash)
    }

    fn destroy(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.destroy()
    }

    fn wait(&self) -> BoxFuture<'static, ()> {
        let (queue, (who, told)) = (self.queue.clone(), oneshot::channel());
        async move {
            if queue.send(Job::Tell(who)).await.is_ok() {
                // An error is the end of what there was to wait for.
                let _ = told.await;
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}
