//! Parts that are fetched before they are asked for.

use super::upstream::announcement;
use super::*;

const RELOAD: &str = "_HLS_msn=7&_HLS_part=2";

/// The answer to a blocking reload, which announces a part, and the request for that part.
async fn announced(cache: &Cache, calls: &mut Calls, hint: &str) -> upstream::Call {
    let waiting = asking(cache, &blocking(RELOAD));
    calls.next().await.answer(announcement(hint));
    body(waiting.await.unwrap());
    calls.next().await
}

#[tokio::test(start_paused = true)]
async fn an_announced_part_is_asked_for_once_ahead_of_its_players() {
    let (cache, mut calls) = cache();
    let call = announced(&cache, &mut calls, "1-7.3.m4s").await;
    assert_eq!(call.uri, "/live/a/v0/1-7.3.m4s");
    let part = key("/live/a/v0/1-7.3.m4s");
    let waiting: Vec<_> = (0..10).map(|_| asking(&cache, &part)).collect();
    settle().await;
    call.answer(immutable(b"media"));
    for waiting in waiting {
        assert_eq!(body(waiting.await.unwrap()), "media");
    }
    assert_eq!(calls.count(), 2);
    settle().await;
    assert_eq!(cache.inner.prefetches.count(), 0);
    let metrics = &cache.inner.metrics;
    assert_eq!((metrics.prefetch_used.get(), metrics.prefetch_wasted.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_came_before_its_players_is_theirs() {
    let (cache, mut calls) = cache();
    announced(&cache, &mut calls, "1-7.3.m4s").await.answer(immutable(b"media"));
    settle().await;
    let metrics = Arc::clone(&cache.inner.metrics);
    assert_eq!(metrics.prefetch_used.get(), 0);
    for _ in 0..2 {
        assert_eq!(body(look(&cache, &key("/live/a/v0/1-7.3.m4s")).await), "media");
    }
    assert_eq!(calls.count(), 2);
    drop(cache);
    assert_eq!((metrics.prefetch_used.get(), metrics.prefetch_wasted.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_nobody_wants_is_waste() {
    let (cache, mut calls) = cache();
    announced(&cache, &mut calls, "1-7.3.m4s").await.answer(problem(404, "no-store"));
    settle().await;
    assert_eq!(cache.inner.metrics.prefetch_wasted.get(), 1);
    assert_eq!(cache.inner.prefetches.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_overtaken_is_dropped_unless_somebody_waits_for_it() {
    let (cache, mut calls) = cache();
    let mut held = Vec::new();
    for hint in ["1-7.3.m4s", "1-7.4.m4s"] {
        held.push(announced(&cache, &mut calls, hint).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let waiting = asking(&cache, &key("/live/a/v0/1-7.4.m4s"));
    settle().await;
    for hint in ["2-8.0.m4s", "2-8.1.m4s"] {
        held.push(announced(&cache, &mut calls, hint).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    settle().await;
    let cancelled: Vec<bool> = held.iter().map(upstream::Call::is_cancelled).collect();
    assert_eq!(cancelled, [true, false, false, false]);
    held.remove(1).answer(immutable(b"media"));
    assert_eq!(body(waiting.await.unwrap()), "media");
    assert_eq!(cache.inner.prefetches.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_what_a_low_latency_player_waits_for_begins_it() {
    let (cache, mut calls) = cache();
    for key in [key(MEDIA), blocking("_HLS_msn=7")] {
        let waiting = asking(&cache, &key);
        calls.next().await.answer(announcement("1-7.2.m4s"));
        body(waiting.await.unwrap());
    }
    let waiting = asking(&cache, &blocking(RELOAD));
    calls.next().await.answer(announcement("http://elsewhere/1-7.3.m4s"));
    body(waiting.await.unwrap());
    settle().await;
    assert_eq!(calls.count(), 3);
}
