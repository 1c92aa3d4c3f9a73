//! The disk under the memory, with real files.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use foyer::{
    Device, Engine, HybridCacheBuilder, Load, NoopDeviceBuilder, PieceRef, Result, StorageFilterResult,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};

use super::engine::Guarded;
use super::*;
use crate::cache::Kind;
use crate::cache::object::Head;
use crate::cache::store::Store;

const MIB: usize = 1 << 20;

/// Memory for 80 of the files that tests have.
const MEMORY: usize = 5 * MIB;

fn place(folder: &Path, bytes: usize) -> Place {
    Place { folder: folder.to_owned(), bytes, block_bytes: MIB }
}

fn open(folder: &Path) -> (Store, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    (Store::new(MEMORY, Some(place(folder, 32 * MIB)), Arc::clone(&metrics)), metrics)
}

fn path(n: usize) -> String {
    format!("/live/a/v0/1-{n}.m4s")
}

fn body(n: usize) -> Bytes {
    (0..60_000 + n).map(|byte| (byte * 31 + n).to_le_bytes()[0]).collect()
}

fn object(n: usize) -> Arc<Object> {
    let headers = HeaderMap::from_iter([
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (ETAG, HeaderValue::from_str(&format!("\"{n}\"")).unwrap()),
    ]);
    Arc::new(Head::new(Kind::Segment, StatusCode::OK, headers).whole(body(n), None))
}

/// So many files, all but the newest of which are no longer in memory.
async fn fill(store: &Store, count: usize) {
    for n in 0..count {
        store.insert(&path(n), &object(n));
        // As slowly as they come from upstream, more than what may wait to be written.
        if n % 32 == 0 {
            store.settled().await;
        }
    }
    store.settled().await;
}

/// How many are found on disk; each is what it was.
async fn found(store: &Store, count: usize) -> usize {
    let mut found = 0;
    for n in 0..count {
        assert!(store.get(&path(n)).is_none(), "{n} is in memory");
        if let Some(object) = store.load(&path(n)).await {
            assert_eq!(object.body, body(n));
            assert_eq!(object.head.headers[ETAG], format!("\"{n}\""));
            assert_eq!(object.head.headers["content-length"], object.body.len().to_string());
            found += 1;
        }
    }
    found
}

fn faults(metrics: &Arc<Metrics>, operation: &str) -> f64 {
    let registry = prometheus::Registry::new();
    metrics.register(&registry).unwrap();
    let families = registry.gather();
    let faults = families.iter().find(|f| f.name() == "weir_edge_cache_disk_errors_total").unwrap();
    let of = |m: &&prometheus::proto::Metric| m.get_label()[0].value() == operation;
    faults.get_metric().iter().find(of).unwrap().get_counter().get_value()
}

#[tokio::test]
async fn what_left_memory_comes_back_from_disk_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (store, metrics) = open(folder.path());
    assert_eq!(metrics.cache_disk.get(), 32 * MIB as i64);
    fill(&store, 200).await;
    assert_eq!(found(&store, 40).await, 40);
    assert!(store.get(&path(39)).is_some(), "it is in memory again");
    assert!(metrics.cache_disk_written.get() >= 100 * 60_000);
    assert!(metrics.cache_disk_read.get() >= 40 * 60_000);
    assert!(store.load("/live/a/v0/1-1000.m4s").await.is_none());
    assert_eq!(metrics.cache_disk_busy.get() + metrics.cache_disk_dropped.get(), 0);
}

#[tokio::test]
async fn its_size_has_a_bound_in_bytes_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    fill(&store, 1000).await;
    let files =
        fs::read_dir(folder.path().join("blocks")).unwrap().map(|file| file.unwrap().metadata().unwrap());
    assert!(files.map(|file| file.len()).sum::<u64>() <= 32 * MIB as u64);
    assert!(store.load(&path(0)).await.is_none());
    assert!(store.load(&path(850)).await.is_some());
}

#[tokio::test]
async fn what_is_on_disk_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    fill(&store, 200).await;
    drop(store);
    let (store, metrics) = open(folder.path());
    assert_eq!(found(&store, 40).await, 40);
    assert_eq!(faults(&metrics, "checksum"), 0.0);
}

#[tokio::test]
async fn what_was_changed_on_disk_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let (store, metrics) = open(folder.path());
    fill(&store, 200).await;
    for file in fs::read_dir(folder.path().join("blocks")).unwrap() {
        let file = fs::File::options().write(true).open(file.unwrap().path()).unwrap();
        // One byte of every entry, which takes 15 pages.
        for page in 0..MIB as u64 / 4096 {
            file.write_all_at(b"!?", page * 4096 + 2000).unwrap();
        }
    }
    assert_eq!(found(&store, 40).await, 0);
    assert_eq!(faults(&metrics, "checksum"), 40.0);
    assert_eq!(faults(&metrics, "read"), 0.0);
    // Nobody reads it again, and what is new is kept.
    assert_eq!(found(&store, 40).await, 0);
    assert_eq!(faults(&metrics, "checksum"), 40.0);
    drop(store);
    // At the start, neither.
    let (store, _) = open(folder.path());
    assert_eq!(found(&store, 40).await, 0);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_costs_nothing_but_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "something else").unwrap();
    let (inside, taken) = (file.join("cache"), folder.path().join("taken"));
    let (_other, _) = open(&taken);
    for unusable in [file.as_path(), &inside, Path::new("/proc/cache"), &taken] {
        let (store, metrics) = open(unusable);
        assert_eq!(faults(&metrics, "open"), 1.0, "{}", unusable.display());
        assert_eq!(metrics.cache_disk.get(), 0);
        fill(&store, 200).await;
        assert!(store.get(&path(199)).is_some());
        assert!(store.load(&path(0)).await.is_none());
    }
    assert_eq!(fs::read(&file).unwrap(), b"something else");
}

#[test]
fn a_disk_without_room_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = Store::new(MEMORY, Some(place(folder.path(), 1 << 50)), Arc::clone(&metrics));
    assert_eq!(faults(&metrics, "open"), 1.0);
    store.insert(&path(0), &object(0));
    assert!(store.get(&path(0)).is_some());
    assert_eq!(fs::read_dir(folder.path().join("blocks")).unwrap().count(), 0);
}

#[tokio::test]
async fn room_is_reserved_and_nobody_else_reads_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(&folder.path().join("a/b"));
    let mode = fs::metadata(folder.path().join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(store);
    // Smaller than before, it takes no more room than it may.
    let metrics = Arc::new(Metrics::new());
    drop(open(&folder.path().join("a/b")));
    let store = Store::new(MEMORY, Some(place(&folder.path().join("a/b"), 16 * MIB)), Arc::clone(&metrics));
    assert_eq!(metrics.cache_disk.get(), 16 * MIB as i64);
    assert_eq!(fs::read_dir(folder.path().join("a/b/blocks")).unwrap().count(), 16);
    drop(store);
}

/// An engine on a disk that is full: it forgets what it is given.
#[derive(Debug)]
struct Full {
    device: Arc<dyn Device>,
    given: AtomicUsize,
}

impl Engine<String, Stored, HybridCacheProperties> for Full {
    fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    fn filter(&self, _: u64, _: usize) -> StorageFilterResult {
        StorageFilterResult::Admit
    }

    fn enqueue(&self, _: PieceRef<String, Stored, HybridCacheProperties>, _: usize) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    fn load(&self, _: u64) -> BoxFuture<'static, Result<Load<String, Stored, HybridCacheProperties>>> {
        panic!("it was found out");
    }

    fn delete(&self, _: u64) {}

    fn may_contains(&self, _: u64) -> bool {
        false
    }

    fn destroy(&self) -> BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn wait(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn close(&self) -> BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// An engine that was made before.
#[derive(Debug)]
struct Given(Arc<dyn Engine<String, Stored, HybridCacheProperties>>);

impl foyer::EngineConfig<String, Stored, HybridCacheProperties> for Given {
    fn build(
        self: Box<Self>,
        _: foyer::EngineBuildContext,
    ) -> BoxFuture<'static, Result<Arc<dyn Engine<String, Stored, HybridCacheProperties>>>> {
        std::future::ready(Ok(self.0)).boxed()
    }
}

impl From<Given> for Box<dyn foyer::EngineConfig<String, Stored, HybridCacheProperties>> {
    fn from(given: Given) -> Self {
        Box::new(given)
    }
}

#[tokio::test]
async fn after_a_write_that_failed_the_disk_is_not_used_again() {
    let metrics = Arc::new(Metrics::new());
    metrics.cache_disk.set(1);
    let health = Arc::new(Health {
        off: AtomicBool::new(false),
        folder: "/cache".into(),
        metrics: Arc::clone(&metrics),
    });
    let device = NoopDeviceBuilder::new(MIB).build().unwrap();
    let full = Arc::new(Full { device, given: AtomicUsize::new(0) });
    let inner: Arc<dyn Engine<String, Stored, HybridCacheProperties>> = Arc::<Full>::clone(&full);
    let (guarded, writing) = Guarded::new(inner, MIB, Arc::clone(&health));
    let writing = tokio::spawn(writing);
    let hybrid = HybridCacheBuilder::new()
        .memory(MIB)
        .with_shards(1)
        .with_weighter(|_: &String, stored: &Stored| stored.0.cost())
        .storage()
        .with_engine_config(Given(Arc::new(guarded)))
        .build()
        .await
        .unwrap();
    for n in 0..30 {
        hybrid.insert(path(n), Stored(object(n)));
    }
    writing.await.unwrap();
    assert!(health.is_off());
    assert_eq!((faults(&metrics, "write"), metrics.cache_disk.get()), (1.0, 0));
    let given = full.given.load(Ordering::Relaxed);
    assert!(given > 0);
    for n in 30..60 {
        hybrid.insert(path(n), Stored(object(n)));
    }
    assert!(hybrid.get(&path(0)).await.unwrap().is_none());
    assert_eq!(full.given.load(Ordering::Relaxed), given);
    assert_eq!(metrics.cache_disk_written.get(), 0);
    hybrid.storage().wait().await;
    assert!(hybrid.memory().get(&path(59)).is_some());
}
