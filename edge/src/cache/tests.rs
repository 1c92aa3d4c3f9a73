//! The cache against an upstream that does as a test says, in virtual time.

mod ahead;
mod outage;
mod strays;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::*;
use upstream::{Calls, announcement, file, flowing, immutable, playlist, problem, scripted};

const MEDIA: &str = "/live/a/v0/media.m3u8";
const PART: &str = "/live/a/v0/1-7.2.m4s";
const SEGMENT: &str = "/live/a/v0/1-7.m4s";
const ABSENT_TTL: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(15);

fn key(path: &str) -> Key {
    Key::new(path, "").unwrap()
}

fn blocking(query: &str) -> Key {
    Key::new(MEDIA, query).unwrap()
}

fn cache() -> (Cache, Calls) {
    cache_of(&CacheConfig::default())
}

fn cache_of(config: &CacheConfig) -> (Cache, Calls) {
    let (upstream, calls) = scripted();
    (cache_on(config, upstream), calls)
}

fn cache_on(config: &CacheConfig, upstream: Upstream) -> Cache {
    let metrics = Arc::new(Metrics::new());
    let hls = HlsConfig { max_object_bytes: 1 << 20, ..HlsConfig::default() };
    Cache::new(&hls, config, (ABSENT_TTL, GRACE), upstream, metrics)
}

/// Asks in a task of its own.
fn asking(cache: &Cache, key: &Key) -> tokio::task::JoinHandle<Result<Answer, Failure>> {
    let (cache, key) = (cache.clone(), key.clone());
    tokio::spawn(async move { look(&cache, &key).await })
}

/// As a request does.
async fn look(cache: &Cache, key: &Key) -> Result<Answer, Failure> {
    match cache.find(key, Instant::now()) {
        Some(object) => Ok(Answer::Whole(object)),
        None => cache.get(key, false).await,
    }
}

fn body(answer: Result<Answer, Failure>) -> Bytes {
    match answer {
        Ok(Answer::Whole(object) | Answer::Stale(object)) => object.body.clone(),
        Ok(Answer::Absent(_)) => panic!("absent"),
        Ok(Answer::Flowing(..)) => panic!("not whole"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Lets all tasks run until they wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_the_same_are_one_request() {
    let (cache, mut calls) = cache();
    let waiting: Vec<_> = (0..1000).map(|_| asking(&cache, &key(PART))).collect();
    let call = calls.next().await;
    settle().await;
    call.answer(immutable(b"media"));
    for waiting in waiting {
        assert_eq!(body(waiting.await.unwrap()), "media");
    }
    assert_eq!(body(look(&cache, &key(PART)).await), "media");
    assert_eq!(calls.count(), 1);
    assert_eq!(cache.inner.metrics.coalesced.get(), 999);
    assert_eq!(cache.inner.flights.len(), 0, "nothing is kept in flight");
}

#[tokio::test(start_paused = true)]
async fn a_flight_goes_on_without_its_first_passenger_and_ends_with_its_last() {
    let (cache, mut calls) = cache();
    let first = asking(&cache, &key(PART));
    let call = calls.next().await;
    let second = asking(&cache, &key(PART));
    settle().await;
    first.abort();
    settle().await;
    call.answer(immutable(b"media"));
    assert_eq!(body(second.await.unwrap()), "media");

    let key = blocking("_HLS_msn=7&_HLS_part=2");
    let viewers = [asking(&cache, &key), asking(&cache, &key)];
    let mut call = calls.next().await;
    settle().await;
    let [first, last] = viewers;
    first.abort();
    settle().await;
    assert!(!call.is_cancelled(), "one still waits");
    last.abort();
    call.cancelled().await;
    assert_eq!(cache.inner.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_a_writer_fails_before_the_first_byte_somebody_else_writes() {
    let (cache, mut calls) = cache();
    let waiting: Vec<_> = (0..10).map(|_| asking(&cache, &key(PART))).collect();
    calls.next().await.fail();
    let second = calls.next().await;
    settle().await;
    assert_eq!(calls.count(), 2, "one at a time");
    second.answer(immutable(b"media"));
    for waiting in waiting {
        assert_eq!(body(waiting.await.unwrap()), "media");
    }

    let waiting: Vec<_> = (0..10).map(|_| asking(&cache, &key(SEGMENT))).collect();
    calls.next().await.fail();
    calls.next().await.fail();
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)));
    }
    assert_eq!(calls.count(), 4, "not for ever");
    assert_eq!(cache.inner.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_panics_has_failed() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(PART));
    calls.next().await.panic();
    calls.next().await.answer(immutable(b"media"));
    assert_eq!(body(waiting.await.unwrap()), "media");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stalls_is_given_up_and_not_asked_again() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(PART));
    let mut call = calls.next().await;
    call.cancelled().await;
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Timeout)));
    assert_eq!(calls.count(), 1);

    let waiting = asking(&cache, &key(PART));
    let (response, _never_ends) = flowing(Some(100));
    calls.next().await.answer(response);
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Timeout)), "after the head, too");
}

#[tokio::test(start_paused = true)]
async fn a_large_file_is_handed_out_as_it_comes_and_kept_byte_for_byte() {
    let (cache, mut calls) = cache();
    let whole: Bytes = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let first = asking(&cache, &key(SEGMENT));
    let (response, source) = flowing(Some(200_000));
    calls.next().await.answer(response);
    source.send(whole.slice(..1000)).await;
    let Ok(Answer::Flowing(head, mut early)) = first.await.unwrap() else { panic!("it does not flow") };
    assert_eq!(head.headers["content-length"], "200000");
    assert_eq!(early.next().await, Some(Ok(whole.slice(..1000))));
    source.send(whole.slice(1000..70_000)).await;
    let Ok(Answer::Flowing(_, mut late)) = look(&cache, &key(SEGMENT)).await else {
        panic!("it does not flow")
    };
    assert_eq!(late.next().await, Some(Ok(whole.slice(..1000))), "from its beginning");
    // Whoever wants a range waits for all of it.
    let ranged = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&key(SEGMENT), true).await }
    });
    settle().await;
    source.send(whole.slice(70_000..)).await;
    source.end();
    assert_eq!(body(ranged.await.unwrap()), whole);
    for (mut reader, from) in [(early, 1000), (late, 1000)] {
        let mut rest = Vec::new();
        while let Some(piece) = reader.next().await {
            rest.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(rest, whole.slice(from..));
    }
    assert_eq!(body(look(&cache, &key(SEGMENT)).await), whole);
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_is_cut_for_those_who_read_and_an_error_for_those_who_wait() {
    let (cache, mut calls) = cache();
    let reading = asking(&cache, &key(SEGMENT));
    let (response, source) = flowing(Some(200_000));
    calls.next().await.answer(response);
    source.send(Bytes::from_static(b"some")).await;
    let Ok(Answer::Flowing(_, mut reader)) = reading.await.unwrap() else { panic!("it does not flow") };
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&key(SEGMENT), true).await }
    });
    settle().await;
    source.fail().await;
    assert_eq!(reader.next().await, Some(Ok(Bytes::from_static(b"some"))));
    assert_eq!(reader.next().await, Some(Err(Failure::Upstream)));
    assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)));
    assert_eq!(calls.count(), 1, "never from the middle");

    // A small one was not begun: somebody else tries, and nobody notices.
    let waiting = asking(&cache, &key(PART));
    let (response, source) = flowing(Some(100));
    calls.next().await.answer(response);
    source.send(Bytes::from_static(b"some")).await;
    source.fail().await;
    calls.next().await.answer(immutable(b"media"));
    assert_eq!(body(waiting.await.unwrap()), "media");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_lies_about_length_is_not_believed() {
    for (declared, sent) in [(4, "12345"), (6, "12345")] {
        let (cache, mut calls) = cache();
        let waiting = asking(&cache, &key(PART));
        for _ in 0..2 {
            let (response, source) = flowing(Some(declared));
            calls.next().await.answer(response);
            source.send(sent.into()).await;
            source.end();
        }
        assert!(matches!(waiting.await.unwrap(), Err(Failure::Upstream)), "{declared}");
        assert!(cache.find(&key(PART), Instant::now()).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_at_its_head_or_where_it_is_too_much() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(SEGMENT));
    let (response, _source) = flowing(Some((1 << 20) + 1));
    calls.next().await.answer(response);
    assert!(matches!(waiting.await.unwrap(), Err(Failure::TooLarge)));

    let waiting = asking(&cache, &blocking("_HLS_msn=1"));
    let (response, source) = flowing(None);
    calls.next().await.answer(response);
    source.send(vec![b'#'; 1 << 20].into()).await;
    source.send("#".into()).await;
    assert!(matches!(waiting.await.unwrap(), Err(Failure::TooLarge)));
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_playlist_is_kept_as_long_as_it_says_and_each_question_by_itself() {
    let (cache, mut calls) = cache();
    let plain = key(MEDIA);
    let waiting = asking(&cache, &plain);
    calls.next().await.answer(playlist("1-7.2.m4s", 1));
    let text = body(waiting.await.unwrap());
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(body(look(&cache, &plain).await), text);
    let waiting = asking(&cache, &blocking("_HLS_msn=7&_HLS_part=2"));
    calls.next().await.answer(playlist("1-7.3.m4s", 12));
    assert_ne!(body(waiting.await.unwrap()), text);
    tokio::time::advance(Duration::from_millis(1)).await;
    let waiting = asking(&cache, &plain);
    calls.next().await.answer(playlist("1-7.3.m4s", 1));
    body(waiting.await.unwrap());
    tokio::time::advance(Duration::from_millis(11_998)).await;
    let held = cache.find(&blocking("_HLS_msn=7&_HLS_part=2"), Instant::now()).unwrap();
    assert_eq!(held.age_s(Instant::now()), 11);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(cache.find(&blocking("_HLS_msn=7&_HLS_part=2"), Instant::now()).is_none());
    assert_eq!(calls.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept_and_absence_for_a_second() {
    let (cache, mut calls) = cache();
    for status in [503, 500, 502, 400] {
        let waiting = asking(&cache, &key(MEDIA));
        calls.next().await.answer(problem(status, "public, max-age=60"));
        let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
        assert_eq!(object.head.status.as_u16(), status);
    }
    assert_eq!(calls.count(), 4);
    let waiting = asking(&cache, &key(PART));
    calls.next().await.answer(problem(404, "public, max-age=8"));
    waiting.await.unwrap().unwrap();
    tokio::time::advance(Duration::from_millis(999)).await;
    assert!(matches!(look(&cache, &key(PART)).await, Ok(Answer::Absent(8))));
    assert_eq!(calls.count(), 5);
    tokio::time::advance(Duration::from_millis(1)).await;
    let waiting = asking(&cache, &key(PART));
    // Announced at any moment: nobody may be told no by memory.
    calls.next().await.answer(problem(404, "no-store"));
    waiting.await.unwrap().unwrap();
    let waiting = asking(&cache, &key(PART));
    calls.next().await.answer(immutable(b"media"));
    assert_eq!(body(waiting.await.unwrap()), "media");
}

#[tokio::test(start_paused = true)]
async fn media_is_kept_for_ever_if_it_may_be() {
    let (cache, mut calls) = cache();
    for (path, response, kept) in [
        (PART, immutable(b"media"), true),
        (SEGMENT, file("media", "public, max-age=60"), false),
        ("/live/a/v0/1-8.m4s", file("media", "no-store"), false),
    ] {
        let waiting = asking(&cache, &key(path));
        calls.next().await.answer(response);
        body(waiting.await.unwrap());
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(cache.find(&key(path), Instant::now()).is_some(), kept, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_has_a_bound_in_bytes() {
    let config = CacheConfig { memory_bytes: 16 << 20, ..CacheConfig::default() };
    let (cache, mut calls) = cache_of(&config);
    for n in 0..200 {
        let key = key(&format!("/live/a/v0/1-{n}.m4s"));
        let waiting = asking(&cache, &key);
        calls.next().await.answer(immutable(&[0; 200_000]));
        match waiting.await.unwrap() {
            Ok(Answer::Whole(_)) => {}
            Ok(Answer::Flowing(_, mut reader)) => while reader.next().await.is_some() {},
            _ => panic!("no answer"),
        }
    }
    let metrics = &cache.inner.metrics;
    assert!(metrics.cache_memory.get() <= 14 << 20, "{}", metrics.cache_memory.get());
    assert!(metrics.cache_evictions_objects.get() > 100);
    let newest = cache.find(&key("/live/a/v0/1-199.m4s"), Instant::now());
    assert!(newest.is_some(), "the newest is there");

    for n in 0..40 {
        let key = Key::new(&format!("/live/{n}/v0/media.m3u8"), "").unwrap();
        let waiting = asking(&cache, &key);
        calls.next().await.answer(file("#".repeat(200_000), "max-age=600"));
        body(waiting.await.unwrap());
    }
    assert!(cache.inner.playlists.kept().0 <= 2 << 20);
    assert!(metrics.cache_evictions_playlists.get() > 0);
}

#[tokio::test]
async fn what_is_on_disk_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        CacheConfig { memory_bytes: 16 << 20, disk_bytes: 128 << 20, folder: Some(folder.path().to_owned()) };
    let (cache, mut calls) = cache_of(&config);
    for n in 0..200 {
        let waiting = asking(&cache, &key(&format!("/live/a/v0/1-{n}.2.m4s")));
        let body = vec![u8::try_from(n).unwrap(); 200_000];
        calls.next().await.answer(immutable(&body));
        match waiting.await.unwrap() {
            Ok(Answer::Whole(_)) => {}
            Ok(Answer::Flowing(_, mut reader)) => while reader.next().await.is_some() {},
            _ => panic!("no answer"),
        }
        cache.inner.store.settled().await;
    }
    let first = key("/live/a/v0/1-0.2.m4s");
    assert!(cache.find(&first, Instant::now()).is_none(), "it left memory");
    let together = [asking(&cache, &first), asking(&cache, &first)];
    for waiting in together {
        assert_eq!(body(waiting.await.unwrap()), vec![0; 200_000]);
    }
    assert!(cache.find(&first, Instant::now()).is_some(), "it is in memory again");
    assert_eq!(calls.count(), 200);
    assert_eq!(cache.inner.metrics.cache_disk_hits(Kind::Part), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_already_is_no_question_however_it_is_asked() {
    let (cache, mut calls) = cache();
    let first = asking(&cache, &blocking("_HLS_msn=7&_HLS_part=2"));
    calls.next().await.answer(announcement("1-7.3.m4s"));
    let known = body(first.await.unwrap());
    for asked in
        ["_HLS_msn=1&_HLS_part=4000000000", "_HLS_msn=6", "_HLS_msn=7&_HLS_part=0", "_HLS_msn=7&_HLS_part=2"]
    {
        assert_eq!(body(look(&cache, &blocking(asked)).await), known, "{asked}");
    }
    settle().await;
    assert_eq!(calls.count(), 2, "the part that is fetched ahead, and nothing else");
    for asked in ["_HLS_msn=7", "_HLS_msn=7&_HLS_part=3", "_HLS_msn=6&_HLS_skip=YES"] {
        let waiting = asking(&cache, &blocking(asked));
        let call = calls.next().await;
        waiting.abort();
        drop(call);
    }
}

#[tokio::test(start_paused = true)]
async fn playlists_that_nobody_asks_for_any_more_are_forgotten() {
    let (cache, mut calls) = cache();
    for n in 0..100 {
        let waiting = asking(&cache, &Key::new(&format!("/live/{n}/v0/media.m3u8"), "").unwrap());
        calls.next().await.answer(playlist("1-7.2.m4s", 1));
        body(waiting.await.unwrap());
    }
    assert_eq!(cache.inner.playlists.kept().1, 100);
    tokio::time::advance(GRACE + Duration::from_secs(2)).await;
    // One in each of the shards, or nearly.
    for n in 1000..1200 {
        let waiting = asking(&cache, &Key::new(&format!("/live/{n}/v0/media.m3u8"), "").unwrap());
        calls.next().await.answer(playlist("1-7.2.m4s", 1));
        body(waiting.await.unwrap());
    }
    assert!(cache.inner.playlists.kept().1 <= 200 + 10, "{:?}", cache.inner.playlists.kept());
}

#[tokio::test(start_paused = true)]
async fn answers_of_an_older_publish_are_dropped() {
    let (cache, mut calls) = cache();
    let old = blocking("_HLS_msn=7&_HLS_part=2");
    let waiting = asking(&cache, &old);
    calls.next().await.answer(playlist("1-7.3.m4s", 12));
    body(waiting.await.unwrap());
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(playlist("2-1.0.m4s", 1));
    body(waiting.await.unwrap());
    assert!(cache.find(&old, Instant::now()).is_none());
    // And do not come back when they are late.
    let waiting = asking(&cache, &old);
    calls.next().await.answer(playlist("1-7.3.m4s", 12));
    body(waiting.await.unwrap());
    assert!(cache.find(&old, Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn text_is_compressed_once_and_media_never() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(MEDIA));
    calls.next().await.answer(playlist("1-7.2.m4s", 1));
    body(waiting.await.unwrap());
    let object = cache.find(&key(MEDIA), Instant::now()).unwrap();
    let compressed = object.gzip().unwrap();
    assert_eq!(compressed.as_ptr(), object.gzip().unwrap().as_ptr());
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*compressed), &mut plain).unwrap();
    assert_eq!(plain, object.body);
    let waiting = asking(&cache, &key(PART));
    calls.next().await.answer(immutable(b"media"));
    body(waiting.await.unwrap());
    assert_eq!(cache.find(&key(PART), Instant::now()).unwrap().gzip(), None);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_the_connection_is_not_passed_on() {
    let (cache, mut calls) = cache();
    let waiting = asking(&cache, &key(PART));
    let mut response = immutable(b"media");
    for (name, value) in [
        ("set-cookie", "a=b"),
        ("connection", "close"),
        ("date", "x"),
        ("age", "7"),
        ("alt-svc", "x"),
        ("etag", "\"e\""),
    ] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    calls.next().await.answer(response);
    let Ok(Answer::Whole(object)) = waiting.await.unwrap() else { panic!("no answer") };
    let mut names: Vec<_> = object.head.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-ranges", "cache-control", "content-length", "etag"]);
    assert_eq!(object.age_s(Instant::now()), 7);
    assert_eq!(object.head.status, StatusCode::OK);
}
