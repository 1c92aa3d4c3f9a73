//! WebRTC: ffmpeg 9 and Chromium publish by WHIP, everybody watches; Chromium watches by WHEP. And what must not hurt.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::UdpSocket;

use crate::support::browser::{Page, Report};
use crate::support::ffmpeg::{self, AAC, H264, Media, Version};
use crate::support::memory;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::{say, until, within};

/// What a browser sends and any player decodes.
const OPUS: &[&str] = &["-c:a", "libopus", "-b:a", "64k", "-ac", "2"];

/// An offer as a browser makes one, cut to what matters.
pub fn offer(more: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
         c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:96 H264/90000\r\na=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
         a=rtcp-fb:96 nack pli\r\na=ssrc:1 cname:x\r\n{more}"
    )
}

pub async fn post(weir: &Weir, path: &str, body: String) -> reqwest::Response {
    let request = reqwest::Client::new().post(weir.url(path)).header("content-type", "application/sdp");
    request.body(body).send().await.unwrap()
}

/// Where an answer says that media goes.
pub fn media_address(answer: &str) -> SocketAddr {
    let line = answer.lines().find(|line| line.starts_with("a=candidate:")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

async fn ffmpeg_by_whip(options: &[&str]) {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let media = Media { audio: Some(OPUS), ..Media::default() };
    let publisher = ffmpeg::publish_whip(&weir.url("/live/a/whip"), media, options);
    weir.until_live("live/a", 2).await;
    weir.until_hls("live/a").await;
    let seconds = 6;
    let (flv_url, hls_url) = (weir.url("/live/a.flv"), weir.url("/live/a/index.m3u8"));
    let flv = ffmpeg::play(Version::Nine, &flv_url, seconds);
    let hls = ffmpeg::play(Version::Nine, &hls_url, seconds);
    let (flv, hls) = within("two players", futures_util::future::join(flv, hls)).await;
    for (what, report) in [("FLV", flv), ("HLS", hls)] {
        let mut codecs = report.codecs();
        codecs.sort_unstable();
        assert_eq!(codecs, ["h264", "opus"], "{what}");
        assert_eq!(report.track("h264").size, "320x180", "{what}");
        let frames = report.track("h264").packets.len();
        assert!(frames > 20 * seconds as usize, "{what}: {frames} frames");
    }
    say(&format!("ffmpeg 9 -f whip {options:?}: FLV and HLS are right"));
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn ffmpeg_9_publishes_by_whip_and_waits_for_dtls() {
    ffmpeg_by_whip(&[]).await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_by_whip_and_begins_dtls() {
    ffmpeg_by_whip(&["-whip_flags", "dtls_active"]).await;
}

#[tokio::test]
async fn a_browser_publishes_and_a_browser_watches() {
    const SECONDS: f64 = 10.0;
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let mut publisher = Page::webrtc(&weir.url("/live/a/whip"), "publish");
    publisher.until("a browser publishes", |report| report.number("framesSent") > 25.0).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Page::webrtc(&weir.url("/live/a/whep"), "play");
    let first = viewer.until("a first picture", |report| report.number("firstFrameMs") >= 0.0).await;
    let begin = (Instant::now(), first.number("framesDecoded"));
    let last = viewer
        .until("ten seconds of pictures", |report| {
            report.number("framesDecoded") >= begin.1 + SECONDS * 20.0
                && begin.0.elapsed().as_secs_f64() >= SECONDS
        })
        .await;
    say(&format!(
        "Chromium → WHIP → WHEP → Chromium: connected {:.0} ms and first picture {:.0} ms after the answer; {} frames, \
         {} freezes, {} lost, {:.0} ms in the jitter buffer, {} packets of sound",
        first.number("connectedMs"),
        first.number("firstFrameMs"),
        last.number("framesDecoded"),
        last.number("freezes"),
        last.number("lost"),
        last.number("delayMs"),
        last.number("audioPackets"),
    ));
    assert_eq!(last.number("freezes"), 0.0);
    assert_eq!(last.number("width"), 640.0);
    assert!(last.number("audioPackets") > SECONDS * 30.0);
    let stream = weir.stream("live/a").await.unwrap();
    assert_eq!(stream["viewers"]["webrtc"], 1, "{stream}");
    assert_eq!(stream["publisher"]["protocol"], "whip", "{stream}");
    // The same by a player that knows nothing of WebRTC.
    let report = ffmpeg::play(Version::Nine, &weir.url("/live/a.flv"), 4).await;
    assert!(report.track("h264").packets.len() > 60);
    drop((publisher, viewer));
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn a_browser_watches_what_comes_by_rtmp_and_hears_its_aac() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let media = Media { video: Some(H264), audio: Some(AAC), size: "640x360" };
    let publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 2).await;
    let mut viewer = Page::webrtc(&weir.url("/live/a/whep"), "play");
    let enough = |report: &Report| {
        report.number("framesDecoded") > 100.0
            && report.number("audioSamples") > 4.0 * 48_000.0
            && report.number("audioEnergy") > 0.0
    };
    let report = viewer.until("pictures and sound", enough).await;
    let concealed = report.number("audioConcealed") / report.number("audioSamples");
    // A sine of an eighth of full scale, as ffmpeg makes it, has half of its square.
    let power = report.number("audioEnergy") / report.number("audioSeconds");
    say(&format!(
        "ffmpeg 5 → RTMP → WHEP → Chromium: first picture {:.0} ms after the answer, {} frames, {} freezes; {} packets of \
         {}, power {power:.4}, {:.2} % of the sound made up",
        report.number("firstFrameMs"),
        report.number("framesDecoded"),
        report.number("freezes"),
        report.number("audioPackets"),
        report.text("audioCodec"),
        100.0 * concealed,
    ));
    assert_eq!(report.text("warning"), "", "{report:?}");
    assert_eq!(report.text("audioCodec"), "audio/opus");
    assert!(report.number("audioPackets") > 190.0, "{report:?}");
    assert!(power > 0.001 && concealed < 0.1, "{report:?}");
    assert_eq!(report.number("freezes"), 0.0);
    let at_work = "weir_edge_transcode_streams{into=\"opus\"}";
    assert_eq!(weir.metric(at_work).await, Some(1.0));
    assert_eq!(weir.metric("weir_edge_transcode_damaged_frames_total{into=\"opus\"}").await, Some(0.0));
    drop(viewer);
    until("nothing to transcode", async || weir.metric(at_work).await.filter(|streams| *streams == 0.0))
        .await;
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn who_knows_no_opus_gets_aac_by_everything() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::configured("[origin.hls]\nopus_as_aac = true\n").await;
    let media = Media { audio: Some(OPUS), ..Media::default() };
    let publisher = ffmpeg::publish_whip(&weir.url("/live/a/whip"), media, &[]);
    weir.until_live("live/a", 2).await;
    weir.until_hls("live/a").await;
    let seconds = 6;
    let (flv, ts) = (weir.url("/live/a.flv?audio=aac"), weir.url("/live/a.ts?audio=aac"));
    let (rtmp, hls) = (weir.rtmp_url("live/a?audio=aac"), weir.url("/live/a/index.m3u8"));
    let srt = weir.srt_url("read:live/a,audio=aac");
    let (flv, ts, rtmp, srt, hls) = within("five players", async {
        tokio::join!(
            ffmpeg::probe(&flv, seconds),
            ffmpeg::probe(&ts, seconds),
            ffmpeg::probe(&rtmp, seconds),
            ffmpeg::probe(&srt, seconds),
            ffmpeg::probe(&hls, seconds),
        )
    })
    .await;
    for (what, report) in [("FLV", flv), ("TS", ts), ("RTMP", rtmp), ("SRT", srt), ("HLS", hls)] {
        let mut codecs = report.codecs();
        codecs.sort_unstable();
        assert_eq!(codecs, ["aac", "h264"], "{what}");
        let (video, audio) = (report.track("h264"), report.track("aac"));
        assert_eq!(audio.sample_rate, 48_000, "{what}");
        // A frame lasts 21.3 ms; MPEG-TS carries several in a packet.
        audio.assert_monotonic(0.055);
        assert!(audio.span() > 0.8 * f64::from(seconds) - 0.5, "{what}: {} s", audio.span());
        let apart = video.packets[0].pts - audio.packets[0].pts;
        say(&format!(
            "WHIP → {what} with AAC: {:.2} s of sound, {:.0} ms apart",
            audio.span(),
            1_000.0 * apart
        ));
        assert!(apart.abs() < 0.5, "{what}: sound and picture begin {apart} s apart");
    }
    // Who does not ask has what was published, at the same time.
    let opus = ffmpeg::play(Version::Nine, &weir.url("/live/a.flv"), 2).await;
    assert!(opus.codecs().contains(&"opus"), "{opus:?}");
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn pictures_out_of_order_are_refused_with_a_reason() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let video: &[&str] =
        &["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "25"];
    let media = Media { video: Some(video), ..Media::default() };
    let publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url("live/a"), media);
    weir.until_live("live/a", 2).await;
    weir.until_hls("live/a").await;
    let response = post(&weir, "/live/a/whep", offer("").replace("a=sendonly", "a=recvonly")).await;
    assert_eq!(response.status(), 422);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("B-frames"), "{problem}");
    assert_eq!(weir.metric("weir_rtc_refused_total{reason=\"b_frames\"}").await, Some(1.0));
    ffmpeg::quit(publisher).await;
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn offers_are_checked_before_anything_else() {
    let _turn = turn::take(Load::Light).await;
    let config = "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"SECRET\" }]\n";
    let weir = Weir::with(config, &[]).await;
    let with_key = "/live/a/whip?key=SECRET";
    for (path, body, status) in [
        (with_key, "a=x\r\n".repeat(200_000), 413),
        (with_key, offer(&"a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n".repeat(1_000)), 400),
        (with_key, offer(&"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(50)), 400),
        (with_key, "hello".to_owned(), 400),
        (with_key, offer("").replace("H264", "VP8"), 406),
        (with_key, offer("").replace("a=fingerprint", "a=x"), 400),
        ("/live/a/whip", offer(""), 401),
        ("/live/a/whip?key=wrong", offer(""), 401),
        ("/live/nobody/whep", offer(""), 404),
    ] {
        let response = post(&weir, path, body).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
    let client = reqwest::Client::new();
    let preflight = client.request(reqwest::Method::OPTIONS, weir.url("/live/a/whip")).send().await.unwrap();
    assert_eq!(
        (preflight.status().as_u16(), &preflight.headers()["accept-post"]),
        (204, &"application/sdp".parse().unwrap())
    );
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    assert_eq!(client.get(weir.url("/live/a/whip")).send().await.unwrap().status(), 405);
    let request = client.post(weir.url("/live/a/whip")).bearer_auth("SECRET");
    let created = request.header("content-type", "application/sdp").body(offer("")).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let session = weir.url(created.headers()["location"].to_str().unwrap());
    let tag = created.headers()["etag"].clone();
    let answer = created.text().await.unwrap();
    assert!(answer.contains("a=setup:passive") && answer.contains("a=ice-lite"), "{answer}");
    let patch = |tag: &str, body: &'static str| {
        let request = client.patch(&session).header("if-match", tag);
        request.header("content-type", "application/trickle-ice-sdpfrag").body(body).send()
    };
    let candidate =
        "a=ice-ufrag:abcd\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n";
    assert_eq!(patch(tag.to_str().unwrap(), candidate).await.unwrap().status(), 204);
    assert_eq!(patch("\"other\"", candidate).await.unwrap().status(), 412);
    let none =
        client.patch(&session).header("content-type", "application/trickle-ice-sdpfrag").body(candidate);
    assert_eq!(none.send().await.unwrap().status(), 428);
    // A restart: other credentials on both sides, and another tag from then on.
    assert_eq!(patch("*", candidate).await.unwrap().status(), 400);
    let theirs = "a=ice-ufrag:efgh\r\na=ice-pwd:zyxwvutsrqponmlkjihgfedc\r\n";
    let restarted = patch("*", theirs).await.unwrap();
    assert_eq!(restarted.status(), 200);
    let (before, tag) = (tag, restarted.headers()["etag"].clone());
    assert_ne!(before, tag);
    let fragment = restarted.text().await.unwrap();
    let ufrag = fragment.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap();
    assert!(!answer.contains(ufrag) && fragment.contains("a=candidate:"), "{fragment}");
    assert_eq!(patch(before.to_str().unwrap(), candidate).await.unwrap().status(), 412);
    assert_eq!(patch(tag.to_str().unwrap(), candidate).await.unwrap().status(), 204);
    assert_eq!(client.delete(&session).send().await.unwrap().status(), 200);
    assert_eq!(client.delete(&session).send().await.unwrap().status(), 404);
    // ffmpeg's default: it waits for our handshake.
    let passive = offer("").replace("a=setup:actpass", "a=setup:passive");
    let answer = post(&weir, with_key, passive).await.text().await.unwrap();
    assert!(answer.contains("a=setup:active"), "{answer}");
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn floods_leave_nothing_behind() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::with("[rtc]\nhandshake_timeout_ms = 2000\nmax_peers = 1500\n", &[]).await;
    // Half-open peers by the thousand end by themselves; more than there may be are refused.
    let (mut created, mut refused, mut answer) = (0, 0, String::new());
    for n in 0..1_600 {
        let response = post(&weir, &format!("/live/half{n}/whip"), offer("")).await;
        match response.status().as_u16() {
            201 => (created, answer) = (created + 1, response.text().await.unwrap()),
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(created >= 1_000, "{created} created, {refused} refused");
    let to = media_address(&answer);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = memory::anonymous_bytes(weir.process.pid());
    // Checks for nobody, datagrams from nowhere.
    let mut check =
        [&[0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], &[0, 6, 0, 9], b"nobody:me", &[0; 3]].concat();
    for n in 0_u32..50_000 {
        check[8..12].copy_from_slice(&n.to_be_bytes());
        // A full queue is a flood, too.
        let _ = socket.try_send_to(&check, to);
        let _ = socket.try_send_to(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1], to);
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut answered = [0; 64];
    assert!(socket.try_recv(&mut answered).is_err(), "nobody is answered");
    let grown = memory::anonymous_bytes(weir.process.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    within("half-open peers end", async {
        while weir.metric("weir_rtc_peers{role=\"publish\"}").await.unwrap() > 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    say(&format!(
        "{created} half-open peers ended, {refused} were refused; 100,000 strange datagrams left {grown} bytes"
    ));
    assert!(weir.stop().await.0.success());
}
