//! Who publishes and plays: keys, second publishers, kicks, drains.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media_core::flv::TagKind;
use media_core::hub::Phase;
use media_core::rtmp::chunk::{self};
use media_core::rtmp::client::{self};
use media_core::rtmp::{Kind, Message};
use origin::ingest::rtmp::{Handoff, OnPlay};
use origin::{Config, auth};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::support::*;

#[tokio::test]
async fn a_publisher_becomes_a_stream_and_leaves_it_interrupted() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let mut consumer = server.consumer(&key("live", "a"));
    let tags = clip();
    let first = tags.iter().position(|t| t.kind == TagKind::Video && is_frame(t)).unwrap();
    client.send_all(&tags[..first]).await;
    let messages = tags[first..].iter().map(|t| (message(t, 0), is_frame(t)));
    let got = in_lockstep(&mut client, &mut consumer, messages).await;
    assert_eq!(got[0].tracks.tracks.len(), 2);
    assert!(got[0].is_join_point());
    let stream = server.origin.registry().stream(&key("live", "a")).unwrap();
    assert_eq!(stream.snapshot().phase, Phase::Live);
    drop(client);
    within("the interruption", async {
        while stream.snapshot().phase == Phase::Live {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stream.snapshot().phase, Phase::Interrupted);
    let mut client = server.publish("live/a").await.unwrap();
    client.send_all(&tags[..20]).await;
    let again = units(&mut consumer, 1).await;
    assert!(again[0].tracks.epoch > got[0].tracks.epoch, "the same stream goes on under a new epoch");
}

#[tokio::test]
async fn keys_are_asked_for_and_can_be_replaced() {
    let rule = |key: &str| auth::Key { streams: "live/*".to_owned(), key: key.to_owned() };
    let config = |keys| Config { auth: auth::Config { mode: auth::Mode::Keys, keys }, ..Config::default() };
    let server = Server::start(config(vec![rule("s3cret")]), None).await;
    let (code, description) = refused(server.publish("live/a").await);
    assert_eq!(code, "NetStream.Publish.Denied");
    assert!(description.contains("?key="), "{description}");
    assert_eq!(refused(server.publish("live/a?key=wrong").await).0, "NetStream.Publish.Denied");
    assert_eq!(refused(server.publish("other/a?key=s3cret").await).0, "NetStream.Publish.Denied");
    assert!(server.origin.registry().streams().is_empty());
    let _first = server.publish("live/a?key=s3cret").await.unwrap();
    server.ingest.reload(&config(vec![rule("new")]));
    assert_eq!(refused(server.publish("live/b?key=s3cret").await).0, "NetStream.Publish.Denied");
    let _second = server.publish("live/b?key=new").await.unwrap();
    assert_eq!(server.metric("weir_origin_rtmp_refused_publishes_total"), 4.0);
    assert_eq!(server.origin.publishers(), 2);
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    let (code, description) = refused(server.publish("live/good").await);
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(description.contains("live/good is being published already"), "{description}");
    witness.still_arrives().await;

    let mut config = Config::default();
    config.streams.takeover = true;
    let server = Server::start(config, None).await;
    let mut first = server.publish("live/a").await.unwrap();
    let _second = server.publish("live/a").await.unwrap();
    let (code, description) = first.refused().await;
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(description.contains("took the stream over"), "{description}");
}

#[tokio::test]
async fn a_kicked_publisher_is_told_so() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    assert!(server.origin.kick(&key("live", "a")));
    assert_eq!(client.refused().await.1, "an operator ended the stream");
}

#[tokio::test]
async fn players_are_handed_on_with_their_session() {
    let (handed, mut handoffs) = mpsc::channel::<Handoff>(1);
    let on_play: OnPlay = Box::new(move |handoff| assert!(handed.try_send(handoff).is_ok()));
    let server = Server::start(Config::default(), Some(on_play)).await;
    let serve = async {
        let mut handoff = handoffs.recv().await.unwrap();
        assert_eq!((handoff.request.app.as_str(), handoff.request.name.as_str()), ("live", "a"));
        handoff.session.accept_play(handoff.request.id).unwrap();
        while let Some(bytes) = handoff.session.poll_output() {
            handoff.socket.write_all(&bytes).await.unwrap();
        }
        handoff
    };
    let (player, mut handoff) = tokio::join!(server.play("live/a"), serve);
    let mut player = player.unwrap();
    // Bytes made for all viewers alike.
    let body = Bytes::from(vec![0x17; 100_000]);
    let mut wire = BytesMut::new();
    let header = Kind::Video.header(handoff.request.id, 70_000_000);
    chunk::write(&mut wire, media_core::rtmp::CHUNK_SIZE, &header, &[&body]).unwrap();
    handoff.socket.write_all(&wire).await.unwrap();
    let expected = Message { kind: Kind::Video, timestamp_ms: 70_000_000, body };
    assert!(player.event().await.unwrap() == client::Event::Media(expected));
}

#[tokio::test]
async fn players_that_nobody_serves_are_told_so() {
    let server = Server::open().await;
    assert_eq!(refused(server.play("live/a").await).0, "NetStream.Play.Failed");
}

#[tokio::test]
async fn a_drain_takes_no_more_publishers_and_tells_those_there_are() {
    let mut server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let origin = server.origin.clone();
    server.drain.take().unwrap().send(()).unwrap();
    origin.drain(Duration::ZERO).await;
    assert_eq!(client.refused().await.0, "NetConnection.Connect.AppShutdown");
    drop(client);
    within("the end of the listener", server.task).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
