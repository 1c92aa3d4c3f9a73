//! How the packager and its answers behave: a hub stream in, responses out, on a clock that only moves when all wait.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use media_core::codec;
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use media_core::hub::{Epoch, Limits, Producer, Registry, Revoked, StreamKey, Takeover};
use tokio::time::{Duration, Instant};

use super::*;

/// 320 × 180 at 30 frames a second.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x0d, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0x9f,
    0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0x99, 0x60,
    0x01, 0x00, 0x04, 0x68, 0xef, 0x8f, 0xcb, 0xfd, 0xf8, 0xf8, 0x00,
];

struct House {
    registry: Registry,
    packagers: Packagers,
    metrics: prometheus::Registry,
    key: StreamKey,
    next_epoch: u64,
}

impl House {
    fn new() -> Self {
        Self::with(&HlsConfig::default())
    }

    fn with(config: &HlsConfig) -> Self {
        let metrics = prometheus::Registry::new();
        let hls = HlsMetrics::new().unwrap();
        hls.register(&metrics).unwrap();
        let packagers = Packagers::counting_from(config, hls, || 1).unwrap();
        let starting = packagers.clone();
        let registry = Registry::with_on_start(Limits::default(), crate::origin::unix_ms, move |consumer| {
            starting.start(consumer);
        });
        let key = StreamKey::parse("live", "a", &[]).unwrap();
        Self { registry, packagers, metrics, key, next_epoch: 1 }
    }

    fn publish(&mut self) -> Publisher {
        let epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        let mut producer = self.registry.publish(&self.key, epoch, Takeover::Refuse).unwrap();
        producer.set_tracks(vec![video(), audio()]).unwrap();
        Publisher { producer, next_picture: 0, next_sound: 0 }
    }

    async fn get(&self, path: &str) -> Response<Body> {
        self.get_with(path, &HeaderMap::new()).await
    }

    async fn get_with(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        self.packagers.handle(&self.key, path, query, headers).await
    }

    /// Starts a request and lets it get as far as it can.
    async fn begin(&self, path: &str) -> tokio::task::JoinHandle<Response<Body>> {
        let (packagers, key, path) = (self.packagers.clone(), self.key.clone(), path.to_owned());
        let task = tokio::spawn(async move {
            let (path, query) = path.split_once('?').unwrap_or((&path, ""));
            packagers.handle(&key, path, Some(query), &HeaderMap::new()).await
        });
        settle().await;
        task
    }

    fn counter(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric().iter().map(|m| m.get_counter().get_value()).sum()
    }
}

/// Lets all tasks run until they wait; the clock stands still meanwhile.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

struct Publisher {
    producer: Producer,
    next_picture: i64,
    next_sound: i64,
}

impl Publisher {
    /// Pictures (a keyframe every 2 s) and sound until `ms`.
    async fn play_until(&mut self, ms: i64) {
        while self.next_picture * 100 / 3 < ms {
            let at = (self.next_picture * 100 + 1) / 3;
            while self.next_sound * 64 / 3 < at {
                let sound = (self.next_sound * 64 + 1) / 3;
                self.producer.push(frame(TrackId::AUDIO, sound, true)).unwrap();
                self.next_sound += 1;
            }
            self.producer.push(frame(TrackId::VIDEO, at, self.next_picture % 60 == 0)).unwrap();
            self.next_picture += 1;
            if self.next_picture % 30 == 0 {
                // The hub keeps two GOPs: no packager is a minute behind in real time.
                settle().await;
            }
        }
        settle().await;
    }
}

fn frame(track: TrackId, ms: i64, keyframe: bool) -> Frame {
    let dts = Timestamp::from_millis(ms, Timescale::HZ_90K);
    Frame { track, dts, cts: 0, keyframe, data: Bytes::from_static(&[7; 200]) }
}

fn video() -> Track {
    codec::track(TrackId::VIDEO, Codec::H264, Timescale::HZ_90K, Bytes::from_static(AVCC)).unwrap()
}

fn audio() -> Track {
    let config = Bytes::from_static(&[0x11, 0x90]);
    codec::track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, config).unwrap()
}

async fn live(ms: i64) -> (House, Publisher) {
    let mut house = House::new();
    let mut publisher = house.publish();
    publisher.play_until(ms).await;
    (house, publisher)
}

async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn text(response: Response<Body>) -> String {
    assert_eq!(response.status(), StatusCode::OK);
    String::from_utf8(body(response).await.to_vec()).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

fn hint(playlist: &str) -> String {
    let line = playlist.lines().find_map(|l| l.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"")).unwrap();
    format!("main/{}", line.trim_end_matches('"'))
}

#[tokio::test(start_paused = true)]
async fn a_blocking_reload_is_released_by_its_part() {
    let (house, mut publisher) = live(4_500).await;
    let before = text(house.get("main/media.m3u8").await).await;
    assert!(
        before.contains("1-3.1.m4s\"\n") && !before.contains("#EXT-X-PART:DURATION=0.20000,URI=\"1-3.2.m4s")
    );
    let start = Instant::now();
    let request = house.begin("main/media.m3u8?_HLS_msn=3&_HLS_part=2").await;
    publisher.play_until(4_590).await;
    assert!(!request.is_finished(), "part 2 lacks its last frame");
    publisher.play_until(4_640).await;
    let after = text(request.await.unwrap()).await;
    assert!(after.contains("#EXT-X-PART:DURATION=0.20000,URI=\"1-3.2.m4s\"\n"), "{after}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_reload_without_part_is_released_by_its_segment() {
    let (house, mut publisher) = live(4_500).await;
    let request = house.begin("main/media.m3u8?_HLS_msn=3").await;
    publisher.play_until(5_980).await;
    assert!(!request.is_finished());
    publisher.play_until(6_050).await;
    assert!(text(request.await.unwrap()).await.contains("\n1-3.m4s\n"));
}

#[tokio::test(start_paused = true)]
async fn blocked_longer_than_three_target_durations_is_503_never_an_unchanged_200() {
    let (house, publisher) = live(4_500).await;
    for path in ["main/media.m3u8?_HLS_msn=3", "main/media.m3u8?_HLS_msn=3&_HLS_part=5", "main/1-3.2.m4s"] {
        let start = Instant::now();
        let response = house.get(path).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(start.elapsed().as_millis() / 10, 600, "{path}");
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
    assert_eq!(house.counter("weir_origin_hls_timeouts_total"), 3.0);
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn bad_queries_are_400_at_once_whatever_the_stream_does() {
    let (house, _publisher) = live(4_500).await;
    let start = Instant::now();
    for query in [
        "_HLS_part=0",
        "_HLS_msn=x",
        "_HLS_msn=",
        "_HLS_msn=1&_HLS_part=-1",
        "_HLS_msn=1&_HLS_msn=1",
        "_HLS_skip=NO",
    ] {
        for rendition in ["main", "nothing"] {
            let response = house.get(&format!("{rendition}/media.m3u8?{query}")).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(header(&response, "cache-control"), "public, max-age=8", "4 × TARGETDURATION");
        }
    }
    // Too far ahead now, but not for ever: no cache may keep it.
    for query in ["_HLS_msn=5", "_HLS_msn=3&_HLS_part=17", "_HLS_msn=4&_HLS_part=15"] {
        let response = house.get(&format!("main/media.m3u8?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_hinted_part_is_sent_when_it_is_whole_and_no_byte_before() {
    let (house, mut publisher) = live(4_500).await;
    let playlist = text(house.get("main/media.m3u8").await).await;
    let hint = hint(&playlist);
    let request = house.begin(&hint).await;
    publisher.play_until(4_590).await;
    assert!(!request.is_finished(), "not even a head");
    publisher.play_until(4_640).await;
    let response = request.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header(&response, "content-type"), "video/mp4");
    let length: usize = header(&response, "content-length").parse().unwrap();
    let part = body(response).await;
    assert_eq!(part.len(), length);
    assert!(text(house.get("main/media.m3u8").await).await.contains(&hint["main/".len()..]));
    assert_eq!(body(house.get(&hint).await).await, part, "the same for ever");
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_and_unhinted_is_404_at_once() {
    let (house, _publisher) = live(4_500).await;
    let start = Instant::now();
    for path in [
        "main/1-3.3.m4s",
        "main/1-4.0.m4s",
        "main/1-3.m4s",
        "main/2-3.2.m4s",
        "main/1-1.10.m4s",
        "main/init-1-2.mp4",
        "other/media.m3u8",
        "other/1-1.m4s",
        "main/01-1.m4s",
        "main/../index.m3u8",
        "main/media.m3u8/",
        "main",
        "",
        "index.m3u8.m3u8",
    ] {
        assert_eq!(house.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    // A cache that kept the refusal of a part that is not there yet would deny it to everybody.
    assert_eq!(header(&house.get("main/1-4.0.m4s").await, "cache-control"), "no-store");
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_not_there_are_404() {
    let house = House::new();
    for (path, age) in [
        ("index.m3u8", "public, max-age=2"),
        ("main/media.m3u8", "public, max-age=2"),
        ("main/media.m3u8?_HLS_msn=1", "public, max-age=8"),
        ("main/1-1.m4s", "public, max-age=2"),
    ] {
        let response = house.get(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&response, "cache-control"), age, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn playlists_and_media_say_how_long_caches_may_keep_them() {
    let (house, _publisher) = live(6_500).await;
    for (path, age, media_type) in [
        ("index.m3u8", "public, max-age=1", "application/vnd.apple.mpegurl"),
        ("main/media.m3u8", "public, max-age=1", "application/vnd.apple.mpegurl"),
        ("main/media.m3u8?_HLS_skip=YES", "public, max-age=1", "application/vnd.apple.mpegurl"),
        ("main/media.m3u8?_HLS_msn=2", "public, max-age=12", "application/vnd.apple.mpegurl"),
        ("main/init-1-1.mp4", "public, max-age=31536000, immutable", "video/mp4"),
        ("main/1-1.m4s", "public, max-age=31536000, immutable", "video/mp4"),
        ("main/1-1.0.m4s", "public, max-age=31536000, immutable", "video/mp4"),
    ] {
        let response = house.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&response, "cache-control"), age, "{path}");
        assert_eq!(header(&response, "content-type"), media_type, "{path}");
        let length: usize = header(&response, "content-length").parse().unwrap();
        assert_eq!(body(response).await.len(), length, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn playlists_are_compressed_if_and_only_if_that_is_accepted() {
    let (house, _publisher) = live(6_500).await;
    for path in ["index.m3u8", "main/media.m3u8", "main/media.m3u8?_HLS_msn=2&_HLS_skip=YES"] {
        let plain = text(house.get(path).await).await;
        for (accepted, compressed) in [
            ("gzip", true),
            ("GZIP, br", true),
            ("br;q=1, gzip;q=0.1", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("deflate, br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", HeaderValue::from_static(accepted));
            let response = house.get_with(path, &headers).await;
            assert_eq!(header(&response, "vary"), "accept-encoding");
            assert_eq!(header(&response, "content-encoding") == "gzip", compressed, "{accepted}");
            let sent = body(response).await;
            let mut read = String::new();
            if compressed {
                GzDecoder::new(&*sent).read_to_string(&mut read).unwrap();
            } else {
                read = String::from_utf8(sent.to_vec()).unwrap();
            }
            assert_eq!(read, plain, "{accepted}");
        }
        assert_eq!(header(&house.get(path).await, "vary"), "accept-encoding");
    }
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    let media = house.get_with("main/1-1.m4s", &headers).await;
    assert_eq!(header(&media, "content-encoding"), "", "media are compressed already");
}

#[tokio::test(start_paused = true)]
async fn no_cookies_no_redirects_no_urls_of_one_viewer() {
    let (house, _publisher) = live(6_500).await;
    let mut viewer = HeaderMap::new();
    viewer.insert("cookie", HeaderValue::from_static("id=1"));
    viewer.insert("user-agent", HeaderValue::from_static("one"));
    for path in ["index.m3u8", "main/media.m3u8", "main/1-1.m4s", "main/nothing.m4s"] {
        let one = house.get_with(&format!("{path}?grant=abc&viewer=1"), &viewer).await;
        let other = house.get(path).await;
        assert!(!one.status().is_redirection());
        assert!(!one.headers().contains_key("set-cookie") && !one.headers().contains_key("location"));
        assert_eq!(one.headers(), other.headers());
        let (one, other) = (body(one).await, body(other).await);
        assert_eq!(one, other, "{path}");
        assert!(!String::from_utf8_lossy(&one).contains("abc"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_playlist_is_rendered_and_compressed_once_however_many_ask() {
    let (house, mut publisher) = live(4_500).await;
    assert_eq!(house.counter("weir_origin_hls_playlists_rendered_total"), 0.0, "nobody watches yet");
    let mut requests = Vec::new();
    for n in 0..1_000 {
        let (packagers, key) = (house.packagers.clone(), house.key.clone());
        requests.push(tokio::spawn(async move {
            let mut headers = HeaderMap::new();
            if n % 2 == 0 {
                headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
            }
            packagers.handle(&key, "main/media.m3u8", Some("_HLS_msn=3&_HLS_part=2"), &headers).await
        }));
    }
    settle().await;
    publisher.play_until(4_640).await;
    let mut bodies = Vec::new();
    for request in requests {
        bodies.push(body(request.await.unwrap()).await);
    }
    assert_eq!(house.counter("weir_origin_hls_playlists_rendered_total"), 1.0);
    assert_eq!(house.counter("weir_origin_hls_playlists_compressed_total"), 1.0);
    assert!(bodies.iter().step_by(2).all(|b| b.as_ptr() == bodies[0].as_ptr()), "the same bytes for all");
    assert!(bodies.iter().skip(1).step_by(2).all(|b| b.as_ptr() == bodies[1].as_ptr()));
}

#[tokio::test(start_paused = true)]
async fn a_player_that_comes_before_the_first_segment_waits_for_it() {
    let (house, mut publisher) = live(500).await;
    let multivariant = house.begin("index.m3u8").await;
    let media = house.begin("main/media.m3u8").await;
    let nowhere = house.begin("other/media.m3u8").await;
    publisher.play_until(1_900).await;
    assert!(!multivariant.is_finished() && !media.is_finished());
    assert!(!house.packagers.state(&house.key).ready);
    publisher.play_until(2_100).await;
    assert!(text(multivariant.await.unwrap()).await.contains("RESOLUTION=320x180"));
    assert!(text(media.await.unwrap()).await.contains("\n1-1.m4s\n"));
    assert_eq!(nowhere.await.unwrap().status(), StatusCode::NOT_FOUND);
    assert!(house.packagers.state(&house.key).ready);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_keyframes_says_so() {
    let mut house = House::new();
    let mut publisher = house.publish();
    let waiting = house.begin("index.m3u8").await;
    for ms in (0..10_100).step_by(33) {
        publisher.producer.push(frame(TrackId::VIDEO, ms, false)).unwrap();
    }
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = String::from_utf8(body(response).await.to_vec()).unwrap();
    assert!(said.contains("no keyframe in the first 10 s"), "{said}");
    let state = house.packagers.state(&house.key);
    assert!(!state.ready && state.problem.unwrap().starts_with("no keyframe in the first 10 s"));
    let start = Instant::now();
    assert_eq!(house.get("main/media.m3u8").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(start.elapsed(), Duration::ZERO, "and nobody is kept waiting");
}

#[tokio::test(start_paused = true)]
async fn the_end_releases_who_waits_and_is_served_for_the_window() {
    let (house, publisher) = live(9_000).await;
    let waiting = house.begin("main/media.m3u8?_HLS_msn=6").await;
    let hinted = hint(&text(house.get("main/media.m3u8").await).await);
    let hinted = house.begin(&hinted).await;
    assert!(house.registry.end(&house.key, Revoked::Kicked));
    drop(publisher);
    let playlist = text(waiting.await.unwrap()).await;
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
    assert_eq!(hinted.await.unwrap().status(), StatusCode::OK, "the last part came early");
    tokio::time::sleep(Duration::from_millis(33_900)).await;
    for uri in playlist.lines().filter(|l| !l.starts_with('#')) {
        assert_eq!(house.get(&format!("main/{uri}")).await.status(), StatusCode::OK, "{uri}");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(house.get("index.m3u8").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(house.get("main/1-1.m4s").await.status(), StatusCode::NOT_FOUND);
    assert!(house.packagers.0.streams.read().by_key.is_empty(), "nothing is left behind");
    assert!(house.packagers.0.streams.read().ended.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_another_origin_has_shows_players_no_end() {
    let (house, publisher) = live(9_000).await;
    let waiting = house.begin("main/media.m3u8?_HLS_msn=6").await;
    let listed = text(house.get("main/media.m3u8").await).await;
    let hinted = house.begin(&hint(&listed)).await;
    assert!(house.registry.end(&house.key, Revoked::TakenOver));
    drop(publisher);
    // Edges ask the other one.
    let reload = waiting.await.unwrap();
    assert_eq!((reload.status(), header(&reload, "x-weir-absent")), (StatusCode::NOT_FOUND, "stream"));
    assert_eq!(hinted.await.unwrap().status(), StatusCode::NOT_FOUND);
    for path in ["index.m3u8", "main/media.m3u8"] {
        let answer = house.get(path).await;
        assert_eq!((answer.status(), header(&answer, "x-weir-absent")), (StatusCode::NOT_FOUND, "stream"));
    }
    // What players were told of before is there for as long as they may want it.
    for uri in listed.lines().filter(|l| !l.starts_with('#')) {
        assert_eq!(house.get(&format!("main/{uri}")).await.status(), StatusCode::OK, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_returns_goes_on_with_the_same_playlist() {
    let (mut house, publisher) = live(4_500).await;
    let waiting = house.begin("main/media.m3u8?_HLS_msn=4&_HLS_part=1").await;
    drop(publisher);
    let mut publisher = house.publish();
    publisher.play_until(2_500).await;
    let playlist = text(waiting.await.unwrap()).await;
    let (before, after) = playlist.split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(
        before.contains("\n1-3.m4s\n")
            && after.starts_with("#EXT-X-MAP:URI=\"init-2-2.mp4\"\n#EXT-X-PROGRAM")
    );
    assert!(after.contains("URI=\"2-4.1.m4s\""));
    assert!(text(house.get("main/media.m3u8").await).await.contains("\n2-4.m4s\n"));
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_of_the_same_name_leaves_the_old_ones_objects() {
    let (mut house, publisher) = live(4_500).await;
    house.registry.end(&house.key, Revoked::Kicked);
    drop(publisher);
    settle().await;
    let mut publisher = house.publish();
    publisher.play_until(2_500).await;
    let playlist = text(house.get("main/media.m3u8").await).await;
    assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:1\n") && playlist.contains("\n2-1.m4s\n"));
    for path in ["main/1-1.m4s", "main/init-1-1.mp4", "main/2-1.m4s", "main/init-2-1.mp4"] {
        assert_eq!(house.get(path).await.status(), StatusCode::OK, "{path}");
    }
}

#[test]
fn a_stream_that_begins_later_counts_on() {
    let packagers = Packagers::new(&HlsConfig::default(), HlsMetrics::new().unwrap()).unwrap();
    let before = unix_s();
    let first = (packagers.0.first_msn)();
    assert!((before..=unix_s()).contains(&first), "{first}");
    assert!(first < 1 << 31, "players that count in 32 bits");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_leaves_room_for_other_tasks() {
    let mut house = House::new();
    let mut publisher = house.publish();
    // Three seconds at once.
    for n in 0..90 {
        publisher.producer.push(frame(TrackId::VIDEO, (n * 100 + 1) / 3, n % 60 == 0)).unwrap();
        for sound in n * 3..n * 3 + 3 {
            publisher.producer.push(frame(TrackId::AUDIO, sound * 11, true)).unwrap();
        }
    }
    // The packager runs once.
    tokio::task::yield_now().await;
    assert!(!house.packagers.state(&house.key).ready, "it went on until nothing was left");
    settle().await;
    assert!(house.packagers.state(&house.key).ready);
}

#[tokio::test(start_paused = true)]
async fn the_media_of_streams_that_ended_are_bounded() {
    let house = House::new();
    let mut lives = Vec::new();
    for n in 0..=MAX_ENDED {
        let key = StreamKey::parse("live", &format!("s{n}"), &[]).unwrap();
        let mut producer = house.registry.publish(&key, Epoch(1), Takeover::Refuse).unwrap();
        producer.set_tracks(vec![video()]).unwrap();
        (0..60).for_each(|n| assert!(producer.push(frame(TrackId::VIDEO, n * 33, n == 0)).unwrap()));
        lives.push(Arc::downgrade(&house.packagers.0.streams.read().by_key[&key][0]));
        house.registry.end(&key, Revoked::Kicked);
        drop(producer);
        settle().await;
    }
    let kept: Vec<bool> = lives.iter().map(|live| live.upgrade().is_some()).collect();
    assert!(!kept[0] && kept[1..].iter().all(|kept| *kept));
}

#[tokio::test(start_paused = true)]
async fn a_publish_without_frames_leaves_nothing_and_hides_nothing() {
    let (mut house, publisher) = live(4_500).await;
    house.registry.end(&house.key, Revoked::Kicked);
    drop(publisher);
    settle().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..10 {
        let publisher = house.publish();
        house.registry.end(&house.key, Revoked::Ended);
        drop(publisher);
        settle().await;
    }
    assert_eq!(tasks(), before);
    assert!(text(house.get("main/media.m3u8").await).await.ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(house.get("main/1-1.m4s").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn what_left_the_window_is_404_and_an_old_msn_gets_the_playlist() {
    let (house, _publisher) = live(90_000).await;
    let start = Instant::now();
    assert_eq!(house.get("main/1-1.m4s").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(house.get("main/1-1.0.m4s").await.status(), StatusCode::NOT_FOUND);
    let playlist = text(house.get("main/media.m3u8?_HLS_msn=1&_HLS_part=2").await).await;
    assert_eq!(playlist, text(house.get("main/media.m3u8").await).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn segments_that_leave_before_their_time_are_counted() {
    let mut house = House::with(&HlsConfig { max_bytes: 256 << 10, ..HlsConfig::default() });
    let mut publisher = house.publish();
    publisher.play_until(30_000).await;
    assert!(house.counter("weir_origin_hls_hurried_segments_total") > 0.0);
}

#[test]
fn a_configuration_that_makes_illegal_playlists_is_refused() {
    let config = HlsConfig { part_ms: 5, ..HlsConfig::default() };
    let error = Packagers::new(&config, HlsMetrics::new().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "origin.hls: part_ms is 5; it must be between 50 and 1000");
}
