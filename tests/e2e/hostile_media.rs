//! Media that changes, lies or jumps: viewers of the stream see time go forward, those of others nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::clip::{Clip, FRAME_MS};
use crate::support::flv::{AUDIO, Tag, VIDEO, Viewer};
use crate::support::innocent::Innocent;
use crate::support::rtmp::{Client, Sender};
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::{until, within};

/// Sends tags at the pace of `clip`'s own times, whatever times they carry.
async fn send(sender: &mut Sender, clip: &Clip, restamp: impl Fn(u32) -> u32) {
    for tag in &clip.configurations {
        sender.tag(&Tag { timestamp: restamp(0), ..tag.clone() }).await.unwrap();
    }
    let start = Instant::now();
    for tag in &clip.frames {
        tokio::time::sleep_until(start + Duration::from_millis(tag.timestamp.into())).await;
        sender.tag(&Tag { timestamp: restamp(tag.timestamp), ..tag.clone() }).await.unwrap();
    }
}

/// Publishes the clip twice, the second time with these timestamps, and lets a viewer see that time only
/// goes forward, by steps that a player can bear, and that no picture is missing.
async fn restamped(what: &str, first: impl Fn(u32) -> u32, second: impl Fn(u32) -> u32) {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    let pictures = clip.frames.iter().filter(|tag| tag.kind == VIDEO).count();
    let publish = async {
        send(&mut publisher.sender, &clip, first).await;
        send(&mut publisher.sender, &clip, second).await;
    };
    let watch = async {
        weir.until_live("live/a", 2).await;
        let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
        let mut last: [Option<u32>; 2] = [None; 2];
        let mut seen = 0;
        while seen < 2 * pictures {
            let tag = viewer.next().await.expect("the stream goes on");
            if tag.is_configuration() || tag.kind != VIDEO && tag.kind != AUDIO {
                continue;
            }
            seen += usize::from(tag.kind == VIDEO);
            let last = &mut last[usize::from(tag.kind - AUDIO)];
            if let Some(last) = *last {
                let step = i64::from(tag.timestamp) - i64::from(last);
                assert!((1..=1000).contains(&step), "{what}: {last} is followed by {}", tag.timestamp);
            }
            *last = Some(tag.timestamp);
        }
    };
    within(what, futures_util::future::join(publish, watch)).await;
    innocent.assert_undisturbed().await;
}

const HOUR: u32 = 3_600_000;
const ROUND: u32 = 4000;

#[tokio::test]
async fn time_jumps_an_hour_ahead() {
    restamped("an hour ahead", |t| t, |t| t + ROUND + HOUR).await;
}

#[tokio::test]
async fn time_jumps_an_hour_back() {
    restamped("an hour back", |t| t + 2 * HOUR, |t| t + HOUR).await;
}

#[tokio::test]
async fn time_wraps_at_2_to_the_32() {
    let start = u32::MAX - ROUND + 500;
    restamped("a wrap", move |t| t.wrapping_add(start), move |t| t.wrapping_add(start).wrapping_add(ROUND))
        .await;
}

#[tokio::test]
async fn time_runs_backwards() {
    restamped("backwards", |t| t + 10_000, |t| 10_000 - t).await;
}

#[tokio::test]
async fn the_picture_changes_its_size_in_mid_stream() {
    let _turn = turn::take(Load::Light).await;
    let (small, large) = (Clip::small().await, Clip::large().await);
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    let publish = async {
        send(&mut publisher.sender, &small, |t| t).await;
        send(&mut publisher.sender, &large, |t| t + ROUND).await;
        send(&mut publisher.sender, &large, |t| t + 2 * ROUND).await;
    };
    let watch = async {
        let before = weir.until_live("live/a", 2).await;
        assert_eq!(before["tracks"][0]["width"], 160);
        let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
        let mut last = viewer.next_frame(VIDEO).await;
        let configuration = &large.configurations.iter().find(|tag| tag.kind == VIDEO).unwrap().body;
        // The new configuration stands right before the keyframe that needs it.
        loop {
            let tag = viewer.next().await.expect("the stream goes on");
            if tag.kind == VIDEO && tag.is_configuration() && tag.body == *configuration {
                break;
            }
            if tag.kind == VIDEO && !tag.is_configuration() {
                last = tag;
            }
        }
        let picture = viewer.next_frame(VIDEO).await;
        assert!(picture.is_keyframe());
        assert_eq!(picture.timestamp, last.timestamp + FRAME_MS);
        weir.until_stream("live/a", "of the new size", |info| info["tracks"][0]["width"] == 320).await;
        until("a new map in the playlist", async || {
            let media = weir.get(&media_playlist(&weir, "live/a").await?).await.text();
            (media.contains("#EXT-X-DISCONTINUITY\n") && media.matches("#EXT-X-MAP:").count() == 2)
                .then_some(())
        })
        .await;
    };
    within("a change of size", futures_util::future::join(publish, watch)).await;
    innocent.assert_undisturbed().await;
}

/// The path of the first media playlist that the multivariant playlist names.
async fn media_playlist(weir: &Weir, stream: &str) -> Option<String> {
    let multivariant = weir.get(&format!("/{stream}/index.m3u8")).await;
    let text = (multivariant.status == 200).then(|| multivariant.text())?;
    let uri = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'))?;
    Some(format!("/{stream}/{uri}"))
}

#[tokio::test]
async fn sound_without_its_configuration_does_not_hold_up_the_picture() {
    let _turn = turn::take(Load::Light).await;
    let mut clip = Clip::small().await;
    clip.configurations.retain(|tag| tag.kind == VIDEO);
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    let publish = send(&mut publisher.sender, &clip, |t| t);
    let watch = async {
        weir.until_live("live/a", 1).await;
        let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
        for _ in 0..25 {
            viewer.next_frame(VIDEO).await;
        }
    };
    within("pictures", futures_util::future::join(publish, watch)).await;
    // Somebody who wonders why there is no sound finds the reason.
    weir.process.line("no sequence header").await;
    innocent.assert_undisturbed().await;
}

#[tokio::test]
async fn configurations_that_are_cut_short_end_in_an_error() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let video = clip.configurations.iter().find(|tag| tag.kind == VIDEO).unwrap();
    for length in [2, 5, 6, 10, video.body.len() - 3] {
        let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
        let cut = Tag { body: video.body[..length].to_vec(), ..video.clone() };
        // The connection may be gone after the first of it.
        let _ = publisher.sender.tag(&cut).await;
        for tag in &clip.frames[..20] {
            let _ = publisher.sender.tag(tag).await;
        }
        drop(publisher);
        until("the name to be free or waiting", async || {
            let info = weir.stream("live/a").await;
            info.is_none_or(|info| info["state"] == "interrupted").then_some(())
        })
        .await;
    }
    innocent.assert_undisturbed().await;
    assert!(!weir.process.output().contains("panicked"));
}
