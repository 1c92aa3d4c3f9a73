//! Rules of the configuration: addresses, pages, rates and room.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control_api::grant::{Grants, KeySet, Play};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tower::service_fn;

use super::client::{Player, Server, open, text};
use super::limits::metric;
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{guarded, key, rtmp, until};
use crate::http::serve_pipe;
use crate::{Access, Body, BoxError, Config, Edge, GuardConfig, Pages};

const INDEX: &str = "/live/a/index.m3u8";

const CHILD: &str = "/live/a/v0/media.m3u8";

async fn server(origin: &Origin, change: impl FnOnce(&mut GuardConfig)) -> Server {
    Server::with(origin, config(change), None).await
}

fn config(change: impl FnOnce(&mut GuardConfig)) -> Config {
    let mut config = Config::default();
    change(&mut config.guard);
    config
}

fn refused(server: &Server, reason: &str) -> u64 {
    let name = format!(r#"weir_edge_requests_refused_total{{reason="{reason}"}}"#);
    metric(server, &name).parse().unwrap()
}

#[tokio::test]
async fn who_is_denied_is_not_heard_and_rules_change_at_run_time() {
    let origin = Origin::default();
    let server = server(&origin, |c| c.deny = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let mut socket = server.connect().await;
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap_or(0), 0, "hung up on");
    let mut player = rtmp::Player::connect(&server.edge, "a").await;
    assert_eq!(player.refusal().await, "NetStream.Play.Failed");
    assert_eq!(refused(&server, "address_denied"), 2);
    assert_eq!(origin.requests(), []);
    server.edge.reload(&config(|c| c.allow = vec!["127.0.0.1".parse().unwrap()]), Play::Open);
    assert_eq!(server.get("/live/a.flv").await.status(), 404);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let origin = Origin::default();
    let server = server(&origin, |c| c.max_requests_per_second_per_address = 1).await;
    let mut statuses = Vec::new();
    // More than come in time even if each took a tenth of a second.
    for _ in 0..20 {
        let response = server.get("/nothing").await;
        if response.status() == 429 {
            assert_eq!(response.headers()["retry-after"], "1");
            assert_eq!(response.headers()["access-control-allow-origin"], "*");
        }
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses[..2], [404, 404]);
    let late = statuses.iter().filter(|status| **status == 429).count() as u64;
    assert!(late > 0 && statuses.iter().all(|status| [404, 429].contains(status)), "{statuses:?}");
    assert_eq!(refused(&server, "rate"), late);
}

#[tokio::test]
async fn there_is_room_for_so_many_and_for_another_when_one_leaves() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    origin.file(INDEX, Response::new("#EXTM3U"));
    let server = server(&origin, |c| c.max_viewers = 2).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut first = Player::new(server.get("/live/a.flv").await);
    assert_eq!(first.number().await, Some(0));
    let mut second = rtmp::Player::connect(&server.edge, "a").await;
    assert_eq!(second.number().await, 0);
    for path in ["/live/a.flv", INDEX] {
        let response = server.get(path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        assert!(text(response).await.contains("too many viewers"));
    }
    let mut third = rtmp::Player::connect(&server.edge, "a").await;
    assert_eq!(third.refusal().await, "NetStream.Play.Failed");
    assert_eq!(server.get(CHILD).await.status(), 503, "by whatever playlist somebody begins");
    assert_eq!(refused(&server, "viewers"), 4);
    assert_eq!((origin.count(INDEX), origin.count(CHILD)), (0, 0), "nothing is asked for it");
    drop(second);
    until(|| server.edge.totals().viewers.rtmp == 0).await;
    assert_eq!(server.get(INDEX).await.status(), 200);
    // That one counts, too.
    assert_eq!(server.get("/live/a.flv").await.status(), 503);
    // Who watches by HLS goes on, and may begin anew.
    for path in [CHILD, INDEX] {
        origin.file(path, Response::new("#EXTM3U"));
        assert_eq!(server.get(path).await.status(), 200, "{path}");
        let other = server.request(Method::GET, path, &[("user-agent", "another")]).await;
        assert_eq!(other.status(), 503, "{path}");
    }
    drop(first);
}

#[tokio::test]
async fn a_stream_has_so_many_viewers_by_all_protocols_together() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.fanout.max_viewers_per_stream = 2;
    let server = Server::with(&origin, config, None).await;
    let ask = async |path, agent| {
        origin.file(path, Response::new("#EXTM3U"));
        server.request(Method::GET, path, &[("user-agent", agent)]).await
    };
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut first = Player::new(server.get("/live/a.flv").await);
    assert_eq!(first.number().await, Some(0));
    assert_eq!(ask(INDEX, "one").await.status(), 200);
    for path in [INDEX, CHILD] {
        let response = ask(path, "two").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        assert!(text(response).await.contains("too many viewers of this stream"));
        assert_eq!(ask(path, "one").await.status(), 200, "who watches");
    }
    assert_eq!(refused(&server, "viewers_of_stream"), 2);
    assert_eq!(server.get("/live/a.flv").await.status(), 503);
    let mut player = rtmp::Player::connect(&server.edge, "a").await;
    assert_eq!(player.refusal().await, "NetStream.Play.Failed");
    assert_eq!(ask("/live/b/index.m3u8", "two").await.status(), 200, "another stream");
    drop(first);
    until(|| server.edge.shared.feeds.room(&key("a")) == 2).await;
    assert_eq!(ask(INDEX, "two").await.status(), 200);
    assert_eq!(server.get("/live/a.flv").await.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn who_watches_a_stream_that_stalls_is_not_forgotten() {
    let origin = Origin::default();
    let mut config = config(|c| c.max_viewers = 1);
    config.http.header_timeout_ms = 3_600_000;
    let edge = Edge::new(config, open(), origin.upstream(), None).unwrap();
    let (socket, io) = tokio::io::duplex(64 * 1024);
    let (_drain, draining) = watch::channel(false);
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    tokio::spawn(serve_pipe(Arc::clone(&edge.shared), io, peer, draining));
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let says = |status| {
        let mut answer = Response::new("#EXTM3U");
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        origin.file(INDEX, answer);
    };
    let ask = async |agent| {
        let request = http::Request::get(format!("http://edge{INDEX}")).header("user-agent", agent);
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        client.clone().send_request(request).await.unwrap().status().as_u16()
    };
    says(200);
    assert_eq!(ask("one").await, 200);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(4)).await;
        says(503);
        assert_eq!((ask("one").await, ask("another").await), (503, 503));
        assert_eq!(edge.totals().viewers.hls, 1);
    }
    says(200);
    assert_eq!((ask("one").await, ask("another").await), (200, 503));
    assert_eq!(origin.count(INDEX), 7, "for nobody else");
    tokio::time::advance(Duration::from_secs(10)).await;
    says(200);
    assert_eq!(ask("another").await, 200, "the one has left");
}

#[tokio::test]
async fn one_address_has_so_many_viewers_by_hls_whatever_they_call_themselves() {
    let origin = Origin::default();
    let server = server(&origin, |c| {
        c.max_viewers = 5;
        c.max_hls_viewers_per_address = 2;
        c.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let ask = async |path, address: &str, agent: &str| {
        origin.file(path, Response::new("#EXTM3U"));
        let headers = [("x-forwarded-for", address), ("user-agent", agent)];
        server.request(Method::GET, path, &headers).await.status().as_u16()
    };
    for agent in ["one", "two"] {
        assert_eq!(ask(INDEX, "192.0.2.7", agent).await, 200);
    }
    for n in 0..20 {
        for path in [INDEX, CHILD] {
            assert_eq!(ask(path, "192.0.2.7", &n.to_string()).await, 429, "{path}");
        }
    }
    assert_eq!(refused(&server, "viewers_of_address"), 40);
    assert_eq!(ask(CHILD, "192.0.2.7", "one").await, 200, "who watches");
    assert_eq!(ask(INDEX, "192.0.2.8", "one").await, 200, "there is room for others");
    let unlimited = config(|c| {
        c.max_hls_viewers_per_address = 0;
        c.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    server.edge.reload(&unlimited, Play::Open);
    assert_eq!(ask(INDEX, "192.0.2.7", "three").await, 200);
}

#[tokio::test]
async fn pages_are_told_apart_by_origin_and_host() {
    let origin = Origin::default();
    origin.file(INDEX, Response::new("#EXTM3U"));
    let server = server(&origin, |c| {
        c.cors_origins = vec!["https://good.example".into()];
        c.referers = vec!["good.example".into()];
    })
    .await;
    let ask = |path, headers: &'static [(&str, &str)]| server.request(Method::GET, path, headers);
    let response =
        ask(INDEX, &[("origin", "https://good.example"), ("referer", "https://good.example/x")]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://good.example");
    assert!(response.headers().get_all("vary").iter().any(|name| name == "Origin"));
    // Problems are read by pages too, but not by others'.
    let response = ask("/live/b.flv", &[("origin", "https://evil.example")]).await;
    assert_eq!(response.status(), 403);
    assert!(response.headers().get("access-control-allow-origin").is_none());
    let asked = origin.requests().len();
    let websocket = |origin: &'static str| {
        let headers =
            [&guarded::WEBSOCKET[..], &[("origin", origin), ("referer", "https://good.example/")]].concat();
        let server = &server;
        async move { server.request(Method::GET, "/live/c.flv", &headers).await.status().as_u16() }
    };
    assert_eq!(websocket("https://good.example.evil.example").await, 403);
    assert_eq!(origin.requests().len(), asked);
    assert_eq!(websocket("https://good.example").await, 404);
    assert_eq!((refused(&server, "referer"), refused(&server, "origin")), (1, 1));
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_who_asks_is_what_rules_are_about() {
    let origin = Origin::default();
    let echo = Pages::new(service_fn(|request: http::Request<Body>| async move {
        let peer = *request.extensions().get::<SocketAddr>().unwrap();
        let body = Full::new(bytes::Bytes::from(peer.to_string())).map_err(|never| match never {});
        Ok::<_, BoxError>(Response::new(body.boxed_unsync()))
    }));
    let mut config = config(|c| {
        c.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        c.deny = vec!["192.0.2.0/24".parse().unwrap()];
        c.max_requests_per_second_per_address = 1;
    });
    config.http.max_connections_per_address = 1;
    let server = Server::with(&origin, config, Some(echo)).await;
    let held = server.connect().await;
    let ask = async |path, said: &str| server.request(Method::GET, path, &[("x-forwarded-for", said)]).await;
    assert_eq!(text(ask("/", "203.0.113.9, 198.51.100.1, 127.0.0.9").await).await, "198.51.100.1:0");
    // Another than who is denied may be made up, but not behind the proxy's word.
    for said in ["192.0.2.7", "198.51.100.2, 192.0.2.7", "198.51.100.2, 192.0.2.7, 127.0.0.3"] {
        assert_eq!(ask(INDEX, said).await.status(), 403, "{said}");
    }
    assert_eq!(ask(INDEX, "192.0.2.7, 198.51.100.3").await.status(), 404);
    assert_eq!((refused(&server, "address_denied"), refused(&server, "rate")), (3, 0));
    // Each has a rate of its own, whatever it claims before.
    let mut late = 0;
    for n in 0..20 {
        assert_eq!(ask("/", &format!("198.51.100.{}", 20 + n)).await.status(), 200);
        late += u64::from(ask("/", &format!("203.0.113.{n}, 198.51.100.4")).await.status() == 429);
    }
    assert!(late > 0, "more than come in time even if each took a tenth of a second");
    assert_eq!(refused(&server, "rate"), late);
    drop(held);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_speaks_for_itself() {
    let server = server(&Origin::default(), |c| {
        c.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        c.deny = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    let said = [("x-forwarded-for", "192.0.2.7")];
    assert_eq!(server.request(Method::GET, INDEX, &said).await.status(), 404);
}

#[tokio::test]
async fn a_refused_preflight_would_be_no_use() {
    // A preflight shows no grant, and is answered all the same.
    let access = Access { play: Play::Required, grants: Arc::new(Grants::new(KeySet::new([]).unwrap())) };
    let server = Server::guarded(&Origin::default(), Config::default(), access, None).await;
    let headers = [("origin", "https://a.example"), ("access-control-request-headers", "authorization")];
    let response = server.request(Method::OPTIONS, INDEX, &headers).await;
    assert_eq!(response.status(), 204);
    let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap().to_ascii_lowercase();
    assert!(allowed.contains("authorization"));
}
