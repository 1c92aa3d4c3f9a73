//! RTMP clients that behave badly: each is refused, costs the others nothing, and leaves nothing behind.

use std::net::SocketAddr;

use super::support::clip::Clip;
use super::support::memory::assert_costs_less_than_1_mb;
use super::support::rtmp::{COMMAND, Client, Publication, SET_CHUNK_SIZE, c0_c1, header};
use super::support::weir::Weir;
use super::support::within;

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// What the server is sent, and by whom.
struct Attack {
    what: &'static str,
    by: By,
    bytes: Vec<u8>,
}

/// How far the attacker has come before it attacks.
#[derive(Clone, Copy)]
enum By {
    /// A connection.
    Stranger,
    /// A handshake.
    Client,
    /// An accepted publish.
    Publisher,
}

/// A chunk header on a chunk stream above 319 (RTMP 1.0 §5.3.1.1).
fn long_header(chunk_stream: u16, length: u32, kind: u8) -> Vec<u8> {
    let [low, high] = (chunk_stream - 64).to_le_bytes();
    let mut out = vec![1, low, high];
    out.extend(&header(0, 0, length, kind, 1)[1..]);
    out
}

/// A connect command in chunks of the initial size, with something behind the transaction id.
fn connect_with(argument: &[u8]) -> Vec<u8> {
    let mut body = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0".to_vec();
    body.extend(argument);
    let mut out = header(3, 0, u32::try_from(body.len()).unwrap(), COMMAND, 0);
    for (index, chunk) in body.chunks(128).enumerate() {
        if index > 0 {
            out.push(0xc3);
        }
        out.extend(chunk);
    }
    out
}

fn attacks() -> Vec<Attack> {
    let attack = |what, by, bytes| Attack { what, by, bytes };
    let set_chunk_size =
        |size: u32| [header(2, 0, 4, SET_CHUNK_SIZE, 0), size.to_be_bytes().to_vec()].concat();
    let announced = [header(6, 0, 0x00ff_ffff, VIDEO, 1), vec![0; 10]].concat();
    let many_ids =
        (320..=65_535u16).flat_map(|id| [long_header(id, 1, AUDIO), vec![0xaf]].concat()).collect::<Vec<_>>();
    // The first 65,536 bytes of messages of 4 MB, on 60 chunk streams.
    let interleaved = (3..63u8)
        .flat_map(|id| [header(id, 0, 4 << 20, VIDEO, 1), vec![0; 65_536]].concat())
        .collect::<Vec<_>>();
    vec![
        attack("garbage", By::Stranger, vec![0xa5; 10_000]),
        attack("another protocol", By::Stranger, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        attack("half a handshake", By::Stranger, c0_c1()[..700].to_vec()),
        attack("no more than a handshake", By::Client, vec![]),
        attack("200,000 nested arrays", By::Client, connect_with(&[0x0a, 0, 0, 0, 1].repeat(200_000))),
        attack("12,000 nested arrays", By::Client, connect_with(&[0x0a, 0, 0, 0, 1].repeat(12_000))),
        attack("a string of 4 GiB", By::Client, connect_with(b"\x0c\xff\xff\xff\xffaaaa")),
        attack("chunk size 0", By::Publisher, set_chunk_size(0)),
        attack("chunk size 2^31", By::Publisher, set_chunk_size(1 << 31)),
        attack("16 MB announced", By::Publisher, announced),
        attack("65,216 chunk streams", By::Publisher, many_ids),
        attack("interleaved messages without end", By::Publisher, interleaved),
    ]
}

/// Attacks, and waits until the server has ended the connection.
async fn carry_out(server: SocketAddr, attack: &Attack) {
    let mut client = match attack.by {
        By::Stranger => {
            let mut socket = tokio::net::TcpStream::connect(server).await.unwrap();
            return within(attack.what, async {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                // The server may close before all is written, by a reset, too.
                let _ = socket.write_all(&attack.bytes).await;
                let _ = socket.read_to_end(&mut Vec::new()).await;
            })
            .await;
        }
        By::Client => Client::connect(server).await.unwrap(),
        By::Publisher => Client::publisher(server, "live/bad").await,
    };
    let _ = client.sender.raw(&attack.bytes).await;
    within(attack.what, client.receiver.until_closed()).await;
}

/// Short waits, so that the test has them, too.
const IMPATIENT: &str = "[origin.rtmp]\nhandshake_timeout_ms = 1000\nrequest_timeout_ms = 1000\n";

#[tokio::test]
async fn hostile_bytes_are_refused_and_cost_nothing() {
    let weir = Weir::configured(IMPATIENT).await;
    let witness = Publication::start(weir.rtmp, "live/good", &Clip::small().await).await;
    let before = weir.until_live("live/good", 2).await;
    let attacks = attacks();
    assert_costs_less_than_1_mb(&weir, async || {
        for attack in &attacks {
            carry_out(weir.rtmp, attack).await;
            if matches!(attack.by, By::Publisher) {
                // Its name is free for the next one.
                weir.until_stream("live/bad", "left", |info| info["state"] == "interrupted").await;
            }
        }
    })
    .await;
    assert!(!witness.has_ended());
    weir.until_stream("live/good", "still coming in", |info| {
        info["bytes_in"].as_u64() > before["bytes_in"].as_u64() && info["epoch"] == before["epoch"]
    })
    .await;
}

#[tokio::test]
async fn a_wrong_key_is_told_before_the_close() {
    let keys = "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"s3cret\" }]\n";
    let weir = Weir::configured(keys).await;
    for name in ["a", "a?key=wrong", "a?key="] {
        let mut client = Client::open(weir.rtmp, "live").await.unwrap();
        let status = client.publish(name).await.expect("a status comes before the close");
        assert!(status.says("NetStream.Publish.Denied"), "{name}");
        assert!(status.says("error"), "{name}");
        client.receiver.until_closed().await;
    }
    assert!(weir.stream("live/a").await.is_none());
    Client::publisher(weir.rtmp, "live/a?key=s3cret").await;
}

#[tokio::test]
async fn a_live_name_is_taken() {
    let weir = Weir::start().await;
    let first = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    let before = weir.until_live("live/a", 2).await;
    let mut second = Client::open(weir.rtmp, "live").await.unwrap();
    let status = second.publish("a").await.expect("a status comes before the close");
    assert!(status.says("NetStream.Publish.BadName"));
    second.receiver.until_closed().await;
    assert!(!first.has_ended());
    let after = weir.stream("live/a").await.unwrap();
    assert_eq!((&after["epoch"], &after["state"]), (&before["epoch"], &before["state"]));
}

#[tokio::test]
async fn names_that_no_stream_can_have_leave_nothing_behind() {
    let weir = Weir::start().await;
    let long = "a".repeat(8192);
    for (app, name) in
        [("live", ".."), ("live", "a%2fb"), ("live", "a\0b"), ("live", &long), ("api", "a"), ("live/..", "a")]
    {
        let mut client = Client::open(weir.rtmp, app).await.unwrap();
        let status = client.publish(name).await.expect("a status comes before the close");
        assert!(status.says("NetStream.Publish.BadName"), "{app} {name:.20}");
        client.receiver.until_closed().await;
    }
    assert_eq!(weir.get("/api/v1/streams").await.json()["streams"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_picture_may_change_in_mid_stream() {
    let weir = Weir::start().await;
    let (small, large) = (Clip::small().await, Clip::large().await);
    let mut client = Client::publisher(weir.rtmp, "live/a").await;
    for tag in small.configurations.iter().chain(&small.frames) {
        client.sender.tag(tag).await.unwrap();
    }
    let is = |width: u64| move |info: &serde_json::Value| info["tracks"][0]["width"] == width;
    let before = weir.until_stream("live/a", "160 wide", is(160)).await;
    for tag in large.configurations.iter().chain(&large.frames) {
        let mut tag = tag.clone();
        tag.timestamp += 4000;
        client.sender.tag(&tag).await.unwrap();
    }
    let after = weir.until_stream("live/a", "320 wide", is(320)).await;
    assert_eq!((&after["epoch"], &after["state"]), (&before["epoch"], &before["state"]));
}
