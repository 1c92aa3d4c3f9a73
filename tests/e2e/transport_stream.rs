//! A stream that comes by RTMP is played as MPEG-TS: by ffprobe and ffmpeg, which find nothing to complain of, and by
//! mpegts.js in a browser.

use crate::support::browser::Page;
use crate::support::clip::Clip;
use crate::support::ffmpeg::{self, Media, Report, Version};
use crate::support::rtmp::Publication;
use crate::support::say;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

/// Seconds that a player reads.
const SECONDS: u32 = 10;
/// A picture every 40 ms, a frame of AAC every 21.3, one of Opus every 20: more than two missing are a gap.
const PICTURE_STEP: f64 = 0.085;
const SOUND_STEP: f64 = 0.055;

#[track_caller]
fn assert_right(report: &Report, picture: &str, sound: &str) {
    let (pictures, sounds) = (report.track(picture), report.track(sound));
    assert_eq!((pictures.size.as_str(), sounds.sample_rate), ("320x180", 48_000));
    assert!(pictures.packets[0].key, "the first picture is a keyframe");
    pictures.assert_monotonic(PICTURE_STEP);
    sounds.assert_monotonic(SOUND_STEP);
    for track in [pictures, sounds] {
        let seconds = f64::from(SECONDS);
        assert!(
            (seconds - 0.7..seconds + 0.7).contains(&track.span()),
            "{} spans {}",
            track.codec,
            track.span()
        );
    }
    say(&format!("MPEG-TS: {SECONDS} s of {picture} and {sound} are right"));
}

#[tokio::test]
async fn ffprobe_finds_h264_and_aac_right_and_viewers_are_counted() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    // With pictures that are decoded in another order.
    let video =
        ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "25"];
    let video = [&video[..], &["-pix_fmt", "yuv420p"]].concat();
    let media = Media { video: Some(&video), ..Media::default() };
    let publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 2).await;
    let url = weir.url("/live/a.ts");
    let counted = weir.until_stream("live/a", "watched as MPEG-TS", |info| info["viewers"]["ts"] == 1);
    let (report, _) = tokio::join!(ffmpeg::probe(&url, SECONDS), counted);
    assert_right(&report, "h264", "aac");
    assert!(weir.metric("weir_edge_viewer_joins_total{protocol=\"ts\"}").await.unwrap() >= 1.0);
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn ffmpeg_9_plays_hevc_and_opus() {
    let _turn = turn::take(Load::HeavyEncoder).await;
    let weir = Weir::start().await;
    let video = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
    ];
    let sound = ["-c:a", "libopus", "-b:a", "64k"];
    let url = weir.url("/live/a.ts");
    let media = Media { video: Some(&video), audio: Some(&sound), size: "320x180" };
    let publisher = ffmpeg::publish(Version::Nine, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 2).await;
    assert_right(&ffmpeg::play(Version::Nine, &url, SECONDS).await, "hevc", "opus");
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn mpegts_js_plays_it_in_chromium() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::large().await).await;
    weir.until_live("live/a", 2).await;
    let mut page = Page::open(&weir.url("/live/a.ts"));
    let begun = page.until("a picture", |report| report.number("current_time") > 0.0).await;
    let until = begun.number("current_time") + f64::from(SECONDS);
    let end = page.until("more pictures", |report| report.number("current_time") >= until).await;
    assert_eq!((end.number("width"), end.number("height")), (320.0, 180.0), "{end:?}");
    assert!(end.number("total_frames") > f64::from(SECONDS) * 20.0, "{end:?}");
    assert_eq!(
        (end.number("fatal_errors"), end.number("stalls"), end.number("errors")),
        (0.0, 0.0, 0.0),
        "{end:?}"
    );
    assert!(end.text("codecs").starts_with("avc1.") && end.text("codecs").contains("mp4a.40.2"), "{end:?}");
    assert_eq!(weir.stream("live/a").await.unwrap()["viewers"]["ts"], 1);
    assert!(weir.stop().await.0.success());
}
