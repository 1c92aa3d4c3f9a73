//! What hostile and slow clients meet.

use bytes::BytesMut;
use media_core::amf0::Value;
use media_core::rtmp::chunk::{self, Header, type_id};
use media_core::rtmp::{Command, Refusal};
use origin::{Config, auth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

#[tokio::test]
async fn names_that_no_stream_can_have_are_refused_and_leave_nothing() {
    let server = Server::open().await;
    for path in ["live/..", "live/a%2fb", "live/a\0b", "api/a", "live/.a", "a/b/c", "live/ä/../b", "live/a b"]
    {
        let (code, _) = refused(server.publish(path).await);
        assert_eq!(code, "NetStream.Publish.BadName", "{path}");
    }
    let long = format!("live/{}", "a".repeat(8192));
    assert_eq!(refused(server.publish(&long).await).0, "NetStream.Publish.BadName");
    assert!(server.origin.registry().streams().is_empty());
}

#[tokio::test]
async fn connections_are_limited_and_places_given_back() {
    let mut config = Config::default();
    config.rtmp.max_connections_per_address = 2;
    let server = Server::start(config, None).await;
    let a = server.publish("live/a").await.unwrap();
    let _b = server.publish("live/b").await.unwrap();
    assert!(server.raw().await.until_closed("one too many").await.is_empty());
    assert_eq!(server.metric("weir_origin_rtmp_refused_connections_total"), 1.0);
    drop(a);
    within("the place to be free", async {
        while server.origin.publishers() > 1 {
            tokio::task::yield_now().await;
        }
        // The publisher is counted out just before its connection is.
        loop {
            let mut raw = server.raw().await;
            let _ = raw.socket.write_all(&[3; 1537]).await;
            if raw.socket.read_u8().await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_at_each_step() {
    let mut config = Config::default();
    config.rtmp.handshake_timeout_ms = 100;
    config.rtmp.request_timeout_ms = 100;
    config.rtmp.first_frame_timeout_ms = 100;
    config.rtmp.idle_timeout_ms = 100;
    let server = Server::start(config, None).await;
    let silent = server.raw().await;
    silent.until_closed("silent").await;
    let mut half = server.raw().await;
    half.socket.write_all(&[3; 700]).await.unwrap();
    half.until_closed("half").await;
    let mut idle = server.raw().await;
    idle.shake().await;
    idle.until_closed("idle").await;
    let mut no_frame = server.raw().await;
    no_frame.publish("live", "a").await;
    no_frame.until_closed("no_frame").await;
    let mut stalled = server.raw().await;
    stalled.publish("live", "b").await;
    stalled.message(type_id::AUDIO, 1, &[0xaf, 0, 0x12, 0x10]).await;
    stalled.until_closed("stalled").await;
    assert_eq!(server.metric("weir_origin_rtmp_closed_total"), 5.0);
}

/// What a client without manners sends, before or after it became a publisher.
fn attacks() -> Vec<(&'static str, bool, Vec<u8>)> {
    let one_chunk = |chunk_stream: u32, type_id: u8, body: &[u8]| {
        let mut wire = BytesMut::new();
        let header = Header { chunk_stream, type_id, stream_id: 1, timestamp_ms: 0 };
        chunk::write(&mut wire, 128, &header, &[body]).unwrap();
        wire.to_vec()
    };
    let announced_16_mb =
        [&[4, 0, 0, 0, 0xff, 0xff, 0xff, type_id::VIDEO, 1, 0, 0, 0][..], &[0; 10]].concat();
    let many_ids = (2..65_600u32).flat_map(|id| one_chunk(id, type_id::AUDIO, &[0xaf])).collect();
    // A chunk of 60,000 of a message of 4 MB, on each of 60 ids.
    let mut interleaved = one_chunk(2, type_id::SET_CHUNK_SIZE, &60_000u32.to_be_bytes());
    for id in 3..63u8 {
        interleaved.extend([id, 0, 0, 0, 0x40, 0, 0, type_id::VIDEO, 1, 0, 0, 0]);
        interleaved.extend(vec![0; 60_000]);
    }
    let connect = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0";
    let nested = [&connect[..], &[0x0a, 0, 0, 0, 1].repeat(200_000)].concat();
    let nested_short = [&connect[..], &[0x0a, 0, 0, 0, 1].repeat(12_000)].concat();
    let long_string = [&connect[..], b"\x0c\xff\xff\xff\xff", &[b'a'; 1000]].concat();
    vec![
        ("garbage", false, vec![0xa5; 10_000]),
        ("another protocol", false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a message of 16 MB announced", true, announced_16_mb),
        ("chunk size 0", true, one_chunk(2, type_id::SET_CHUNK_SIZE, &[0; 4])),
        ("chunk size 2^31", true, one_chunk(2, type_id::SET_CHUNK_SIZE, &[0x80, 0, 0, 0])),
        ("65,600 chunk streams", true, many_ids),
        ("interleaved partial messages", true, interleaved),
        ("200,000 nested arrays", true, one_chunk(3, type_id::COMMAND_AMF0, &nested)),
        ("12,000 nested arrays", true, one_chunk(3, type_id::COMMAND_AMF0, &nested_short)),
        ("a string of 4 GiB", true, one_chunk(3, type_id::COMMAND_AMF0, &long_string)),
    ]
}

#[tokio::test]
async fn hostile_bytes_end_their_own_connection_only() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    for (what, after_publish, bytes) in attacks() {
        let mut raw = server.raw().await;
        if after_publish {
            raw.publish("live", "bad").await;
        }
        // The server may close before it has read all.
        let _ = raw.socket.write_all(&bytes).await;
        raw.until_closed(what).await;
        witness.still_arrives().await;
        // Its name is free again at once.
        within("the attacker to be gone", async {
            while server.origin.publishers() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_refusal_is_read_even_if_more_was_sent_behind_it() {
    let server = Server::open().await;
    let refusal = Refusal::bad_name("");
    for _ in 0..20 {
        let mut raw = server.raw().await;
        raw.shake().await;
        let connect = Command {
            name: "connect".to_owned(),
            transaction: 1.0,
            object: Value::object([("app", Value::from("api"))]),
            arguments: vec![],
        };
        raw.message(type_id::COMMAND_AMF0, 0, &connect.body()).await;
        let publish = Command::new("publish", 3.0, vec!["a".into(), "live".into()]);
        raw.message(type_id::COMMAND_AMF0, 1, &publish.body()).await;
        for _ in 0..20 {
            raw.message(type_id::VIDEO, 1, &[0x17; 10_000]).await;
        }
        let said = raw.until_closed("refused").await;
        let code = refusal.code.as_bytes();
        assert!(said.windows(code.len()).any(|w| w == code));
    }
}

#[tokio::test]
async fn a_connection_cannot_publish_without_end() {
    let server = Server::open().await;
    let mut raw = server.raw().await;
    raw.publish("live", "0").await;
    for i in 1..=64 {
        let stop = Command::new("FCUnpublish", 0.0, vec!["a".into()]);
        raw.message(type_id::COMMAND_AMF0, 1, &stop.body()).await;
        let publish = Command::new("publish", 4.0, vec![i.to_string().as_str().into(), "live".into()]);
        raw.message(type_id::COMMAND_AMF0, 1, &publish.body()).await;
    }
    let said = raw.until_closed("one publish too many").await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("too many streams on one connection"));
    assert!(server.origin.registry().streams().is_empty());
}

#[tokio::test]
async fn one_packet_is_one_guess_of_a_key() {
    let keys = vec![auth::Key { streams: "live/*".to_owned(), key: "s3cret".to_owned() }];
    let auth = auth::Config { mode: auth::Mode::Keys, keys };
    let server = Server::start(Config { auth, ..Config::default() }, None).await;
    let mut raw = server.raw().await;
    raw.shake().await;
    let connect = Command {
        name: "connect".to_owned(),
        transaction: 1.0,
        object: Value::object([("app", Value::from("live"))]),
        arguments: vec![],
    };
    raw.message(type_id::COMMAND_AMF0, 0, &connect.body()).await;
    let mut packet = BytesMut::new();
    let header = Header { chunk_stream: 3, type_id: type_id::COMMAND_AMF0, stream_id: 1, timestamp_ms: 0 };
    for guess in ["a", "b", "c", "s3cret"] {
        let name = format!("a?key={guess}");
        let publish = Command::new("publish", 3.0, vec![name.as_str().into(), "live".into()]);
        let stop = Command::new("FCUnpublish", 0.0, vec!["a".into()]);
        for body in [publish.body(), stop.body()] {
            chunk::write(&mut packet, 128, &header, &[&body]).unwrap();
        }
    }
    raw.socket.write_all(&packet).await.unwrap();
    raw.until_closed("refused").await;
    assert_eq!(server.metric("weir_origin_rtmp_refused_publishes_total"), 1.0);
    assert_eq!(server.metric("weir_origin_publishes_total"), 0.0);
}
