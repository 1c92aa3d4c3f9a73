//! Questions that nobody was led to ask, of which there may be some.

use super::upstream::{Call, announcement};
use super::*;

/// Each waits in a task of its own until it is dropped.
type Asking = tokio::task::JoinSet<Result<Answer, Failure>>;

fn ask(asking: &mut Asking, cache: &Cache, key: &Key, address: &str) {
    let (cache, key, address) = (cache.clone(), key.clone(), address.parse().unwrap());
    asking.spawn(async move { cache.get_for(&key, false, Whom { via: None, address: Some(address) }).await });
}

/// A reload that is made up, of a stream.
fn made_up(stream: &str, n: usize) -> Key {
    Key::new(&format!("/live/{stream}/v0/media.m3u8"), &format!("_HLS_msn=8&_HLS_part={n}")).unwrap()
}

fn refused(cache: &Cache, reason: &str) -> u64 {
    let registry = prometheus::Registry::new();
    cache.inner.metrics.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let name = format!("weir_edge_hls_waits_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// The next questions. They are not answered as long as they are kept.
async fn take(calls: &mut Calls, count: usize) -> Vec<Call> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(calls.next().await);
    }
    settle().await;
    taken
}

/// A playlist that says that part 7.3 comes next.
async fn led(cache: &Cache, calls: &mut Calls) {
    let waiting = asking(cache, &key(MEDIA));
    calls.next().await.answer(announcement("1-7.3.m4s"));
    body(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_address_has_its_share_of_what_nobody_announced_and_others_wait_all_the_same() {
    let (cache, mut calls) = cache();
    led(&cache, &mut calls).await;
    let mut flood = Asking::new();
    for n in 0..600 {
        ask(&mut flood, &cache, &made_up("a", n), "2001:db8::1");
    }
    let _held = take(&mut calls, 512).await;
    let mut failed = 0;
    while let Some(Ok(answer)) = flood.try_join_next() {
        assert!(matches!(answer, Err(Failure::Crowded)));
        failed += 1;
    }
    assert_eq!((failed, refused(&cache, "address")), (600 - 512, 600 - 512));
    assert_eq!((cache.inner.flights.len(), cache.inner.strays.counts()), (512, (512, 1, 1)));
    let mut honest = Asking::new();
    // From the same /64: what the playlist announces, its segment, and what others wait for.
    let announced = ["_HLS_msn=7&_HLS_part=3", "_HLS_msn=7&_HLS_part=3&_HLS_skip=YES", "_HLS_msn=7"];
    announced.iter().for_each(|query| ask(&mut honest, &cache, &blocking(query), "2001:db8::2"));
    ask(&mut honest, &cache, &made_up("a", 0), "2001:db8::2");
    ask(&mut honest, &cache, &key("/live/b/index.m3u8"), "2001:db8::2");
    ask(&mut honest, &cache, &key(PART), "2001:db8::2");
    // From elsewhere: anything.
    ask(&mut honest, &cache, &made_up("a", 9_999), "192.0.2.7");
    let _held = take(&mut calls, 6).await;
    assert!(honest.try_join_next().is_none(), "all wait");
    assert_eq!(cache.inner.strays.counts().0, 513);
    drop((flood, honest));
    settle().await;
    assert_eq!((cache.inner.strays.counts(), cache.inner.flights.len()), ((0, 0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn reloads_behind_an_old_playlist_are_as_many_as_others_that_nobody_announced() {
    let (cache, mut calls) = cache();
    led(&cache, &mut calls).await;
    // The stream begins anew, and its origin has no segment yet.
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut flood = Asking::new();
    for n in 0..600 {
        ask(&mut flood, &cache, &blocking(&format!("_HLS_msn={}&_HLS_part={n}", n % 7)), "192.0.2.7");
    }
    let _held = take(&mut calls, 512).await;
    assert_eq!((refused(&cache, "address"), cache.inner.strays.counts().0), (600 - 512, 512));
    let mut honest = Asking::new();
    let announced = ["_HLS_msn=7&_HLS_part=3", "_HLS_msn=7&_HLS_part=2", "_HLS_msn=7"];
    announced.iter().for_each(|query| ask(&mut honest, &cache, &blocking(query), "192.0.2.7"));
    ask(&mut honest, &cache, &key(MEDIA), "192.0.2.7");
    // Who is behind, elsewhere.
    for query in ["_HLS_msn=6", "_HLS_msn=6&_HLS_part=9&_HLS_skip=YES"] {
        ask(&mut honest, &cache, &blocking(query), "192.0.2.8");
    }
    for call in take(&mut calls, 6).await {
        call.answer(announcement("2-1000.1.m4s"));
    }
    while let Some(answer) = honest.join_next().await {
        assert!(body(answer.unwrap()).ends_with(b"2-1000.1.m4s\"\n"));
    }
    settle().await;
    assert_eq!(cache.inner.strays.counts().0, 512);
}

#[tokio::test(start_paused = true)]
async fn a_stream_and_all_together_have_theirs_however_many_addresses_ask() {
    let (cache, mut calls) = cache();
    led(&cache, &mut calls).await;
    let mut flood = Asking::new();
    let address = |n: usize| format!("10.0.{}.{}", n / 256, n % 256);
    for n in 0..1_100 {
        ask(&mut flood, &cache, &made_up("a", n), &address(n));
    }
    let mut held = take(&mut calls, 1_024).await;
    assert!(matches!(flood.join_next().await, Some(Ok(Err(Failure::Busy)))));
    assert_eq!(refused(&cache, "stream"), 1_100 - 1_024);
    // As many as the rest, and some more.
    for batch in 0..7 {
        for n in batch * 1_100..(batch + 1) * 1_100 {
            ask(&mut flood, &cache, &made_up(&format!("s{batch}"), n), &address(n));
        }
        held.extend(take(&mut calls, 1_024).await);
    }
    ask(&mut flood, &cache, &made_up("t", 0), "192.0.2.7");
    settle().await;
    assert_eq!((refused(&cache, "unannounced"), refused(&cache, "stream")), (1, 8 * (1_100 - 1_024)));
    // Players of streams that run have the other half.
    let waiting = asking(&cache, &blocking("_HLS_msn=7&_HLS_part=3"));
    calls.next().await.answer(announcement("1-7.4.m4s"));
    body(waiting.await.unwrap());
    assert_eq!(refused(&cache, "flights"), 0);
}
