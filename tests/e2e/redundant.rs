//! Two encoders of one stream, and encoders that come to an edge.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::clip::Clip;
use crate::support::cluster::{Control, edge, node};
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::Weir;

/// Sees pictures whose timestamps only rise, and the longest time between two of them.
async fn see(viewer: &mut Viewer, last: &mut u32, pictures: u32) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..pictures {
        let began = Instant::now();
        let tag = viewer.next_frame(VIDEO).await;
        longest = longest.max(began.elapsed());
        assert!(tag.timestamp > *last, "{last}, then {}", tag.timestamp);
        *last = tag.timestamp;
    }
    longest
}

/// Where an encoder is told to publish.
async fn told(control: &Control, query: &str) -> (String, SocketAddr, String) {
    let told = control.get(&format!("/api/v1/publish/live/a{query}")).await.json();
    let url = told["rtmp"].as_str().unwrap().strip_prefix("rtmp://").unwrap().to_owned();
    let at = url.split('/').next().unwrap().parse().unwrap();
    (told["node"].as_str().unwrap().to_owned(), at, told["stream_key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn viewers_go_on_with_the_backup_and_with_the_publisher_when_it_is_back() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    let one = node("origin", "origin-1", &control).await;
    let two = node("origin", "origin-2", &control).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    let (first, at, key) = told(&control, "").await;
    let _primary = Publication::start(at, &format!("live/{key}"), &clip).await;
    let before = control.until_live("live/a").await;
    // Its backup is sent to the other origin, and waits there.
    let (second, at, key) = told(&control, "?backup=true").await;
    assert!(first != second && key.starts_with("a?backup=1&token="), "{first} {second} {key}");
    let backup = Publication::start(at, &format!("live/{key}"), &clip).await;
    let (primary_at, backup_at) = if first == "origin-1" { (one, two) } else { (two, one) };
    until("the backup", async || (backup_at.metric("weir_origin_backups").await == Some(1.0)).then_some(()))
        .await;
    assert!(backup_at.stream("live/a").await.is_none(), "nobody sees it");
    let mut viewer = Viewer::open(&edge.url("/live/a.flv")).await;
    let mut last = 0;
    see(&mut viewer, &mut last, 20).await;

    // The origin dies, and the same viewer sees the backup's pictures.
    let primary_at = {
        let killed = Instant::now();
        primary_at.process.signal("KILL").await;
        let gap = see(&mut viewer, &mut last, 60).await;
        let after = control
            .until_stream("live/a", "live under another epoch", |info| {
                info["state"] == "live" && info["epoch"].as_u64() > before["epoch"].as_u64()
            })
            .await;
        println!(
            "killed an origin: its viewer saw nothing for {gap:.0?}; published anew within {:.0?}",
            killed.elapsed()
        );
        assert_eq!(after["started_at_ms"], before["started_at_ms"]);
        assert!(gap < Duration::from_secs(3), "{gap:?}");
        primary_at.kill_and_restart().await
    };

    // The publisher is back: it takes the stream, and the backup waits again, still connected.
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    let primary = Publication::start(primary_at.rtmp, "live/a", &clip).await;
    primary_at.until_live("live/a", 2).await;
    until("the backup to wait", async || backup_at.stream("live/a").await.is_none().then_some(())).await;
    let gap = see(&mut viewer, &mut last, 60).await;
    println!("the publisher came back: its viewer saw nothing for {gap:.0?}");
    assert!(!backup.has_ended());

    // Its encoder alone drops.
    drop(primary);
    let gap = see(&mut viewer, &mut last, 60).await;
    println!("a publisher dropped: its viewer saw nothing for {gap:.0?}");
    assert!(gap < Duration::from_secs(3), "{gap:?}");
    assert!(backup_at.stream("live/a").await.is_some());
}

#[tokio::test]
async fn who_publishes_to_an_edge_is_passed_on_to_the_origin_of_the_stream() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let control = Control::start().await;
    let url = format!("http://{}", control.grpc);
    let config = "[cluster]\njoin_token = \"join-this-cluster\"\n[origin.auth]\nmode = \"keys\"\n\
                  keys = [{ streams = \"live/*\", key = \"open\" }]\n";
    let origin = Weir::role("origin", config, &["--control", &url, "--name", "origin-1"]).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;

    // The origin decides, in its own words.
    let mut stranger = Client::open(edge.rtmp, "live").await.unwrap();
    let status = stranger.publish("a?key=wrong").await.unwrap();
    assert!(
        status.says("NetStream.Publish.Denied") && status.says("key"),
        "{}",
        String::from_utf8_lossy(&status.body)
    );
    let mut misnamed = Client::open(edge.rtmp, "api").await.unwrap();
    assert!(misnamed.publish("a").await.unwrap().says("NetStream.Publish.BadName"));

    let publication = Publication::start(edge.rtmp, "live/a?key=open", &clip).await;
    origin.until_live("live/a", 2).await;
    assert_eq!(edge.metric("weir_edge_forwarded_publishers").await, Some(1.0));
    let mut viewer = Viewer::open(&edge.url("/live/a.flv")).await;
    let mut last = 0;
    see(&mut viewer, &mut last, 20).await;
    let mut second = Client::open(edge.rtmp, "live").await.unwrap();
    assert!(second.publish("a?key=open").await.unwrap().says("NetStream.Publish.BadName"), "one at a time");

    // An operator ends it, and its encoder learns that; then it works without a control plane, too.
    control.ctl(&["kick", "live/a"]).await;
    until("its publisher's end", async || publication.has_ended().then_some(())).await;
    let _ended = control.kill().await;
    let _publication = Publication::start(edge.rtmp, "live/b?key=open", &clip).await;
    origin.until_live("live/b", 2).await;
}
