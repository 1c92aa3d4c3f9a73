//! One stream comes in by ffmpeg, everybody watches: codec, resolution, duration and timestamps, as
//! players see them over 20 seconds.

use crate::support::ffmpeg::{self, AAC, H264, Media, Report, Version};
use crate::support::flv;
use crate::support::process::Process;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::{say, until, within};

/// Seconds that each player reads.
const SECONDS: u32 = 20;
/// A picture every 40 ms: more than two missing are a gap. FLV rounds to a millisecond.
const PICTURE_STEP: f64 = 0.085;
/// A frame of AAC at 48 kHz lasts 21.3 ms, one of Opus 20 ms, one of MP3 24 ms.
const SOUND_STEP: f64 = 0.055;

/// What is expected of one track.
struct Expected {
    codec: &'static str,
    size: &'static str,
    sample_rate: u32,
}

const fn video(codec: &'static str) -> Expected {
    Expected { codec, size: "320x180", sample_rate: 0 }
}

const fn audio(codec: &'static str, sample_rate: u32) -> Expected {
    Expected { codec, size: "", sample_rate }
}

#[track_caller]
fn assert_report(what: &str, report: &Report, expected: &[Expected]) {
    let mut codecs = report.codecs();
    codecs.sort_unstable();
    let mut wanted: Vec<&str> = expected.iter().map(|track| track.codec).collect();
    wanted.sort_unstable();
    assert_eq!(codecs, wanted, "{what}");
    for wanted in expected {
        let track = report.track(wanted.codec);
        assert_eq!(track.size, wanted.size, "{what}");
        assert_eq!(track.sample_rate, wanted.sample_rate, "{what}");
        track.assert_monotonic(if wanted.size.is_empty() { SOUND_STEP } else { PICTURE_STEP });
        let span = track.span();
        // Pictures and sound do not end on the same moment, and HLS begins with a whole segment.
        let seconds = f64::from(SECONDS);
        assert!((seconds - 0.5..seconds + 0.5).contains(&span), "{what}: {} spans {span} s", wanted.codec);
        assert!(track.packets[0].key, "{what}: {} begins with a key packet", wanted.codec);
    }
    say(&format!("{what}: {SECONDS} s of {wanted:?} are right"));
}

async fn publish(weir: &Weir, version: Version, media: Media<'_>) -> Process {
    let publisher = ffmpeg::publish(version, &weir.rtmp_url("live/a"), media);
    let tracks = usize::from(media.video.is_some()) + usize::from(media.audio.is_some());
    weir.until_live("live/a", tracks).await;
    publisher
}

/// The three outputs, each read by its own player at the same time.
async fn three_outputs<F: Future<Output = Report>>(
    weir: &Weir,
    play: impl Fn(String) -> F,
    expected: &[Expected],
) {
    let rtmp = play(weir.rtmp_url("live/a"));
    let flv = play(weir.url("/live/a.flv"));
    let hls = async {
        weir.until_hls("live/a").await;
        play(weir.url("/live/a/index.m3u8")).await
    };
    let (rtmp, flv, hls) = within("three players", futures_util::future::join3(rtmp, flv, hls)).await;
    assert_report("RTMP", &rtmp, expected);
    assert_report("HTTP-FLV", &flv, expected);
    assert_report("HLS", &hls, expected);
}

async fn by_ffprobe(version: Version, media: Media<'_>, expected: &[Expected]) {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let publisher = publish(&weir, version, media).await;
    three_outputs(&weir, async |url| ffmpeg::probe(&url, SECONDS).await, expected).await;
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

async fn by_ffmpeg_9(load: Load, media: Media<'_>, expected: &[Expected]) {
    let _turn = turn::take(load).await;
    let weir = Weir::start().await;
    let publisher = publish(&weir, Version::Nine, media).await;
    three_outputs(&weir, async |url| ffmpeg::play(Version::Nine, &url, SECONDS).await, expected).await;
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn ffmpeg_5_publishes_and_ffprobe_finds_each_output_right() {
    by_ffprobe(Version::Five, Media::default(), &[video("h264"), audio("aac", 48_000)]).await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_ffprobe_finds_each_output_right() {
    by_ffprobe(Version::Nine, Media::default(), &[video("h264"), audio("aac", 48_000)]).await;
}

#[tokio::test]
async fn pictures_that_are_decoded_in_another_order_keep_their_times() {
    let video_options = &[
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "2",
        "-x264-params",
        "b-adapt=0",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
    ];
    let media = Media { video: Some(video_options), ..Media::default() };
    by_ffprobe(Version::Five, media, &[video("h264"), audio("aac", 48_000)]).await;
}

#[tokio::test]
async fn hevc_comes_by_enhanced_rtmp() {
    let video_options = &[
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
    let media = Media { video: Some(video_options), audio: Some(AAC), size: "320x180" };
    by_ffmpeg_9(Load::HeavyEncoder, media, &[video("hevc"), audio("aac", 48_000)]).await;
}

#[tokio::test]
async fn av1_and_opus_come_by_enhanced_rtmp() {
    let video_options = &[
        "-c:v",
        "libsvtav1",
        "-preset",
        "12",
        "-g",
        "25",
        "-svtav1-params",
        "pred-struct=1:lp=1",
        "-pix_fmt",
        "yuv420p",
    ];
    let audio_options = &["-c:a", "libopus", "-b:a", "64k"];
    let media = Media { video: Some(video_options), audio: Some(audio_options), size: "320x180" };
    by_ffmpeg_9(Load::HeavyEncoder, media, &[video("av1"), audio("opus", 48_000)]).await;
}

#[tokio::test]
async fn mp3_is_played_as_flv_and_rtmp() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let audio_options = &["-c:a", "libmp3lame", "-b:a", "64k", "-ar", "44100"];
    let media = Media { audio: Some(audio_options), ..Media::default() };
    let publisher = publish(&weir, Version::Five, media).await;
    for url in [weir.rtmp_url("live/a"), weir.url("/live/a.flv")] {
        let report = ffmpeg::probe(&url, 5).await;
        assert_eq!(report.track("mp3").sample_rate, 44_100, "{url}");
        report.track("mp3").assert_monotonic(SOUND_STEP);
        report.track("h264").assert_monotonic(PICTURE_STEP);
    }
    ffmpeg::quit(publisher).await;
}

#[tokio::test]
async fn sound_alone_is_a_stream() {
    let media = Media { video: None, ..Media::default() };
    by_ffprobe(Version::Five, media, &[audio("aac", 48_000)]).await;
}

#[tokio::test]
async fn pictures_alone_are_a_stream() {
    let media = Media { audio: None, ..Media::default() };
    by_ffprobe(Version::Five, media, &[video("h264")]).await;
}

#[tokio::test]
async fn ffmpeg_5_and_9_play_rtmp() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let media = Media { video: Some(H264), ..Media::default() };
    let publisher = publish(&weir, Version::Five, media).await;
    for version in [Version::Five, Version::Nine] {
        let report = ffmpeg::play(version, &weir.rtmp_url("live/a"), 5).await;
        assert_eq!(report.track("h264").size, "320x180");
        report.track("h264").assert_monotonic(PICTURE_STEP);
        report.track("aac").assert_monotonic(SOUND_STEP);
    }
    ffmpeg::quit(publisher).await;
}

#[tokio::test]
async fn rtmpdump_plays_rtmp() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let publisher = publish(&weir, Version::Five, Media::default()).await;
    let file = weir.dir.path().join("dump.flv");
    let mut command = tokio::process::Command::new("rtmpdump");
    command.args(["--live", "--quiet", "-r", &weir.rtmp_url("live/a"), "-o"]).arg(&file);
    let player = Process::spawn("rtmpdump", command);
    until("so many seconds of pictures in the file", async || {
        let tags = flv::tags(&std::fs::read(&file).ok()?);
        let mut times = tags
            .iter()
            .filter(|tag| tag.kind == flv::VIDEO && !tag.is_configuration())
            .map(|tag| tag.timestamp);
        (times.next_back()? > times.next()? + SECONDS * 1000).then_some(())
    })
    .await;
    player.signal("INT").await;
    player.finish().await;
    let report = ffmpeg::probe(file.to_str().unwrap(), SECONDS).await;
    let track = report.track("h264");
    assert_eq!(track.size, "320x180");
    track.assert_monotonic(PICTURE_STEP);
    assert!(track.span() > f64::from(SECONDS) - 1.0, "{}", track.span());
    report.track("aac").assert_monotonic(SOUND_STEP);
    ffmpeg::quit(publisher).await;
}
