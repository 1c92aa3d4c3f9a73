//! A publisher drops and comes back: viewers stay, and time only goes forward.

use crate::support::clip::{Clip, FRAME_MS};
use crate::support::flv::{Tag, VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

/// Watches so many pictures; each comes after the one before.
async fn watch(viewer: &mut Viewer, last: &mut Tag, pictures: u32) {
    for _ in 0..pictures {
        let next = viewer.next_frame(VIDEO).await;
        assert!(next.timestamp > last.timestamp, "{} is followed by {}", last.timestamp, next.timestamp);
        *last = next;
    }
}

#[tokio::test]
async fn a_viewer_stays_while_the_publisher_is_away() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::start().await;
    let first = Publication::start(weir.rtmp, "live/a", &clip).await;
    let before = weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    let mut last = viewer.next_frame(VIDEO).await;
    watch(&mut viewer, &mut last, 25).await;

    drop(first);
    weir.until_stream("live/a", "interrupted", |info| info["state"] == "interrupted").await;
    let _second = Publication::start(weir.rtmp, "live/a", &clip).await;
    let after = weir.until_live("live/a", 2).await;
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {after}");
    assert_eq!(after["started_at_ms"], before["started_at_ms"]);

    // The same answer goes on.
    watch(&mut viewer, &mut last, 50).await;
}

#[tokio::test]
async fn an_rtmp_player_stays_while_the_publisher_is_away() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::start().await;
    let first = Publication::start(weir.rtmp, "live/a", &clip).await;
    weir.until_live("live/a", 2).await;
    let mut player = Client::open(weir.rtmp, "live").await.unwrap();
    assert!(player.play("a").await.is_some());
    let mut last = 0;
    pictures_by_rtmp(&mut player, &mut last, 25).await;
    drop(first);
    weir.until_stream("live/a", "interrupted", |info| info["state"] == "interrupted").await;
    let _second = Publication::start(weir.rtmp, "live/a", &clip).await;
    pictures_by_rtmp(&mut player, &mut last, 50).await;
}

async fn pictures_by_rtmp(player: &mut Client, last: &mut u32, pictures: u32) {
    let mut seen = 0;
    while seen < pictures {
        let message = player.receiver.message().await.expect("the connection stays");
        if message.kind == VIDEO && message.body[1] == 1 {
            assert!(message.timestamp > *last || *last == 0, "{last} is followed by {}", message.timestamp);
            *last = message.timestamp;
            seen += 1;
        }
    }
}

#[tokio::test]
async fn nobody_comes_back_and_the_stream_ends() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::configured("[origin.streams]\ngrace_ms = 500\n").await;
    let publication = Publication::start(weir.rtmp, "live/a", &clip).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;
    drop(publication);
    while viewer.next().await.is_some() {}
    weir.until_gone("live/a").await;
    assert_eq!(weir.get("/live/a.flv").await.status, 404);
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    for takeover in [false, true] {
        let weir = Weir::configured(&format!("[origin.streams]\ntakeover = {takeover}\n")).await;
        let first = Publication::start(weir.rtmp, "live/a", &clip).await;
        weir.until_live("live/a", 2).await;
        let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
        let mut last = viewer.next_frame(VIDEO).await;
        let mut second = Client::open(weir.rtmp, "live").await.unwrap();
        let status = second.publish("a").await.expect("an onStatus");
        assert_eq!(
            status.says("NetStream.Publish.Start"),
            takeover,
            "{:?}",
            String::from_utf8_lossy(&status.body)
        );
        let second = if takeover {
            let second = Publication::send(second, &clip).await;
            crate::support::until("the first publisher's end", async || first.has_ended().then_some(()))
                .await;
            Some(second)
        } else {
            assert!(status.says("NetStream.Publish.BadName"), "{:?}", String::from_utf8_lossy(&status.body));
            second.receiver.until_closed().await;
            None
        };
        // Either way the viewer sees pictures, and time goes forward.
        watch(&mut viewer, &mut last, 50).await;
        assert!(second.is_none_or(|second| !second.has_ended()));
        assert!(takeover || !first.has_ended());
        assert!(last.timestamp > FRAME_MS);
    }
}
