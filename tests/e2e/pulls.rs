//! Pulls and pushes: a real RTSP server and real peers of SRT are called, always or on demand, and what comes from them
//! plays by everything.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::support::browser::Page;
use crate::support::clip::Clip;
use crate::support::cluster::{Control, JOIN, edge};
use crate::support::ffmpeg::{self, AAC, Media, Report, Version};
use crate::support::process::Process;
use crate::support::rtmp::Publication;
use crate::support::rtsp::{Camera, LOGIN, h264_aac, h265_g711};
use crate::support::turn::{self, Load};
use crate::support::weir::{Weir, send};
use crate::support::{say, until, within};

/// Seconds that each player reads.
const SECONDS: u32 = 6;
/// A picture every 40 ms: more than two missing are a gap.
const PICTURE_STEP: f64 = 0.085;
/// A frame of AAC at 48 kHz lasts 21.3 ms; MPEG-TS carries several in a packet.
const SOUND_STEP: f64 = 0.055;
/// Seconds of what cameras have: longer than any story.
const LENGTH: u32 = 120;

/// What a camera has: pictures that are not decoded in the order in which they are shown, and sound.
async fn film(folder: &Path, codec: &str) -> PathBuf {
    let file = folder.join(format!("{codec}.mp4"));
    let mut video =
        vec!["-c:v", codec, "-preset", "ultrafast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p"];
    if codec == "libx264" {
        // Which that preset turns off.
        video.extend(["-b_strategy", "0", "-x264-params", "scenecut=0"]);
    }
    let media = Media { video: Some(&video), audio: Some(AAC), size: "320x180" };
    ffmpeg::encode(Version::Five, media, LENGTH, &file).await;
    file
}

#[track_caller]
fn assert_whole(what: &str, report: &Report) {
    let (video, audio) = (report.track("h264"), report.track("aac"));
    video.assert_monotonic(PICTURE_STEP);
    audio.assert_monotonic(SOUND_STEP);
    assert!(video.packets[0].key, "{what} begins with a keyframe");
    assert!(video.span() >= f64::from(SECONDS) - 0.5, "{what} spans {} s", video.span());
    let reordered = video.packets.iter().any(|packet| packet.pts > packet.dts + 0.02);
    assert!(reordered, "{what} has pictures that are shown later than they are decoded");
    // Pictures and sound began together, and come so.
    let apart = (video.packets[0].pts - audio.packets[0].pts).abs();
    assert!(apart < 0.5, "{what}: sound and picture begin {apart} s apart");
    say(&format!("{what}: {:.2} s without a gap", video.span()));
}

/// What all outputs of a stream have.
async fn assert_plays_by_everything(weir: &Weir, stream: &str) {
    weir.until_hls(stream).await;
    let (flv, ts) = (weir.url(&format!("/{stream}.flv")), weir.url(&format!("/{stream}.ts")));
    let (hls, rtmp) = (weir.url(&format!("/{stream}/index.m3u8")), weir.rtmp_url(stream));
    let srt = weir.srt_url(&format!("read:{stream}"));
    let (flv, ts, hls, rtmp, srt) = within("five players", async {
        tokio::join!(
            ffmpeg::probe(&flv, SECONDS),
            ffmpeg::probe(&ts, SECONDS),
            ffmpeg::probe(&hls, SECONDS),
            ffmpeg::probe(&rtmp, SECONDS),
            ffmpeg::probe(&srt, SECONDS),
        )
    })
    .await;
    for (what, report) in [("FLV", &flv), ("TS", &ts), ("HLS", &hls), ("RTMP", &rtmp), ("SRT", &srt)] {
        assert_whole(&format!("{stream} by {what}"), report);
    }
}

fn pulls(all: &[(&str, String, &str)]) -> String {
    let pull = |(stream, url, more): &(&str, String, &str)| {
        format!("{{ stream = {stream:?}, url = {url:?}{more} }}")
    };
    let list: Vec<String> = all.iter().map(pull).collect();
    format!("[origin]\npulls = [{}]\n", list.join(", "))
}

/// Quick to call again.
const QUICK: &str = "[origin.remote]\nretry_ms = 200\nmax_retry_ms = 1000\non_demand_linger_ms = 1500\n";

async fn until_metric(weir: &Weir, sample: &str, value: f64) {
    until(&format!("{sample} {value}"), async || weir.metric(sample).await.filter(|is| *is == value)).await;
}

#[tokio::test]
async fn a_camera_is_pulled_by_tcp_and_udp_and_plays_by_everything() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(true, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let url = camera.url(LOGIN, "/cam");
    let config = pulls(&[("live/tcp", url.clone(), ""), ("live/udp", url, ", transport = \"udp\"")]);
    let weir = Weir::configured(&config).await;
    for stream in ["live/tcp", "live/udp"] {
        let info = weir.until_live(stream, 2).await;
        assert_eq!(info["publisher"]["protocol"], "rtsp");
        assert_plays_by_everything(&weir, stream).await;
    }
    assert_eq!(weir.metric("weir_origin_pulls{state=\"live\"}").await, Some(2.0));
    let log = weir.stop().await.1;
    assert!(!log.contains("hunter2") && !log.contains("admin:"), "{log}");
}

#[tokio::test]
async fn chromium_watches_a_camera() {
    let _turn = turn::take(Load::Alone).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(false, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let weir = Weir::configured(&pulls(&[("live/cam", camera.url("", "/cam"), "")])).await;
    weir.until_hls("live/cam").await;
    for via in ["hls", "flv"] {
        let mut page = Page::open(&weir.url(&format!("/watch/live/cam?via={via}")));
        let end = page.until("pictures", |report| report.number("current_time") >= 5.0).await;
        assert_eq!(end.text("via"), via);
        assert_eq!((end.number("width"), end.number("height")), (320.0, 180.0), "{end:?}");
        assert_eq!((end.number("fatal_errors"), end.number("errors")), (0.0, 0.0), "{end:?}");
    }
}

#[tokio::test]
async fn a_camera_that_comes_back_has_its_viewers_still() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(false, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let weir =
        Weir::configured(&(QUICK.to_owned() + &pulls(&[("live/cam", camera.url("", "/cam"), "")]))).await;
    let before = weir.until_live("live/cam", 2).await["epoch"].as_u64().unwrap();
    let url = weir.url("/live/cam.flv");
    let viewer = tokio::spawn(async move { ffmpeg::play(Version::Five, &url, 15).await });
    until("a viewer", async || {
        weir.metric("weir_edge_viewers{protocol=\"flv\"}").await.filter(|viewers| *viewers > 0.0)
    })
    .await;
    let gone = camera.kill().await;
    weir.until_stream("live/cam", "interrupted", |info| info["state"] == "interrupted").await;
    weir.process.line("pull: ").await;
    let _camera = gone.again().await;
    let again = weir.until_stream("live/cam", "live again", |info| info["state"] == "live").await;
    assert!(again["epoch"].as_u64().unwrap() > before, "{again}");
    let report = within("the same viewer", viewer).await.unwrap();
    let video = report.track("h264");
    video.assert_monotonic(30.0);
    assert!(video.span() >= 14.5, "{}", video.span());
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let _turn = turn::take(Load::Light).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(true, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let config = pulls(&[
        ("live/wrong", camera.url("admin:s3cret", "/cam"), ""),
        ("live/none", camera.url("", "/cam"), ""),
        ("live/absent", camera.url(LOGIN, "/absent?token=s3cret"), ""),
    ]);
    let weir = Weir::configured(&config).await;
    weir.process.line("user or password are wrong").await;
    weir.process.line("the URL needs user and password").await;
    weir.process.line("404").await;
    until_metric(&weir, "weir_origin_pulls{state=\"waiting\"}", 3.0).await;
    assert!(weir.stream("live/wrong").await.is_none());
    // What is mended is taken over, and what is not wanted any more is let go of.
    let mark = weir.process.mark();
    let config = pulls(&[("live/wrong", camera.url(LOGIN, "/cam"), "")]);
    std::fs::write(weir.dir.path().join("weir.toml"), config).unwrap();
    weir.process.signal("HUP").await;
    weir.process.line_after(mark, "configuration read again").await;
    weir.until_live("live/wrong", 2).await;
    until_metric(&weir, "weir_origin_pulls{state=\"waiting\"}", 0.0).await;
    let mark = weir.process.mark();
    std::fs::write(weir.dir.path().join("weir.toml"), "").unwrap();
    weir.process.signal("HUP").await;
    weir.process.line_after(mark, "configuration read again").await;
    weir.until_gone("live/wrong").await;
    let log = weir.stop().await.1;
    assert!(!log.contains("s3cret") && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_camera_is_pulled_while_somebody_watches() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(false, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let on_demand = ", on_demand = true";
    // HLS players ask once in a segment.
    let config = QUICK.replace("1500", "5000")
        + &pulls(&[
            ("live/cam", camera.url("", "/cam"), on_demand),
            ("live/off", "rtsp://127.0.0.1:1/cam".to_owned(), on_demand),
        ]);
    let origin = Weir::role("origin", &config, &[]).await;
    let edge = Weir::role("edge", "[edge.feed]\nlinger_ms = 500\n", &["--origin", &origin.url("")]).await;
    until_metric(&origin, "weir_origin_pulls{state=\"idle\"}", 2.0).await;
    assert!(!camera.process.output().contains("connected"));
    // Who asks waits for it.
    let report = within("FLV on demand", ffmpeg::probe(&edge.url("/live/cam.flv"), SECONDS)).await;
    assert_whole("FLV on demand", &report);
    origin.process.line("nobody watches; its pull ends").await;
    origin.until_gone("live/cam").await;
    until_metric(&origin, "weir_origin_pulls{state=\"idle\"}", 2.0).await;
    let report = within("HLS on demand", ffmpeg::probe(&edge.url("/live/cam/index.m3u8"), SECONDS)).await;
    assert_whole("HLS on demand", &report);
    origin.until_gone("live/cam").await;
    // What cannot be had is not waited for for ever.
    let answer = edge.get("/live/off.flv").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(edge.get("/live/other.flv").await.status, 404);
}

#[tokio::test]
async fn h265_comes_and_g711_is_aac_by_then() {
    let _turn = turn::take(Load::HeavyEncoder).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(false, &[("/cam", h265_g711(&film(folder.path(), "libx265").await))]).await;
    let weir = Weir::configured(&pulls(&[("live/cam", camera.url("", "/cam"), "")])).await;
    let info = weir.until_live("live/cam", 2).await;
    assert_eq!((&info["tracks"][0]["codec"], &info["tracks"][1]["codec"]), (&"H.265".into(), &"AAC".into()));
    weir.until_hls("live/cam").await;
    let hls = ffmpeg::probe(&weir.url("/live/cam/index.m3u8"), SECONDS).await;
    let flv = ffmpeg::play(Version::Nine, &weir.url("/live/cam.flv"), SECONDS).await;
    for (what, report) in [("HLS", hls), ("FLV", flv)] {
        let video = report.track("hevc");
        video.assert_monotonic(PICTURE_STEP);
        assert!(video.span() >= f64::from(SECONDS) - 0.5, "{what} spans {} s", video.span());
        let audio = report.track("aac");
        audio.assert_monotonic(SOUND_STEP);
        assert_eq!(audio.sample_rate, 48_000);
        assert!(audio.span() >= f64::from(SECONDS) - 1.0, "{what} has {} s of sound", audio.span());
    }
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// srt-live-transmit from one place to another.
fn transmit(from: &str, to: &str) -> Process {
    let mut command = Command::new("srt-live-transmit");
    command.args(["-q", "-a:no", from, to]);
    Process::spawn("srt-live-transmit", command)
}

#[tokio::test]
async fn a_stream_is_fetched_by_srt_and_sent_on_by_srt() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path(), "libx264").await;
    // From a listener of ffmpeg's, encrypted, to another weir and to srt-live-transmit.
    let (from, to) = (free_udp_port(), free_udp_port());
    let out = UdpSocket::bind("127.0.0.1:0").unwrap();
    out.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let listening = transmit(
        &format!("srt://127.0.0.1:{to}?mode=listener"),
        &format!("udp://{}", out.local_addr().unwrap()),
    );
    let second = Weir::configured(
        "[origin.srt]\npassphrases = [{ streams = \"live/*\", passphrase = \"another-long-secret\" }]\n",
    )
    .await;
    let phrase = "passphrase=a-long-secret";
    let push = |url: String| format!("{{ stream = \"live/in\", url = {url:?} }}");
    let pushes = [
        push(format!("{}&passphrase=another-long-secret&pbkeylen=32", second.srt_url("publish:live/out"))),
        push(format!("srt://127.0.0.1:{to}?latency=200")),
    ];
    let config = QUICK.to_owned()
        + &pulls(&[("live/in", format!("srt://127.0.0.1:{from}?{phrase}&latency=200"), "")])
        + &format!("pushes = [{}]\n", pushes.join(", "));
    let first = Weir::configured(&config).await;
    // It is called before it is there.
    first.process.line("pull: ").await;
    let sender = ffmpeg::send_srt(&film, &format!("srt://127.0.0.1:{from}?mode=listener&{phrase}"));
    let info = first.until_live("live/in", 2).await;
    assert_eq!(info["publisher"]["protocol"], "srt");
    second.until_live("live/out", 2).await;
    assert_plays_by_everything(&first, "live/in").await;
    let url = second.url("/live/out.flv");
    assert_whole("what was sent on", &within("FLV", ffmpeg::probe(&url, SECONDS)).await);
    until_metric(&first, "weir_origin_pushes{state=\"live\"}", 2.0).await;
    let sent_on = tokio::task::spawn_blocking(move || {
        let (mut ts, mut room) = (Vec::new(), [0; 2048]);
        while ts.len() < 100_000 {
            let bytes = out.recv(&mut room).unwrap();
            ts.extend_from_slice(&room[..bytes]);
        }
        ts
    });
    let ts = within("what was sent on", sent_on).await.unwrap();
    assert!(ts.chunks_exact(188).all(|packet| packet[0] == 0x47));
    // The stream ends, and with it what is sent on.
    drop(sender);
    first.until_stream("live/in", "interrupted", |info| info["state"] == "interrupted").await;
    let log = first.stop().await.1;
    assert!(!log.contains("long-secret"), "{log}");
    drop(listening);
}

#[tokio::test]
async fn a_push_waits_for_its_stream_and_for_its_listener() {
    let _turn = turn::take(Load::Light).await;
    let second = Weir::start().await;
    let config = QUICK.to_owned()
        + &format!(
            "[origin]\npushes = [{{ stream = \"live/a\", url = {:?} }}]\n",
            second.srt_url("publish:live/b")
        );
    let first = Weir::configured(&config).await;
    until_metric(&first, "weir_origin_pushes{state=\"idle\"}", 1.0).await;
    // Somebody else has its place.
    let other = Publication::start(second.rtmp, "live/b", &Clip::small().await).await;
    second.until_live("live/b", 2).await;
    let publication = Publication::start(first.rtmp, "live/a", &Clip::small().await).await;
    first.process.line("push: refused").await;
    drop(other);
    second.until_stream("live/b", "by SRT", |info| info["publisher"]["protocol"] == "srt").await;
    until_metric(&first, "weir_origin_pushes{state=\"live\"}", 1.0).await;
    drop(publication);
    first.process.line("the publisher left").await;
}

/// Loopback may be called for the API, and quickly again.
const API: &str =
    "[origin.remote]\nretry_ms = 200\nmax_retry_ms = 1000\nallow_networks = [\"127.0.0.0/8\"]\n";

#[tokio::test]
async fn what_the_api_orders_outlives_its_origin() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(true, &[("/cam", h264_aac(&film(folder.path(), "libx264").await))]).await;
    let second = Weir::start().await;
    let control = Control::start().await;
    let node = async |name: &str| {
        let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n{API}");
        let url = format!("http://{}", control.grpc);
        Weir::role("origin", &config, &["--control", &url, "--name", name]).await
    };
    let mut origins = vec![node("origin-1").await, node("origin-2").await];
    control.until_nodes(&[("origin-1", "ready"), ("origin-2", "ready")]).await;
    let edge = edge("edge-1", &control).await;

    control.ctl(&["pulls", "add", "live/cam", &camera.url(LOGIN, "/cam")]).await;
    control.ctl(&["pushes", "add", "live/cam", &second.srt_url("publish:live/out")]).await;
    control.until_live("live/cam").await;
    let pulls = async || control.get("/api/v1/pulls").await.json()["pulls"].clone();
    let live = || async {
        until("a pull that is live", async || {
            let pull = pulls().await[0].clone();
            (pull["state"] == "live").then_some(pull)
        })
        .await
    };
    let pull = live().await;
    assert_eq!(pull["url"].as_str().unwrap().split('@').next(), Some("rtsp://…"), "{pull}");
    assert!(!pull.to_string().contains("hunter2"));
    assert!(control.ctl(&["pulls", "list"]).await.contains("live/cam"));
    second.until_live("live/out", 2).await;
    // A stream is pulled once.
    let again = serde_json::json!({ "stream": "live/cam", "url": camera.url("", "/cam") });
    let order = |body: &serde_json::Value| {
        reqwest::Client::new().post(control.url("/api/v1/pulls")).bearer_auth(control.token()).json(body)
    };
    assert_eq!(send(order(&again)).await.status, 409);
    let bad = serde_json::json!({ "stream": "live/x", "url": "file:///etc/passwd" });
    assert_eq!(send(order(&bad)).await.status, 400);
    let stranger = reqwest::Client::new().post(control.url("/api/v1/pulls")).json(&again);
    assert_eq!(send(stranger).await.status, 401);

    // Its origin dies, and another one pulls it for the same viewers.
    let name = pull["node"].as_str().unwrap().to_owned();
    let url = edge.url("/live/cam.flv");
    let viewer = tokio::spawn(async move { ffmpeg::play(Version::Five, &url, 12).await });
    until("a viewer", async || {
        edge.metric("weir_edge_viewers{protocol=\"flv\"}").await.filter(|viewers| *viewers > 0.0)
    })
    .await;
    let dying = origins.remove(usize::from(name == "origin-2"));
    dying.process.signal("KILL").await;
    until("the other origin", async || {
        let pull = pulls().await[0].clone();
        (pull["state"] == "live" && pull["node"].as_str() != Some(&*name)).then_some(())
    })
    .await;
    let report = within("the same viewer", viewer).await.unwrap();
    report.track("h264").assert_monotonic(20.0);

    control.ctl(&["pulls", "remove", "live/cam"]).await;
    until("the end of the stream", async || control.stream("live/cam").await.is_none().then_some(())).await;
    assert_eq!(pulls().await.as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn the_api_calls_no_metadata_service() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let order = |url: &str| {
        let body = serde_json::json!({ "stream": "live/cam", "url": url });
        send(reqwest::Client::new().post(weir.url("/api/v1/pulls")).bearer_auth(weir.token()).json(&body))
    };
    let answer = order("rtsp://admin:s3cret@127.0.0.1:1/cam").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let why = until("a reason", async || {
        let pull = weir.operator("/api/v1/pulls").await.json()["pulls"][0].clone();
        pull["why"].as_str().map(ToOwned::to_owned)
    })
    .await;
    assert!(why.contains("allow_networks"), "{why}");
    let delete = reqwest::Client::new().delete(weir.url("/api/v1/pulls/live/cam")).bearer_auth(weir.token());
    assert_eq!(send(delete).await.status, 204);
    until_metric(&weir, "weir_origin_pulls{state=\"waiting\"}", 0.0).await;
    let log = weir.stop().await.1;
    assert!(!log.contains("s3cret"), "{log}");
}
