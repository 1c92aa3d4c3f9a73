//! What comes over RTMP from somebody who means no good: it ends in a refusal, costs the other streams
//! nothing and leaves no memory behind.

use crate::support::innocent::{Innocent, garbage, throw};
use crate::support::memory::assert_costs_less_than_1_mb;
use crate::support::rtmp::{self, Amf, COMMAND, Client, Message, SET_CHUNK_SIZE, c0_c1, command, header};
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

/// A weir where those who dawdle are soon thrown out.
const IMPATIENT: &str = "[origin.rtmp]\nhandshake_timeout_ms = 1000\nrequest_timeout_ms = 1000\n";

/// Runs an attack as its rules say: twice, beside an innocent stream, with an eye on memory.
async fn attacked<F: Future<Output = ()>>(attack: impl Fn(std::net::SocketAddr) -> F) {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured(IMPATIENT).await;
    let innocent = Innocent::start(&weir).await;
    assert_costs_less_than_1_mb(&weir, || attack(weir.rtmp)).await;
    innocent.assert_undisturbed().await;
    let streams = weir.get("/api/v1/streams").await.json();
    assert_eq!(streams["total"], 1, "{streams}");
    let (status, log) = weir.stop().await;
    assert!(status.success() && !log.contains("panicked"), "{log}");
}

/// After the handshake and `connect`, sends this and waits for the connection's end; returns the last
/// message.
async fn after_connect(server: std::net::SocketAddr, bytes: &[u8]) -> Option<Message> {
    let mut client = Client::open(server, "live").await.unwrap();
    // The server may close before it has read all of it.
    let _ = client.sender.raw(bytes).await;
    let mut last = None;
    while let Some(message) = client.receiver.message().await {
        last = Some(message);
    }
    last
}

#[tokio::test]
async fn garbage_instead_of_a_handshake() {
    attacked(async |server| {
        for seed in 1..=50 {
            throw(server, &garbage(seed, 5000)).await;
        }
        throw(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut bytes = vec![3];
        bytes.extend(garbage(7, 20_000));
        throw(server, &bytes).await;
    })
    .await;
}

#[tokio::test]
async fn garbage_after_the_handshake() {
    attacked(async |server| {
        for seed in 1..=50 {
            let mut client = Client::connect(server).await.unwrap();
            // Chunk headers of a kind, so that something is tried with them.
            let mut bytes = header(3, 0, 60, COMMAND, 0);
            bytes.extend(garbage(seed, 4000));
            let _ = client.sender.raw(&bytes).await;
            client.receiver.until_closed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn half_a_handshake() {
    attacked(async |server| {
        let halves = [0, 1, 2, 800, 1536].map(|length| async move {
            // Nothing more follows: the server ends it.
            throw(server, &c0_c1()[..length]).await;
        });
        futures_util::future::join_all(halves).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_after_the_handshake() {
    attacked(async |server| {
        Client::connect(server).await.unwrap().receiver.until_closed().await;
        Client::open(server, "live").await.unwrap().receiver.until_closed().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_of_16_mb_of_which_10_bytes_come() {
    attacked(async |server| {
        let mut bytes = header(6, 0, 0x00ff_ffff, 9, 1);
        bytes.extend([0; 10]);
        after_connect(server, &bytes).await;
    })
    .await;
}

#[tokio::test]
async fn a_publisher_announces_16_mb_of_which_10_bytes_come() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured(IMPATIENT).await;
    let innocent = Innocent::start(&weir).await;
    assert_costs_less_than_1_mb(&weir, || async {
        let mut client = Client::publisher(weir.rtmp, "live/bad").await;
        let _ = client.sender.raw(&[header(6, 0, 0x00ff_ffff, 9, 1), vec![0; 10]].concat()).await;
        client.receiver.until_closed().await;
        // It never had a frame, so there is nothing to wait for its return with.
        weir.until_gone("live/bad").await;
    })
    .await;
    innocent.assert_undisturbed().await;
}

#[tokio::test]
async fn chunk_sizes_of_0_and_of_2_to_the_31() {
    attacked(async |server| {
        for size in [0u32, 1 << 31, u32::MAX] {
            let mut bytes = header(2, 0, 4, SET_CHUNK_SIZE, 0);
            bytes.extend(size.to_be_bytes());
            bytes.extend(header(3, 0, 5, COMMAND, 0));
            after_connect(server, &bytes).await;
        }
    })
    .await;
}

/// The header of a chunk of format 0 on any chunk stream (RTMP 1.0 §5.3.1.1).
fn any_header(chunk_stream: u32, length: u32) -> Vec<u8> {
    let rest = header(0, 0, length, 9, 1);
    let mut out = match chunk_stream {
        ..64 => vec![u8::try_from(chunk_stream).unwrap()],
        64..320 => vec![0, u8::try_from(chunk_stream - 64).unwrap()],
        _ => {
            let id = u16::try_from(chunk_stream - 64).unwrap();
            [vec![1], id.to_le_bytes().to_vec()].concat()
        }
    };
    out.extend(&rest[1..]);
    out
}

#[tokio::test]
async fn all_chunk_stream_ids_that_there_are() {
    attacked(async |server| {
        let mut bytes = Vec::new();
        for id in 2..65_600 {
            bytes.extend(any_header(id, 1));
            bytes.push(0);
        }
        after_connect(server, &bytes).await;
    })
    .await;
}

#[tokio::test]
async fn unfinished_messages_on_many_chunk_streams() {
    attacked(async |server| {
        let mut client = Client::open(server, "live").await.unwrap();
        // The client announced chunks of 64 KiB: every id below 64 gets one of a message of a megabyte,
        // round after round.
        let chunk = vec![0; 65_536];
        'rounds: for round in 0..15 {
            for id in 4..64u8 {
                let mut bytes = if round == 0 { any_header(id.into(), 1 << 20) } else { vec![0xc0 | id] };
                bytes.extend(&chunk);
                if client.sender.raw(&bytes).await.is_err() {
                    break 'rounds;
                }
            }
        }
        client.receiver.until_closed().await;
    })
    .await;
}

/// A command whose arguments are these bytes, as one message.
fn command_with(name: &str, arguments: &[u8]) -> Vec<u8> {
    let mut body = command(&[Amf::Text(name), Amf::Number(4.0)]);
    body.extend(arguments);
    let mut bytes = header(3, 0, u32::try_from(body.len()).unwrap(), COMMAND, 0);
    for (index, chunk) in body.chunks(65_536).enumerate() {
        if index > 0 {
            bytes.push(0xc3);
        }
        bytes.extend(chunk);
    }
    bytes
}

#[tokio::test]
async fn arrays_in_arrays_200_000_deep() {
    attacked(async |server| {
        // Strict arrays with one element, and objects with one property, each the next (AMF 0 §2.12, §2.5).
        let arrays = [0x0a, 0, 0, 0, 1].repeat(200_000);
        let objects = [3, 0, 1, b'a'].repeat(200_000);
        let metadata = [header(4, 0, 1_000_000, 18, 1), arrays.clone()].concat();
        // Deep, but in a message of a size that may be.
        let shallow = &arrays[..60_000];
        for bytes in [
            command_with("connect", &arrays),
            command_with("connect", &objects),
            command_with("connect", shallow),
            metadata,
        ] {
            after_connect(server, &bytes).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_string_of_4_gib() {
    attacked(async |server| {
        // A long string (AMF 0 §2.14), and an ECMA array, with lengths that lie.
        for lie in [[0x0c, 0xff, 0xff, 0xff, 0xff, b'a'], [0x08, 0xff, 0xff, 0xff, 0xff, 0]] {
            after_connect(server, &command_with("releaseStream", &lie)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_key_is_told_before_the_end() {
    let _turn = turn::take(Load::Light).await;
    let keys = "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"right\" }, { streams = \"other/b*\", key = \"two\" }]\n";
    let weir = Weir::configured(keys).await;
    for (stream, welcome) in [
        ("live/a", false),
        ("live/a?key=wrong", false),
        ("live/a?key=", false),
        ("live/a?key=right", true),
        ("other/b?key=right", false),
        ("live/b?key=two", false),
    ] {
        let (app, name) = stream.split_once('/').unwrap();
        let mut client = Client::open(weir.rtmp, app).await.unwrap();
        let status = client.publish(name).await.expect("an onStatus before the end");
        assert_eq!(status.says("NetStream.Publish.Start"), welcome, "{stream}");
        if !welcome {
            // OBS shows an error and stops retrying on a status of level `error`.
            assert!(status.says("error") && status.says("NetStream.Publish."), "{stream}");
            assert!(!status.says("right") && !status.says("two"), "{stream}");
            client.receiver.until_closed().await;
        }
    }
}

#[tokio::test]
async fn a_name_that_is_live_stays_with_its_publisher() {
    attacked(async |server| {
        for _ in 0..20 {
            let mut client = Client::open(server, "live").await.unwrap();
            let status = client.publish("innocent").await.expect("an onStatus before the end");
            assert!(status.says("NetStream.Publish.BadName"), "{:?}", String::from_utf8_lossy(&status.body));
            client.receiver.until_closed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn names_that_are_no_names() {
    attacked(async |server| {
        let long = "a".repeat(8192);
        for name in [
            "",
            "..",
            ".",
            "a/b",
            "a/../b",
            "../a",
            "a%2fb",
            "a\0b",
            "a\nb",
            "a b",
            "\u{202e}a",
            long.as_str(),
        ] {
            let mut client = Client::open(server, "live").await.unwrap();
            let status = client.publish(name).await.expect("an onStatus before the end");
            assert!(!status.says("NetStream.Publish.Start"), "{name:?} was taken");
            client.receiver.until_closed().await;
        }
        for app in ["api", "..", "a/b/c", "a\0"] {
            let mut client = rtmp::Client::connect(server).await.unwrap();
            let arguments = [("app", Amf::Text(app)), ("tcUrl", Amf::Text("rtmp://x/y"))];
            let connect = [Amf::Text("connect"), Amf::Number(1.0), Amf::Object(&arguments)];
            client.sender.command(0, &connect).await.unwrap();
            client
                .sender
                .command(0, &[Amf::Text("createStream"), Amf::Number(2.0), Amf::Null])
                .await
                .unwrap();
            // Refused at `connect` or at `publish`; in either case never published.
            let publish =
                [Amf::Text("publish"), Amf::Number(3.0), Amf::Null, Amf::Text("a"), Amf::Text("live")];
            let _ = client.sender.command(1, &publish).await;
            while let Some(message) = client.receiver.message().await {
                assert!(!message.says("NetStream.Publish.Start"), "{app:?} was taken");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_publisher_that_sends_nothing_is_thrown_out() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured("[origin.rtmp]\nfirst_frame_timeout_ms = 500\nidle_timeout_ms = 500\n").await;
    let mut silent = Client::publisher(weir.rtmp, "live/a").await;
    silent.receiver.until_closed().await;
    weir.until_gone("live/a").await;
    // One that had begun, and then fell silent.
    let clip = crate::support::clip::Clip::small().await;
    let mut falls_silent = Client::publisher(weir.rtmp, "live/b").await;
    for tag in clip.configurations.iter().chain(&clip.frames[..10]) {
        falls_silent.sender.tag(tag).await.unwrap();
    }
    weir.until_live("live/b", 2).await;
    falls_silent.receiver.until_closed().await;
}
