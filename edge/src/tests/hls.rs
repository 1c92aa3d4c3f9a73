//! HLS: passed on once, whoever asks, and counted by who asks.

use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty};

use super::client::{Server, text};
use super::key;
use super::origin::{Origin, with_header};
use crate::Config;

const BLOCKING: &str = "/live/a/v0/media.m3u8?_HLS_msn=7&_HLS_part=2";

#[tokio::test]
async fn a_thousand_who_wait_for_a_part_are_one_request() {
    let origin = Origin::default();
    let held = origin.held(BLOCKING);
    let server = Server::start(&origin).await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        let mut client = server.http2().await;
        for m in 0..50 {
            // However it is spelled.
            let uri = if (n + m) % 2 == 0 {
                format!("http://edge{BLOCKING}")
            } else {
                format!("http://edge/live/%61/v0/media.m3u8?_HLS_part=02&session={n}{m}&_HLS_msn=7")
            };
            client.ready().await.unwrap();
            let request = http::Request::get(uri).body(Empty::<bytes::Bytes>::new()).unwrap();
            waiting.push(client.send_request(request));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting.len(), 1000);
    let shared = &server.edge.shared.metrics.coalesced;
    super::until(|| shared.get() == 999).await;
    held.send(Response::new("#EXTM3U".into())).unwrap();
    for response in futures_util::future::join_all(waiting).await {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "#EXTM3U");
    }
    assert_eq!(origin.requests(), [(BLOCKING.to_owned(), None)]);
}

#[tokio::test]
async fn the_answer_comes_as_the_origin_gave_it() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let mut answer = with_header("#EXTM3U", "content-type", "application/vnd.apple.mpegurl");
    answer.headers_mut().insert("cache-control", "max-age=12".parse().unwrap());
    answer.headers_mut().insert("vary", "Accept-Encoding".parse().unwrap());
    answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    answer.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
    answer.headers_mut().insert("connection", "close".parse().unwrap());
    origin.file("/live/a/index.m3u8", answer.clone());
    let gzip = [("accept-encoding", "gzip, br")];
    let response = server.request(Method::GET, "/live/a/index.m3u8?x=y", &gzip).await;
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/vnd.apple.mpegurl");
    assert_eq!(headers["cache-control"], "max-age=12");
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["vary"], "Accept-Encoding");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["content-length"], "7");
    assert!(!headers.contains_key("set-cookie"));
    assert_eq!(text(response).await, "#EXTM3U");
    assert_eq!(origin.requests(), [("/live/a/index.m3u8".to_owned(), Some("gzip".to_owned()))]);

    origin.file("/live/a/index.m3u8", answer);
    let response = server.request(Method::HEAD, "/live/a/index.m3u8", &[]).await;
    assert_eq!(response.headers()["content-length"], "7");
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn media_is_asked_for_in_one_way() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    for path in ["/live/a/v0/1-7.2.m4s", "/live/a/v0/init-1.mp4"] {
        origin.file(path, Response::new("media"));
        let gzip = [("accept-encoding", "gzip")];
        let response = server.request(Method::GET, &format!("{path}?token=1"), &gzip).await;
        assert_eq!(text(response).await, "media");
        assert_eq!(origin.count(path), 1);
    }
    assert!(origin.requests().iter().all(|(_, encoding)| encoding.is_none()));
}

#[tokio::test]
async fn malformed_directives_reach_no_origin() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    for query in ["_HLS_part=1", "_HLS_msn=x", "_HLS_msn=-1", "_HLS_msn=1&_HLS_msn=2", "_HLS_skip=maybe"] {
        let response = server.get(&format!("/live/a/v0/media.m3u8?{query}")).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(response.headers()["cache-control"], "public, max-age=8", "{query}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn absence_is_remembered_and_unavailability_is_not() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.feed.absent_ttl_ms = 600_000;
    let server = Server::with(&origin, config, None).await;
    for _ in 0..5 {
        assert_eq!(server.get("/live/a/index.m3u8").await.status(), 404);
    }
    assert_eq!(origin.requests().len(), 1);
    for _ in 0..2 {
        let mut busy = Response::new("");
        *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        origin.file("/live/b/index.m3u8", busy);
        assert_eq!(server.get("/live/b/index.m3u8").await.status(), 503);
    }
    assert_eq!(origin.count("/live/b/index.m3u8"), 2);
}

#[tokio::test]
async fn caches_may_keep_an_absence_as_long_from_memory_as_from_the_origin() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.feed.absent_ttl_ms = 600_000;
    let server = Server::with(&origin, config, None).await;
    for (path, rule) in [(BLOCKING, "public, max-age=80"), ("/live/a/v0/media.m3u8", "public, max-age=20")] {
        let mut absent = with_header("", "cache-control", rule);
        *absent.status_mut() = StatusCode::NOT_FOUND;
        origin.file(path, absent);
        for _ in 0..2 {
            let response = server.get(path).await;
            assert_eq!(response.status(), 404);
            let said = response.headers()["cache-control"].to_str().unwrap().to_owned();
            let age = |rule: &str| rule.strip_prefix("public, max-age=").unwrap().parse::<u32>().unwrap();
            // It has grown older, if only by a moment.
            assert!((1..=age(rule)).contains(&age(&said)), "{said}, not {rule}");
        }
        assert_eq!(origin.count(path), 1);
    }
    // Only time heals this.
    origin.failure("/live/b/index.m3u8");
    assert_eq!(server.get("/live/b/index.m3u8").await.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn an_origin_that_fails_stalls_or_sends_too_much_is_a_gateway_error() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.hls.request_timeout_ms = 50;
    config.hls.max_object_bytes = 4;
    let server = Server::with(&origin, config, None).await;
    origin.failure("/live/a/index.m3u8");
    assert_eq!(server.get("/live/a/index.m3u8").await.status(), 502);
    let _held = origin.held("/live/a/index.m3u8");
    assert_eq!(server.get("/live/a/index.m3u8").await.status(), 504);
    origin.file("/live/a/index.m3u8", Response::new("12345"));
    assert_eq!(server.get("/live/a/index.m3u8").await.status(), 502);
    origin.file("/live/a/index.m3u8", Response::new("1234"));
    assert_eq!(server.get("/live/a/index.m3u8").await.status(), 200);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_cancelled() {
    let origin = Origin::default();
    let mut held = origin.held(BLOCKING);
    let server = Server::start(&origin).await;
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        http::Request::get(BLOCKING).header("host", "edge").body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = tokio::spawn(async move { sender.send_request(request).await.map(drop) });
    origin.asked(1).await;
    connection.abort();
    response.abort();
    held.closed().await;
}

#[tokio::test]
async fn clients_that_got_a_playlist_are_viewers() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    for agent in ["hls.js", "hls.js", "AppleCoreMedia"] {
        origin.file("/live/a/index.m3u8", Response::new("#EXTM3U"));
        let agent = [("user-agent", agent)];
        assert_eq!(server.request(Method::GET, "/live/a/index.m3u8", &agent).await.status(), 200);
    }
    origin.file("/live/a/v0/1-1.m4s", Response::new("media"));
    assert_eq!(server.get("/live/a/v0/1-1.m4s").await.status(), 200);
    assert_eq!(server.get("/live/b/index.m3u8").await.status(), 404);
    assert_eq!(server.edge.viewers(&key("a")).hls, 2);
    assert_eq!(server.edge.viewers(&key("b")).hls, 0);
    assert_eq!(server.edge.totals().viewers.hls, 2);
}
