//! What every registry has to do.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

fn put_of(change: &Change) -> (&str, &[u8]) {
    match change {
        Change::Put(entry) => (&entry.key, &entry.value),
        Change::Deleted { key, .. } => panic!("{key} was deleted"),
    }
}

fn deletions(changes: &[Change]) -> Vec<&str> {
    let mut keys: Vec<&str> = changes
        .iter()
        .map(|change| match change {
            Change::Deleted { key, .. } => key.as_str(),
            Change::Put(entry) => panic!("{} was put", entry.key),
        })
        .collect();
    keys.sort_unstable();
    keys
}

pub(super) async fn values_are_kept_listed_and_deleted(engine: &Tested) {
    let registry = &engine.registry;
    assert_eq!(registry.get("nodes/a").await.unwrap(), None);
    let empty = registry.list("").await.unwrap();
    assert_eq!(empty.entries, []);
    let mut last = empty.revision;
    for (key, value) in [("nodes/b", "1"), ("nodes/a", "2"), ("other", "3"), ("nodes/ä", ""), ("nodes", "5")]
    {
        let revision = registry.put(key, value.into(), Expect::Anything, None).await.unwrap().unwrap();
        assert!(revision > last);
        last = revision;
        let entry = registry.get(key).await.unwrap().unwrap();
        assert_eq!(entry, Entry { key: key.to_owned(), value: value.into(), revision });
    }
    let nodes = registry.list("nodes/").await.unwrap();
    let keys: Vec<&str> = nodes.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((keys, nodes.revision), (vec!["nodes/a", "nodes/b", "nodes/ä"], last));
    assert_eq!(registry.list("").await.unwrap().entries.len(), 5);
    assert_eq!(registry.list("nobody").await.unwrap().entries, []);

    let again = registry.put("nodes/a", "2".into(), Expect::Anything, None).await.unwrap().unwrap();
    assert!(again > last, "the same value is a change, too");
    assert!(registry.delete("nodes/a", Expect::Anything).await.unwrap());
    assert!(!registry.delete("nodes/a", Expect::Anything).await.unwrap());
    assert_eq!(registry.get("nodes/a").await.unwrap(), None);
    assert!(registry.list("").await.unwrap().revision > again);
}

pub(super) async fn a_write_is_only_done_if_what_it_finds_is_as_expected(engine: &Tested) {
    let registry = &engine.registry;
    let put =
        async |value: &'static str, expect| registry.put("k", value.into(), expect, None).await.unwrap();
    let never = [Expect::At(Revision(0)), Expect::At(Revision(7)), Expect::At(Revision(u64::MAX))];
    for expect in never {
        assert_eq!(put("x", expect).await, None);
        assert!(!registry.delete("k", expect).await.unwrap());
    }
    let first = put("1", Expect::Absent).await.unwrap();
    assert_eq!(put("x", Expect::Absent).await, None);
    assert!(!registry.delete("k", Expect::Absent).await.unwrap());
    let second = put("2", Expect::At(first)).await.unwrap();
    assert!(second > first);
    assert_eq!(put("x", Expect::At(first)).await, None);
    assert!(!registry.delete("k", Expect::At(first)).await.unwrap());
    assert_eq!(registry.get("k").await.unwrap().unwrap().value, "2");
    assert!(registry.delete("k", Expect::At(second)).await.unwrap());
    assert_eq!(put("x", Expect::At(second)).await, None);
    assert!(put("3", Expect::Absent).await.unwrap() > second);
}

pub(super) async fn of_many_that_write_at_once_one_wins(engine: &Tested) {
    const WRITERS: usize = 24;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let registry = engine.registry.clone();
        writers
            .spawn(async move { registry.put("owner", text(number), Expect::Absent, None).await.unwrap() });
    }
    let won: Vec<Revision> = writers.join_all().await.into_iter().flatten().collect();
    let owner = engine.registry.get("owner").await.unwrap().unwrap();
    assert_eq!(won, [owner.revision]);

    // Nobody's count is lost when each goes on from what it read.
    let registry = &engine.registry;
    registry.put("count", text(0), Expect::Absent, None).await.unwrap().unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let registry = engine.registry.clone();
        writers.spawn(async move {
            loop {
                let found = registry.get("count").await.unwrap().unwrap();
                let count: usize = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
                let expect = Expect::At(found.revision);
                if registry.put("count", text(count + 1), expect, None).await.unwrap().is_some() {
                    return;
                }
            }
        });
    }
    writers.join_all().await;
    assert_eq!(registry.get("count").await.unwrap().unwrap().value, text(WRITERS));
}

pub(super) async fn values_go_with_their_lease_and_watches_tell(engine: &Tested) {
    let registry = &engine.registry;
    let begun = Instant::now();
    let lease = registry.lease(engine.ttl).await.unwrap();
    let granted = Instant::now();
    registry.put("stays", "0".into(), Expect::Anything, None).await.unwrap();
    let mut last = Revision(0);
    for key in ["a", "b", "c"] {
        last = registry.put(key, "1".into(), Expect::Absent, Some(lease)).await.unwrap().unwrap();
    }
    let mut watch = registry.watch("", last).await.unwrap();
    let changes = read(&mut *watch, 3).await;
    assert!(begun.elapsed() >= engine.ttl, "gone after {:?}", begun.elapsed());
    assert!(granted.elapsed() <= engine.ttl + engine.late, "gone after {:?}", granted.elapsed());
    assert_eq!(deletions(&changes), ["a", "b", "c"]);
    assert!(changes.iter().all(|change| change.revision() > last));

    let left = registry.list("").await.unwrap();
    assert_eq!(left.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["stays"]);
    assert_eq!(left.revision, changes.last().unwrap().revision());
    assert!(matches!(registry.renew(lease).await, Err(RegistryError::LeaseEnded)));
    let late = registry.put("a", "2".into(), Expect::Anything, Some(lease)).await;
    assert!(matches!(late, Err(RegistryError::LeaseEnded)), "{late:?}");
    assert_eq!(registry.get("a").await.unwrap(), None);
    registry.revoke(lease).await.unwrap();
    let nobodys = registry.renew(LeaseId(4711)).await;
    assert!(matches!(nobodys, Err(RegistryError::LeaseEnded)), "{nobodys:?}");
}

pub(super) async fn a_lease_that_is_renewed_goes_on(engine: &Tested) {
    let registry = &engine.registry;
    let lease = registry.lease(engine.ttl).await.unwrap();
    let put = registry.put("a", "1".into(), Expect::Anything, Some(lease)).await.unwrap().unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(engine.ttl / 4).await;
        registry.renew(lease).await.unwrap();
    }
    let renewed = Instant::now();
    assert_eq!(registry.get("a").await.unwrap().unwrap().revision, put);
    assert_eq!(deletions(&read(&mut *watch, 1).await), ["a"]);
    let after = renewed.elapsed();
    assert!(after >= engine.ttl * 9 / 10 && after <= engine.ttl + engine.late, "gone after {after:?}");
}

pub(super) async fn a_value_that_is_written_anew_leaves_its_lease(engine: &Tested) {
    let registry = &engine.registry;
    let long = engine.ttl * 100;
    let (one, other) = (registry.lease(long).await.unwrap(), registry.lease(long).await.unwrap());
    assert_ne!(one, other);
    for key in ["free", "moved", "bound"] {
        registry.put(key, "1".into(), Expect::Absent, Some(one)).await.unwrap().unwrap();
    }
    registry.put("free", "2".into(), Expect::Anything, None).await.unwrap().unwrap();
    registry.put("moved", "2".into(), Expect::Anything, Some(other)).await.unwrap().unwrap();
    let keys = async || {
        let entries = registry.list("").await.unwrap().entries;
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    registry.revoke(one).await.unwrap();
    assert_eq!(keys().await, ["free", "moved"]);
    registry.revoke(other).await.unwrap();
    assert_eq!(keys().await, ["free"]);
}

pub(super) async fn a_lease_that_is_revoked_is_over_at_once(engine: &Tested) {
    let registry = &engine.registry;
    let lease = registry.lease(engine.ttl * 100).await.unwrap();
    let put = registry.put("a", "1".into(), Expect::Absent, Some(lease)).await.unwrap().unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    registry.revoke(lease).await.unwrap();
    assert_eq!(registry.get("a").await.unwrap(), None);
    assert_eq!(deletions(&read(&mut *watch, 1).await), ["a"]);
    assert!(matches!(registry.renew(lease).await, Err(RegistryError::LeaseEnded)));
}

pub(super) async fn a_watch_goes_on_where_another_stopped(engine: &Tested) {
    let registry = &engine.registry;
    let put = async |key: &str, number| {
        registry.put(key, text(number), Expect::Anything, None).await.unwrap().unwrap();
    };
    put("a/before", 0).await;
    let start = registry.list("a/").await.unwrap().revision;
    for number in 0..10 {
        put("a/k", number).await;
        put("b/k", number).await;
    }
    let mut watch = registry.watch("a/", start).await.unwrap();
    let first = read(&mut *watch, 10).await;
    drop(watch);
    // What happens while nobody watches is not lost.
    for number in 10..20 {
        put("a/k", number).await;
    }
    registry.delete("a/k", Expect::Anything).await.unwrap();
    let mut watch = registry.watch("a/", first.last().unwrap().revision()).await.unwrap();
    let mut another = registry.watch("", start).await.unwrap();
    let second = read(&mut *watch, 11).await;
    put("a/k", 20).await;
    let third = read(&mut *watch, 1).await;

    let all = [first, second, third].concat();
    assert!(all.is_sorted_by(|one, next| one.revision() < next.revision()));
    assert_eq!(deletions(&all[20..21]), ["a/k"]);
    let puts: Vec<&Change> = all[..20].iter().chain(&all[21..]).collect();
    let numbers = |changes: &[&Change]| {
        changes.iter().map(|change| String::from_utf8(put_of(change).1.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&puts), (0..=20).map(|number: usize| number.to_string()).collect::<Vec<_>>());
    // Another watch sees what it asks for, no matter what this one has read.
    let wider = read(&mut *another, 32).await;
    assert_eq!(wider.iter().filter(|change| change.key().starts_with("b/")).count(), 10);
    assert_eq!(wider.len(), 32);
}

pub(super) async fn a_watch_keeps_up_with_a_busy_writer(engine: &Tested) {
    const WRITES: usize = 400;
    let registry = engine.registry.clone();
    let start = registry.list("").await.unwrap().revision;
    let mut watch = registry.watch("k", start).await.unwrap();
    let writer = tokio::spawn(async move {
        for number in 0..WRITES {
            registry.put("k", text(number), Expect::Anything, None).await.unwrap();
            registry.put("other", text(number), Expect::Anything, None).await.unwrap();
        }
    });
    let changes = read(&mut *watch, WRITES).await;
    writer.await.unwrap();
    let expected: Vec<Bytes> = (0..WRITES).map(text).collect();
    assert_eq!(changes.iter().map(|change| put_of(change).1.to_vec()).collect::<Vec<_>>(), expected);
    // A watch that is asked and left loses nothing.
    let registry = &engine.registry;
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
    registry.put("k", "last".into(), Expect::Anything, None).await.unwrap();
    assert_eq!(put_of(&read(&mut *watch, 1).await[0]).1, b"last");
}

pub(super) async fn a_watch_of_what_is_forgotten_is_told_so(engine: &Tested) {
    let registry = &engine.registry;
    let start = registry.put("k", "1".into(), Expect::Anything, None).await.unwrap().unwrap();
    for number in 0..10 {
        registry.put("k", text(number), Expect::Anything, None).await.unwrap();
    }
    engine.forget().await;
    let error = end_of(registry.watch("k", start).await).await;
    assert!(matches!(error, RegistryError::Compacted), "{error:?}");
    // Listing and watching again goes on.
    let now = registry.list("k").await.unwrap();
    assert_eq!(now.entries.len(), 1);
    let mut watch = registry.watch("k", now.revision).await.unwrap();
    registry.put("k", "new".into(), Expect::Anything, None).await.unwrap();
    assert_eq!(put_of(&read(&mut *watch, 1).await[0]), ("k", &b"new"[..]));
}

pub(super) async fn long_names_and_values_are_refused(engine: &Tested) {
    let registry = &engine.registry;
    let (key, value) = ("k".repeat(MAX_KEY_BYTES), Bytes::from(vec![7; MAX_VALUE_BYTES]));
    registry.put(&key, value.clone(), Expect::Absent, None).await.unwrap().unwrap();
    assert_eq!(registry.get(&key).await.unwrap().unwrap().value, value);
    let long = registry.put(&[&key, "k"].concat(), Bytes::new(), Expect::Anything, None).await;
    assert!(matches!(long, Err(RegistryError::Full(_))), "{long:?}");
    let value = Bytes::from(vec![7; MAX_VALUE_BYTES + 1]);
    let long = registry.put("k", value, Expect::Anything, None).await;
    assert!(matches!(long, Err(RegistryError::Full(_))), "{long:?}");
    assert_eq!(registry.list("").await.unwrap().entries.len(), 1);
    // The longest lease is one.
    registry.lease(Duration::MAX).await.unwrap();
}

pub(super) async fn many_values_are_listed_as_of_one_moment(engine: &Tested) {
    const VALUES: usize = 2500;
    let start = engine.registry.list("").await.unwrap().revision;
    let mut writers = JoinSet::new();
    for writer in 0..50 {
        let registry = engine.registry.clone();
        writers.spawn(async move {
            for number in (writer..VALUES).step_by(50) {
                let key = format!("k/{number:05}");
                registry.put(&key, vec![b'x'; 5000].into(), Expect::Absent, None).await.unwrap().unwrap();
            }
        });
    }
    writers.join_all().await;
    let registry = &engine.registry;
    registry.put("l", Bytes::new(), Expect::Absent, None).await.unwrap();
    let all = registry.list("k/").await.unwrap();
    assert_eq!(all.entries.len(), VALUES);
    for (number, entry) in all.entries.iter().enumerate() {
        assert_eq!(entry.key, format!("k/{number:05}"));
        assert!(entry.revision <= all.revision);
    }
    // What etcd tells of it at once is more than gRPC takes by default.
    let mut watch = registry.watch("k/", start).await.unwrap();
    assert_eq!(read(&mut *watch, VALUES).await.len(), VALUES);
}
