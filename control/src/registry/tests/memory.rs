//! What only a registry in memory can get wrong: its bounds, its clock, and watches that are behind.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

async fn put(registry: &Memory, key: &str, value: &'static str) -> Result<Option<Revision>, RegistryError> {
    registry.put(key, value.into(), Expect::Anything, None).await
}

fn is_full<T>(result: Result<T, RegistryError>) -> bool {
    matches!(result.err(), Some(RegistryError::Full(_)))
}

#[tokio::test]
async fn numbers_of_values_bytes_and_leases_are_bounded() {
    let registry = Memory::with_limits(Limits { keys: 3, bytes: 20, leases: 2, ..Limits::default() });
    for key in ["a", "b", "c"] {
        put(&registry, key, "1").await.unwrap().unwrap();
    }
    assert!(is_full(put(&registry, "d", "1").await));
    // What is there can be changed and makes room.
    put(&registry, "a", "2").await.unwrap().unwrap();
    assert!(registry.delete("b", Expect::Anything).await.unwrap());
    put(&registry, "d", "1").await.unwrap().unwrap();
    assert!(is_full(put(&registry, "d", "sixteen bytes...").await));
    put(&registry, "d", "fifteen bytes..").await.unwrap().unwrap();
    assert!(is_full(put(&registry, "a", "12").await));
    put(&registry, "d", "1").await.unwrap().unwrap();

    let lease = registry.lease(Duration::from_secs(1)).await.unwrap();
    registry.lease(Duration::from_secs(1)).await.unwrap();
    assert!(is_full(registry.lease(Duration::from_secs(1)).await));
    registry.revoke(lease).await.unwrap();
    registry.lease(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_watch_that_is_read_too_slowly_is_told_so() {
    let registry = Memory::with_limits(Limits { changes: 10, ..Limits::default() });
    let start = put(&registry, "k", "0").await.unwrap().unwrap();
    let mut watch = registry.watch("", start).await.unwrap();
    for _ in 0..10 {
        put(&registry, "k", "1").await.unwrap();
    }
    assert_eq!(watch.next().await.unwrap().len(), 10);
    for _ in 0..11 {
        put(&registry, "k", "1").await.unwrap();
    }
    assert!(matches!(watch.next().await, Err(RegistryError::Compacted)));
}

#[tokio::test(start_paused = true)]
async fn a_watch_wakes_at_the_end_of_a_lease_though_nobody_asks() {
    let registry = Memory::new();
    let far = registry.lease(Duration::from_secs(1000)).await.unwrap();
    let start = registry.put("a/far", "".into(), Expect::Absent, Some(far)).await.unwrap().unwrap();
    let mut watch = registry.watch("a/near", start).await.unwrap();
    let watching = tokio::spawn(async move { (read(&mut *watch, 2).await, Instant::now()) });
    tokio::task::yield_now().await;
    // It sleeps already, and has to hear of a lease that ends earlier.
    let begun = Instant::now();
    let near = registry.lease(Duration::from_secs(5)).await.unwrap();
    registry.put("a/near", "".into(), Expect::Absent, Some(near)).await.unwrap().unwrap();
    let (changes, at) = watching.await.unwrap();
    assert!(matches!(&changes[..], [Change::Put(_), Change::Deleted { key, .. }] if key == "a/near"));
    let after = at - begun;
    assert!(after >= Duration::from_secs(5) && after < Duration::from_millis(5100), "{after:?}");
}

#[tokio::test]
async fn revisions_and_leases_of_a_later_run_are_higher() {
    let first = Memory::new();
    let mut last = Revision(0);
    for _ in 0..100 {
        last = put(&first, "k", "1").await.unwrap().unwrap();
    }
    let lease = first.lease(Duration::from_secs(1)).await.unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    let second = Memory::new();
    let start = second.list("").await.unwrap().revision;
    assert!(start > last);
    assert!(second.lease(Duration::from_secs(1)).await.unwrap().0 > lease.0);
    // JSON's readers keep it.
    assert!(start.0 < 1 << 53);
    // What happened in the first run can't be watched in the second.
    let error = end_of(second.watch("", last).await).await;
    assert!(matches!(error, RegistryError::Compacted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_threads_one_of_many_writers_wins() {
    let registry = Arc::new(Memory::new());
    for round in 0..50 {
        let mut writers = JoinSet::new();
        for number in 0..16 {
            let registry = registry.clone();
            let key = format!("owner/{round}");
            writers
                .spawn(async move { registry.put(&key, text(number), Expect::Absent, None).await.unwrap() });
        }
        assert_eq!(writers.join_all().await.into_iter().flatten().count(), 1);
    }
}
