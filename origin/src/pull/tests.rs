//! Pulls and pushes against a listener of SRT in this process.

use std::net::UdpSocket;
use std::time::Duration;

use ::srt::{Connection, Listener, Options, Terms};
use control_api::{RemoteState, Secret};
use http::{Method, StatusCode};
use media_core::mpegts::Muxer;
use prometheus::Registry;

use super::*;
use crate::testing::{ask, clip, key, origin};
use crate::{Config, Origin};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn pull(url: &str, on_demand: bool) -> PullConfig {
    PullConfig { stream: "live/a".to_owned(), url: Secret::new(url), transport: Transport::Tcp, on_demand }
}

fn quick() -> Origin {
    let mut config = Config::default();
    (config.remote.retry_ms, config.remote.max_retry_ms) = (20, 50);
    (config.remote.on_demand_linger_ms, config.remote.on_demand_wait_ms) = (100, 2_000);
    config.streams.grace_ms = 60_000;
    origin(config)
}

fn listener() -> (Listener, String) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("srt://{}?latency=20", port.local_addr().unwrap());
    let options = Options { latency: Duration::from_millis(20), ..Options::default() };
    let listener = Listener::over(port, &options, |_| Ok(Terms { passphrase: None, latency: None })).unwrap();
    (listener, url)
}

/// Sends the clip.
async fn send(connection: &Connection) {
    let (tracks, frames) = clip();
    let (mut muxer, mut out) = (Muxer::new(), bytes::BytesMut::new());
    muxer.set_tracks(&tracks);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    for datagram in out.chunks(::srt::PAYLOAD_BYTES) {
        connection.send(datagram).await.unwrap();
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

fn state(pulls: &Pulls) -> RemoteState {
    pulls.list()[0].standing.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_called_again_and_its_stream_goes_on() {
    let origin = quick();
    let pulls = Pulls::start(origin.clone(), &Registry::new()).unwrap();
    let (listener, url) = listener();
    pulls.configure(&[pull(&url, false)]);
    let first = listener.accept().await.unwrap();
    send(&first).await;
    until("a frame", || origin.stream(&key()).is_some_and(|info| !info.tracks.is_empty())).await;
    assert_eq!(state(&pulls), RemoteState::Live);
    let before = origin.stream(&key()).unwrap();
    assert_eq!(before.publisher.protocol, "srt");
    drop(first);
    let second = tokio::time::timeout(LONG, listener.accept()).await.unwrap().unwrap();
    send(&second).await;
    until("another epoch", || origin.stream(&key()).is_some_and(|info| info.epoch > before.epoch)).await;
    // It is ended by an operator, and not called at once.
    until("live", || state(&pulls) == RemoteState::Live).await;
    assert!(origin.kick(&key()));
    until("a wait", || state(&pulls) == RemoteState::Waiting).await;
    // What nobody wants any more is gone at once, whatever the grace.
    pulls.configure(&[]);
    until("its end", || origin.stream(&key()).is_none()).await;
    assert_eq!(pulls.list(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_on_demand_is_there_for_who_asks_and_gone_after() {
    let origin = quick();
    let pulls = Pulls::start(origin.clone(), &Registry::new()).unwrap();
    let (listener, url) = listener();
    pulls.configure(&[pull(&url, true)]);
    assert_eq!(state(&pulls), RemoteState::Idle);
    let asking = tokio::spawn({
        let origin = origin.clone();
        async move { ask(&origin, Method::GET, "/relay/live/a").await }
    });
    let source = tokio::time::timeout(LONG, listener.accept()).await.unwrap().unwrap();
    send(&source).await;
    let answer = tokio::time::timeout(LONG, asking).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // While somebody reads it goes on.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(state(&pulls), RemoteState::Live);
    drop(answer);
    until("its end", || origin.stream(&key()).is_none() && state(&pulls) == RemoteState::Idle).await;
    drop(source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_what_cannot_be_had_is_told() {
    let origin = quick();
    let pulls = Pulls::start(origin.clone(), &Registry::new()).unwrap();
    // Nobody listens there by RTSP.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    pulls.configure(&[pull(&format!("rtsp://u:hunter2@{free}/a"), true)]);
    let answer = ask(&origin, Method::GET, "/relay/live/a").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ask(&origin, Method::GET, "/live/a/index.m3u8").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(ask(&origin, Method::GET, "/relay/live/b").await.status(), StatusCode::NOT_FOUND);
    until("nobody wants it", || state(&pulls) == RemoteState::Idle).await;
}

#[tokio::test]
async fn the_configured_pull_of_a_stream_holds_and_there_are_no_more_than_may_be() {
    let mut config = Config::default();
    config.remote.max_pulls = 2;
    let pulls = Pulls::start(origin(config), &Registry::new()).unwrap();
    let of = |stream: &str, url: &str| PullConfig { stream: stream.to_owned(), ..pull(url, true) };
    pulls.order(&[of("live/a", "srt://192.0.2.1:1"), of("live/b", "srt://192.0.2.1:2")]);
    pulls.configure(&[of("live/a", "srt://192.0.2.9:1"), of("live/c", "srt://192.0.2.9:3")]);
    let list: Vec<_> = pulls.list().into_iter().map(|pull| (pull.name, pull.configured)).collect();
    assert_eq!(list, [("a".to_owned(), true), ("c".to_owned(), true)]);
    pulls.configure(&[]);
    let list: Vec<_> = pulls.list().into_iter().map(|pull| (pull.name, pull.configured)).collect();
    assert_eq!(list, [("a".to_owned(), false), ("b".to_owned(), false)]);
}
