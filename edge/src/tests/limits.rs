//! Clients that take nothing, say nothing, or are too many; and the end of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tower::service_fn;

use super::client::{Player, Server, open, text};
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{guarded, key, until};
use crate::upstream::Body;
use crate::{BoxError, Config, Edge, Pages, http::serve_pipe};

/// More than a window of some bytes.
const OBJECT: &str = match str::from_utf8(&[b'x'; 40_000]) {
    Ok(text) => text,
    Err(_) => panic!("text"),
};

pub(super) fn metric(server: &Server, name: &str) -> String {
    let registry = prometheus::Registry::new();
    server.edge.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
}

#[tokio::test]
async fn a_viewer_that_never_reads_holds_up_nobody_and_is_dropped() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.write_stall_ms = 300;
    config.fanout.ring_bytes = 1 << 20;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /live/a.flv HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    until(|| server.edge.viewers(&key("a")).flv == 2).await;
    // More than the sockets' buffers and the ring hold together.
    for n in 1..=600 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        assert_eq!(player.number().await, Some(n));
    }
    until(|| server.edge.viewers(&key("a")).flv == 1).await;
    assert_eq!(metric(&server, r#"weir_edge_viewer_drops_total{reason="stalled"}"#), "1");
    until(|| metric(&server, "weir_edge_connections ") == "1").await;
}

#[tokio::test]
async fn an_http2_viewer_that_grants_no_window_is_dropped() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.write_stall_ms = 300;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut client = server.http2().await;
    let request = http::Request::get("http://edge/live/a.flv").body(Empty::new()).unwrap();
    // Read by nobody: the window stays closed once it is used up.
    let response = client.send_request(request).await.unwrap();
    for n in 1..=600 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
    }
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    assert_eq!(metric(&server, r#"weir_edge_viewer_drops_total{reason="stalled"}"#), "1");
    drop(response);
}

#[tokio::test]
async fn an_http2_client_that_grants_no_window_for_a_file_or_page_is_cut_off() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.http.write_stall_ms = 300;
    // Nor is it idle.
    config.http.header_timeout_ms = 3_600_000;
    let pages = Pages::new(service_fn(|_| async { Ok::<_, BoxError>(Response::new(full(OBJECT.into()))) }));
    let server = Server::with(&origin, config.clone(), Some(pages)).await;
    let closed = Server::guarded(&origin, config, guarded::access(), None).await;
    let is_cut_off = async |server: &Server, path: &str, window: u32, status: u16| {
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let mut client = server.http2_with(client.initial_stream_window_size(window)).await;
        let request = http::Request::get(format!("http://edge{path}")).body(Empty::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        until(|| metric(server, "weir_edge_connections ") == "0").await;
        assert!(response.into_body().collect().await.is_err(), "{path}, {window}");
    };
    // None of it is taken; or some, so that the rest waits behind the body's end.
    for window in [0, 1, 1000] {
        for path in ["/live/a/v0/1-1.m4s", "/watch/live/a"] {
            origin.file("/live/a/v0/1-1.m4s", Response::new(OBJECT));
            is_cut_off(&server, path, window, 200).await;
        }
    }
    for window in [0, 1] {
        is_cut_off(&server, "/live/none.flv", window, 404).await;
        is_cut_off(&server, "/relay/live/a", window, 404).await;
        is_cut_off(&closed, "/live/a.flv", window, 401).await;
    }
}

#[tokio::test]
async fn a_viewer_that_reads_too_slowly_is_dropped_without_a_regular_end() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.fanout.ring_bytes = 1 << 20;
    config.fanout.max_skips_per_minute = 0;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let slow = Player::new(server.get("/live/a.flv").await);
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    for n in 1..=600 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        assert_eq!(player.number().await, Some(n));
    }
    slow.breaks_off().await;
    assert_eq!(metric(&server, r#"weir_edge_viewer_drops_total{reason="lagged"}"#), "1");
    assert_eq!(metric(&server, r#"weir_edge_viewer_skips_total{reason="lagged"}"#), "1");
}

#[tokio::test]
async fn who_sends_no_whole_request_in_time_is_cut_off() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.http.header_timeout_ms = 100;
    let server = Server::with(&origin, config, None).await;
    for beginning in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /live/a.flv HTTP/1.1\r\nx: "] {
        let mut socket = server.connect().await;
        socket.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Ends, whatever is said before.
        let _ = socket.read_to_end(&mut rest).await;
    }
    until(|| metric(&server, "weir_edge_connections ") == "0").await;
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_more_is_closed_and_one_that_watches_is_not() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.header_timeout_ms = 1000;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let get = |path: &str| {
        let uri = format!("http://edge{path}");
        http::Request::get(uri).body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    let mut watching = server.http2().await;
    let mut player = Player::new(watching.send_request(get("/live/a.flv")).await.unwrap());
    assert_eq!(player.number().await, Some(0));

    let mut idle = server.http2().await;
    let answer = idle.send_request(get("/live/b.flv")).await.unwrap();
    assert_eq!(answer.status(), 404);
    drop(answer);
    until(|| idle.is_closed()).await;

    let mut idle = server.connect().await;
    idle.write_all(b"HEAD /live/b.flv HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    idle.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{answer:?}");

    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(player.number().await, Some(1));
    until(|| metric(&server, "weir_edge_connections ") == "1").await;
}

/// A frame of HTTP/2 (RFC 9113 §4.1) on a stream.
pub(super) fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    [&[0, 0, len, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn an_idle_http2_client_that_does_not_leave_is_cut_off() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let mut config = Config::default();
    config.http.header_timeout_ms = 1000;
    let server = Server::with(&Origin::default(), config, None).await;
    let mut socket = server.connect().await;
    // HEADERS with END_STREAM and END_HEADERS; GET, http and / are of HPACK's table (RFC 7541 appendix A).
    let request = http2_frame(1, 5, 1, b"\x82\x86\x84\x41\x04edge");
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http2_frame(SETTINGS, 0, 0, &[]), request];
    socket.write_all(&opening.concat()).await.unwrap();
    let (mut told, mut owes) = (false, false);
    let mut head = [0; 9];
    while socket.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        socket.read_exact(&mut payload).await.unwrap();
        told |= head[3] == GOAWAY;
        // It says that it is there, but not that it knows it should go: the first ping after that.
        match head[3] {
            PING if told && !owes => owes = true,
            PING => socket.write_all(&http2_frame(PING, 1, 0, &payload)).await.unwrap(),
            _ => {}
        }
    }
    assert!(told && owes);
    until(|| metric(&server, "weir_edge_connections ") == "0").await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_is_still_taking_the_end_of_a_stream_is_not_idle() {
    const PICTURE_BYTES: usize = 50_000;
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.header_timeout_ms = 1000;
    config.http.write_stall_ms = 3_600_000;
    let edge = Edge::new(config, open(), origin.upstream(), None).unwrap();
    // Next to nothing is on the way, so that the picture waits in the server.
    let (mut socket, io) = tokio::io::duplex(1024);
    let (_drain, draining) = watch::channel(false);
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    tokio::spawn(serve_pipe(Arc::clone(&edge.shared), io, peer, draining));
    relay.send(opening(&Studio::new().picture(true, PICTURE_BYTES))).await;
    // HEADERS as below, with a path of its own.
    let request = http2_frame(1, 5, 1, b"\x82\x86\x41\x04edge\x04\x0b/live/a.flv");
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http2_frame(4, 0, 0, &[]), request];
    socket.write_all(&opening.concat()).await.unwrap();
    until(|| edge.viewers(&key("a")).flv == 1).await;
    drop(relay);
    until(|| edge.viewers(&key("a")).flv == 0).await;
    // It would be told to leave after one or two seconds, and be cut off after as many more.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut taken, mut ended) = (0, false);
    while !ended {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload).await.unwrap();
        // DATA, and END_STREAM (RFC 9113 §6.1).
        if head[3] == 0 {
            taken += payload.len();
            ended = head[4] & 1 == 1;
        }
    }
    assert!(taken > PICTURE_BYTES, "{taken}");
}

#[tokio::test]
async fn there_are_no_more_connections_than_configured() {
    for (total, address, reason) in [(1, 10, "total"), (10, 1, "address")] {
        let origin = Origin::default();
        let mut config = Config::default();
        config.http.max_connections = total;
        config.http.max_connections_per_address = address;
        let server = Server::with(&origin, config, None).await;
        let first = server.connect().await;
        until(|| metric(&server, "weir_edge_connections ") == "1").await;
        let mut second = server.connect().await;
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
        let counter = format!("weir_edge_connections_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&server, &counter), "1");
        drop(first);
        until(|| metric(&server, "weir_edge_connections ") == "0").await;
        assert_eq!(server.get("/").await.status(), 404);
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_over_http2() {
    let origin = Origin::default();
    origin.file("/live/a/v0/1-1.m4s", Response::new("media"));
    let server = Server::start(&origin).await;
    let mut client = server.http2().await;
    for (path, status) in [("/live/none/index.m3u8", 404), ("/live/a/v0/1-1.m4s", 200)] {
        let head = Request::head(format!("http://edge{path}")).body(Empty::new()).unwrap();
        let response = client.send_request(head).await.unwrap();
        assert_eq!(response.status(), status);
        assert_ne!(response.headers()["content-length"], "0", "{path}");
        assert!(response.into_body().is_end_stream(), "{path}");
    }
}

#[tokio::test]
async fn an_edge_alone_has_no_more_rtmp_connections_of_an_address_than_configured() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.rtmp.max_connections_per_address = 1;
    let server = Server::with(&origin, config, None).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let edge = server.edge.clone();
    let task = tokio::spawn(async move { edge.serve_rtmp(listener, std::future::pending()).await });
    let first = tokio::net::TcpStream::connect(address).await.unwrap();
    until(|| metric(&server, "weir_edge_rtmp_connections ") == "1").await;
    let mut second = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    drop(first);
    until(|| metric(&server, "weir_edge_rtmp_connections ") == "0").await;
    task.abort();
}

#[tokio::test]
async fn a_server_that_drains_takes_nobody_in_and_lets_viewers_finish() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    server.drain();
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(player.number().await, Some(1));
    drop(relay);
    assert_eq!(player.number().await, None);
    server.stopped().await;
}

#[tokio::test]
async fn viewers_that_do_not_finish_by_the_deadline_are_cut() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.drain_ms = 50;
    let server = Server::with(&origin, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    server.stopped().await;
    player.breaks_off().await;
}

#[tokio::test]
async fn pages_are_told_who_asks() {
    let origin = Origin::default();
    let pages = Pages::new(service_fn(|request: http::Request<Body>| async move {
        let peer = *request.extensions().get::<SocketAddr>().unwrap();
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let answer = format!("{} {path} {}", peer.ip(), body.len());
        Ok::<_, BoxError>(Response::new(full(answer.into())))
    }));
    let server = Server::with(&origin, Config::default(), Some(pages)).await;
    for path in ["/", "/api/v1/streams", "/watch/live/a", "/assets/app.js", "/healthz"] {
        assert_eq!(text(server.get(path).await).await, format!("127.0.0.1 {path} 0"));
    }
    assert_eq!(server.get("/other/").await.status(), 404);
    assert!(origin.requests().is_empty());
}

fn full(bytes: bytes::Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
