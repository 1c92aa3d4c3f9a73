//! Whom a question is put to, in virtual time: origins that answer as a test says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tower::service_fn;

use super::race::ABSENT;
use super::rendezvous::score;
use super::{Body, BoxError, Origins, Upstream, ask};
use crate::config::UpstreamConfig;

const SEGMENT: &str = "/live/a/main/1-7.m4s";
const PART: &str = "/live/a/main/1-7.0.m4s";
const PLAYLIST: &str = "/live/a/main/media.m3u8";
const RELOAD: &str = "/live/a/main/media.m3u8?_HLS_msn=7&_HLS_part=2";
const RELAY: &str = "/relay/live/a";
const FIRST_BYTE: Duration = Duration::from_secs(4);
const STALL: Duration = Duration::from_secs(20);

/// How an origin answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Says(u16),
    /// It has no such stream.
    Absent,
    /// After so many milliseconds.
    Late(u64, u16),
    Silent,
    Gone,
    /// Begins a body and sends no more of it.
    Stalls,
}

/// An origin that notes when it was asked.
#[derive(Clone)]
struct Fake {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<Duration>>>,
    /// How often it was asked for anything at all.
    probes: Arc<Mutex<usize>>,
    start: Instant,
}

impl Fake {
    fn new(mood: Mood) -> Self {
        let (asked, probes) = Default::default();
        Self { mood: Arc::new(Mutex::new(mood)), asked, probes, start: Instant::now() }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock()).len()
    }

    fn service(&self) -> Upstream {
        let fake = self.clone();
        Upstream::new(service_fn(move |request: Request<()>| {
            let fake = fake.clone();
            async move {
                let mood = *fake.mood.lock();
                let is_probe = request.uri().path() == "/";
                if is_probe {
                    *fake.probes.lock() += 1;
                } else {
                    fake.asked.lock().push(fake.start.elapsed());
                }
                let status = match mood {
                    Mood::Late(..) if is_probe => 404,
                    Mood::Says(status) => status,
                    Mood::Absent => 404,
                    Mood::Late(ms, status) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        status
                    }
                    Mood::Silent => std::future::pending().await,
                    Mood::Gone => return Err(BoxError::from("connection refused")),
                    Mood::Stalls => {
                        let pieces = futures_util::stream::pending();
                        return Ok(Response::new(http_body_util::StreamBody::new(pieces).boxed_unsync()));
                    }
                };
                let body: Body = Full::new(Bytes::from("x")).map_err(|never| match never {}).boxed_unsync();
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                if mood == Mood::Absent {
                    response.headers_mut().insert(ABSENT, HeaderValue::from_static("stream"));
                }
                Ok(response)
            }
        }))
    }
}

/// Two origins, the one that is asked first for `live/a` before the other.
fn two(first: Mood, second: Mood) -> (Fake, Fake, Origins) {
    let mut names = ["http://a:1", "http://b:1"];
    names.sort_by_key(|name| std::cmp::Reverse(score(name, "live/a")));
    let (one, two) = (Fake::new(first), Fake::new(second));
    let services = vec![(names[0], one.service()), (names[1], two.service())];
    (one, two, Origins::of(services, FIRST_BYTE, STALL))
}

async fn get(origins: &Origins, path: &str) -> u16 {
    let request = Request::get(path).body(()).unwrap();
    ask(&origins.service(), request).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn the_preferred_origin_alone_is_asked_while_it_answers() {
    let (one, two, origins) = two(Mood::Late(199, 200), Mood::Says(200));
    for path in [RELAY, SEGMENT, PLAYLIST, RELOAD, PART] {
        assert_eq!(get(&origins, path).await, 200);
        assert_eq!((one.asked(), two.asked()), (1, 0), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_origin_is_asked_when_the_first_byte_takes_long() {
    for path in [RELAY, SEGMENT, PLAYLIST] {
        let (one, two, origins) = two(Mood::Silent, Mood::Late(50, 200));
        let start = Instant::now();
        assert_eq!(get(&origins, path).await, 200);
        assert_eq!((one.asked(), two.asked()), (1, 1), "{path}");
        assert_eq!(start.elapsed(), Duration::from_millis(250), "{path}");
    }
    // Whoever is first wins, also if it was asked first.
    let (one, two, origins) = two(Mood::Late(300, 200), Mood::Silent);
    let start = Instant::now();
    assert_eq!(get(&origins, SEGMENT).await, 200);
    assert_eq!((one.asked(), two.asked(), start.elapsed().as_millis()), (1, 1, 300));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_media_is_not_hedged() {
    for path in [RELOAD, PART] {
        let (one, two, origins) = two(Mood::Late(6_000, 200), Mood::Says(200));
        assert_eq!(get(&origins, path).await, 200);
        assert_eq!((one.asked(), two.asked()), (1, 0), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_playlist_that_waits_for_the_first_segment_is_no_failure_of_its_origin() {
    let (one, two, origins) = two(Mood::Late(10_000, 200), Mood::Absent);
    let others = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            one.set(Mood::Says(200));
            assert_eq!(get(&origins, SEGMENT).await, 200);
        }
        one.asked()
    };
    assert_eq!(tokio::join!(get(&origins, PLAYLIST), others), (200, 11));
    assert_eq!(two.asked(), 1, "it could have been there");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_answers_nothing_is_found_out_by_those_who_wait_by_right() {
    let (one, two, origins) = two(Mood::Silent, Mood::Says(200));
    let start = Instant::now();
    let name =
        |n| if n % 2 == 0 { format!("{PLAYLIST}?_HLS_msn={n}") } else { format!("/live/a/main/1-{n}.0.m4s") };
    let waiting = (0..100).map(|n| {
        let origins = origins.clone();
        async move { get(&origins, &name(n)).await }
    });
    let statuses = futures_util::future::join_all(waiting).await;
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(start.elapsed(), FIRST_BYTE * 3 / 2);
    assert_eq!((one.asked(), two.asked()), (100, 100));
    assert_eq!(*one.probes.lock(), 1, "one asks for all");
    assert_eq!(get(&origins, SEGMENT).await, 200);
    assert_eq!(one.asked(), 0, "it is passed over");

    // One that answers others is waited for.
    let (one, two, origins) = self::two(Mood::Late(20_000, 200), Mood::Says(200));
    let others = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            one.set(Mood::Says(200));
            assert_eq!(get(&origins, SEGMENT).await, 200);
            one.set(Mood::Late(20_000, 200));
        }
        *one.probes.lock()
    };
    let (status, probes) = tokio::join!(get(&origins, RELOAD), others);
    assert_eq!((status, probes, two.asked()), (200, 0, 0));
    assert!((1..=9).contains(&*one.probes.lock()), "and asked now and then while nobody else does");
}

#[tokio::test(start_paused = true)]
async fn the_next_origin_is_asked_when_one_fails() {
    for mood in [Mood::Gone, Mood::Says(500), Mood::Says(503), Mood::Absent, Mood::Says(401)] {
        for path in [RELAY, SEGMENT, PLAYLIST, PART] {
            let (one, two, origins) = two(mood, Mood::Says(200));
            assert_eq!(get(&origins, path).await, 200, "{path}");
            assert_eq!((one.asked(), two.asked()), (1, 1), "{path}");
        }
    }
    // What is wrong with the question is wrong everywhere.
    let (_one, two, origins) = two(Mood::Says(400), Mood::Says(200));
    assert_eq!((get(&origins, PLAYLIST).await, two.asked()), (400, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_absent_only_if_all_say_so() {
    for (first, second, expected) in [
        (Mood::Absent, Mood::Absent, 404),
        (Mood::Gone, Mood::Absent, 503),
        (Mood::Absent, Mood::Gone, 503),
        (Mood::Absent, Mood::Silent, 503),
        (Mood::Gone, Mood::Gone, 503),
        (Mood::Absent, Mood::Says(502), 502),
    ] {
        let (_one, _two, origins) = two(first, second);
        assert_eq!(get(&origins, RELAY).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_who_can_be_asked_is_not_asked_for_each_time() {
    let (one, two, origins) = two(Mood::Gone, Mood::Absent);
    for path in [RELAY, PLAYLIST, SEGMENT, PART] {
        for _ in 0..100 {
            assert_eq!(get(&origins, path).await, 503, "{path}: it is no absence");
        }
        assert_eq!(two.asked(), 1, "{path}");
    }
    assert_eq!(get(&origins, "/live/a/main/media.m3u8?_HLS_msn=7").await, 503);
    assert_eq!(two.asked(), 1, "another question");
    // It is found soon after it has come to be, wherever that is.
    for other in [&two, &one] {
        tokio::time::advance(Duration::from_millis(250)).await;
        one.set(Mood::Gone);
        two.set(Mood::Absent);
        other.set(Mood::Says(200));
        assert_eq!(get(&origins, RELAY).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_stream_was_found_is_remembered() {
    let (one, two, origins) = two(Mood::Absent, Mood::Says(200));
    assert_eq!(get(&origins, RELAY).await, 200);
    assert_eq!((one.asked(), two.asked()), (1, 1));
    for path in [SEGMENT, PART, PLAYLIST, RELAY] {
        assert_eq!(get(&origins, path).await, 200);
        assert_eq!((one.asked(), two.asked()), (0, 1), "{path}");
    }
    // What it says of its media is true; whether it still has the stream is another question.
    two.set(Mood::Says(404));
    assert_eq!(get(&origins, SEGMENT).await, 404);
    assert_eq!((one.asked(), two.asked()), (0, 1));
    two.set(Mood::Absent);
    one.set(Mood::Says(200));
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    assert_eq!((one.asked(), two.asked()), (1, 1));
    assert_eq!(get(&origins, SEGMENT).await, 200);
    assert_eq!((one.asked(), two.asked()), (1, 0), "it has moved");
    // And forgotten in the end.
    tokio::time::advance(Duration::from_secs(61)).await;
    two.set(Mood::Says(200));
    one.set(Mood::Absent);
    assert_eq!(get(&origins, SEGMENT).await, 200);
    assert_eq!((one.asked(), two.asked()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_there_a_moment_ago_is_not_at_its_end() {
    let (one, _two, origins) = two(Mood::Says(200), Mood::Absent);
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    one.set(Mood::Absent);
    for path in [PLAYLIST, SEGMENT, PART] {
        assert_eq!(get(&origins, path).await, 503, "{path}");
    }
    assert_eq!(get(&origins, RELAY).await, 404, "the edge knows itself how long it asks");
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(get(&origins, PLAYLIST).await, 404);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_left_alone_and_asked_again() {
    let (one, two, origins) = two(Mood::Gone, Mood::Says(200));
    for _ in 0..100 {
        assert_eq!(get(&origins, RELAY).await, 200);
    }
    assert_eq!((one.asked(), two.asked()), (1, 100));
    // Nobody else has it: it is asked again, but not each time.
    two.set(Mood::Absent);
    one.set(Mood::Says(200));
    assert_eq!(get(&origins, RELAY).await, 503);
    assert_eq!(one.asked(), 0);
    tokio::time::advance(Duration::from_millis(250)).await;
    assert_eq!(get(&origins, RELAY).await, 200);
    assert_eq!(one.asked(), 1);
    assert_eq!(get(&origins, RELAY).await, 200);
    assert_eq!(one.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_an_error_that_names_its_origin() {
    let (_one, _two, origins) = two(Mood::Stalls, Mood::Gone);
    let start = Instant::now();
    let request = Request::get(RELAY).body(()).unwrap();
    let response = ask(&origins.service(), request).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err().to_string();
    assert!(error.starts_with("origin http://") && error.ends_with("sent nothing for too long"), "{error}");
    assert_eq!(start.elapsed(), STALL);
}

/// The head of the next question on a connection.
async fn head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_question_is_no_failure_of_the_origin() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let config = UpstreamConfig { origins: vec![origin], ..UpstreamConfig::default() };
    let origins = Origins::new(&config).unwrap();
    let serve = async {
        // What becomes of the questions on each connection: an answer, or a break.
        for fates in ["ab", "a", "b", "a", "b", "b"] {
            let (mut socket, _) = listener.accept().await.unwrap();
            for fate in fates.chars() {
                head(&mut socket).await;
                if fate == 'a' {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd").await.unwrap();
                }
            }
        }
    };
    let ask = async {
        for expected in [200, 200, 200, 503] {
            let request = Request::get(PLAYLIST).body(()).unwrap();
            let response = ask(&origins.service(), request).await.unwrap();
            assert_eq!(response.status(), expected);
            response.into_body().collect().await.unwrap();
        }
    };
    tokio::join!(serve, ask);
}

/// What becomes of an answer whose bytes are these.
async fn fetch(answer: &'static [u8]) -> Result<(u16, Bytes), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = UpstreamConfig {
        origins: vec![format!("http://{}", listener.local_addr().unwrap())],
        key: Some(control_api::Secret::new("s3cret")),
        ..UpstreamConfig::default()
    };
    let origins = Origins::new(&config).unwrap();
    let serve = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = head(&mut socket).await;
        assert!(head.starts_with("GET /live/a/main/1-7.m4s HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer s3cret\r\n"), "{head}");
        // An edge that has had enough of it closes its end first.
        let _ = socket.write_all(answer).await;
    };
    let ask = async {
        let request = Request::get(SEGMENT).body(()).unwrap();
        let response = ask(&origins.service(), request).await.unwrap();
        let status = response.status().as_u16();
        match response.into_body().collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) => Err(error.to_string()),
        }
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn an_origin_that_lies_is_never_passed_on_as_good() {
    let good = fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd").await;
    assert_eq!(good, Ok((200, Bytes::from("abcd"))));
    let good = fetch(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n").await;
    assert_eq!(good, Ok((200, Bytes::from("abcd"))));
    for truncated in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcd"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n",
    ] {
        let error = fetch(truncated).await.unwrap_err();
        assert!(error.contains("broke off"), "{error}");
    }
    for garbage in [
        &b"\x16\x03\x01 what?\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\n\r\nwho knows where it ends",
        b"",
    ] {
        let (status, body) = fetch(garbage).await.unwrap();
        assert_eq!(status, 503, "{}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn an_origin_asked_by_https_must_show_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = |kind: &str| folder.path().join(format!("{name}.{kind}"));
        std::fs::write(path("pem"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    };
    let (shown, other) = (pair("shown"), pair("other"));
    let shows = crate::Certificates::load(&shown.0, &shown.1).unwrap().server(&[b"http/1.1"]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(shows));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            head(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd").await.unwrap();
        }
    };
    let ask = async {
        for (ca, host, status) in
            [(&shown.0, "localhost", 200), (&other.0, "localhost", 503), (&shown.0, "127.0.0.1", 503)]
        {
            let origins = vec![format!("https://{host}:{port}")];
            let config = UpstreamConfig { origins, ca: Some(ca.clone()), ..UpstreamConfig::default() };
            let origins = Origins::new(&config).unwrap();
            assert_eq!(get(&origins, SEGMENT).await, status, "{host}, {}", ca.display());
        }
    };
    tokio::select! {
        () = serve => {}
        () = ask => {}
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_read() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "x".repeat(1 << 20));
    assert_eq!(fetch(Box::leak(long.into_boxed_str()).as_bytes()).await.unwrap().0, 503);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_lost_a_stream_is_not_asked_how_it_goes_on() {
    let mut names = ["http://a:1", "http://b:1"];
    names.sort_by_key(|name| std::cmp::Reverse(score(name, "live/a")));
    // Both think to have it; the second one does.
    let (old, new, origins) = two(Mood::Says(200), Mood::Says(404));
    assert!(origins.point("live/a", names[1]) && !origins.point("live/a", "http://c:1"));
    // Until that has something to show, the other goes on.
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    assert_eq!((old.asked(), new.asked()), (1, 1));
    new.set(Mood::Late(1_000, 200));
    assert_eq!(get(&origins, RELOAD).await, 200);
    assert_eq!((old.asked(), new.asked()), (0, 1));
    // From then on not even when it takes long.
    for path in [PLAYLIST, RELAY] {
        assert_eq!(get(&origins, path).await, 200);
        assert_eq!((old.asked(), new.asked()), (0, 1), "{path}");
    }
    new.set(Mood::Says(503));
    assert_eq!(get(&origins, PLAYLIST).await, 503);
    assert_eq!((old.asked(), new.asked()), (0, 1));
    // Until it says that it has no such stream, or can't be asked: the other may have it again.
    new.set(Mood::Absent);
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    assert_eq!((old.asked(), new.asked()), (1, 2), "once alone, and once like all");
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    assert_eq!((old.asked(), new.asked()), (1, 0));
    origins.point("live/a", names[1]);
    new.set(Mood::Says(200));
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    new.set(Mood::Gone);
    assert_eq!(get(&origins, PLAYLIST).await, 200);
    assert_eq!(old.asked(), 1);
}
