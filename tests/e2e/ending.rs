//! The end of an edge, step by step: it says that it is not ready, closes its ports, lets viewers finish, hangs up on those
//! who do not, and ends well.

use tokio::net::TcpStream;

use crate::support::clip::Clip;
use crate::support::flv::{VIDEO, Viewer};
use crate::support::process::Process;
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::versions::{By, client, port};
use crate::support::weir::Weir;
use crate::support::{until, within};

const KEY: &str = "between-origin-and-edges";

/// A stream at an origin, and an edge of it.
struct Live {
    origin: Weir,
    publication: Publication,
    edge: Weir,
}

impl Live {
    async fn start(config: &str) -> Self {
        let about = format!("[origin.http]\nkey = \"{KEY}\"\n[origin.streams]\ngrace_ms = 100\n");
        let origin = Weir::role("origin", &about, &[]).await;
        let about = format!("{config}\n[edge.upstream]\nkey = \"{KEY}\"\n");
        let flags = ["--origin", &origin.url(""), "--https", "127.0.0.1:0"];
        let edge = Weir::role("edge", &about, &flags).await;
        let publication = Publication::start(origin.rtmp, "live/a", &Clip::small().await).await;
        until("the stream at the edge", async || {
            let answer = reqwest::get(edge.url("/live/a.flv")).await.unwrap();
            (answer.status() == 200).then_some(())
        })
        .await;
        Self { origin, publication, edge }
    }
}

/// Those who watch, each by another protocol.
struct Watching {
    flv: Viewer,
    websocket: Viewer,
    rtmp: Client,
    http2: Process,
    http3: Process,
}

impl Watching {
    async fn begin(edge: &Weir) -> Self {
        let mut rtmp = Client::open(edge.rtmp, "live").await.unwrap();
        let status = rtmp.play("a").await.expect("play is answered");
        assert!(status.says("NetStream.Play"), "{}", String::from_utf8_lossy(&status.body));
        let by = |by| Process::spawn(&format!("{by:?}"), client(edge, by, "/live/a.flv"));
        let mut watching = Self {
            flv: Viewer::open(&edge.url("/live/a.flv")).await,
            websocket: Viewer::open_websocket(edge.http, "/live/a.flv").await,
            rtmp,
            http2: by(By::Http2),
            http3: by(By::Http3),
        };
        watching.see_a_picture().await;
        for (protocol, count) in [("flv", 3.0), ("ws_flv", 1.0), ("rtmp", 1.0)] {
            let sample = format!("weir_edge_viewers{{protocol=\"{protocol}\"}}");
            until(&sample, async || (edge.metric(&sample).await == Some(count)).then_some(())).await;
        }
        watching
    }

    async fn see_a_picture(&mut self) {
        self.flv.next_frame(VIDEO).await;
        self.websocket.next_frame(VIDEO).await;
        while self.rtmp.receiver.message().await.expect("the RTMP connection stays").kind != VIDEO {}
    }

    /// Sees the end by each of them. Whether it was a regular one by HTTP/2 and HTTP/3.
    async fn end(mut self) -> [bool; 2] {
        while self.flv.next().await.is_some() {}
        while self.websocket.next().await.is_some() {}
        while self.rtmp.receiver.message().await.is_some() {}
        [self.http2.exit().await.success(), self.http3.exit().await.success()]
    }
}

/// All ports for viewers are closed.
async fn closed(edge: &Weir) {
    let https = std::net::SocketAddr::from(([127, 0, 0, 1], port(edge)));
    for address in [edge.http, edge.rtmp, https] {
        let refused = async || TcpStream::connect(address).await.is_err().then_some(());
        until(&format!("{address} to be closed"), refused).await;
    }
}

#[tokio::test]
async fn an_edge_that_is_not_ready_any_more_still_lets_viewers_in() {
    let _turn = turn::take(Load::Light).await;
    // Whatever the machine is busy with: this step lasts until the second signal.
    let Live { edge, origin, publication } = Live::start("unready_s = 3600").await;
    edge.process.signal("TERM").await;
    edge.process.line("unready").await;
    assert_eq!(edge.admin("/readyz").await.status, 503);
    assert_eq!(edge.admin("/healthz").await.status, 200);
    Watching::begin(&edge).await;
    let Weir { process, dir, .. } = edge;
    process.signal("TERM").await;
    let (status, log) = process.finish().await;
    assert!(status.success() && !log.contains("draining"), "{log}");
    drop((dir, origin, publication));
}

#[tokio::test]
async fn an_edge_that_drains_takes_nobody_in_and_viewers_see_their_stream_to_its_end() {
    let _turn = turn::take(Load::Light).await;
    let Live { edge, origin, publication } =
        Live::start("drain_s = 7200\n[edge.http]\ndrain_ms = 3600000").await;
    let mut watching = Watching::begin(&edge).await;
    edge.process.signal("TERM").await;
    edge.process.line("draining").await;
    assert_eq!(edge.admin("/readyz").await.status, 503);
    closed(&edge).await;
    for _ in 0..25 {
        watching.see_a_picture().await;
    }
    assert_eq!(edge.admin("/healthz").await.status, 200);
    drop(publication);
    assert_eq!(within("the end of the stream", watching.end()).await, [true; 2], "regular ends");
    let Weir { process, dir, .. } = edge;
    let (status, log) = process.finish().await;
    assert!(status.success() && log.contains("drained"), "{log}");
    assert!(!log.contains("cutting") && !log.contains("deadline has passed"), "{log}");
    drop((dir, origin));
}

#[tokio::test]
async fn whoever_watches_on_is_hung_up_on_when_the_time_is_over() {
    let _turn = turn::take(Load::Light).await;
    let Live { edge, origin, publication } = Live::start("[edge.http]\ndrain_ms = 1000").await;
    let watching = Watching::begin(&edge).await;
    edge.process.signal("TERM").await;
    assert_eq!(within("the end", watching.end()).await, [false; 2], "a player is to try elsewhere");
    let Weir { process, dir, .. } = edge;
    let (status, log) = process.finish().await;
    assert!(status.success() && log.contains("cutting what has not finished"), "{log}");
    assert!(!log.contains("deadline has passed"), "{log}");
    drop((dir, origin, publication));
}

/// Ends an edge while viewers watch on: by a signal, and one more for each of the lines that are waited for in between.
async fn ends_with_everybody_in_the_access_log(config: &str, lines: &[&str]) {
    let access_log = "[edge.access_log]\npath = \"access.jsonl\"";
    let Live { edge, origin, publication } = Live::start(&format!("{config}\n{access_log}")).await;
    let watching = Watching::begin(&edge).await;
    edge.process.signal("TERM").await;
    for line in lines {
        edge.process.line(line).await;
        edge.process.signal("TERM").await;
    }
    within("the end", watching.end()).await;
    let Weir { process, dir, .. } = edge;
    let (status, log) = process.finish().await;
    assert!(status.success() && !log.contains("access log"), "{log}");
    let access = std::fs::read_to_string(dir.path().join("access.jsonl")).unwrap();
    let lines = access.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let cut = lines.filter(|line| line["end"] == "drained" && line["bytes"].as_u64() > Some(1_000));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut cut: Vec<_> = cut.map(|line| (text(&line["kind"]), text(&line["protocol"]))).collect();
    cut.sort();
    let all =
        [("flv", "h2"), ("flv", "h3"), ("flv", "http/1.1"), ("rtmp", "rtmp"), ("websocket", "http/1.1")];
    assert_eq!(cut, all.map(|(kind, protocol)| (kind.to_owned(), protocol.to_owned())), "{access}");
    drop((dir, origin, publication));
}

#[tokio::test]
async fn whoever_is_cut_without_a_drain_is_in_the_access_log() {
    let _turn = turn::take(Load::Light).await;
    ends_with_everybody_in_the_access_log("drain_s = 0", &[]).await;
}

#[tokio::test]
async fn whoever_is_cut_by_a_second_signal_is_in_the_access_log() {
    let _turn = turn::take(Load::Light).await;
    let drain = "drain_s = 7200\n[edge.http]\ndrain_ms = 3600000";
    ends_with_everybody_in_the_access_log(drain, &["draining"]).await;
    ends_with_everybody_in_the_access_log("unready_s = 3600", &["unready"]).await;
}
