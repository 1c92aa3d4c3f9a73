//! Low-latency HLS as players meet it: the rows of its second table, measured on the running binary.
//!
//! The rules themselves (what is answered when, what a playlist says) are tested in virtual time beside the code.
//! What a clock shows here is compared with what the machine does at that moment to any request, so that a busy
//! machine makes numbers worse, not tests red.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::watch;

use crate::support::clip::{Clip, FRAME_MS};
use crate::support::ffmpeg::{self, AAC, Media, Version};
use crate::support::flv::{Tag, VIDEO};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::{Answer, Weir, send};
use crate::support::{self, say, within};

#[allow(dead_code, reason = "the rules beside the code use all of it")]
#[path = "../../media-core/src/hls/tests/reader.rs"]
mod reader;
use reader::Playlist;

const STREAM: &str = "live/ll";
/// Worse than this is not what low latency means.
const TOLERANCE: Duration = Duration::from_millis(20);

/// A player that always asks for the next part.
struct Player<'a> {
    weir: &'a Weir,
    client: reqwest::Client,
    /// The next part: media sequence number and index.
    next: (u64, usize),
    /// Each playlist, and when it came.
    seen: Vec<(Instant, Playlist)>,
}

impl<'a> Player<'a> {
    async fn start(weir: &'a Weir) -> Self {
        weir.until_hls(STREAM).await;
        let client = reqwest::Client::new();
        let first = Playlist::read(&weir.get(&format!("/{STREAM}/main/media.m3u8")).await.text());
        first.assert_legal();
        let mut player = Self { weir, client, next: (0, 0), seen: Vec::new() };
        player.took(first);
        player
    }

    fn took(&mut self, playlist: Playlist) {
        let last = playlist.segments.last().unwrap();
        self.next = match last.uri {
            Some(_) => (last.msn + 1, 0),
            None => (last.msn, last.parts.len()),
        };
        self.seen.push((Instant::now(), playlist));
    }

    async fn reload(&mut self) {
        let (msn, part) = self.next;
        let path = format!("/{STREAM}/main/media.m3u8?_HLS_msn={msn}&_HLS_part={part}");
        let answer = send(self.client.get(self.weir.url(&path))).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let playlist = Playlist::read(&answer.text());
        playlist.assert_legal();
        self.took(playlist);
    }

    /// Each part's URI and duration in their order, and when it was first seen; those of the first playlist, which
    /// were there before, are left out.
    fn parts(&self) -> Vec<(Instant, String, f64)> {
        let mut known: Vec<&str> = self.seen[0].1.parts().map(|(.., p)| p.uri.as_str()).collect();
        let mut out = Vec::new();
        for (at, playlist) in &self.seen[1..] {
            for (.., part) in playlist.parts() {
                if !known.contains(&part.uri.as_str()) {
                    known.push(&part.uri);
                    out.push((*at, part.uri.clone(), part.duration));
                }
            }
        }
        out
    }

    async fn object(&self, uri: &str) -> Vec<u8> {
        let answer = send(self.client.get(self.weir.url(&format!("/{STREAM}/main/{uri}")))).await;
        assert_eq!(answer.status, 200, "{uri}");
        answer.body
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn report(what: &str, values: &mut [Duration]) -> String {
    values.sort();
    let [p50, p99] = [50, 99].map(|p| percentile(values, p));
    let max = values.last().unwrap();
    format!("{what}: p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?} ({} values)", values.len())
}

/// Encoder options: keyframes every so many pictures and nowhere else.
fn h264(gop: &'static str) -> [&'static str; 14] {
    [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        gop,
        "-keyint_min",
        gop,
        "-sc_threshold",
        "0",
        "-bf",
        "2",
        "-pix_fmt",
        "yuv420p",
    ]
}

#[tokio::test]
async fn parts_are_at_most_part_target_at_least_85_percent_of_it_and_add_up_to_their_segment() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let video = h264("50");
    let media = Media { video: Some(&video), audio: Some(AAC), size: "320x180" };
    let _publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url(STREAM), media);
    let mut player = Player::start(&weir).await;
    for _ in 0..60 {
        // Each playlist is checked as it comes.
        player.reload().await;
    }
    let parts = player.parts();
    let target = player.seen[0].1.part_target;
    let durations = parts.iter().map(|(.., d)| *d);
    let (min, max) = durations.fold((f64::MAX, 0.0f64), |(min, max), d| (min.min(d), max.max(d)));
    say(&format!("{} parts of {min} to {max} s, PART-TARGET {target}", parts.len()));
    assert!(parts.len() >= 60 && max <= target);
    let whole =
        player.seen.last().unwrap().1.segments.iter().filter(|s| s.uri.is_some() && !s.parts.is_empty());
    assert!(whole.count() >= 2, "sums were compared");
}

#[tokio::test]
async fn independent_parts_are_exactly_those_that_ffprobe_says_start_with_an_idr() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    // Keyframes that are no multiple of a part apart: some begin parts, some stand inside.
    let video = h264("23");
    let media = Media { video: Some(&video), audio: Some(AAC), size: "320x180" };
    let _publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url(STREAM), media);
    let mut player = Player::start(&weir).await;
    let mut told = BTreeMap::new();
    while told.len() < 45 {
        player.reload().await;
        for (.., part) in player.seen.last().unwrap().1.parts() {
            told.insert(part.uri.clone(), part.independent);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let init = player.object(&player.seen[0].1.segments[0].map).await;
    let (mut independent, mut inside) = (0, 0);
    for (uri, told) in &told {
        let mut bytes = init.clone();
        bytes.extend(player.object(uri).await);
        let file = folder.path().join("part.mp4");
        std::fs::write(&file, bytes).unwrap();
        let first = first_packet_dts(&file).await;
        let idr = first_idr_dts(&file).await;
        assert_eq!(idr.is_some() && idr == first, *told, "{uri}: first {first:?}, IDR {idr:?}");
        independent += usize::from(*told);
        inside += usize::from(idr.is_some() && idr != first);
    }
    say(&format!("{} parts: {independent} start with an IDR, {inside} have one inside", told.len()));
    assert!(independent >= 3 && inside >= 3);
}

async fn ffprobe(file: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "quiet", "-of", "json"]).args(arguments).arg(file).kill_on_drop(true);
    let output = within("ffprobe", command.output()).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn first_packet_dts(file: &Path) -> Option<i64> {
    let json = ffprobe(file, &["-select_streams", "v", "-show_packets"]).await;
    json["packets"][0]["dts"].as_i64()
}

/// Where the first picture is that decoding can start with: the decoder's word, not the container's.
async fn first_idr_dts(file: &Path) -> Option<i64> {
    let json = ffprobe(file, &["-select_streams", "v", "-show_frames"]).await;
    let frames = json["frames"].as_array().cloned().unwrap_or_default();
    let idr = frames.iter().find(|f| f["key_frame"] == 1 && f["pict_type"] == "I")?;
    let pts = idr["pts"].as_i64()?;
    // Frames know their presentation; the packet of the same presentation knows its decoding time.
    let json = ffprobe(file, &["-select_streams", "v", "-show_packets"]).await;
    json["packets"].as_array()?.iter().find(|p| p["pts"].as_i64() == Some(pts))?["dts"].as_i64()
}

#[tokio::test]
async fn tfdt_is_continuous_over_parts_and_segments() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let video = h264("50");
    let media = Media { video: Some(&video), audio: Some(AAC), size: "320x180" };
    let _publisher = ffmpeg::publish(Version::Five, &weir.rtmp_url(STREAM), media);
    let mut player = Player::start(&weir).await;
    let mut whole = player.object(&player.seen[0].1.segments[0].map).await;
    for _ in 0..50 {
        player.reload().await;
    }
    let parts = player.parts();
    for (_, uri, _) in &parts {
        whole.extend(player.object(uri).await);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.mp4");
    std::fs::write(&file, whole).unwrap();
    let json = ffprobe(&file, &["-show_packets"]).await;
    let mut ends: BTreeMap<u64, (i64, usize)> = BTreeMap::new();
    for packet in json["packets"].as_array().unwrap() {
        let number = |key: &str| packet[key].as_i64().unwrap();
        let (dts, duration) = (number("dts"), number("duration"));
        let (end, count) = ends.entry(packet["stream_index"].as_u64().unwrap()).or_insert((dts, 0));
        assert_eq!(*end, dts, "stream {} after {count} packets", packet["stream_index"]);
        (*end, *count) = (dts + duration, *count + 1);
    }
    say(&format!("{} parts, per track end in ticks and packets: {ends:?}", parts.len()));
    assert_eq!(ends.len(), 2);
    assert!(ends.values().all(|(_, count)| *count > 200));
}

/// Publishes a clip in real time and writes down when each picture was sent, by its time in milliseconds.
async fn publish_by_the_clock(
    weir: &Weir,
) -> (tokio::task::JoinHandle<()>, watch::Receiver<BTreeMap<u32, Instant>>) {
    let clip = Clip::small().await;
    let Client { mut sender, mut receiver } = Client::publisher(weir.rtmp, STREAM).await;
    for tag in &clip.configurations {
        sender.tag(tag).await.unwrap();
    }
    let (sent, log) = watch::channel(BTreeMap::new());
    let task = tokio::spawn(async move {
        let start = tokio::time::Instant::now();
        let listen = async { while receiver.message().await.is_some() {} };
        let send = async {
            for tag in clip.forever() {
                tokio::time::sleep_until(start + Duration::from_millis(tag.timestamp.into())).await;
                let at = Instant::now();
                if sender.tag(&tag).await.is_err() {
                    return;
                }
                if tag.kind == VIDEO {
                    sent.send_modify(|sent| {
                        sent.insert(tag.timestamp, at);
                    });
                }
            }
        };
        tokio::select! { () = listen => {}, () = send => {} }
    });
    (task, log)
}

/// What any request takes on this machine now, once a part's time.
async fn floor(weir: &Weir, stop: watch::Receiver<bool>) -> Vec<Duration> {
    let client = reqwest::Client::new();
    let url = format!("http://{}/healthz", weir.admin);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut out = Vec::new();
    while !*stop.borrow() {
        let due = ticks.tick().await;
        let answer = send(client.get(&url)).await;
        assert_eq!(answer.status, 200);
        // From when it should have been asked: a machine that wakes nobody shows, too.
        out.push(due.elapsed());
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_come_a_part_target_apart_and_release_who_waits_for_them() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let (publisher, sent) = publish_by_the_clock(&weir).await;
    let mut player = Player::start(&weir).await;
    let (stop, stopped) = watch::channel(false);
    let measure = async {
        for _ in 0..150 {
            player.reload().await;
        }
        stop.send_replace(true);
    };
    let ((), mut floor) = tokio::join!(measure, floor(&weir, stopped));
    publisher.abort();
    let sent = sent.borrow().clone();

    // A part is made when the picture behind it arrives. Its time is the sum of the parts before, from the first
    // picture on.
    let first_picture = *sent.keys().next().unwrap();
    let first = &player.seen[0].1;
    let epoch_ms: u64 = first.hint().split_once('-').unwrap().0.parse().unwrap();
    assert_eq!(first.media_sequence, epoch_ms / 1_000, "counted from the clock on");
    let listed: f64 = first
        .segments
        .iter()
        .map(|s| s.extinf.unwrap_or_else(|| s.parts.iter().map(|p| p.duration).sum()))
        .sum();
    let part_target = Duration::from_secs_f64(first.part_target);
    let mut end = Duration::from_secs_f64(listed) + Duration::from_millis(first_picture.into());
    let (mut releases, mut gaps, mut excess) = (Vec::new(), Vec::new(), Vec::new());
    let mut before: Option<(Instant, Instant)> = None;
    for (seen, uri, duration) in player.parts() {
        end += Duration::from_secs_f64(duration);
        let end_ms = u32::try_from((end + Duration::from_micros(500)).as_millis()).unwrap();
        let picture = sent.get(&end_ms).unwrap_or_else(|| panic!("{uri} ends at {end_ms} ms"));
        releases.push(seen - *picture);
        if let Some((seen_before, picture_before)) = before {
            gaps.push(seen - seen_before);
            // What the publisher's own clock did is not ours.
            excess.push((seen - seen_before).saturating_sub(part_target.max(*picture - picture_before)));
        }
        before = Some((seen, *picture));
    }
    for line in [
        report("a plain request", &mut floor),
        report("release after the picture that ends the part was sent", &mut releases),
        report(
            &format!("gap between parts (PART-TARGET {part_target:?}, a picture is {FRAME_MS} ms)"),
            &mut gaps,
        ),
        report("gap beyond PART-TARGET and the publisher's own", &mut excess),
    ] {
        say(&line);
    }
    assert!(releases.len() >= 150);
    let allowed = TOLERANCE + percentile(&floor, 99);
    assert!(percentile(&releases, 99) <= allowed, "released {allowed:?} after the part or later");
    assert!(percentile(&excess, 99) <= allowed, "parts come {allowed:?} late or more");
}

/// A publisher that goes on in real time, but only when the story says so.
struct Stepper {
    client: Client,
    ticks: tokio::time::Interval,
    frames: Box<dyn Iterator<Item = Tag> + Send>,
    next: Tag,
}

impl Stepper {
    async fn start(weir: &Weir) -> Self {
        let clip = Clip::small().await;
        let mut client = Client::publisher(weir.rtmp, STREAM).await;
        for tag in &clip.configurations {
            client.sender.tag(tag).await.unwrap();
        }
        let mut frames = Box::new(clip.forever());
        let next = frames.next().unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(u64::from(FRAME_MS)));
        // What was held back is not made up for.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { client, ticks, frames, next }
    }

    /// Sends all that comes before that time of the clip's clock.
    async fn until(&mut self, ms: u32) {
        while self.next.timestamp < ms {
            if self.next.kind == VIDEO {
                self.ticks.tick().await;
            }
            self.client.sender.tag(&self.next).await.unwrap();
            self.next = self.frames.next().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_viewers_who_ask_for_the_same_part_are_one_origin_request() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let mut publisher = Stepper::start(&weir).await;
    publisher.until(4_600).await;
    let parts = async |count: f64| {
        support::until(&format!("{count} parts"), async || {
            (weir.metric("weir_origin_hls_parts_total").await == Some(count)).then_some(())
        })
        .await;
    };
    // Pictures up to 4.56 s are 22 parts and the picture behind the last of them.
    parts(22.0).await;
    let asked = async |object: &str| {
        let sample = format!("weir_origin_hls_requests_total{{object=\"{object}\"}}");
        weir.metric(&sample).await.unwrap_or(0.0)
    };
    // HTTP/2 carries fifty of them on a connection, so that the story needs no thousand sockets.
    let clients: Vec<reqwest::Client> =
        (0..20).map(|_| reqwest::Client::builder().http2_prior_knowledge().build().unwrap()).collect();
    let ask = |path: &str| -> Vec<tokio::task::JoinHandle<Answer>> {
        let url = weir.url(&format!("/{STREAM}/main/{path}"));
        (0..1_000).map(|n| tokio::spawn(send(clients[n % clients.len()].get(&url)))).collect()
    };
    let all_wait = async |shared: f64| {
        support::until("all but the first to share its question", async || {
            (weir.metric("weir_edge_coalesced_requests_total").await == Some(shared)).then_some(())
        })
        .await;
    };

    // The next part, which the publisher holds back until all have asked for the playlist that will have it.
    let playlist = Playlist::read(&weir.get(&format!("/{STREAM}/main/media.m3u8")).await.text());
    let growing = playlist.segments.last().unwrap();
    let (msn, part) = (growing.msn, growing.parts.len());
    assert!(growing.uri.is_none());
    let requests = ask(&format!("media.m3u8?_HLS_msn={msn}&_HLS_part={part}"));
    all_wait(999.0).await;
    publisher.until(4_900).await;
    let mut bodies = Vec::new();
    for request in requests {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let playlist = Playlist::read(&String::from_utf8(bodies.swap_remove(0)).unwrap());
    assert!(playlist.parts().any(|(m, i, _)| (m, i) == (msn, part)));
    assert_eq!(asked("blocking_playlist").await, 1.0);

    // And the part that is announced, before it is there. The edge has asked for it as soon as a playlist that
    // somebody waited for announced it, so all of them join.
    let first_hint = playlist.hint().to_owned();
    parts(24.0).await;
    let next = format!("/{STREAM}/main/media.m3u8?_HLS_msn={msn}&_HLS_part={}", part + 1);
    let playlist = Playlist::read(&weir.get(&next).await.text());
    let requests = ask(playlist.hint());
    all_wait(1_999.0).await;
    publisher.until(5_300).await;
    let mut bodies = Vec::new();
    for request in requests {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        bodies.push(answer.body);
    }
    assert!(!bodies[0].is_empty() && bodies.iter().all(|part| *part == bodies[0]));
    let announced = if playlist.hint() == first_hint { 1.0 } else { 2.0 };
    assert_eq!((asked("blocking_playlist").await, asked("part").await), (2.0, announced));

    // A thousand more come when it is there: the origin hears of none of them.
    for request in ask(playlist.hint()) {
        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.body == bodies[0]), (200, true));
    }
    say("1,000 viewers of one playlist and 2,000 of one part: an origin request each");
    assert_eq!((asked("blocking_playlist").await, asked("part").await), (2.0, announced));
}

#[tokio::test]
async fn the_same_bodies_over_http_1_and_2_compressed_if_and_only_if_accepted() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let publisher = Publication::start(weir.rtmp, STREAM, &Clip::small().await).await;
    weir.until_hls(STREAM).await;
    // Over, so that nothing changes between two requests.
    let kick = weir.url(&format!("/api/v1/streams/{STREAM}"));
    let kicked = send(reqwest::Client::new().delete(kick).bearer_auth(weir.token())).await;
    assert!(kicked.status < 300, "{}", kicked.text());
    drop(publisher);
    let clients = [
        reqwest::Client::builder().http1_only().build().unwrap(),
        reqwest::Client::builder().http2_prior_knowledge().build().unwrap(),
    ];
    let playlist = support::until("the playlist's end", async || {
        let playlist = Playlist::read(&weir.get(&format!("/{STREAM}/main/media.m3u8")).await.text());
        playlist.ended.then_some(playlist)
    })
    .await;
    let segment = playlist.segments[0].uri.clone().unwrap();
    let files = [
        "index.m3u8",
        "main/media.m3u8",
        &format!("main/{}", playlist.segments[0].map),
        &format!("main/{segment}"),
    ];
    for file in files {
        let url = weir.url(&format!("/{STREAM}/{file}"));
        let is_playlist = file.ends_with(".m3u8");
        let mut plain = Vec::new();
        for client in &clients {
            for accepted in [None, Some("gzip"), Some("gzip;q=0"), Some("identity")] {
                let mut request = client.get(&url);
                if let Some(accepted) = accepted {
                    request = request.header("accept-encoding", accepted);
                }
                let answer = send(request).await;
                assert_eq!(answer.status, 200, "{file}");
                let header = |name: &str| answer.headers.get(name).map_or("", |v| v.to_str().unwrap());
                let compressed = is_playlist && accepted == Some("gzip");
                assert_eq!(
                    header("content-encoding"),
                    if compressed { "gzip" } else { "" },
                    "{file} {accepted:?}"
                );
                if is_playlist {
                    assert!(header("vary").to_ascii_lowercase().contains("accept-encoding"), "{file}");
                }
                assert!(
                    !answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("location")
                );
                plain.push(if compressed { gunzip(&answer.body).await } else { answer.body });
            }
        }
        assert!(!plain[0].is_empty() && plain.iter().all(|body| *body == plain[0]), "{file}");
    }
    let age = |answer: &Answer| answer.headers["cache-control"].to_str().unwrap().to_owned();
    for (path, expected) in [
        ("index.m3u8".to_owned(), "public, max-age=1"),
        ("main/media.m3u8".to_owned(), "public, max-age=1"),
        ("main/media.m3u8?_HLS_msn=1".to_owned(), "public, max-age=12"),
        (format!("main/{segment}"), "public, max-age=31536000, immutable"),
    ] {
        let answer = weir.get(&format!("/{STREAM}/{path}")).await;
        assert_eq!((answer.status, age(&answer).as_str()), (200, expected), "{path}");
    }
}

async fn gunzip(body: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.gz");
    std::fs::write(&file, body).unwrap();
    let output = Command::new("gzip").arg("-dc").arg(&file).output().await.unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn bad_and_impatient_requests_are_refused_by_the_edge_too() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let _publisher = Publication::start(weir.rtmp, STREAM, &Clip::small().await).await;
    weir.until_hls(STREAM).await;
    let status = async |path: &str| weir.get(&format!("/{STREAM}/main/{path}")).await.status;
    for query in ["_HLS_part=1", "_HLS_msn=x", "_HLS_msn=9000000000", "_HLS_msn=1&_HLS_msn=2", "_HLS_skip=NO"]
    {
        assert_eq!(status(&format!("media.m3u8?{query}")).await, 400, "{query}");
    }
    // Whoever asks for a part before it is announced must not hide it from those who ask in time.
    let playlist = Playlist::read(&weir.get(&format!("/{STREAM}/main/media.m3u8")).await.text());
    let msn = playlist.segments.iter().filter(|s| s.uri.is_some()).map(|s| s.msn).max().unwrap() + 2;
    let epoch = playlist.hint().split_once('-').unwrap().0.to_owned();
    let early = format!("{epoch}-{msn}.0.m4s");
    assert_eq!(status(&early).await, 404);
    let mut query = String::new();
    loop {
        let answer = weir.get(&format!("/{STREAM}/main/media.m3u8?{query}")).await;
        let playlist = Playlist::read(&answer.text());
        if playlist.hint() == early {
            break;
        }
        // Refused, or waited for: the announcement may just have been made.
        assert!([404, 200].contains(&status(&early).await));
        let last = playlist.segments.last().unwrap();
        let (msn, part) = if last.uri.is_some() { (last.msn + 1, 0) } else { (last.msn, last.parts.len()) };
        query = format!("_HLS_msn={msn}&_HLS_part={part}");
    }
    assert_eq!(status(&early).await, 200);
}

/// Nothing of a stream's name reaches the metrics, and what was counted adds up.
#[tokio::test]
async fn nobody_watching_costs_no_playlist() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let _publisher = Publication::start(weir.rtmp, STREAM, &Clip::small().await).await;
    weir.until_hls(STREAM).await;
    let rendered = "weir_origin_hls_playlists_rendered_total";
    assert_eq!(weir.metric(rendered).await, Some(0.0));
    assert!(weir.metric("weir_origin_hls_parts_total").await.unwrap() >= 10.0);
    weir.get(&format!("/{STREAM}/index.m3u8")).await;
    assert_eq!(weir.metric(rendered).await, Some(1.0));
}
