//! Edges with far origins: several of them, and each other.

use std::time::{Duration, Instant};

use http::Request;
use tokio::net::TcpListener;
use tower::service_fn;

use super::client::{Player, Server, open};
use super::origin::Origin;
use super::studio::{Studio, opening};
use crate::upstream::{BoxError, Origins, Upstream};
use crate::{Config, Edge, UpstreamConfig};

const LONG: Duration = Duration::from_secs(20);

fn dead() -> Upstream {
    Upstream::new(service_fn(async |_: Request<()>| Err(BoxError::from("connection refused"))))
}

#[tokio::test]
async fn a_stream_that_a_dead_origin_may_have_is_no_absence_and_not_asked_for_each_time() {
    let origin = Origin::default();
    let origins = Origins::of(vec![("a", dead()), ("b", origin.upstream())], LONG, LONG);
    let server = Server::behind(origins.service()).await;
    let began = Instant::now();
    for path in ["/live/a.flv", "/live/a/main/media.m3u8"] {
        for _ in 0..50 {
            let response = server.get(path).await;
            assert_eq!(response.status(), 503, "{path}");
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        }
    }
    let most = 2 + began.elapsed().as_millis() / 250;
    let asked = origin.requests().len();
    assert!(asked as u128 <= most, "{asked} questions for 100 requests");
}

#[tokio::test]
async fn viewers_go_on_when_the_stream_ends_where_it_was_and_goes_on_elsewhere() {
    let (one, other) = (Origin::default(), Origin::default());
    let origins = Origins::of(vec![("a", one.upstream()), ("b", other.upstream())], LONG, LONG);
    let server = Server::behind(origins.service()).await;
    let mut studio = Studio::new();
    let first = one.relay("a");
    first.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));

    // The encoder is elsewhere before the end, and then comes back.
    let (second, third) = (other.relay("a"), one.relay("a"));
    studio.republish(|_| {});
    second.send(opening(&studio.picture(true, 100))).await;
    drop(first);
    assert_eq!(player.number().await, Some(1));
    studio.republish(|_| {});
    third.send(opening(&studio.picture(true, 100))).await;
    drop(second);
    assert_eq!(player.number().await, Some(2));

    // One that has the stream for a moment, and nothing of it, does not keep it going.
    let _asked = one.relay("a");
    drop(other.relay("a"));
    drop(third);
    assert_eq!(player.number().await, None);
    let asked =
        |origin: &Origin| origin.requests().iter().filter(|(path, _)| path.contains("after=")).count();
    assert_eq!((asked(&one), asked(&other)), (1, 2), "only who is not at the end");
}

#[tokio::test]
async fn viewers_go_on_elsewhere_though_the_origin_that_ends_the_stream_had_nothing_new_of_it() {
    let (one, other) = (Origin::default(), Origin::default());
    let origins = Origins::of(vec![("a", one.upstream()), ("b", other.upstream())], LONG, LONG);
    let server = Server::behind(origins.service()).await;
    let mut studio = Studio::new();
    let (first, again) = (one.relay("a"), one.relay("a"));
    first.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let before = one.requests().len();

    // The encoder moves; its first origin waits for it, and meanwhile the connection to that breaks.
    let second = other.relay("a");
    studio.republish(|_| {});
    second.send(opening(&studio.picture(true, 100))).await;
    first.fail().await;
    one.asked(before + 1).await;
    drop(again);
    assert_eq!(player.number().await, Some(1));
    drop(second);
    assert_eq!(player.number().await, None);
}

#[tokio::test]
async fn the_end_of_a_stream_on_its_only_origin_is_its_end() {
    let origin = Origin::default();
    let origins = Origins::of(vec![("a", origin.upstream())], LONG, LONG);
    let server = Server::behind(origins.service()).await;
    let relay = origin.relay("a");
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    drop(relay);
    assert_eq!(player.number().await, None);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn edges_in_a_circle_without_keys_do_not_wait_for_each_other() {
    let listeners =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [one, other] =
        listeners.each_ref().map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let mut edges = Vec::new();
    for (listener, upstream) in listeners.into_iter().zip([other, one]) {
        let config = UpstreamConfig { origins: vec![upstream], ..UpstreamConfig::default() };
        let upstream = Origins::new(&config).unwrap().service();
        let edge = Edge::new(Config::default(), open(), upstream, None).unwrap();
        edges.push(Server::serving(edge, listener.into()));
    }
    for path in ["/live/a/index.m3u8", "/live/a/main/media.m3u8?_HLS_msn=7", "/live/a/main/1-7.m4s"] {
        assert_eq!(edges[0].get(path).await.status(), 508, "{path}");
        assert_eq!(edges[1].get(path).await.status(), 508, "{path}");
    }
}
