//! SRT: real senders and receivers come and go, encrypted or not, over lines that lose packets, and whoever may not is
//! told why.

use std::net::UdpSocket;
use std::time::Duration;

use media_core::mpegts::{Counters, Demuxed, Demuxer};
use srt::{Connection, Error, KeyLength, Options, Passphrase, Reject};
use tokio::process::Command;

use crate::support::clip::Clip;
use crate::support::ffmpeg::{self, AAC, Media, Report, Version};
use crate::support::lossy::Lossy;
use crate::support::memory::assert_costs_less_than_1_mb;
use crate::support::process::Process;
use crate::support::rtmp::Publication;
use crate::support::turn::{self, Load};
use crate::support::weir::{Weir, send};
use crate::support::{say, until, within};

/// A picture every 40 ms: more than two missing are a gap.
const PICTURE_STEP: f64 = 0.085;
/// A frame of AAC at 48 kHz lasts 21.3 ms; MPEG-TS carries several in a packet.
const SOUND_STEP: f64 = 0.055;

#[track_caller]
fn assert_whole(what: &str, report: &Report, seconds: f64) {
    let (video, audio) = (report.track("h264"), report.track("aac"));
    video.assert_monotonic(PICTURE_STEP);
    audio.assert_monotonic(SOUND_STEP);
    assert!(video.packets[0].key, "{what} begins with a keyframe");
    assert!(video.span() >= seconds - 0.5, "{what} spans {} s", video.span());
    say(&format!("{what}: {:.2} s without a gap", video.span()));
}

/// srt-live-transmit from one place to another.
fn transmit(from: &str, to: &str) -> Process {
    let mut command = Command::new("srt-live-transmit");
    command.args(["-q", "-a:no", from, to]);
    Process::spawn(&format!("srt-live-transmit {from}"), command)
}

async fn call(weir: &Weir, id: &str, phrase: Option<&str>) -> Result<Connection, Error> {
    let phrase = phrase.map(|text| Passphrase::new(text).unwrap());
    let encryption = phrase.as_ref().map(|phrase| (phrase, KeyLength::Aes128));
    within("an SRT handshake", srt::connect(weir.srt, id.as_bytes(), encryption, &Options::default())).await
}

async fn refusal(weir: &Weir, id: &str, phrase: Option<&str>) -> i32 {
    match call(weir, id, phrase).await {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{id}: {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_comes_in_by_srt_and_goes_out_by_everything() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let publisher =
        ffmpeg::publish_srt(&weir.srt_url("#!::r=live/a,m=publish").replace('#', "%23"), Media::default());
    let info = weir.until_live("live/a", 2).await;
    assert_eq!(info["publisher"]["protocol"], "srt");
    weir.until_hls("live/a").await;
    let (seconds, play) = (8, srt_play(&weir, "read:live/a"));
    let (flv, ts, hls) = (weir.url("/live/a.flv"), weir.url("/live/a.ts"), weir.url("/live/a/index.m3u8"));
    let rtmp = weir.rtmp_url("live/a");
    let (flv, ts, rtmp, hls, srt) = within("five players", async {
        tokio::join!(
            ffmpeg::probe(&flv, seconds),
            ffmpeg::probe(&ts, seconds),
            ffmpeg::probe(&rtmp, seconds),
            ffmpeg::probe(&hls, seconds),
            ffmpeg::probe(&play, seconds),
        )
    })
    .await;
    for (what, report) in [("FLV", &flv), ("TS", &ts), ("RTMP", &rtmp), ("HLS", &hls), ("SRT", &srt)] {
        assert_whole(what, report, f64::from(seconds));
    }
    let line = weir.stream("live/a").await.unwrap()["publisher"]["line"].clone();
    assert!(line["received_packets"].as_u64().unwrap() > 100, "{line}");
    assert_eq!((&line["dropped_packets"], &line["continuity_errors"]), (&0.into(), &0.into()));
    assert!(weir.metric("weir_origin_srt_packets_total{kind=\"received\"}").await.unwrap() > 100.0);
    assert_eq!(weir.metric("weir_edge_viewer_joins_total{protocol=\"srt\"}").await, Some(1.0));

    // A kick ends it, and what is published again goes on.
    let url = weir.url("/api/v1/streams/live/a");
    assert_eq!(send(reqwest::Client::new().delete(url).bearer_auth(weir.token())).await.status, 204);
    let mut publisher = publisher;
    publisher.exit().await;
    weir.until_gone("live/a").await;
}

fn srt_play(weir: &Weir, id: &str) -> String {
    weir.srt_url(id)
}

#[tokio::test]
async fn encrypted_streams_need_their_passphrase() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::configured(
        "[origin.srt]\npassphrases = [{ streams = \"secret/*\", passphrase = \"a-long-secret\" }]\n",
    )
    .await;
    let with = |id: &str, phrase: &str, more: &str| weir.srt_url(id) + "&passphrase=" + phrase + more;
    let publisher =
        ffmpeg::publish_srt(&with("publish:secret/a", "a-long-secret", "&pbkeylen=32"), Media::default());
    weir.until_live("secret/a", 2).await;
    let from = format!("srt://{}?streamid=read:secret/a&passphrase=a-long-secret&pbkeylen=24", weir.srt);
    let player = transmit(&from, "file://con");
    // It writes to its standard output; that it plays is what the server counts.
    until("an SRT viewer", async || {
        weir.metric("weir_edge_viewers{protocol=\"srt\"}").await.filter(|viewers| *viewers > 0.0)
    })
    .await;
    drop(player);
    let report = ffmpeg::play(Version::Five, &with("read:secret/a", "a-long-secret", ""), 4).await;
    assert_whole("an encrypted stream", &report, 4.0);

    const BAD_SECRET: i32 = 10;
    const UNSECURE: i32 = 11;
    assert_eq!(refusal(&weir, "publish:secret/b", Some("another secret")).await, BAD_SECRET);
    assert_eq!(refusal(&weir, "publish:secret/b", None).await, UNSECURE);
    assert_eq!(refusal(&weir, "read:secret/a", None).await, UNSECURE);
    assert_eq!(refusal(&weir, "publish:open/a", Some("a-long-secret")).await, UNSECURE);
    assert!(weir.stream("secret/b").await.is_none());
    drop(publisher);
}

#[tokio::test]
async fn packet_filters_which_callers_could_make_huge_are_refused() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = format!("srt://{}?streamid=live/a&packetfilter=fec,cols:10,rows:5", weir.srt);
    let filtering = transmit(&format!("udp://127.0.0.1:{port}"), &to);
    // It may not end, as it can miss that it was refused.
    filtering.line("Packet Filter settings error").await;
    assert!(call(&weir, "publish:live/a", None).await.unwrap().is_connected());
}

#[tokio::test]
async fn refusals_say_why() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured(
        "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"s3cret\" }]\n",
    )
    .await;
    let unauthorized = Reject::UNAUTHORIZED.code();
    assert_eq!(refusal(&weir, "#!::r=live/a,m=publish", None).await, unauthorized);
    assert_eq!(refusal(&weir, "#!::r=live/a,m=publish,key=wrong", None).await, unauthorized);
    assert_eq!(refusal(&weir, "#!::r=live,m=publish", None).await, Reject::BAD_REQUEST.code());
    assert_eq!(refusal(&weir, "#!::r=api/a,m=publish,key=s3cret", None).await, Reject::BAD_REQUEST.code());
    assert_eq!(refusal(&weir, "", None).await, Reject::BAD_REQUEST.code());
    let _publication = Publication::start(weir.rtmp, "live/a?key=s3cret", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    assert_eq!(refusal(&weir, "publish:live/a?key=s3cret", None).await, Reject::CONFLICT.code());
    // With its key another stream is taken in; what is no media ends nobody else's.
    let publisher = call(&weir, "publish:live/b?key=s3cret", None).await.unwrap();
    publisher.send(&[0x47; 1316]).await.unwrap();
    publisher.send(b"nonsense").await.unwrap();
    until("mistakes to be counted", async || {
        weir.metric("weir_origin_srt_ts_errors_total{kind=\"resync\"}").await.filter(|count| *count > 0.0)
    })
    .await;
    assert!(publisher.is_connected());
    let log = weir.stop().await.1;
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn a_line_that_loses_packets_loses_no_frame() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.ts");
    let video: &[&str] = &[
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "50",
        "-pix_fmt",
        "yuv420p",
        "-b:v",
        "4M",
        "-minrate",
        "4M",
        "-maxrate",
        "4M",
        "-bufsize",
        "1M",
        "-x264-params",
        "nal-hrd=cbr",
    ];
    let media = Media { video: Some(video), audio: Some(AAC), size: "640x360" };
    ffmpeg::encode(Version::Five, media, 20, &file).await;
    let (there, back) = (Lossy::to(weir.srt, 50).await, Lossy::to(weir.srt, 50).await);
    // libsrt's receivers repeat their first request for a packet only after 300 ms: less latency leaves one chance in ten that
    // the first packet that a line loses is lost for good.
    let url = |line: &Lossy, id| format!("srt://{}?streamid={id}&latency=400000", line.at);
    let sender = ffmpeg::send_srt(&file, &url(&there, "publish:live/a"));
    weir.until_live("live/a", 2).await;
    let (flv, srt) = (weir.url("/live/a.flv"), url(&back, "read:live/a"));
    let (flv, srt) = within("two players", async {
        tokio::join!(ffmpeg::play(Version::Five, &flv, 12), ffmpeg::play(Version::Five, &srt, 12))
    })
    .await;
    let line = weir.stream("live/a").await.unwrap()["publisher"]["line"].clone();
    say(&format!("lost on the way in and out: {} and {} datagrams; {line}", there.lost(), back.lost()));
    assert!(there.lost() > 100 && back.lost() > 100);
    assert!(line["lost_packets"].as_u64().unwrap() > 100, "{line}");
    assert_eq!((&line["dropped_packets"], &line["continuity_errors"]), (&0.into(), &0.into()), "{line}");
    assert_eq!(line["latency_ms"], 400);
    assert_whole("FLV of what came by SRT", &flv, 12.0);
    assert_whole("SRT of the same", &srt, 12.0);
    drop(sender);
}

#[tokio::test]
async fn srt_live_transmit_passes_a_file_through() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    // From ffmpeg by UDP, as encoders in the field do it.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = format!("srt://{}?streamid=live/a", weir.srt);
    let _relay = transmit(&format!("udp://127.0.0.1:{port}"), &to);
    let _encoder = ffmpeg::publish_srt(&format!("udp://127.0.0.1:{port}?pkt_size=1316"), Media::default());
    weir.until_live("live/a", 2).await;
    let out = UdpSocket::bind("127.0.0.1:0").unwrap();
    out.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let from = format!("srt://{}?streamid=read:live/a", weir.srt);
    let _player = transmit(&from, &format!("udp://{}", out.local_addr().unwrap()));
    let played = tokio::task::spawn_blocking(move || {
        let (mut ts, mut room) = (Vec::new(), [0; 2048]);
        while ts.len() < 400_000 {
            let bytes = out.recv(&mut room).unwrap();
            ts.extend_from_slice(&room[..bytes]);
        }
        ts
    });
    let ts = within("what is played", played).await.unwrap();
    let mut demuxer = Demuxer::new();
    demuxer.push(&ts);
    let mut frames = 0;
    while let Some(event) = demuxer.next_event() {
        frames += usize::from(matches!(event, Demuxed::Frame(_)));
    }
    assert_eq!(demuxer.counters(), Counters::default());
    assert!(frames > 100, "{frames} frames");
}

/// An SRT control packet that asks for a handshake (draft §3.2.1): an induction, or a conclusion with a cookie that was
/// never given.
fn handshake(conclusion: bool, id: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let words: [u32; 8] = if conclusion {
        [5, 0x0001, id, 1500, 8192, 0xffff_ffff, id, 0xdead_beef]
    } else {
        [4, 2, id, 1500, 8192, 1, id, 0]
    };
    words.iter().for_each(|word| packet.extend_from_slice(&word.to_be_bytes()));
    packet.extend_from_slice(&[0; 16]);
    packet
}

#[tokio::test]
async fn half_open_handshakes_cost_nothing() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    let to = weir.srt;
    assert_costs_less_than_1_mb(&weir, || async move {
        let flood = tokio::task::spawn_blocking(move || {
            let sockets: Vec<_> = (0..50).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            for (n, socket) in (0..20_000).zip(sockets.iter().cycle()) {
                // What the kernel has no room for is lost, as it should be.
                socket.send_to(&handshake(n % 2 == 1, n + 1), to).ok();
                if n % 16 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        flood.await.unwrap();
    })
    .await;
    assert_eq!(weir.metric("weir_origin_srt_connections").await, Some(0.0));
    let publisher = call(&weir, "publish:live/b", None).await.unwrap();
    assert!(publisher.is_connected());
}

#[tokio::test]
async fn an_edge_plays_by_srt_and_sends_publishers_to_the_origin() {
    let _turn = turn::take(Load::Encoder).await;
    let origin = Weir::role("origin", "", &[]).await;
    let edge = Weir::role("edge", "", &["--origin", &origin.url("")]).await;
    let _publisher = ffmpeg::publish_srt(&origin.srt_url("publish:live/a"), Media::default());
    origin.until_live("live/a", 2).await;
    assert_eq!(refusal(&origin, "read:live/a", None).await, Reject::BAD_MODE.code());
    assert_eq!(refusal(&edge, "publish:live/b", None).await, Reject::BAD_MODE.code());
    let report = ffmpeg::play(Version::Five, &edge.srt_url("read:live/a"), 4).await;
    assert_whole("SRT by an edge", &report, 4.0);
    // Who plays what is not there is let go.
    let absent = call(&edge, "read:live/absent", None).await.unwrap();
    let over = within("its end", absent.recv(&mut [0; srt::MAX_DATAGRAM_BYTES])).await;
    assert!(matches!(over, Err(Error::Over)), "{over:?}");
}

#[tokio::test]
async fn a_drain_ends_publishers_and_players() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let mut publisher = ffmpeg::publish_srt(&weir.srt_url("publish:live/a"), Media::default());
    weir.until_live("live/a", 2).await;
    let player = call(&weir, "read:live/a", None).await.unwrap();
    let mut room = [0; srt::MAX_DATAGRAM_BYTES];
    within("a first datagram", player.recv(&mut room)).await.unwrap();
    let (status, log) = weir.stop().await;
    assert!(status.success(), "{log}");
    publisher.exit().await;
    let over = async { while player.recv(&mut room).await.is_ok() {} };
    within("the player's end", over).await;
}
