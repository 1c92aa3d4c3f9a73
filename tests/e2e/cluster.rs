//! A control plane, origins and edges as processes of their own: who is where, and what viewers notice when one dies.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::clip::Clip;
use crate::support::cluster::{Control, JOIN, edge, node};
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::{Weir, send};

/// Of the newest frame of a viewer, which stays connected.
struct Watching {
    viewer: Viewer,
    last: Option<u32>,
}

impl Watching {
    async fn begin(url: &str) -> Self {
        Self { viewer: Viewer::open(url).await, last: None }
    }

    async fn see(&mut self, pictures: u32) {
        for _ in 0..pictures {
            let tag = self.viewer.next_frame(VIDEO).await;
            assert!(
                self.last.is_none_or(|last| tag.timestamp > last),
                "{:?}, then {}",
                self.last,
                tag.timestamp
            );
            self.last = Some(tag.timestamp);
        }
    }
}

#[tokio::test]
async fn nodes_join_and_viewers_and_publishers_are_sent_to_them() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    assert_eq!(control.get("/api/v1/play/live/a").await.status, 503, "nobody is there");
    let origin = node("origin", "origin-1", &control).await;
    let (_one, _two) = (edge("edge-1", &control).await, edge("edge-2", &control).await);
    control.until_nodes(&[("edge-1", "ready"), ("edge-2", "ready"), ("origin-1", "ready")]).await;

    // An encoder is told where to publish, and shows what it was given.
    let told = control.get("/api/v1/publish/live/a").await.json();
    assert_eq!(told["node"], "origin-1");
    let url = told["rtmp"].as_str().unwrap();
    assert!(url.starts_with(&format!("rtmp://{}/live/a?token=", origin.rtmp)), "{url}");
    let mut client = Client::open(origin.rtmp, "live").await.unwrap();
    let status = client.publish(told["stream_key"].as_str().unwrap()).await.unwrap();
    assert!(status.says("NetStream.Publish.Start"), "{}", String::from_utf8_lossy(&status.body));
    let _publication = Publication::send(client, &clip).await;
    let info = control.until_stream("live/a", "live with two tracks", |info| {
        info["state"] == "live" && info["tracks"].as_array().is_some_and(|tracks| tracks.len() == 2)
    });
    assert_eq!(info.await["publisher"]["protocol"], "rtmp");

    // A player is told of edges, the same first each time, and can play from it without an origin's address.
    let edges = control.edges("live/a").await;
    assert_eq!(edges.len(), 2);
    assert_eq!(control.edges("live/a").await[0]["node"], edges[0]["node"]);
    let mut watching = Watching::begin(edges[0]["flv"].as_str().unwrap()).await;
    watching.see(10).await;
    control.until_stream("live/a", "watched", |info| info["viewers"]["flv"] == 1).await;

    // Or it asks the control plane as if that were an edge.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for path in ["/live/a.flv", "/live/a/index.m3u8"] {
        let answer = send(client.get(control.url(&format!("{path}?latency=low")))).await;
        let location = answer.headers["location"].to_str().unwrap();
        assert_eq!(answer.status, 302);
        assert!(location.ends_with(&format!("{path}?latency=low")), "{location}");
    }

    // Who drains is not named any more, and those who watch there stay.
    let first = edges[0]["node"].as_str().unwrap();
    assert!(control.ctl(&["drain", first]).await.contains(first));
    let others: Vec<_> = control.edges("live/a").await.iter().map(|edge| edge["node"].clone()).collect();
    assert_eq!(others, [edges[1]["node"].clone()]);
    watching.see(5).await;
    control.ctl(&["drain", first, "--undo"]).await;
    until("both edges", async || (control.edges("live/a").await.len() == 2).then_some(())).await;

    let nodes = control.ctl(&["nodes"]).await;
    assert!(nodes.contains("origin-1") && nodes.contains("ready") && nodes.starts_with("NODE"), "{nodes}");
    let streams: Value = serde_json::from_str(&control.ctl(&["--json", "streams"]).await).unwrap();
    assert_eq!(streams["streams"][0]["name"], "a");

    // Ended by the operator: its publisher is told.
    control.ctl(&["kick", "live/a"]).await;
    until("the end", async || control.stream("live/a").await.is_none().then_some(())).await;
    until("its publisher's end", async || _publication.has_ended().then_some(())).await;
}

#[tokio::test]
async fn grants_are_signed_by_the_control_plane_and_its_keys_rotate() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    let origin = node("origin", "origin-1", &control).await;
    let url = format!("http://{}", control.grpc);
    let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n[grants]\nplay = \"required\"\n");
    let edge = Weir::role("edge", &config, &["--control", &url, "--name", "edge-1"]).await;
    edge.process.line("origins of the cluster").await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;

    let grant = async || {
        let body = serde_json::json!({ "audience": "play", "stream": "live/a", "lasts_s": 60 });
        let request = reqwest::Client::new().post(control.url("/api/v1/grants")).bearer_auth(control.token());
        let answer = send(request.json(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["grant"].as_str().unwrap().to_owned()
    };
    let first = grant().await;
    assert_eq!(edge.get("/live/a.flv").await.status, 401);
    let path = |grant: &str| edge.url(&format!("/live/a.flv?token={grant}"));
    Watching::begin(&path(&first)).await.see(3).await;
    let answer = send(reqwest::Client::new().post(control.url("/api/v1/keys/rotate"))).await;
    assert_eq!(answer.status, 401, "not by anybody");
    let rotated = control.post("/api/v1/keys/rotate").await.json();
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2);
    // What the old key signed is good as before, and so is what the new one signs once it does.
    Watching::begin(&path(&first)).await.see(3).await;
    let kid = |grant: &str| grant.split('.').next().unwrap().to_owned();
    let second = until("a grant of the new key", async || {
        let second = grant().await;
        (kid(&second) != kid(&first)).then_some(second)
    })
    .await;
    Watching::begin(&path(&second)).await.see(3).await;
    for weir in [origin, edge] {
        let (_, log) = weir.stop().await;
        assert!(!log.contains(JOIN) && !log.contains(&first), "{log}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_at_another_origin_and_the_one_before_is_not_believed() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    let one = node("origin", "origin-1", &control).await;
    let two = node("origin", "origin-2", &control).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    let publication = Publication::start(one.rtmp, "live/a", &clip).await;
    let first = control.until_stream("live/a", "live", |info| info["state"] == "live").await;
    let mut watching = Watching::begin(&edge.url("/live/a.flv")).await;
    watching.see(10).await;

    // One publisher at a time, in the whole cluster.
    let mut second = Client::open(two.rtmp, "live").await.unwrap();
    let status = second.publish("a").await.unwrap();
    assert!(status.says("NetStream.Publish.BadName"), "{}", String::from_utf8_lossy(&status.body));

    // Its encoder drops and comes to the other origin: a higher epoch, the same viewers.
    drop(publication);
    control.until_stream("live/a", "dropped", |info| info["state"] == "interrupted").await;
    let dropped = Instant::now();
    let _publication = Publication::start(two.rtmp, "live/a", &clip).await;
    watching.see(60).await;
    println!("a stream went on at another origin {:?} after its publisher was there", dropped.elapsed());
    let after = control.until_stream("live/a", "live again", |info| info["state"] == "live").await;
    assert!(after["epoch"].as_u64() > first["epoch"].as_u64(), "{first} {after}");
    assert_eq!(after["started_at_ms"], first["started_at_ms"]);
    until("the end at the first origin", async || one.stream("live/a").await.is_none().then_some(())).await;

    // The origin dies, the encoder goes to the one that is left.
    let killed = Instant::now();
    drop(two);
    control.until_stream("live/a", "dropped", |info| info["state"] == "interrupted").await;
    let noticed = killed.elapsed();
    let _publication = Publication::start(one.rtmp, "live/a", &clip).await;
    watching.see(60).await;
    println!("the death of an origin was noticed after {noticed:?}");
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
}

#[tokio::test]
async fn everything_goes_on_without_a_control_plane_and_is_known_again_when_it_is_back() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    let origin = node("origin", "origin-1", &control).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    let before = control.until_stream("live/a", "live", |info| info["state"] == "live").await;
    let mut watching = Watching::begin(&edge.url("/live/a.flv")).await;
    watching.see(5).await;
    // A configuration that is read again takes nothing away that the cluster gave.
    edge.process.signal("HUP").await;
    edge.process.line("configuration read again").await;

    let killed = control.kill().await;
    watching.see(30).await;
    // Viewers come and go, and publishers too.
    Watching::begin(&edge.url("/live/a.flv")).await.see(5).await;
    let _another = Publication::start(origin.rtmp, "live/b", &clip).await;
    Watching::begin(&edge.url("/live/b.flv")).await.see(5).await;

    let control = killed.start().await;
    let back = Instant::now();
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let after = control.until_stream("live/a", "live", |info| info["state"] == "live").await;
    control.until_stream("live/b", "live", |info| info["state"] == "live").await;
    println!("all was known again {:?} after the control plane was back", back.elapsed());
    assert_eq!(after["epoch"], before["epoch"], "nobody published it anew");
    assert!(back.elapsed() < Duration::from_secs(10));
    watching.see(5).await;
}

#[tokio::test]
async fn strangers_and_namesakes_are_kept_out() {
    let _turn = turn::take(Load::Light).await;
    let control = Control::start().await;
    let url = format!("http://{}", control.grpc);
    let edge = node("edge", "edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready")]).await;
    let wrong = "[cluster]\njoin_token = \"another\"\n";
    let stranger = Weir::role("edge", wrong, &["--control", &url, "--name", "edge-2"]).await;
    let namesake = node("edge", "edge-1", &control).await;
    // Each says why it is not in, once, and serves whoever comes.
    for (weir, why) in [(&stranger, "join token is missing or wrong"), (&namesake, "is there already")] {
        weir.process.line(why).await;
    }
    control.until_nodes(&[("edge-1", "ready")]).await;
    let nodes = control.nodes().await;
    assert_eq!(nodes[0]["addresses"]["http"], edge.url(""));
    assert_eq!(control.get("/api/v1/nodes").await.status, 200);
    assert_eq!(send(reqwest::Client::new().get(control.url("/api/v1/nodes"))).await.status, 401);
}
