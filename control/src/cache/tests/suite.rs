//! What every cache has to do.

use futures_util::future::join_all;

use super::*;

/// A time that a test can wait for, and a busy machine does not reach by itself.
const SHORT: Duration = Duration::from_millis(1000);

async fn members(cache: &dyn Cache, group: &str) -> Vec<(String, Bytes)> {
    let mut members = cache.members(group).await.unwrap();
    members.sort();
    members
}

fn member(name: &str, value: &'static str) -> (String, Bytes) {
    (name.to_owned(), value.into())
}

pub(super) async fn values_are_kept_until_their_time_is_over(cache: &dyn Cache) {
    assert_eq!(cache.get("k").await.unwrap(), None);
    let value = Bytes::from_static(b"\0\xff\r\n");
    cache.set("k", value.clone(), LONG).await.unwrap();
    cache.set("short", "1".into(), SHORT).await.unwrap();
    cache.set("longer", "1".into(), SHORT).await.unwrap();
    cache.set("longer", "2".into(), LONG).await.unwrap();
    cache.set("shorter", "1".into(), LONG).await.unwrap();
    cache.set("shorter", "2".into(), SHORT).await.unwrap();
    assert_eq!(cache.get("short").await.unwrap(), Some("1".into()));
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(cache.get("short").await.unwrap(), None);
    assert_eq!(cache.get("shorter").await.unwrap(), None);
    assert_eq!(cache.get("longer").await.unwrap(), Some("2".into()));
    assert_eq!(cache.get("k").await.unwrap(), Some(value));
    cache.set("k", Bytes::new(), LONG).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(Bytes::new()));
    cache.remove("k").await.unwrap();
    cache.remove("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    // No time at all, and all of it.
    cache.set("none", "1".into(), Duration::ZERO).await.unwrap();
    cache.set("all", "1".into(), Duration::MAX).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cache.get("none").await.unwrap(), None);
    assert_eq!(cache.get("all").await.unwrap(), Some("1".into()));
}

pub(super) async fn groups_are_kept_while_some_of_them_is_set(cache: &dyn Cache) {
    assert_eq!(members(cache, "load").await, []);
    cache.set_members("load", vec![], LONG).await.unwrap();
    cache.remove_members("load", &["a".to_owned()]).await.unwrap();
    assert_eq!(members(cache, "load").await, []);
    cache.set_members("load", vec![member("a", "1"), member("b", "2")], LONG).await.unwrap();
    cache.set_members("load", vec![member("b", "3"), member("c", "4")], LONG).await.unwrap();
    assert_eq!(members(cache, "load").await, [member("a", "1"), member("b", "3"), member("c", "4")]);
    cache.remove_members("load", &["a".to_owned(), "x".to_owned()]).await.unwrap();
    cache.remove_members("load", &[]).await.unwrap();
    assert_eq!(members(cache, "load").await, [member("b", "3"), member("c", "4")]);
    assert_eq!(members(cache, "other").await, []);
    cache.remove_members("load", &["b".to_owned(), "c".to_owned()]).await.unwrap();
    assert_eq!(members(cache, "load").await, []);

    // The time of all is that of the last who was set.
    cache.set_members("load", vec![member("a", "1")], SHORT).await.unwrap();
    tokio::time::sleep(SHORT / 2).await;
    cache.set_members("load", vec![member("b", "2")], SHORT * 3).await.unwrap();
    tokio::time::sleep(SHORT).await;
    assert_eq!(members(cache, "load").await, [member("a", "1"), member("b", "2")]);
    // Setting nobody keeps nobody.
    cache.set_members("load", vec![], LONG).await.unwrap();
    tokio::time::sleep(SHORT * 3).await;
    assert_eq!(members(cache, "load").await, []);
    cache.set_members("load", vec![member("c", "1")], LONG).await.unwrap();
    assert_eq!(members(cache, "load").await, [member("c", "1")]);
    cache.remove("load").await.unwrap();
    assert_eq!(members(cache, "load").await, []);
}

pub(super) async fn counters_count_and_begin_anew_after_their_time(cache: &dyn Cache) {
    assert_eq!(cache.add("n", 2, LONG).await.unwrap(), 2);
    assert_eq!(cache.add("n", -5, SHORT).await.unwrap(), -3);
    // Its time is that of the first.
    assert_eq!(cache.add("short", 1, SHORT).await.unwrap(), 1);
    assert_eq!(cache.add("short", 1, LONG).await.unwrap(), 2);
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(cache.add("short", 1, LONG).await.unwrap(), 1);
    assert_eq!(cache.add("n", 0, LONG).await.unwrap(), -3);
    // Many at once: none is lost, and no two see the same.
    let adding = (0..100).map(|_| cache.add("many", 1, LONG));
    let mut counts = join_all(adding).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    // Numbers are exact, and have an end.
    assert_eq!(cache.add("large", i64::MAX - 1, LONG).await.unwrap(), i64::MAX - 1);
    assert_eq!(cache.add("large", 1, LONG).await.unwrap(), i64::MAX);
    let over = cache.add("large", 1, LONG).await;
    assert!(matches!(over, Err(CacheError::Full(_))), "{over:?}");
    assert_eq!(cache.add("large", -1, LONG).await.unwrap(), i64::MAX - 1);
}

pub(super) async fn kinds_of_one_name_do_not_meet_and_go_together(cache: &dyn Cache) {
    cache.set("k", "1".into(), LONG).await.unwrap();
    cache.set_members("k", vec![member("a", "2")], LONG).await.unwrap();
    assert_eq!(cache.add("k", 3, LONG).await.unwrap(), 3);
    assert_eq!(cache.get("k").await.unwrap(), Some("1".into()));
    assert_eq!(members(cache, "k").await, [member("a", "2")]);
    cache.remove("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(members(cache, "k").await, []);
    assert_eq!(cache.add("k", 1, LONG).await.unwrap(), 1);
}

pub(super) async fn long_names_and_values_are_refused(cache: &dyn Cache) {
    let full =
        |result: Result<(), CacheError>| assert!(matches!(result, Err(CacheError::Full(_))), "{result:?}");
    let (key, value) = ("k".repeat(MAX_KEY_BYTES), Bytes::from(vec![7; MAX_VALUE_BYTES]));
    cache.set(&key, value.clone(), LONG).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), Some(value.clone()));
    cache.set_members(&key, vec![(key.clone(), value.clone())], LONG).await.unwrap();
    assert_eq!(members(cache, &key).await, [(key.clone(), value)]);
    let long = [&key, "k"].concat();
    let large = Bytes::from(vec![7; MAX_VALUE_BYTES + 1]);
    full(cache.set(&long, "".into(), LONG).await);
    full(cache.set("k", large.clone(), LONG).await);
    full(cache.set_members(&long, vec![member("a", "1")], LONG).await);
    full(cache.set_members("k", vec![member("a", "1"), (long.clone(), "".into())], LONG).await);
    full(cache.set_members("k", vec![member("a", "1"), ("b".to_owned(), large)], LONG).await);
    full(cache.add(&long, 1, LONG).await.map(|_| ()));
    // Of what is refused nothing is done.
    assert_eq!(members(cache, "k").await, []);
}

pub(super) async fn many_names_are_kept_apart(cache: &dyn Cache) {
    // Over all slots of a cluster, with what Redis takes for the part of a name that picks one.
    let names: Vec<String> =
        (0..200).flat_map(|n| [format!("k{n}"), format!("{{k{n}"), format!("}}{{}}{n}")]).collect();
    for (number, name) in names.iter().enumerate() {
        cache.set(name, number.to_string().into(), LONG).await.unwrap();
        cache.set_members(name, vec![member(name, "1")], LONG).await.unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(cache.get(name).await.unwrap(), Some(number.to_string().into()), "{name}");
        assert_eq!(members(cache, name).await, [member(name, "1")]);
    }
    for name in names.iter().step_by(2) {
        cache.remove(name).await.unwrap();
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(cache.get(name).await.unwrap().is_some(), number % 2 == 1, "{name}");
    }
}
