//! Origin and edges as processes of their own: what plays, who asks whom how often, and what viewers notice when an origin
//! dies.

use crate::support::browser::Page;
use crate::support::certificate::pair;
use crate::support::clip::Clip;
use crate::support::flv::{self, SCRIPT, Tag, VIDEO, Viewer};
use crate::support::line::Line;
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::{Answer, Weir, send};
use crate::support::{until, versions, within};

const KEY: &str = "between-origin-and-edges";

/// Seconds of latency that a player can make up for.
const MOST_AHEAD_S: f64 = 5.0;

async fn origin() -> Weir {
    Weir::role("origin", &format!("[origin.http]\nkey = \"{KEY}\"\n"), &[]).await
}

/// An edge that pulls from these, and that others can pull from.
async fn edge(upstreams: &[&Weir]) -> Weir {
    edge_with(upstreams, &[]).await
}

async fn edge_with(upstreams: &[&Weir], flags: &[&str]) -> Weir {
    let urls: Vec<String> = upstreams.iter().map(|weir| weir.url("")).collect();
    let upstreams = urls.iter().flat_map(|url| ["--origin", url]);
    let flags: Vec<&str> = upstreams.chain(flags.iter().copied()).collect();
    Weir::role(
        "edge",
        &format!("[edge.upstream]\nkey = \"{KEY}\"\n[edge.http]\nrelay_key = \"{KEY}\"\n"),
        &flags,
    )
    .await
}

/// Asks as an edge does.
async fn get_as_edge(weir: &Weir, path: &str) -> Answer {
    send(reqwest::Client::new().get(weir.url(path)).bearer_auth(KEY)).await
}

/// Waits until somebody serves a path, and reads it.
async fn until_there(weir: &Weir, path: &str) -> Answer {
    until(path, async || Some(weir.get(path).await).filter(|answer| answer.status == 200)).await
}

/// Those who watch, each by another protocol.
struct Watching {
    flv: (Viewer, Option<u32>),
    websocket: (Viewer, Option<u32>),
    rtmp: (Client, Option<u32>),
}

impl Watching {
    async fn begin(edge: &Weir) -> Self {
        let mut player = Client::open(edge.rtmp, "live").await.unwrap();
        let status = player.play("a").await.expect("play is answered");
        assert!(status.says("NetStream.Play.Reset"), "{}", String::from_utf8_lossy(&status.body));
        Self {
            flv: (Viewer::open(&edge.url("/live/a.flv")).await, None),
            websocket: (Viewer::open_websocket(edge.http, "/live/a.flv").await, None),
            rtmp: (player, None),
        }
    }

    /// All see so many pictures more, each later than the one before.
    async fn see(&mut self, pictures: u32) {
        fn later(last: &mut Option<u32>, tag: &Tag, who: &str) {
            assert!(last.is_none_or(|last| tag.timestamp > last), "{who}: {last:?}, then {}", tag.timestamp);
            *last = Some(tag.timestamp);
        }
        for _ in 0..pictures {
            let Self { flv, websocket, rtmp } = self;
            later(&mut flv.1, &flv.0.next_frame(VIDEO).await, "FLV");
            later(&mut websocket.1, &websocket.0.next_frame(VIDEO).await, "WebSocket");
            loop {
                let message = rtmp.0.receiver.message().await.expect("the RTMP connection stays");
                let tag = Tag { kind: message.kind, timestamp: message.timestamp, body: message.body };
                if tag.kind == VIDEO && !tag.is_configuration() {
                    later(&mut rtmp.1, &tag, "RTMP");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn an_edge_plays_what_its_origin_has_and_pulls_it_once() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let origin = origin().await;
    let edge = edge(&[&origin]).await;
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_live("live/a", 2).await;

    let mut some = Watching::begin(&edge).await;
    let mut others = Watching::begin(&edge).await;
    some.see(30).await;
    others.see(30).await;
    assert_eq!(origin.metric("weir_origin_relay_readers").await, Some(1.0));
    assert_eq!(edge.metric("weir_edge_upstream_requests_total{kind=\"relay\"}").await, Some(1.0));

    let playlist = until_there(&edge, "/live/a/main/media.m3u8").await.text();
    let mut objects = 0;
    for name in playlist.lines().filter(|line| line.ends_with(".m4s")) {
        let path = format!("/live/a/main/{name}");
        let (here, there) = (edge.get(&path).await, get_as_edge(&origin, &path).await);
        assert_eq!((here.status, there.status), (200, 200), "{path}");
        assert_eq!(here.body, there.body, "{path}");
        objects += 1;
    }
    assert!(objects > 0, "{playlist}");

    // Encoders belong elsewhere, and strangers get nothing of the origin.
    let mut lost = Client::open(edge.rtmp, "live").await.unwrap();
    let status = lost.publish("b").await.expect("an onStatus");
    assert!(status.says("NetStream.Publish.Denied"), "{}", String::from_utf8_lossy(&status.body));
    for path in ["/relay/live/a", "/live/a/index.m3u8"] {
        let answer = origin.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().contains(KEY));
    }
    for weir in [origin, edge] {
        let (_, log) = weir.stop().await;
        assert!(!log.contains(KEY), "{log}");
    }
}

#[tokio::test]
async fn everything_plays_behind_a_shield_and_the_origin_is_asked_once() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let origin = origin().await;
    let shield = edge(&[&origin]).await;
    let edges = [edge_with(&[&shield], &["--https", "127.0.0.1:0"]).await, edge(&[&shield]).await];
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_live("live/a", 2).await;

    let mut here = Watching::begin(&edges[0]).await;
    let mut there = Watching::begin(&edges[1]).await;
    let mut between = Watching::begin(&shield).await;
    for watching in [&mut here, &mut there, &mut between] {
        watching.see(30).await;
    }
    assert_eq!(origin.metric("weir_origin_relay_readers").await, Some(1.0));
    assert_eq!(shield.metric("weir_edge_viewers{protocol=\"relay\"}").await, Some(2.0));
    assert_eq!(shield.get("/relay/live/a").await.status, 401, "strangers can't pull");

    let playlist = until_there(&edges[0], "/live/a/main/media.m3u8").await.text();
    let objects: Vec<&str> = playlist.lines().filter(|line| line.ends_with(".m4s")).collect();
    assert!(!objects.is_empty(), "{playlist}");
    let init = playlist.split('"').find(|part| part.starts_with("init-")).expect("an init segment");
    let part = playlist.split('"').find(|part| part.ends_with(".0.m4s")).expect("a part");
    for name in objects.iter().chain([&init, &part]) {
        let path = format!("/live/a/main/{name}");
        let (here, there) = (edges[0].get(&path).await, get_as_edge(&origin, &path).await);
        assert_eq!((here.status, &here.body), (there.status, &there.body), "{path}");
    }
    for name in [objects[0], init, part] {
        let path = format!("/live/a/main/{name}");
        let there = get_as_edge(&origin, &path).await.body;
        for by in versions::ALL {
            assert!(versions::fetch(&edges[0], by, &path).await == there, "{path} by {by:?}");
        }
    }
}

#[tokio::test]
async fn the_last_edge_sends_the_origins_frames_over_every_version() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let config = format!("[origin.http]\nkey = \"{KEY}\"\n[origin.streams]\ngrace_ms = 100\n");
    let origin = Weir::role("origin", &config, &[]).await;
    let shield = edge(&[&origin]).await;
    let edge = edge_with(&[&shield], &["--https", "127.0.0.1:0"]).await;
    let mut publisher = Client::publisher(origin.rtmp, "live/a").await;
    let media = clip.frames.iter().filter(|tag| tag.timestamp < 1000);
    for tag in clip.configurations.iter().chain(media.clone().take(1)) {
        publisher.sender.tag(tag).await.unwrap();
    }
    origin.until_live("live/a", 2).await;
    let mut viewers = Vec::new();
    for by in versions::ALL {
        let mut command = versions::client(&edge, by, "/live/a.flv");
        viewers.push((by, tokio::spawn(async move { command.output().await.unwrap() })));
    }
    let relay = send(reqwest::Client::new().get(origin.url("/relay/live/a")).bearer_auth(KEY));
    let relay = tokio::spawn(relay);
    until("four viewers and two relays", async || {
        let viewers = edge.metric("weir_edge_viewers{protocol=\"flv\"}").await;
        let relays = origin.metric("weir_origin_relay_readers").await;
        ((viewers, relays) == (Some(4.0), Some(2.0))).then_some(())
    })
    .await;
    for tag in media.skip(1) {
        publisher.sender.tag(tag).await.unwrap();
    }
    drop(publisher);
    // An edge has no marks for viewers, and says when the stream's first picture came in.
    let media =
        |file: &[u8]| flv::tags(file).into_iter().filter(|tag| tag.kind != SCRIPT).collect::<Vec<_>>();
    let sent = media(&relay.await.unwrap().body);
    assert!(sent.len() > 40, "{}", sent.len());
    let mut bodies = Vec::new();
    for (by, viewer) in viewers {
        let output = within(&format!("the end by {by:?}"), viewer).await.unwrap();
        assert!(output.status.success(), "{by:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(media(&output.stdout) == sent, "{by:?}");
        bodies.push(output.stdout);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same to the last byte");
}

#[tokio::test]
async fn viewers_stay_when_the_origin_is_killed_and_comes_back() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let origin = origin().await;
    let shield = edge(&[&origin]).await;
    let edge = edge(&[&shield]).await;
    let publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    let before = origin.until_live("live/a", 2).await;
    let mut near = Watching::begin(&shield).await;
    let mut far = Watching::begin(&edge).await;
    near.see(60).await;
    far.see(60).await;
    let playlist = until_there(&edge, "/live/a/main/media.m3u8").await.text();

    let origin = origin.kill_and_restart().await;
    drop(publication);
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    let after = origin.until_live("live/a", 2).await;
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {after}");
    near.see(60).await;
    far.see(60).await;

    // Names never stand for other bytes, and no number goes back.
    origin.until_hls("live/a").await;
    let fresh = until("the playlist of the new origin", async || {
        let answer = edge.get("/live/a/main/media.m3u8").await;
        assert_ne!(answer.status, 404, "players would take it for the end");
        (answer.status == 200 && answer.text().contains(&format!("{}-", after["epoch"])))
            .then(|| answer.text())
    })
    .await;
    let number = |text: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no number in {text}")).parse::<u64>().unwrap()
    };
    assert!(number(&fresh) > number(&playlist), "{playlist}\n{fresh}");
}

#[tokio::test]
async fn origin_shield_and_edge_speak_by_tls_to_whom_they_trust() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = pair(folder.path(), "shown").await;
    let (other, _) = pair(folder.path(), "other").await;
    let [shown, with, other] = [&certificate, &key, &other].map(|path| path.display());
    let config =
        format!("[origin.http]\nkey = \"{KEY}\"\ncertificate = \"{shown}\"\ncertificate_key = \"{with}\"\n");
    let origin = Weir::role("origin", &config, &[]).await;
    let config = |trusted: &dyn std::fmt::Display| {
        format!(
            "[edge.upstream]\nkey = \"{KEY}\"\nca = \"{trusted}\"\n[edge.http]\nrelay_key = \"{KEY}\"\n\
             [edge.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{shown}\"\nkey = \"{with}\"\n"
        )
    };
    let at = |port: u16| format!("https://localhost:{port}");
    let shield = Weir::role("edge", &config(&shown), &["--origin", &at(origin.http.port())]).await;
    let edge = Weir::role("edge", &config(&shown), &["--origin", &at(versions::port(&shield))]).await;
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;

    let playlist = until_there(&edge, "/live/a/main/media.m3u8").await.text();
    let mut watching = Watching::begin(&edge).await;
    watching.see(30).await;
    let name = playlist.lines().find(|line| line.ends_with(".m4s")).expect("a segment");
    let path = format!("/live/a/main/{name}");
    let here = edge.get(&path).await.body;
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--oauth2-bearer", KEY, "--cacert"]).arg(&certificate);
    let there = within("the origin", curl.arg(at(origin.http.port()) + &path).output()).await.unwrap();
    assert!(there.status.success(), "{}", String::from_utf8_lossy(&there.stderr));
    assert!(here == there.stdout, "{path}");

    // Who trusts another certificate, or asks without TLS, gets nothing.
    let plain = format!("http://localhost:{}", origin.http.port());
    for (trusted, url) in [(&other, &at(origin.http.port())), (&shown, &plain)] {
        let stranger = Weir::role("edge", &config(trusted), &["--origin", url]).await;
        for path in ["/live/a.flv", "/live/a/index.m3u8"] {
            assert_eq!(stranger.get(path).await.status, 503, "{path} by {url}");
        }
        let label = format!("weir_edge_origin_up{{origin=\"{url}\"}}");
        assert_eq!(stranger.metric(&label).await, Some(0.0));
    }
    let failures = origin.metric("weir_origin_http_handshake_failures_total").await;
    assert!(failures >= Some(2.0), "{failures:?}");
}

#[tokio::test]
async fn lines_that_break_cost_no_frame() {
    // Beyond the first GOP, and then anywhere.
    const BREAKS: &[u64] = &[20_000, 3_001, 2_503, 5_007, 4_001];
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let origin = origin().await;
    let near = Line::to(origin.http, BREAKS).await;
    let shield = edge_with(&[], &["--origin", &near.url()]).await;
    let far = Line::to(shield.http, BREAKS).await;
    let edge = edge_with(&[], &["--origin", &far.url()]).await;
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_live("live/a", 2).await;

    let mut viewer = Viewer::open(&edge.url("/live/a.flv")).await;
    let first = viewer.next_frame(VIDEO).await;
    let mut expected = clip.forever().skip_while(|tag| *tag != first).skip(1);
    let (mut seen, mut after) = (1, 0);
    // A second beyond the last break.
    while after < 60 {
        let tag = viewer.next().await.expect("the stream goes on");
        assert_eq!(tag, expected.next().unwrap(), "behind {seen} frames and {} breaks", far.breaks());
        seen += 1;
        after += u32::from(near.breaks() == BREAKS.len() && far.breaks() == BREAKS.len());
    }
    let resumed = origin.metric("weir_origin_relay_resumptions_total").await;
    assert_eq!(resumed, Some(BREAKS.len() as f64));
}

#[tokio::test]
async fn the_next_origin_serves_when_the_preferred_one_is_dead() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let origins = [origin().await, origin().await];
    let edge = edge(&[&origins[0], &origins[1]]).await;
    // Which of them has it is for the encoder to say, and for the edge to find out.
    let publication = Publication::start(origins[0].rtmp, "live/a", &clip).await;
    origins[0].until_live("live/a", 2).await;
    let mut watching = Watching::begin(&edge).await;
    watching.see(30).await;

    let [first, second] = origins;
    first.process.signal("KILL").await;
    drop(publication);
    let _publication = Publication::start(second.rtmp, "live/a", &clip).await;
    watching.see(60).await;
    let label = format!("weir_edge_origin_up{{origin=\"{}\"}}", second.url(""));
    assert_eq!(edge.metric(&label).await, Some(1.0));
}

#[tokio::test]
async fn edges_in_a_circle_refuse_each_other() {
    let _turn = turn::take(Load::Light).await;
    // The first knows the second's port only once that runs: it is told by a restart.
    let first = edge(&[&origin().await]).await;
    let second = edge(&[&first]).await;
    let first = first.kill_and_restart_with(&["--origin", &second.url("")]).await;
    for path in ["/live/a.flv", "/live/a/index.m3u8"] {
        let answer = first.get(path).await;
        assert!([502, 503, 508].contains(&answer.status), "{path}: {}", answer.text());
        assert!(answer.status != 504, "nobody waits for itself");
    }
}

#[tokio::test]
async fn a_configuration_that_opens_the_origin_to_strangers_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = crate::support::weir::command(&dir)
        .args(["origin", "--http", "0.0.0.0:0", "--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("`origin.http.key`") && said.contains("`edge.upstream.key`"), "{said}");
    let output = crate::support::weir::command(&dir).arg("edge").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("`edge.upstream.origins`"), "{said}");
}

#[tokio::test]
async fn hls_js_goes_on_when_the_origin_is_killed_and_comes_back() {
    let _turn = turn::take(Load::Alone).await;
    let clip = Clip::large().await;
    let origin = origin().await;
    let edge = edge(&[&origin]).await;
    let publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_hls("live/a").await;
    let mut page = Page::open(&edge.url("/watch/live/a?via=hls"));
    let begin = page.until("the picture", |report| report.number("total_frames") > 250.0).await;
    assert_eq!(begin.number("fatal_errors"), 0.0, "{begin:?}");

    let origin = origin.kill_and_restart().await;
    drop(publication);
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_live("live/a", 2).await;
    let lost = page.report().await;
    let end = page
        .until("the picture of the new origin", |report| {
            assert_eq!(report.number("fatal_errors"), 0.0, "{report:?}");
            // It goes on where it stood, over what was lost: a playhead that leaps further waits for the stream.
            let since = |key: &str| report.number(key) - lost.number(key);
            assert!(since("current_time") <= since("at_ms") / 1_000.0 + MOST_AHEAD_S, "{lost:?}\n{report:?}");
            // More than can have been on its way when the origin died.
            since("total_frames") > 250.0
        })
        .await;
    assert_eq!((end.number("loads"), end.number("errors")), (1.0, 0.0), "{end:?}");
}
