//! What only a cache in memory can get wrong: its bounds.

use super::*;

async fn kept(cache: &Memory, names: impl Iterator<Item = String>) -> usize {
    let mut kept = 0;
    for name in names {
        kept += usize::from(cache.get(&name).await.unwrap().is_some());
    }
    kept
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_drops_what_is_over_and_then_what_would_be_next() {
    // One entry for each of 64 shards.
    let cache = Memory::with_limits(Limits { entries: 1, ..Limits::default() });
    for number in 0..1000 {
        cache.set(&format!("k{number}"), "1".into(), LONG).await.unwrap();
    }
    let names = || (0..1000).map(|number| format!("k{number}"));
    let held = kept(&cache, names()).await;
    assert!((32..=64).contains(&held), "{held}");

    let cache = Memory::with_limits(Limits { entries: 2, ..Limits::default() });
    for number in 0..1000 {
        cache.set(&format!("stays{number}"), "1".into(), LONG * 2).await.unwrap();
    }
    let names = || (0..1000).map(|number| format!("stays{number}"));
    let before = kept(&cache, names()).await;
    // What ends sooner gives way to the next, of each shard one of its two.
    for number in 0..1000 {
        cache.set(&format!("k{number}"), "1".into(), LONG).await.unwrap();
    }
    assert!(kept(&cache, names()).await >= before / 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_makes_room_by_itself() {
    let cache = Memory::new();
    for round in 0..50 {
        for number in 0..2000 {
            cache.set(&format!("{round}/{number}"), "1".into(), Duration::from_secs(1)).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert!(cache.len() < 4000, "{}", cache.len());
}

#[tokio::test(start_paused = true)]
async fn members_of_a_group_are_bounded() {
    let cache = Memory::with_limits(Limits { members: 3, ..Limits::default() });
    let named =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect::<Vec<_>>();
    cache.set_members("g", named(&["a", "b", "c"]), LONG).await.unwrap();
    cache.set_members("g", named(&["b", "c"]), LONG).await.unwrap();
    for (group, names) in [("g", &["d"][..]), ("h", &["a", "b", "c", "d"])] {
        let full = cache.set_members(group, named(names), LONG).await;
        assert!(matches!(full, Err(CacheError::Full(_))), "{full:?}");
    }
    assert_eq!(cache.members("g").await.unwrap().len(), 3);
    cache.remove_members("g", &["a".to_owned()]).await.unwrap();
    cache.set_members("g", named(&["d"]), LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_threads_no_count_is_lost() {
    let cache = Arc::new(Memory::new());
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let cache = cache.clone();
        adding.spawn(async move {
            for _ in 0..1000 {
                cache.add("n", 1, LONG).await.unwrap();
            }
        });
    }
    adding.join_all().await;
    assert_eq!(cache.add("n", 0, LONG).await.unwrap(), 16_000);
}
