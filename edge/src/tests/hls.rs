//! HLS: passed on once, whoever asks, and counted by who asks.

use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty};

use super::client::{Server, text};
use super::key;
use super::limits::metric;
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
    origin.file("/live/a/index.m3u8", answer);
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
    assert_eq!(origin.requests(), [("/live/a/index.m3u8".to_owned(), None)]);

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

/// A segment that may be kept.
fn segment(body: &'static str) -> Response<&'static str> {
    with_header(body, "cache-control", "public, max-age=31536000, immutable")
}

#[tokio::test]
async fn what_may_be_kept_is_asked_for_once_and_says_its_age() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    origin.file("/live/a/v0/1-7.m4s", segment("media"));
    assert!(!server.get("/live/a/v0/1-7.m4s").await.headers().contains_key("age"), "it is not from memory");
    for _ in 0..3 {
        let response = server.get("/live/a/v0/1-7.m4s?grant=x").await;
        assert_eq!(response.headers()["age"], "0");
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(response.headers()["accept-ranges"], "bytes");
        assert_eq!(text(response).await, "media");
    }
    let head = server.request(Method::HEAD, "/live/a/v0/1-7.m4s", &[]).await;
    assert_eq!(head.headers()["content-length"], "5");
    assert_eq!(text(head).await, "");
    assert_eq!(origin.requests().len(), 1);
}

/// What is answered at once is what the long way answers.
#[tokio::test]
async fn the_short_way_to_what_is_in_memory_is_no_other_answer() {
    let origin = Origin::default();
    let path = "/live/a/v0/1-7.m4s";
    let media = || {
        let mut media = segment("media");
        media.headers_mut().insert("etag", "\"e\"".parse().unwrap());
        media
    };
    for cors in ["*", "https://good.example"] {
        let mut config = Config::default();
        config.guard.cors_origins = vec![cors.into()];
        let server = Server::with(&origin, config, None).await;
        origin.file(path, media());
        server.get(path).await;
        let ask = async |headers: &[(&str, &str)]| {
            let response = server.request(Method::GET, path, headers).await;
            let mut said: Vec<_> =
                response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            said.retain(|(name, _)| name != "date");
            said.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
            (response.status(), said, text(response).await)
        };
        for origin in ["https://good.example", "https://evil.example"] {
            // Conditions go the long way.
            let long = ask(&[("origin", origin), ("if-none-match", "\"other\"")]).await;
            assert_eq!(ask(&[("origin", origin)]).await, long);
            assert_eq!(long.0, 200);
        }
        assert_eq!(server.get("/live/%61/v0/1-7.m4s").await.status(), 200, "another spelling");
    }
    let mut config = Config::default();
    config.guard.referers = vec!["good.example".into()];
    let server = Server::with(&origin, config, None).await;
    origin.file(path, media());
    let from = async |page: &str| server.request(Method::GET, path, &[("referer", page)]).await;
    assert_eq!(from("https://good.example/").await.status(), 200);
    assert_eq!(from("https://evil.example/").await.status(), 403);
    let mut config = Config::default();
    config.guard.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    config.guard.deny = vec!["192.0.2.7".parse().unwrap()];
    let server = Server::with(&origin, config, None).await;
    origin.file(path, media());
    let of = async |client: &str| server.request(Method::GET, path, &[("x-forwarded-for", client)]).await;
    assert_eq!(of("198.51.100.1").await.status(), 200);
    assert_eq!(of("192.0.2.7").await.status(), 403);
    let mut config = Config::default();
    config.guard.max_requests_per_second_per_address = 1;
    let server = Server::with(&origin, config, None).await;
    origin.file(path, media());
    let mut late = 0;
    for _ in 0..20 {
        late += u32::from(server.get(path).await.status() == 429);
    }
    // More than come in time even if each took a tenth of a second.
    assert!(late > 0);
}

#[tokio::test]
async fn ranges_are_cut_out_of_what_is_kept() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let mut whole = segment("0123456789");
    whole.headers_mut().insert("etag", "\"e\"".parse().unwrap());
    origin.file("/live/a/v0/1-7.m4s", whole);
    let ask = |range: &'static str, more: Option<(&'static str, &'static str)>| {
        let headers: Vec<_> = [("range", range)].into_iter().chain(more).collect();
        let server = &server;
        async move { server.request(Method::GET, "/live/a/v0/1-7.m4s", &headers).await }
    };
    for (range, part, said) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
    ] {
        let response = ask(range, None).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(response.headers()["content-range"], said);
        assert_eq!(response.headers()["content-length"], part.len().to_string());
        assert_eq!(text(response).await, part);
    }
    let response = ask("bytes=10-", None).await;
    assert_eq!(response.status(), 416);
    assert_eq!(response.headers()["content-range"], "bytes */10");
    for (range, more) in [("bytes=0-1,3-4", None), ("bytes=0-1", Some(("if-range", "\"other\"")))] {
        let response = ask(range, more).await;
        assert_eq!((response.status(), text(response).await), (StatusCode::OK, "0123456789".to_owned()));
    }
    assert_eq!(ask("bytes=0-1", Some(("if-range", "\"e\""))).await.status(), 206);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn who_has_it_already_is_told_so() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let mut whole = segment("media");
    whole.headers_mut().insert("etag", "\"e\"".parse().unwrap());
    origin.file("/live/a/v0/1-7.m4s", whole);
    for (known, status) in [("\"e\"", 304), ("\"x\", W/\"e\"", 304), ("*", 304), ("\"x\"", 200)] {
        let response = server.request(Method::GET, "/live/a/v0/1-7.m4s", &[("if-none-match", known)]).await;
        assert_eq!(response.status(), status, "{known}");
        assert_eq!(response.headers()["etag"], "\"e\"");
        assert_eq!(text(response).await, if status == 304 { "" } else { "media" });
    }
    // Without an ETag there is nothing to compare.
    origin.file("/live/a/v0/1-8.m4s", segment("media"));
    let response = server.request(Method::GET, "/live/a/v0/1-8.m4s", &[("if-none-match", "*")]).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn text_comes_in_the_coding_that_a_viewer_takes_and_is_asked_for_once() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let mut playlist = with_header("#EXTM3U\n", "cache-control", "public, max-age=600");
    playlist.headers_mut().insert("etag", "\"e\"".parse().unwrap());
    origin.file("/live/a/v0/media.m3u8", playlist);
    let path = "/live/a/v0/media.m3u8";
    let plain = server.get(path).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    assert_eq!(plain.headers()["vary"], "accept-encoding");
    assert_eq!(plain.headers()["etag"], "\"e\"");
    assert_eq!(text(plain).await, "#EXTM3U\n");
    let packed = server.request(Method::GET, path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "accept-encoding");
    assert_eq!(packed.headers()["etag"], "W/\"e\"");
    let bytes = packed.into_body().collect().await.unwrap().to_bytes();
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut unpacked).unwrap();
    assert_eq!(unpacked, "#EXTM3U\n");
    let ranged = [("accept-encoding", "gzip"), ("range", "bytes=0-3")];
    assert_eq!(text(server.request(Method::GET, path, &ranged).await).await, "#EXT");
    assert_eq!(origin.requests(), [(path.to_owned(), None)]);
}

#[tokio::test]
async fn a_long_segment_reaches_viewers_while_it_comes_and_is_cut_where_it_breaks_off() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let (path, other) = ("/live/a/v0/1-7.m4s", "/live/a/v0/1-8.m4s");
    let relay = origin.long_file(path, 200_000);
    relay.send(vec![7; 1000].into()).await;
    let mut body = server.get(path).await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), vec![7; 1000], "before its end");
    relay.send(vec![7; 199_000].into()).await;
    drop(relay);
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 199_000);
    assert_eq!(server.get(path).await.into_body().collect().await.unwrap().to_bytes().len(), 200_000);
    assert_eq!(origin.count(path), 1);

    let relay = origin.long_file(other, 200_000);
    relay.send(vec![7; 1000].into()).await;
    let response = server.get(other).await;
    assert_eq!(response.headers()["content-length"], "200000");
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    relay.fail().await;
    assert!(body.collect().await.is_err(), "not a shorter file");
}

#[tokio::test]
async fn who_makes_up_questions_that_wait_is_told_to_ask_later() {
    const SHARE: usize = 512;
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let made_up = |n| format!("/live/a/v0/media.m3u8?_HLS_msn=8&_HLS_part={n}");
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    while held.len() < SHARE {
        let mut client = server.http2().await;
        for _ in 0..64 {
            let path = made_up(held.len());
            held.push(origin.held(&path));
            client.ready().await.unwrap();
            let request = http::Request::get(format!("http://edge{path}")).body(Empty::<bytes::Bytes>::new());
            waiting.push(client.send_request(request.unwrap()));
        }
        origin.asked(held.len()).await;
    }
    let response = server.get(&made_up(SHARE)).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(text(response).await.contains("no playlist announced"));
    let refused = metric(&server, r#"weir_edge_hls_waits_refused_total{reason="address"}"#);
    assert_eq!((refused.as_str(), origin.requests().len()), ("1", SHARE));
    // Those who leave make room.
    drop(waiting);
    super::until(|| held.iter().all(tokio::sync::oneshot::Sender::is_closed)).await;
    assert_eq!(server.get(&made_up(SHARE)).await.status(), 404);
}
