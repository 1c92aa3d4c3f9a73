//! One pull a stream: shared, lingering, resumed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::client::{Player, Server, open, text};
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{key, until};
use crate::fanout::{Format, Start};
use crate::sound::Wanted;
use crate::{Config, Edge, FeedConfig};

fn config(change: impl FnOnce(&mut FeedConfig)) -> Config {
    let mut config = Config::default();
    change(&mut config.feed);
    config
}

#[tokio::test]
async fn all_viewers_of_all_kinds_share_one_pull() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let responses = futures_util::future::join_all((0..50).map(|_| server.get("/live/a.flv"))).await;
    let mut players: Vec<_> = responses.into_iter().map(Player::new).collect();
    for player in &mut players {
        assert_eq!(player.number().await, Some(0));
    }
    assert_eq!(origin.count("/relay/live/a"), 1);
    assert_eq!(server.edge.viewers(&key("a")).flv, 50);
    assert_eq!(server.edge.totals().viewers.flv, 50);
    assert_eq!(server.edge.viewers(&key("b")).total(), 0);
    relay.send(studio.picture(false, 100).bytes).await;
    for player in &mut players {
        assert_eq!(player.number().await, Some(1));
    }
    drop(players);
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    assert!(server.edge.totals().bytes_out > 0);
}

#[tokio::test(start_paused = true)]
async fn a_pull_lingers_after_the_last_viewer_and_then_ends() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let config = config(|feed| feed.linger_ms = 30_000);
    let edge = Edge::new(config, open(), origin.upstream(), None).unwrap();
    let join = || async {
        edge.shared.feeds.join(&key("a"), Format::Flv, (Start::Gop, Wanted::Published), 0).await.unwrap()
    };
    drop(join().await);
    // Who comes back within the time finds the pull.
    tokio::time::sleep(Duration::from_millis(29_999)).await;
    drop(join().await);
    assert_eq!(origin.count("/relay/live/a"), 1);
    let left = Instant::now();
    relay.dropped().await;
    assert_eq!(left.elapsed(), Duration::from_secs(30));
    // And who comes later begins another.
    let _relay = origin.relay("a");
    drop(join().await);
    assert_eq!(origin.count("/relay/live/a"), 2);
}

#[tokio::test]
async fn a_feed_that_rests_takes_all_that_has_come_of_a_connection_that_holds_one_piece() {
    let origin = Origin::default();
    let relay = origin.relay_holding("a", 1);
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    // One piece a rest would take more than half a minute, with a viewer and without.
    let burst = async |studio: &mut Studio| {
        for _ in 0..100 {
            relay.send(studio.picture(false, 100).bytes).await;
        }
    };
    let soon = Duration::from_secs(10);
    let first = opening(&studio.picture(true, 100));
    let (response, ()) = tokio::join!(server.get("/live/a.flv?latency=350"), relay.send(first));
    let mut player = Player::new(response);
    assert_eq!(player.number().await, Some(0));
    tokio::time::timeout(soon, burst(&mut studio)).await.unwrap();
    for number in 1..=100 {
        assert_eq!(player.number().await, Some(number));
    }
    drop(player);
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    tokio::time::timeout(soon, burst(&mut studio)).await.unwrap();
    let mut player = Player::new(server.get("/live/a.flv?latency=350").await);
    assert_eq!(player.number().await, Some(0));
    for number in 1..=200 {
        assert_eq!(player.number().await, Some(number));
    }
}

#[tokio::test]
async fn the_end_of_the_relay_is_the_end_of_the_stream() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    relay.send(studio.sound(10).bytes).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    drop(relay);
    assert_eq!(player.number().await, Some(1), "what waited for a picture is not lost");
    assert_eq!(player.number().await, None);
    assert_eq!(server.get("/live/a.flv").await.status(), 404);
}

#[tokio::test]
async fn viewers_wait_while_the_origin_is_lost_and_see_no_frame_twice() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    let keyframe = studio.picture(true, 100);
    relay.send(opening(&keyframe)).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let second = studio.picture(false, 100);
    relay.send(second.bytes.clone()).await;
    assert_eq!(player.number().await, Some(1));
    // It is gone for two attempts; then it begins again at its newest keyframe.
    origin.failure("/relay/live/a");
    origin.failure("/relay/live/a");
    let again = origin.relay("a");
    relay.fail().await;
    again.send(opening(&keyframe)).await;
    again.send(second.bytes).await;
    again.send(studio.picture(false, 100).bytes).await;
    assert_eq!(player.number().await, Some(2));
    assert_eq!((origin.count("/relay/live/a"), origin.count("/relay/live/a?after=1-1")), (1, 3));
    // Another publisher's numbers may begin anywhere; its epoch is higher.
    let mut other = Studio::new();
    other.republish(|_| {});
    again.send(other.picture(true, 100).bytes).await;
    assert_eq!(player.number().await, Some(0));
}

#[tokio::test]
async fn a_feed_leaves_an_older_epoch_and_waits_for_what_the_newer_one_begins_with() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let (mut studio, mut other) = (Studio::new(), Studio::new());
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let newer = origin.relay("a");
    other.republish(|_| {});
    server.edge.moved(&key("a"), media_core::hub::Epoch(2));
    relay.dropped().await;
    until(|| origin.count("/relay/live/a?after=1-0") == 1).await;
    // It has nothing to send yet.
    tokio::task::yield_now().await;
    newer.send(opening(&other.picture(true, 100))).await;
    newer.send(other.picture(false, 100).bytes).await;
    assert_eq!((player.number().await, player.number().await), (Some(0), Some(1)));
    assert_eq!(origin.count("/relay/live/a?after=1-0"), 1, "it was asked for once");
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_frame_costs_no_frame_and_repeats_none() {
    let origin = Origin::default();
    let mut relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    for (number, share) in (1..).zip([0, 1, 5, 9, 10]) {
        let frame = studio.picture(false, 100);
        let cut = (frame.bytes.len() - 1) * share / 10;
        let again = origin.relay("a");
        relay.send(frame.bytes.slice(..cut)).await;
        relay.fail().await;
        // An origin that still has what the edge has goes on behind it.
        again.send(frame.opening()).await;
        again.send(frame.tag).await;
        assert_eq!(player.number().await, Some(number), "cut behind {cut} bytes");
        assert_eq!(origin.count(&format!("/relay/live/a?after=1-{}", number - 1)), 1);
        relay = again;
    }
}

#[tokio::test]
async fn viewers_are_let_go_when_the_origin_stays_away() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, config(|feed| feed.grace_ms = 50), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    relay.fail().await;
    assert_eq!(player.number().await, None);
    assert_eq!(server.edge.viewers(&key("a")).flv, 0);
}

#[tokio::test]
async fn an_origin_that_cannot_be_had_is_another_thing_than_an_absent_stream() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    origin.failure("/relay/live/a");
    let response = server.get("/live/a.flv").await;
    assert_eq!(response.status(), 502);
    let response = server.get("/live/b.flv").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(text(response).await.contains(r#""detail":"the stream is not live""#));
}

#[tokio::test]
async fn an_origin_that_sends_garbage_ends_in_the_grace_period() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, config(|feed| feed.grace_ms = 50), None).await;
    relay.send(Bytes::from(vec![0xa5; 4096])).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, None);
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_given_up() {
    let origin = Origin::default();
    let _held = origin.held("/relay/live/a");
    let server = Server::with(&origin, config(|feed| feed.connect_timeout_ms = 50), None).await;
    assert_eq!(server.get("/live/a.flv").await.status(), 502);
}

#[tokio::test]
async fn ten_thousand_absent_names_leave_nothing_behind() {
    let origin = Origin::default();
    let server = Server::with(&origin, config(|feed| feed.absent_ttl_ms = 600_000), None).await;
    let mut client = server.http2().await;
    for n in 0..10_000 {
        let request = http::Request::get(format!("http://edge/live/x{n}.flv"));
        let request = request.body(http_body_util::Empty::new()).unwrap();
        client.ready().await.unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 404);
    }
    assert_eq!(origin.requests().len(), 10_000);
    assert_eq!(server.edge.shared.feeds.len(), 0);
    // The last of them is still known, and costs the origin nothing.
    assert_eq!(server.get("/live/x9999.flv").await.status(), 404);
    assert_eq!(server.request(http::Method::HEAD, "/live/x9999.flv", &[]).await.status(), 404);
    assert_eq!(origin.requests().len(), 10_000);
}

#[tokio::test]
async fn a_stream_that_was_absent_can_be_had_once_that_is_forgotten() {
    let origin = Origin::default();
    let server = Server::with(&origin, config(|feed| feed.absent_ttl_ms = 0), None).await;
    assert_eq!(server.get("/live/a.flv").await.status(), 404);
    let relay = origin.relay("a");
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
}

#[tokio::test]
async fn no_more_streams_and_viewers_than_configured() {
    let origin = Origin::default();
    let (first, _second) = (origin.relay("a"), origin.relay("b"));
    let mut config = config(|feed| feed.max_feeds = 1);
    config.fanout.max_viewers_per_stream = 1;
    let server = Server::with(&origin, config, None).await;
    first.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let response = server.get("/live/b.flv").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(server.get("/live/a.flv").await.status(), 503);
    drop(player);
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
}

#[tokio::test]
async fn sound_is_not_held_back_when_the_pictures_stop() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    relay.send(studio.sound(10).bytes).await;
    let number = tokio::time::timeout(Duration::from_secs(30), player.number()).await;
    assert_eq!(number.unwrap(), Some(1));
}
