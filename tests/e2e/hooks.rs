//! Hooks of one process and of a cluster: they decide who publishes and who watches, and hear what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::clip::Clip;
use crate::support::cluster::{Control, edge, node};
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::{Weir, get};
use crate::support::{until, within};

/// A platform's server: who shows a ticket publishes, who has a seat watches.
#[derive(Clone)]
struct Platform {
    at: SocketAddr,
    told: Arc<watch::Sender<Vec<Value>>>,
}

impl Platform {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let platform = Self { at, told: Arc::new(watch::Sender::default()) };
        let app = Router::new().route("/weir", post(answer)).with_state(platform.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        platform
    }

    fn config(&self) -> String {
        format!(
            "[control.hooks]\nallow_private = [\"127.0.0.1\"]\nendpoints = [{{ url = \"http://{}/weir\", \
             secret = \"0123456789abcdef\", admission_timeout_ms = 5000 }}]\n",
            self.at
        )
    }

    /// Waits until it was told of so many events of that name, and gives the newest.
    async fn heard(&self, event: &str, times: usize) -> Value {
        let mut told = self.told.subscribe();
        let named = |all: &Vec<Value>| -> Vec<Value> {
            all.iter().filter(|told| told["event"] == event).cloned().collect()
        };
        let all = within(event, told.wait_for(|all| named(all).len() >= times)).await.unwrap();
        named(&all).last().unwrap().clone()
    }
}

async fn answer(State(platform): State<Platform>, headers: HeaderMap, body: Bytes) -> axum::Json<Value> {
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert!(headers["x-weir-signature"].to_str().unwrap().contains(",v1="));
    let params = &event["params"];
    let answer = match event["event"].as_str().unwrap() {
        "on_publish" if params["ticket"] != "1" => json!({ "allow": false, "reason": "no ticket" }),
        "on_play" if params["seat"] != "1" => json!({ "allow": false, "reason": "no seat" }),
        _ => json!({}),
    };
    platform.told.send_modify(|all| all.push(event));
    axum::Json(answer)
}

/// How long after a fact it was told.
fn late(event: &Value, fact: Instant) -> Duration {
    println!("{} was told {:?} after the fact", event["event"], fact.elapsed());
    fact.elapsed()
}

/// What a publisher without a ticket, and viewers without a seat, are told.
async fn nobody_gets_in_without_leave(rtmp: SocketAddr, play: &str) {
    let mut stranger = Client::open(rtmp, "live").await.unwrap();
    let status = stranger.publish("b").await.unwrap();
    assert!(status.says("no ticket"), "{}", String::from_utf8_lossy(&status.body));
    for path in ["/live/a.flv", "/live/a/index.m3u8", "/live/a.flv?seat=2"] {
        let answer = get(&format!("{play}{path}")).await;
        assert_eq!((answer.status, &answer.json()["detail"]), (403, &json!("no seat")), "{path}");
    }
}

#[tokio::test]
async fn hooks_decide_who_publishes_and_watches_and_hear_what_becomes_of_it() {
    let _turn = turn::take(Load::Light).await;
    let (clip, platform) = (Clip::small().await, Platform::start().await);
    let config = format!("[origin.streams]\ngrace_ms = 3000\n{}", platform.config());
    let weir = Weir::configured(&config).await;
    let publication = Publication::start(weir.rtmp, "live/a?ticket=1&key=secret", &clip).await;
    let asked = platform.heard("on_publish", 1).await;
    assert_eq!((&asked["params"], &asked["stream"]["name"]), (&json!({ "ticket": "1" }), &json!("a")));
    weir.until_live("live/a", 2).await;
    weir.until_hls("live/a").await;
    nobody_gets_in_without_leave(weir.rtmp, &weir.url("")).await;
    let mut player = Client::open(weir.rtmp, "live").await.unwrap();
    assert!(player.play("a").await.unwrap().says("no seat"));

    // Those with a seat watch, and the operator sees them.
    let mut viewer = Viewer::open(&weir.url("/live/a.flv?seat=1")).await;
    viewer.next_frame(VIDEO).await;
    assert_eq!(weir.get("/live/a/index.m3u8?seat=1").await.status, 200);
    let mut player = Client::open(weir.rtmp, "live").await.unwrap();
    assert!(player.play("a?seat=1").await.unwrap().says("NetStream.Play.Reset"));
    let sessions = weir.operator("/api/v1/sessions?stream=live/a").await.json();
    let mut ways: Vec<_> =
        sessions["sessions"].as_array().unwrap().iter().map(|s| s["protocol"].clone()).collect();
    ways.sort_by_key(Value::to_string);
    assert_eq!(ways, ["flv", "hls", "rtmp"], "{sessions}");
    assert_eq!(
        (&sessions["total"], &sessions["sessions"][0]["remote_addr"]),
        (&json!(3), &json!("127.0.0.1"))
    );
    drop((viewer, player));
    let left = platform.heard("on_stop", 2).await;
    assert_eq!(left["params"], json!({ "seat": "1" }));

    // Its publisher drops, comes back, and drops for good.
    drop(publication);
    let dropped = Instant::now();
    let told = platform.heard("on_drop", 1).await;
    assert!(late(&told, dropped) < Duration::from_secs(1));
    let publication = Publication::start(weir.rtmp, "live/a?ticket=1", &clip).await;
    let back = Instant::now();
    let told = platform.heard("on_resume", 1).await;
    assert!(late(&told, back) < Duration::from_secs(1));
    assert!(told["epoch"].as_u64() > asked["epoch"].as_u64());
    drop(publication);
    platform.heard("on_unpublish", 1).await;
    let (_, log) = weir.stop().await;
    assert!(!log.contains("0123456789abcdef") && !log.contains("key=secret"), "{log}");
}

#[tokio::test]
async fn hooks_of_a_cluster_decide_for_all_its_nodes_and_without_an_answer_nobody_gets_in() {
    let _turn = turn::take(Load::Light).await;
    let (clip, platform) = (Clip::small().await, Platform::start().await);
    let control = Control::configured(&platform.config()).await;
    let origin = node("origin", "origin-1", &control).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let _publication = Publication::start(origin.rtmp, "live/a?ticket=1", &clip).await;
    control.until_live("live/a").await;
    nobody_gets_in_without_leave(origin.rtmp, &edge.url("")).await;
    let url = edge.url("/live/a.flv?seat=1");
    let mut viewer = Viewer::open(&url).await;
    viewer.next_frame(VIDEO).await;
    assert_eq!(platform.heard("on_play", 1).await["node"], "edge-1");
    let table = control.ctl(&["sessions", "--stream", "live/a"]).await;
    assert!(table.contains("edge-1") && table.contains("127.0.0.1"), "{table}");

    // Who watches goes on to when nobody can be asked, and nobody new gets in: as `on_error` says.
    let ended = control.kill().await;
    until("nobody to ask", async || (get(&url).await.status == 403).then_some(())).await;
    viewer.next_frame(VIDEO).await;
    drop(viewer);
    let control = ended.start().await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    // Who left meanwhile is told of.
    assert_eq!(platform.heard("on_stop", 1).await["node"], "edge-1");
    Viewer::open(&url).await.next_frame(VIDEO).await;
}
