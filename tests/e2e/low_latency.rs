//! `?latency=low`: a viewer starts at the live edge, with the next keyframe, not with the GOP that is on its way.

use crate::support::clip::{Clip, FRAME_MS, SECONDS};
use crate::support::flv::{Tag, VIDEO, Viewer};
use crate::support::rtmp::{Client, Message};
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

/// What a player by RTMP is sent next of the picture.
async fn next_picture(player: &mut Client) -> Tag {
    loop {
        let Message { kind, timestamp, body } = player.receiver.message().await.expect("the stream goes on");
        let tag = Tag { kind, timestamp, body };
        if kind == VIDEO && !tag.is_configuration() {
            return tag;
        }
    }
}

#[tokio::test]
async fn a_viewer_who_asks_for_low_latency_starts_with_the_next_keyframe() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let clip = Clip::small().await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    let mut frames = clip.forever();
    for tag in &clip.configurations {
        publisher.sender.tag(tag).await.unwrap();
    }
    // Half of the last GOP and what is before it at once; then nothing until everybody is there.
    let keyframes: Vec<u32> =
        clip.frames.iter().filter(|tag| tag.is_keyframe()).map(|tag| tag.timestamp).collect();
    let (gop, next_gop) = (keyframes[keyframes.len() - 1], keyframes[0] + SECONDS * 1000);
    let pause = gop + 13 * FRAME_MS;
    let mut waiting = None;
    for tag in frames.by_ref() {
        if tag.timestamp >= pause {
            waiting = Some(tag);
            break;
        }
        publisher.sender.tag(&tag).await.unwrap();
    }
    weir.until_live("live/a", 2).await;

    // Whoever has the last picture of what was sent knows that the edge has all of it.
    let mut early = Viewer::open(&weir.url("/live/a.flv")).await;
    while early.next_frame(VIDEO).await.timestamp < pause - FRAME_MS {}
    let mut usual = Viewer::open(&weir.url("/live/a.flv")).await;
    let first = usual.next_frame(VIDEO).await;
    assert_eq!((first.timestamp, first.is_keyframe()), (gop, true), "the GOP that is on its way");

    let mut low = Viewer::open(&weir.url("/live/a.flv?latency=low")).await;
    let mut player = Client::open(weir.rtmp, "live").await.unwrap();
    player.play("a?latency=low").await.expect("an onStatus");
    weir.until_stream("live/a", "with all viewers", |info| {
        info["viewers"]["flv"] == 3 && info["viewers"]["rtmp"] == 1
    })
    .await;
    for tag in waiting.into_iter().chain(frames).take_while(|tag| tag.timestamp < next_gop + 500) {
        publisher.sender.tag(&tag).await.unwrap();
    }
    let first = low.next_frame(VIDEO).await;
    assert_eq!((first.timestamp, first.is_keyframe()), (next_gop, true), "by HTTP-FLV");
    let first = next_picture(&mut player).await;
    assert_eq!((first.timestamp, first.is_keyframe()), (next_gop, true), "by RTMP");
    assert_eq!(early.next_frame(VIDEO).await.timestamp, pause, "who was there misses nothing");

    assert_eq!(weir.get("/live/a.flv?latency=lowest").await.status, 400);
}
