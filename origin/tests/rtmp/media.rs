//! Media that is wrong or changes.

use bytes::Bytes;
use media_core::flv::{Tag, TagKind};
use media_core::hub::Unit;
use media_core::rtmp::{Kind, Message};

use super::support::*;

#[tokio::test]
async fn audio_without_its_configuration_is_refused_alone_and_left_out_beside_video() {
    let server = Server::open().await;
    let tags = clip();
    let broken = |tag: &&Tag| !(tag.kind == TagKind::Audio && is_sequence_header(tag));
    let mut client = server.publish("live/sound").await.unwrap();
    let frame = tags.iter().find(|t| t.kind == TagKind::Audio && is_frame(t)).unwrap();
    for n in 0..200 {
        client.send(&message(frame, n * 23)).await;
    }
    let (code, description) = client.refused().await;
    assert_eq!(code, "NetStream.Publish.Rejected");
    assert!(description.contains("sequence header"), "{description}");

    let mut client = server.publish("live/both").await.unwrap();
    let mut consumer = server.consumer(&key("live", "both"));
    let messages = tags.iter().filter(broken).take(300);
    let messages = messages.map(|t| (message(t, 0), t.kind == TagKind::Video && is_frame(t)));
    let got = in_lockstep(&mut client, &mut consumer, messages).await;
    assert_eq!(got.last().unwrap().tracks.tracks.len(), 1);
    assert!(server.metric("weir_origin_rtmp_bad_messages_total") > 200.0);
}

#[tokio::test]
async fn a_broken_configuration_in_mid_stream_does_not_end_the_stream() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    let bodies: [&[u8]; 4] = [
        b"\x17\x00",
        b"\x17\x00\x00\x00\x00\x01\x64\x00\x1f\xff\xe1\x00\x04\x67\xff\xff\xff\x01\x00\x01\x68",
        b"\xaf\x00\xff",
        b"\x22\x00",
    ];
    for body in bodies {
        let kind = if body[0] == 0xaf { Kind::Audio } else { Kind::Video };
        witness.client.send(&Message { kind, timestamp_ms: 1000, body: Bytes::from_static(body) }).await;
    }
    witness.still_arrives().await;
    assert_eq!(server.metric("weir_origin_rtmp_bad_messages_total"), 4.0);
}

/// A sequence header of another picture than the clip's: 4:2:2, 100 × 76 or so.
const OTHER_PICTURE: &[u8] = b"\x17\x00\x00\x00\x00\x01\x7a\x00\x0d\xff\xe1\x00\x1a\x67\x7a\x00\x0d\xb6\xcd\x94\x14\x19\xf8\xdc\x04\x40\x00\x00\x03\x00\x40\x00\x00\x0f\x03\xc5\x0a\x65\x80\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfe\xfa\xfa\x00";

#[tokio::test]
async fn a_picture_that_changes_in_mid_stream_is_a_new_set_of_tracks() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let mut consumer = server.consumer(&key("live", "a"));
    let video: Vec<_> = clip().into_iter().filter(|t| t.kind == TagKind::Video).collect();
    let keyframe = video.iter().find(|t| is_frame(t)).unwrap();
    let first = video.iter().take(10).map(|t| (message(t, 0), is_frame(t)));
    let before = in_lockstep(&mut client, &mut consumer, first).await.pop().unwrap();
    let body = Bytes::from_static(OTHER_PICTURE);
    client.send(&Message { kind: Kind::Video, timestamp_ms: 1000, body }).await;
    let after =
        in_lockstep(&mut client, &mut consumer, [(message(keyframe, 1000), true)]).await.pop().unwrap();
    assert_eq!(after.sequence, before.sequence + 1);
    assert!(after.tracks.version > before.tracks.version);
    assert_eq!(after.tracks.epoch, before.tracks.epoch);
    let size = |unit: &Unit| unit.track().unwrap().video().map(|v| (v.width, v.height)).unwrap();
    assert_ne!(size(&before), size(&after));
}

#[tokio::test]
async fn codecs_that_are_not_carried_are_refused_by_name() {
    let server = Server::open().await;
    let mut client = server.publish("live/h263").await.unwrap();
    for n in 0..200 {
        let body = Bytes::from_static(b"\x12\x00\x00\x84");
        client.send(&Message { kind: Kind::Video, timestamp_ms: n * 40, body }).await;
    }
    let (code, description) = client.refused().await;
    assert_eq!(code, "NetStream.Publish.Rejected");
    assert!(description.contains("video codec 2"), "{description}");
}

#[tokio::test]
async fn clocks_that_jump_wrap_or_run_backwards_come_out_in_order() {
    const HOUR_MS: u32 = 3_600_000;
    let server = Server::open().await;
    let tags = clip();
    let frames: Vec<_> = tags.iter().filter(|t| t.kind == TagKind::Video && is_frame(t)).collect();
    let shifts: [(&str, [u32; 3]); 4] = [
        ("jumps", [0, HOUR_MS, 0]),
        ("back", [HOUR_MS, 0, HOUR_MS]),
        ("wraps", [0u32.wrapping_sub(300), 0u32.wrapping_sub(300), 0u32.wrapping_sub(300)]),
        ("runs", [5000, 4000, 3000]),
    ];
    for (name, shifts) in shifts {
        let mut client = server.publish(&format!("live/{name}")).await.unwrap();
        let mut consumer = server.consumer(&key("live", name));
        client.send_all(tags.iter().filter(|t| t.kind == TagKind::Video && is_sequence_header(t))).await;
        let messages = frames.iter().take(60).enumerate().map(|(n, t)| (message(t, shifts[n / 20]), true));
        let got = in_lockstep(&mut client, &mut consumer, messages).await;
        let times: Vec<_> = got.iter().map(|u| u.frame.dts).collect();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{name}: {times:?}");
        let span_ms = (times[59].0 - times[0].0) / 90;
        assert!(span_ms < 10_000, "{name}: {span_ms} ms for 60 frames");
    }
}
