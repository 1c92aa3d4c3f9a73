//! The access log: each request once, with what reached the wire, however it ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_api::grant::{Algorithm, Audience, Claims, Grants, Key, KeySet, Play, Signer};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Player, Server};
use super::limits::http2_frame;
use super::origin::Origin;
use super::secure::Secure;
use super::studio::{Studio, opening};
use super::{guarded, h3, rtmp};
use crate::{Access, Config};

const MEDIA: &str = "/live/a/v0/1-1.m4s";

/// Longer than what sockets hold.
const LARGE: usize = 32 << 20;

struct Logged {
    server: Server,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Logged {
    async fn start(origin: &Origin, access: Access, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.jsonl");
        let mut config = logging(&path);
        change(&mut config);
        Self { server: Server::guarded(origin, config, access, None).await, path, _dir: dir }
    }

    async fn open(origin: &Origin) -> Self {
        Self::start(origin, super::client::open(), |_| ()).await
    }

    /// The lines, once there are that many, and there are no more.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let lines = self.at_least(count).await;
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }

    async fn at_least(&self, count: usize) -> Vec<Value> {
        at_least(&self.server, &self.path, count).await
    }
}

fn logging(path: &Path) -> Config {
    let mut config = Config::default();
    config.access_log.path = path.to_str().unwrap().to_owned();
    config
}

async fn at_least(server: &Server, path: &Path, count: usize) -> Vec<Value> {
    loop {
        server.edge.shared.guard.flush_log().await;
        let text = std::fs::read_to_string(path).unwrap();
        if text.lines().count() >= count {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        tokio::task::yield_now().await;
    }
}

fn large() -> Response<&'static str> {
    Response::new(Box::leak("x".repeat(LARGE).into_boxed_str()))
}

#[tokio::test]
async fn responses_of_a_connection_are_counted_to_the_byte() {
    let origin = Origin::default();
    origin.file(MEDIA, Response::new("a part"));
    origin.file(MEDIA, Response::new("a part"));
    let logged = Logged::open(&origin).await;
    let mut socket = logged.server.connect().await;
    let head = "Host: edge\r\nUser-Agent: test\r\nReferer: https://a.example/watch?token=s3cret\r\n";
    let mut sizes = Vec::new();
    for (request, close) in [
        (format!("GET {MEDIA}?token=s3cret HTTP/1.1\r\n{head}\r\n"), false),
        (format!("HEAD {MEDIA} HTTP/1.1\r\n{head}\r\n"), false),
        (format!("GET /~s3cret/live/b.flv HTTP/1.1\r\n{head}\r\n"), false),
        (format!("GET /nothing HTTP/1.1\r\n{head}Connection: close\r\n\r\n"), true),
    ] {
        socket.write_all(request.as_bytes()).await.unwrap();
        // Each is logged when it has left, though the connection stays.
        let lines = logged.lines(sizes.len() + 1).await;
        let expected = usize::try_from(lines.last().unwrap()["bytes"].as_u64().unwrap()).unwrap();
        let mut bytes = vec![0; expected];
        socket.read_exact(&mut bytes).await.unwrap();
        assert!(bytes.starts_with(b"HTTP/1.1 "));
        sizes.push(expected);
        if close {
            assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "no byte more");
        }
    }
    let lines = logged.lines(4).await;
    let text = serde_json::to_string(&lines).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), [200, 200, 404, 404]);
    assert_eq!(of("kind"), ["media", "media", "flv", "unknown"]);
    assert_eq!(of("method"), ["GET", "HEAD", "GET", "GET"]);
    assert_eq!(of("path"), [MEDIA, MEDIA, "/live/b.flv", "/nothing"]);
    assert_eq!(of("stream"), [Value::from("live/a"), "live/a".into(), "live/b".into(), Value::Null]);
    assert!(of("end").iter().all(|end| end == "finished"));
    assert_eq!(lines[0]["session"], lines[1]["session"], "one viewer by HLS");
    assert_eq!(lines[0]["referer"], "https://a.example/watch");
    assert_eq!((&lines[0]["user_agent"], &lines[0]["host"]), (&"test".into(), &"edge".into()));
    assert_eq!((&lines[0]["protocol"], &lines[0]["tls"]), (&"http/1.1".into(), &false.into()));
}

#[tokio::test]
async fn responses_to_requests_that_were_sent_at_once_are_each_counted() {
    let origin = Origin::default();
    origin.file(MEDIA, large());
    origin.file("/live/b/v0/1-1.m4s", Response::new("a part"));
    origin.file(MEDIA, large());
    let logged = Logged::open(&origin).await;
    let mut socket = logged.server.connect().await;
    let request = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: edge\r\n{more}\r\n");
    let requests = [
        request(MEDIA, ""),
        request("/live/b/v0/1-1.m4s", ""),
        request(MEDIA, ""),
        request("/nothing", "Connection: close\r\n"),
    ];
    socket.write_all(requests.concat().as_bytes()).await.unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();
    let begins: Vec<usize> =
        all.windows(9).enumerate().filter(|(_, bytes)| *bytes == b"HTTP/1.1 ").map(|(at, _)| at).collect();
    let ends = begins[1..].iter().copied().chain([all.len()]);
    let sizes: Vec<usize> = begins.iter().zip(ends).map(|(begin, end)| end - begin).collect();
    let lines = logged.lines(4).await;
    assert_eq!(lines.iter().map(|line| line["bytes"].clone()).collect::<Vec<_>>(), sizes);
    assert!(lines.iter().all(|line| line["end"] == "finished"), "{lines:?}");
}

#[tokio::test]
async fn a_refusal_that_arrived_is_finished_by_whatever_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.jsonl");
    let secure = Secure::guarded(&Origin::default(), logging(&path), guarded::access(), None).await;
    let mut http2 = secure.server.http2().await;
    let mut http3 = h3::Client::connect(&secure).await;
    let mut expected = Vec::new();
    for method in [Method::GET, Method::HEAD] {
        for path in ["/live/a.flv", "/live/a/index.m3u8", "/relay/live/a", "/nothing"] {
            let request = Request::builder().method(method.clone()).uri(format!("http://edge{path}"));
            let response =
                http2.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            expected.push(("h2", path, status, body.len()));
            let answer = http3.ask(method.clone(), path, "").await;
            assert_eq!(answer.0.status(), status);
            assert_eq!(h3::whole(answer).await.unwrap(), body);
            expected.push(("h3", path, status, body.len()));
        }
    }
    let lines = at_least(&secure.server, &path, expected.len()).await;
    for (protocol, path, status, bytes) in expected {
        let line = lines.iter().find(|line| {
            let said = [&line["protocol"], &line["path"], &line["status"], &line["bytes"]];
            said == [&Value::from(protocol), &path.into(), &status.as_u16().into(), &bytes.into()]
        });
        assert_eq!(line.expect(path)["end"], "finished", "{protocol} {path}");
    }
    assert!(lines.iter().all(|line| line["end"] == "finished"), "{lines:?}");
}

#[tokio::test]
async fn who_hangs_up_is_logged_with_what_it_got() {
    let origin = Origin::default();
    origin.file(MEDIA, large());
    origin.file("/live/b/v0/1-1.m4s", large());
    let logged = Logged::open(&origin).await;
    let mut socket = logged.server.connect().await;
    socket.write_all(format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes()).await.unwrap();
    socket.read_exact(&mut [0; 4096]).await.unwrap();
    drop(socket);
    let line = logged.lines(1).await.remove(0);
    let bytes = usize::try_from(line["bytes"].as_u64().unwrap()).unwrap();
    assert!((4096..LARGE).contains(&bytes), "{line}");
    assert_eq!((&line["end"], &line["status"]), (&"client_closed".into(), &200.into()));

    let mut http2 = logged.server.http2().await;
    let request = Request::get("http://edge/live/b/v0/1-1.m4s").body(Empty::<bytes::Bytes>::new()).unwrap();
    let mut response = http2.send_request(request).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    let line = logged.lines(2).await.remove(1);
    let bytes = usize::try_from(line["bytes"].as_u64().unwrap()).unwrap();
    assert!((1..LARGE).contains(&bytes), "{line}");
    assert_eq!((&line["end"], &line["protocol"]), (&"client_closed".into(), &"h2".into()));
}

#[tokio::test]
async fn whole_bodies_are_counted_over_http2() {
    let origin = Origin::default();
    origin.file(MEDIA, Response::new("a part"));
    origin.file(MEDIA, Response::new("a part"));
    let logged = Logged::open(&origin).await;
    let mut http2 = logged.server.http2().await;
    for method in ["GET", "HEAD"] {
        let request = Request::builder().method(method).uri(format!("http://edge{MEDIA}"));
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = http2.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let lines = logged.lines(2).await;
    assert_eq!((&lines[0]["bytes"], &lines[0]["end"]), (&6.into(), &"finished".into()));
    assert_eq!((&lines[1]["bytes"], &lines[1]["end"]), (&0.into(), &"finished".into()));
}

#[tokio::test]
async fn what_was_queued_at_a_reset_was_not_sent() {
    /// What goes out of a body of two pieces.
    const WINDOW: usize = 20_000;
    let origin = Origin::default();
    origin.file(MEDIA, Response::new(Box::leak("x".repeat(30_000).into_boxed_str())));
    let logged = Logged::open(&origin).await;
    let mut socket = logged.server.connect().await;
    let window = [&4u16.to_be_bytes()[..], &u32::try_from(WINDOW).unwrap().to_be_bytes()].concat();
    let path = u8::try_from(MEDIA.len()).unwrap();
    let request = [b"\x82\x86\x41\x04edge\x04", &[path][..], MEDIA.as_bytes()].concat();
    let frames = [http2_frame(4, 0, 0, &window), http2_frame(1, 5, 1, &request)].concat();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    socket.write_all(&frames).await.unwrap();
    let mut data = 0;
    while data < WINDOW {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let len = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        socket.read_exact(&mut vec![0; len]).await.unwrap();
        data += if head[3] == 0 { len } else { 0 };
    }
    socket.write_all(&http2_frame(3, 0, 1, &8u32.to_be_bytes())).await.unwrap();
    let line = logged.lines(1).await.remove(0);
    assert_eq!((&line["bytes"], &line["end"]), (&WINDOW.into(), &"client_closed".into()));
}

#[tokio::test]
async fn live_viewers_are_logged_when_they_leave_by_the_name_that_their_grant_says() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let key = || Key::new(Algorithm::Hs256, "0123456789abcdef0123456789abcdef").unwrap();
    let grants = Grants::new(KeySet::new([("h".to_owned(), key())]).unwrap());
    let access = Access { play: Play::Required, grants: Arc::new(grants) };
    let claims = Claims {
        exp: u64::MAX,
        nbf: None,
        aud: Audience::Play,
        stream: "live/a".into(),
        ip: None,
        sid: Some("order-4711".into()),
    };
    let grant = Signer::new("h", key()).sign(&claims).unwrap();
    let logged = Logged::start(&origin, access, |_| ()).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;

    let mut socket = logged.server.connect().await;
    let request = format!("GET /~{grant}/live/a.flv HTTP/1.1\r\nHost: edge\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut other = rtmp::Player::connect(&logged.server.edge, &format!("a?token={grant}")).await;
    assert_eq!(other.number().await, 0);
    drop(other);
    let line = logged.lines(1).await.remove(0);
    assert_eq!(
        (&line["protocol"], &line["kind"], &line["end"]),
        (&"rtmp".into(), &"rtmp".into(), &"client_closed".into())
    );
    assert!(line["bytes"].as_u64().unwrap() > 100);
    // The end of the stream, after which what came is all that was sent.
    drop(relay);
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();
    drop(socket);
    let lines = logged.lines(2).await;
    assert_eq!(lines[1]["bytes"], all.len());
    assert_eq!((&lines[1]["kind"], &lines[1]["end"]), (&"flv".into(), &"finished".into()));
    assert!(lines.iter().all(|line| line["session"] == "order-4711" && line["stream"] == "live/a"));
    assert!(lines.iter().all(|line| line["status"] == 200));
    let mut refused = rtmp::Player::connect(&logged.server.edge, "a?token=s3cret").await;
    refused.refusal().await;
    drop(refused);
    let lines = logged.lines(3).await;
    assert_eq!(lines[2]["status"], 401, "as by HTTP");
    let mut absent = rtmp::Player::connect(&logged.server.edge, &format!("a?token={grant}")).await;
    absent.refusal().await;
    drop(absent);
    assert_eq!(logged.lines(4).await[3]["status"], 404);
    let text = serde_json::to_string(&lines).unwrap();
    assert!(!text.contains(&grant) && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_viewer_that_stays_is_logged_again_and_again() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let logged = Logged::start(&origin, super::client::open(), |c| {
        c.access_log.interval_s = 1;
        // So that the shard looks at its clients four times a second.
        c.http.write_stall_ms = 1_000;
    })
    .await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::new(logged.server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let line = logged.at_least(1).await.remove(0);
    assert_eq!((&line["end"], &line["kind"]), (&"goes_on".into(), &"flv".into()));
    assert!(
        line["bytes"].as_u64().unwrap() > 100 && line["duration_ms"].as_u64().unwrap() >= 1_000,
        "{line}"
    );
}

#[tokio::test]
async fn whoever_is_there_at_the_end_is_logged() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    origin.file(MEDIA, large());
    let mut logged = Logged::open(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut flv = Player::new(logged.server.get("/live/a.flv").await);
    assert_eq!(flv.number().await, Some(0));
    let mut rtmp = rtmp::Player::connect(&logged.server.edge, "a").await;
    assert_eq!(rtmp.number().await, 0);
    let mut http2 = logged.server.http2().await;
    let request = Request::get("http://edge/live/a.flv").body(Empty::<bytes::Bytes>::new()).unwrap();
    let mut live = Player::new(http2.send_request(request).await.unwrap());
    assert_eq!(live.number().await, Some(0));
    let mut file = logged.server.connect().await;
    file.write_all(format!("GET {MEDIA} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes()).await.unwrap();
    file.read_exact(&mut [0; 4096]).await.unwrap();
    logged.server.cut();
    logged.server.edge.end().await;
    // Nobody asks the log to write any more.
    let text = std::fs::read_to_string(&logged.path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut kinds: Vec<_> = lines.iter().map(|line| (&line["kind"], &line["protocol"])).collect();
    kinds.sort_by_key(|(kind, protocol)| (kind.as_str(), protocol.as_str()));
    let expected = [("flv", "h2"), ("flv", "http/1.1"), ("media", "http/1.1"), ("rtmp", "rtmp")];
    let expected = expected.map(|(kind, protocol)| (Value::from(kind), Value::from(protocol)));
    assert!(kinds.into_iter().eq(expected.iter().map(|(kind, protocol)| (kind, protocol))), "{text}");
    for line in &lines {
        assert!(line["end"] == "drained" && line["bytes"].as_u64().unwrap() > 100, "{line}");
    }
    drop(relay);
}
