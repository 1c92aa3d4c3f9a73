//! An upstream that is lost, and one that comes back.

use super::*;
use crate::upstream::Origins;

const NEXT: &str = "_HLS_msn=7&_HLS_part=3";

/// A cache that handed out a playlist, fresh for a second, and then lost its upstream.
async fn watched(text: Response<Body>) -> (Cache, Calls) {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(text);
    body(waiting.await.unwrap());
    tokio::time::advance(Duration::from_secs(1)).await;
    (cache, calls)
}

async fn lost(calls: &mut Calls) {
    calls.next().await.fail();
    calls.next().await.fail();
}

#[tokio::test(start_paused = true)]
async fn the_last_playlist_is_handed_out_while_the_upstream_is_lost_and_not_for_ever() {
    let (cache, mut calls) = watched(playlist("1-7.2.m4s", 1)).await;
    for _ in 0..2 {
        let waiting = asking(&cache, &key(MEDIA));
        lost(&mut calls).await;
        let Ok(Answer::Stale(object)) = waiting.await.unwrap() else { panic!("not stale") };
        assert!(object.body.ends_with(b"1-7.2.m4s\"\n"));
    }
    assert_eq!(cache.inner.metrics.cache_stale.get(), 2);
    // Nor does an origin that has just begun and knows of nothing, or an edge that can't reach it, end it.
    for status in [404, 502, 504] {
        let waiting = asking(&cache, &key(MEDIA));
        calls.next().await.answer(problem(status, "no-store"));
        assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))), "{status}");
    }
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(problem(404, "max-age=2"));
    assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))));
    assert!(matches!(look(&cache, &key(MEDIA)).await, Ok(Answer::Stale(_))), "absence is remembered, too");

    tokio::time::advance(GRACE).await;
    let waiting = asking(&cache, &key(MEDIA));
    lost(&mut calls).await;
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)));
}

#[tokio::test(start_paused = true)]
async fn a_blocking_reload_gets_the_last_playlist_after_a_pause() {
    let (cache, mut calls) = watched(playlist("1-7.2.m4s", 1)).await;
    let waiting = asking(&cache, &blocking(NEXT));
    lost(&mut calls).await;
    let before = Instant::now();
    assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))));
    assert!(before.elapsed() >= STALE_PAUSE, "else it would be asked for again at once, for ever");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_for_its_publisher_or_is_over_is_not_lost() {
    let (cache, mut calls) = watched(playlist("1-7.2.m4s", 1)).await;
    let waiting = asking(&cache, &blocking(NEXT));
    calls.next().await.answer(problem(503, "no-store"));
    let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
    assert_eq!(object.head.status, StatusCode::SERVICE_UNAVAILABLE);

    let over = file("#EXTM3U\n1-7.m4s\n#EXT-X-ENDLIST\n", "max-age=1");
    let (cache, mut calls) = watched(over).await;
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(problem(404, "max-age=2"));
    let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
    assert_eq!(object.head.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn media_is_never_from_before() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(SEGMENT));
    calls.next().await.answer(file("media", "max-age=1"));
    body(waiting.await.unwrap());
    let waiting = asking(&cache, &key(SEGMENT));
    lost(&mut calls).await;
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)));
}

#[tokio::test(start_paused = true)]
async fn without_older_segments_is_answered_so_only_to_who_asked_so() {
    let (cache, mut calls) = cache();
    let skipping = "_HLS_msn=7&_HLS_part=2&_HLS_skip=YES";
    let waiting = asking(&cache, &blocking(skipping));
    calls.next().await.answer(playlist("1-7.3.m4s", 12));
    body(waiting.await.unwrap());
    let waiting = asking(&cache, &key(MEDIA));
    lost(&mut calls).await;
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)));
    let waiting = asking(&cache, &blocking("_HLS_msn=7&_HLS_part=3&_HLS_skip=YES"));
    lost(&mut calls).await;
    assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))));
}

#[tokio::test(start_paused = true)]
async fn players_of_a_stream_that_began_anew_are_told_where_it_is() {
    let (cache, mut calls) = watched(playlist("1-50.2.m4s", 1)).await;
    // What players were led to is too far ahead for the origin that was restarted.
    let waiting = asking(&cache, &blocking("_HLS_msn=50&_HLS_part=2"));
    let call = calls.next().await;
    assert!(call.uri.ends_with("?_HLS_msn=50&_HLS_part=2"));
    call.answer(problem(400, "no-store"));
    let call = calls.next().await;
    assert_eq!(call.uri, MEDIA);
    call.answer(playlist("2-1.3.m4s", 1));
    assert!(body(waiting.await.unwrap()).ends_with(b"2-1.3.m4s\"\n"));
    // So are those who ask later.
    let waiting = asking(&cache, &blocking("_HLS_msn=51"));
    calls.next().await.answer(problem(400, "no-store"));
    assert!(body(waiting.await.unwrap()).ends_with(b"2-1.3.m4s\"\n"));
    // Who asks for more than anybody was led to is told that.
    let waiting = asking(&cache, &blocking("_HLS_msn=52"));
    calls.next().await.answer(problem(400, "no-store"));
    let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
    assert_eq!(object.head.status, StatusCode::BAD_REQUEST);
    assert_eq!(calls.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_edge_alone_whose_only_origin_is_lost_hands_out_the_last_playlist() {
    let (origin, mut calls) = scripted();
    let far = Origins::of(vec![("a", origin)], GRACE, GRACE).service();
    let cache = cache_on(&CacheConfig::default(), far);
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(playlist("1-7.2.m4s", 1));
    body(waiting.await.unwrap());
    tokio::time::advance(Duration::from_secs(1)).await;
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.fail();
    assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))));
    tokio::time::advance(GRACE).await;
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.fail();
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Unreachable)));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_was_started_anew_and_has_no_encoder_yet_is_as_good_as_lost() {
    let (origin, mut calls) = scripted();
    let far = Origins::of(vec![("a", origin)], GRACE, GRACE).service();
    let cache = cache_on(&CacheConfig::default(), far);
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(playlist("1-7.2.m4s", 1));
    body(waiting.await.unwrap());
    tokio::time::advance(Duration::from_secs(1)).await;
    let knows_nothing = || {
        let mut response = problem(404, "max-age=8");
        response.headers_mut().insert("x-weir-absent", "stream".parse().unwrap());
        response
    };
    for _ in 0..2 {
        let waiting = asking(&cache, &key(MEDIA));
        calls.next().await.answer(knows_nothing());
        assert!(matches!(waiting.await.unwrap(), Ok(Answer::Stale(_))));
        for _ in 0..100 {
            assert!(matches!(look(&cache, &key(MEDIA)).await, Ok(Answer::Stale(_))), "and it is not asked");
        }
        tokio::time::advance(Duration::from_millis(250)).await;
    }
    let waiting = asking(&cache, &key(SEGMENT));
    calls.next().await.answer(knows_nothing());
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Unreachable)), "no absence");
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(playlist("2-1000.0.m4s", 1));
    assert!(body(waiting.await.unwrap()).ends_with(b"2-1000.0.m4s\"\n"));
    assert_eq!(calls.count(), 5);

    // Fresh for a second.
    tokio::time::advance(GRACE + Duration::from_secs(1)).await;
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(knows_nothing());
    let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
    assert_eq!(object.head.status, StatusCode::NOT_FOUND, "it did not return");
}

#[tokio::test(start_paused = true)]
async fn what_one_origin_does_not_have_while_the_other_is_lost_is_asked_for_once_in_a_while() {
    let (origin, mut calls) = scripted();
    let lost = Upstream::new(tower::service_fn(async |_| Err("connection refused".into())));
    let cache = cache_on(
        &CacheConfig::default(),
        Origins::of(vec![("a", lost), ("b", origin)], GRACE, GRACE).service(),
    );
    for _ in 0..2 {
        let waiting = asking(&cache, &key(SEGMENT));
        calls.next().await.answer(problem(404, "max-age=2"));
        assert!(matches!(waiting.await.unwrap(), Err(Failure::Unreachable)), "and no absence");
        for _ in 0..100 {
            assert!(matches!(look(&cache, &key(SEGMENT)).await, Err(Failure::Unreachable)));
        }
        tokio::time::advance(Duration::from_millis(250)).await;
    }
    let waiting = asking(&cache, &key(SEGMENT));
    calls.next().await.answer(immutable(b"media"));
    assert_eq!(body(waiting.await.unwrap()), "media");
    assert_eq!(calls.count(), 3);
}
