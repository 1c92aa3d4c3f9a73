//! WebRTC as Chromium has it: how late the picture is, on a line that loses packets, by way of TURN only, and through a
//! restart of ICE.

use std::time::Instant;

use serde_json::json;

use crate::support::browser::Page;
use crate::support::ffmpeg::{self, Media, Version};
use crate::support::lossy::Lossy;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::{say, until};
use crate::webrtc::{media_address, offer, post};

/// As a camera would: no B-frames, a keyframe every two seconds.
const CAMERA: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-g",
    "50",
    "-b:v",
    "1500k",
    "-maxrate",
    "1500k",
    "-bufsize",
    "750k",
    "-pix_fmt",
    "yuv420p",
];
/// The same with keyframes far apart.
const SELDOM: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-g",
    "500",
    "-keyint_min",
    "500",
    "-sc_threshold",
    "0",
    "-b:v",
    "2500k",
    "-pix_fmt",
    "yuv420p",
];

#[tokio::test]
async fn the_picture_is_shown_soon_after_it_was_taken() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let mut page = Page::webrtc_with(&weir.url("/live/a"), "clock", &json!({}));
    let begin = page.until("pictures of the time", |report| report.number("latencies") > 90.0).await;
    let enough = begin.number("latencies") + 300.0;
    let report = page.until("300 more", |report| report.number("latencies") >= enough).await;
    let (p50, p99) = (report.number("latencyP50Ms"), report.number("latencyP99Ms"));
    let first = begin.number("firstFrameMs");
    say(&format!(
        "glass to glass, Chromium → WHIP → WHEP → Chromium: p50 {p50:.0} ms, p99 {p99:.0} ms; first picture {first:.0} ms \
         after the answer, {} freezes",
        report.number("freezes"),
    ));
    assert!(first >= 0.0 && p50 > 0.0, "{report:?}");
    drop(page);
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn a_line_that_loses_packets_freezes_hardly_ever() {
    const SECONDS: f64 = 60.0;
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let media = Media { video: Some(CAMERA), audio: None, size: "640x360" };
    let publisher = ffmpeg::publish(Version::Nine, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 1).await;
    let answer = post(&weir, "/live/a/whep", offer("").replace("a=sendonly", "a=recvonly")).await;
    let line = Lossy::to(media_address(&answer.text().await.unwrap()), 50).await;
    let mut viewer = Page::webrtc_with(&weir.url("/live/a/whep"), "play", &json!({ "port": line.at.port() }));
    viewer.until("pictures", |report| report.number("framesDecoded") > 10.0).await;
    let begin = Instant::now();
    let report = viewer.until("a minute", |_| begin.elapsed().as_secs_f64() >= SECONDS).await;
    say(&format!(
        "5 % loss each way, {SECONDS} s of WHEP in Chromium: {} freezes, {} of {} pictures dropped, {} lost on the line, \
         {} NACKs, {} PLIs, {:.0} ms in the jitter buffer; weir sent {} packets again",
        report.number("freezes"),
        report.number("framesDropped"),
        report.number("framesDecoded"),
        line.lost(),
        report.number("nacks"),
        report.number("plis"),
        report.number("delayMs"),
        weir.metric("weir_rtc_resent_packets_total").await.unwrap(),
    ));
    assert!(report.number("framesDecoded") > SECONDS * 22.0);
    assert!(weir.metric("weir_rtc_nacks_total{role=\"play\"}").await.unwrap() > 0.0);
    drop(viewer);
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn a_viewer_begins_in_the_midst_of_a_long_group_of_pictures() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let media = Media { video: Some(SELDOM), audio: None, size: "1280x720" };
    let publisher = ffmpeg::publish(Version::Nine, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 1).await;
    // Ten seconds of 2.5 Mbit/s lie before it.
    until("ten seconds", async || {
        let stream = weir.stream("live/a").await?;
        (stream["bytes_in"].as_u64()? > 2_500_000).then_some(())
    })
    .await;
    let mut viewer = Page::webrtc(&weir.url("/live/a/whep"), "play");
    let first = viewer.until("a picture", |report| report.number("firstFrameMs") >= 0.0).await;
    let report = viewer.until("pictures", |report| report.number("framesDecoded") > 400.0).await;
    say(&format!(
        "WHEP in the midst of 20 s between keyframes: first picture {:.0} ms after the answer, {} lost, {} PLIs, {} freezes",
        first.number("firstFrameMs"),
        report.number("lost"),
        report.number("plis"),
        report.number("freezes"),
    ));
    assert_eq!(report.number("plis"), 0.0);
    drop(viewer);
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn a_browser_that_may_only_relay_plays_and_publishes_by_way_of_turn() {
    let _turn = turn::take(Load::Alone).await;
    let config =
        "[turn]\nlisten = \"127.0.0.1:0\"\nexternal_ip = \"127.0.0.1\"\nsecret = \"a secret of the north\"\n";
    let weir = Weir::configured(config).await;
    let relay = json!({ "relay": true });
    let mut publisher = Page::webrtc_with(&weir.url("/live/a/whip"), "publish", &relay);
    let report = publisher.until("a browser publishes", |report| report.number("framesSent") > 25.0).await;
    assert_eq!(report.text("candidate"), "relay", "{report:?}");
    weir.until_live("live/a", 2).await;
    let mut viewer = Page::webrtc_with(&weir.url("/live/a/whep"), "play", &relay);
    let report =
        viewer.until("pictures by way of TURN", |report| report.number("framesDecoded") > 100.0).await;
    assert_eq!(report.text("candidate"), "relay", "{report:?}");
    // Chromium asks for one by each way to the server that it is told of.
    assert!(weir.metric("weir_turn_allocations").await.unwrap() >= 2.0);
    assert!(weir.metric("weir_turn_relayed_bytes_total{direction=\"to_client\"}").await.unwrap() > 100_000.0);
    say(&format!(
        "by way of TURN only: {} pictures, {} freezes",
        report.number("framesDecoded"),
        report.number("freezes")
    ));
    drop((publisher, viewer));
    let (status, log) = weir.stop().await;
    assert!(status.success() && !log.contains("credential"), "{log}");
}

#[tokio::test]
async fn ice_is_restarted_and_nothing_stops() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let media = Media { video: Some(CAMERA), audio: None, size: "640x360" };
    let publisher = ffmpeg::publish(Version::Nine, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 1).await;
    let mut viewer = Page::webrtc(&weir.url("/live/a/whep"), "play");
    viewer.until("pictures", |report| report.number("framesDecoded") > 25.0).await;
    for time in 1..=2 {
        viewer.restart_ice().await;
        let restarted =
            viewer.until("a restart", |report| report.number("restarts") >= f64::from(time)).await;
        assert_eq!(restarted.number("restarted"), 200.0);
        let more = restarted.number("framesDecoded") + 250.0;
        // Ten seconds: were checks refused, the peer would be over by then.
        let report = viewer.until("pictures behind it", |report| report.number("framesDecoded") > more).await;
        assert_eq!((report.text("state"), report.number("freezes")), ("connected", 0.0), "{report:?}");
    }
    drop(viewer);
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}
