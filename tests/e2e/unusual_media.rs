//! Media that is right but not what every encoder sends: no keyframes, HE-AAC, several tracks of a kind.

use serde_json::Value;

use crate::support::clip::{Clip, FRAME_MS};
use crate::support::ffmpeg;
use crate::support::flv::{AUDIO, Tag, VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::within;

/// Milliseconds of media that are sent at once: more than what HLS waits for a first keyframe.
const AT_ONCE_MS: u32 = 12_000;

/// Publishes `live/a`: the clip over and over without the pictures that `without` names; the first seconds at once, the
/// rest in real time beside a viewer, who sees that no other picture is missing. The stream lasts as long as the client.
async fn publish_and_watch(weir: &Weir, without: impl Fn(&Tag) -> bool) -> (Client, Vec<Tag>) {
    let clip = Clip::small().await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    for tag in &clip.configurations {
        publisher.sender.tag(tag).await.unwrap();
    }
    let mut tags = clip.forever().filter(|tag| tag.kind == VIDEO && !without(tag)).peekable();
    while let Some(tag) = tags.next_if(|tag| tag.timestamp < AT_ONCE_MS) {
        publisher.sender.tag(&tag).await.unwrap();
    }
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    let mut seen: Vec<Tag> = Vec::new();
    let watch = async {
        while seen.last().is_none_or(|tag| tag.timestamp < AT_ONCE_MS + 1000) {
            seen.push(viewer.next_frame(VIDEO).await);
        }
    };
    let send = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(FRAME_MS.into()));
        for tag in tags {
            ticks.tick().await;
            publisher.sender.tag(&tag).await.unwrap();
        }
    };
    tokio::select! {
        () = within("pictures", watch) => {}
        () = send => unreachable!("the clip goes on for ever"),
    }
    for pair in seen.windows(2) {
        let step = pair[1].timestamp - pair[0].timestamp;
        assert!(
            step == FRAME_MS || step == 2 * FRAME_MS,
            "a picture is missing before {}",
            pair[1].timestamp
        );
    }
    (publisher, seen)
}

#[tokio::test]
async fn pictures_without_a_keyframe_are_named_as_the_reason_and_play_as_flv() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let (_publisher, seen) = publish_and_watch(&weir, Tag::is_keyframe).await;
    assert!(!seen.iter().any(Tag::is_keyframe));
    let says = |text: &Value| text.as_str().is_some_and(|text| text.contains("no keyframe in the first"));
    let info = weir.until_stream("live/a", "with a reason", |info| says(&info["hls"]["problem"])).await;
    assert_eq!(info["hls"]["ready"], false);
    assert_eq!(info["keyframe_interval_ms"], Value::Null);
    let line = weir.process.line("no keyframe in the first").await;
    assert!(line.contains("live/a") && line.contains("keyframe interval to 2 s"), "{line}");
    // Who asks for HLS is told at once, not after the time that a player would wait.
    let answer = weir.get("/live/a/index.m3u8").await;
    assert_eq!((answer.status, says(&answer.json()["detail"])), (503, true), "{}", answer.text());
}

#[tokio::test]
async fn a_first_keyframe_is_enough() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let (_publisher, seen) = publish_and_watch(&weir, |tag| tag.is_keyframe() && tag.timestamp >= 500).await;
    assert!(seen[1..].iter().all(|tag| !tag.is_keyframe()));
    let info = weir.until_hls("live/a").await;
    assert_eq!((&info["hls"]["problem"], &info["keyframe_interval_ms"]), (&Value::Null, &Value::Null));
    // Segments end all the same, or none could ever be fetched.
    let playlist = weir.get("/live/a/main/media.m3u8").await.text();
    assert!(playlist.matches("#EXTINF:").count() >= 3, "{playlist}");
    assert_eq!(playlist.matches("INDEPENDENT=YES").count(), 0, "{playlist}");
    assert!(!weir.process.output().contains("no keyframe"), "{}", weir.process.output());
}

#[tokio::test]
async fn he_aac_is_told_by_its_rate_and_object_type() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::he_aac().await).await;
    let info = weir.until_live("live/a", 2).await;
    let sound = &info["tracks"][1];
    assert_eq!((&sound["codec"], &sound["rfc6381"]), (&"AAC".into(), &"mp4a.40.5".into()));
    assert_eq!((&sound["sample_rate"], &sound["channels"]), (&48_000.into(), &1.into()));
    weir.until_hls("live/a").await;
    let variants = weir.get("/live/a/index.m3u8").await.text();
    assert!(variants.contains("mp4a.40.5"), "{variants}");
    for url in [weir.url("/live/a.flv"), weir.rtmp_url("live/a"), weir.url("/live/a/index.m3u8")] {
        let report = ffmpeg::probe(&url, 4).await;
        let sound = report.track("aac");
        assert_eq!(sound.sample_rate, 48_000, "{url}");
        // 1024 samples at 24 kHz: 42.7 ms.
        sound.assert_monotonic(0.09);
    }
}

#[tokio::test]
async fn two_pictures_and_two_sounds_are_tracks_variants_and_renditions() {
    let _turn = turn::take(Load::Light).await;
    let (small, large) = (Clip::small().await, Clip::large().await);
    let both = |first: &[Tag], second: &[Tag]| {
        let mut tags: Vec<Tag> = first.to_vec();
        tags.extend(second.iter().map(|tag| tag.on_track(1)));
        tags.sort_by_key(|tag| tag.timestamp);
        tags
    };
    let clip = Clip {
        configurations: both(&small.configurations, &large.configurations),
        frames: both(&small.frames, &large.frames),
    };
    let weir = Weir::start().await;
    let _publication = Publication::start(weir.rtmp, "live/a", &clip).await;
    let info = weir.until_live("live/a", 4).await;
    let tracks = info["tracks"].as_array().unwrap();
    let of = |key: &str| tracks.iter().map(|track| track[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("id"), ["v0", "v1", "a0", "a1"]);
    assert_eq!(of("codec"), ["H.264", "H.264", "AAC", "AAC"]);
    assert_eq!(of("width"), [160.into(), 320.into(), Value::Null, Value::Null]);

    weir.until_hls("live/a").await;
    let variants = weir.get("/live/a/index.m3u8").await.text();
    let lines: Vec<&str> = variants.lines().collect();
    for (resolution, uri) in [("160x90", "v0/media.m3u8"), ("320x180", "v1/media.m3u8")] {
        let at = lines.iter().position(|line| *line == uri).unwrap_or_else(|| panic!("{variants}"));
        let attributes = lines[at - 1];
        assert!(attributes.contains(resolution) && attributes.contains("AUDIO=\"audio\""), "{attributes}");
    }
    for sound in ["a0", "a1"] {
        assert_eq!(variants.matches(&format!("URI=\"{sound}/media.m3u8\"")).count(), 1, "{variants}");
    }
    for (rendition, codec, size) in
        [("v0", "h264", "160x90"), ("v1", "h264", "320x180"), ("a0", "aac", ""), ("a1", "aac", "")]
    {
        let report = ffmpeg::probe(&weir.url(&format!("/live/a/{rendition}/media.m3u8")), 3).await;
        assert_eq!(report.codecs(), [codec], "{rendition}");
        assert_eq!(report.track(codec).size, size, "{rendition}");
    }
    // A viewer by FLV gets the other tracks as they came: multitrack tags.
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    let mut missing = vec![(VIDEO, 0x86), (AUDIO, 0x95)];
    while !missing.is_empty() {
        let tag = viewer.next().await.expect("the stream goes on");
        missing.retain(|(kind, first)| tag.kind != *kind || tag.body[0] & 0x8f != first & 0x8f);
    }
}
