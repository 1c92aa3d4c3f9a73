//! Processes are ended in good order, one after the other: drained, ended by SIGTERM, started anew.

use std::time::{Duration, Instant};

use super::{STREAM, on_air, unnoticed};
use crate::support::clip::Clip;
use crate::support::cluster::{Cluster, Settings};
use crate::support::crowd::{Count, Crowd, How};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;

/// A node that ends says so a second before it closes its ports, and viewers have a second to finish.
const SETTINGS: Settings = Settings {
    control: "",
    node: "unready_s = 1\n",
    origin: "[origin.hls]\nsegment_ms = 1000\n",
    edge: "[edge.http]\ndrain_ms = 1000\n",
};

/// Viewers moved, and to none of them was anything refused, withheld, or broken off in the middle. A live stream by HTTP is cut
/// where a frame ends: with its last chunk players would take it to be over.
fn moved(crowd: &Crowd, what: &str) {
    let counts = crowd.counts();
    println!("{what}: {counts}; longest gap {:.2?}", crowd.longest_gap());
    for how in [How::Flv, How::Rtmp, How::Hls] {
        println!("  {how:?}: {}", crowd.counts_of(how));
    }
    let wrong = [
        Count::Refused,
        Count::Truncated,
        Count::MissingPart,
        Count::Backwards,
        Count::Unavailable,
        Count::Stalled,
        Count::Ended,
    ];
    let wrong: u64 = wrong.iter().map(|count| counts.of(*count)).sum();
    assert_eq!(wrong, 0, "{what}: {counts}\n{}", crowd.troubles());
    assert!(crowd.longest_gap() < Duration::from_secs(5), "{what}: {:?}", crowd.longest_gap());
}

#[tokio::test]
async fn a_cluster_is_upgraded_process_by_process_and_viewers_move_without_an_error() {
    let _turn = turn::take(Load::Alone).await;
    let mut cluster = Cluster::start(SETTINGS).await;
    let (publication, crowd) = on_air(&cluster).await;

    // Replicas: nodes go to the other one.
    for _ in 0..2 {
        let (ended, status, log) = cluster.controls.remove(0).stop().await;
        assert!(status.success(), "{log}");
        cluster.controls.push(ended.start().await);
        cluster.until_ready().await;
    }
    crowd.all_play().await;
    unnoticed(&crowd, "both replicas restarted");
    crowd.mark();

    // Edges: the operator drains one, and nobody new is sent there; its viewers are when it ends.
    for at in 0..3 {
        let name = format!("edge-{}", at + 1);
        let before = crowd.at(&name);
        cluster.controls[0].ctl(&["drain", &name]).await;
        until("nobody to be sent there", async || {
            let mut named = false;
            for control in &cluster.controls {
                named |= control.edges(STREAM).await.iter().any(|edge| edge["node"] == *name);
            }
            (!named).then_some(())
        })
        .await;
        crowd.all_play().await;
        assert_eq!(crowd.at(&name), before, "who watches there stays until it ends");
        unnoticed(&crowd, &format!("{name} drained"));
        let ended = Instant::now();
        let (edge, status, log) = cluster.edges.remove(at).stop_and_restart().await;
        assert!(status.success() && !log.contains("deadline has passed"), "{log}");
        cluster.edges.insert(at, edge);
        crowd.all_play().await;
        assert_eq!(crowd.at(&name), 0, "all of them went elsewhere");
        cluster.until_ready().await;
        moved(&crowd, &format!("{name} restarted in {:.2?}, which {before} watched", ended.elapsed()));
        crowd.mark();
    }

    // The origin: its encoder is told, and goes on at the other one.
    let clip = Clip::small().await;
    let origin = cluster.origins.remove(0);
    let (app, name) = STREAM.split_once('/').unwrap();
    let another = cluster.origins[0].rtmp;
    let goes_on = async {
        until("the encoder to be told", async || publication.has_ended().then_some(())).await;
        let told = Instant::now();
        let client = until("an origin that takes the encoder", async || {
            let mut client = Client::open(another, app).await.ok()?;
            let said = client.publish(name).await?;
            said.says("NetStream.Publish.Start").then_some(client)
        })
        .await;
        (Publication::send(client, &clip).await, told.elapsed())
    };
    let ((_publication, after), (origin, status, log)) = tokio::join!(goes_on, origin.stop_and_restart());
    assert!(status.success(), "{log}");
    cluster.origins.insert(0, origin);
    crowd.all_play().await;
    let counts = crowd.counts();
    println!(
        "the origin's encoder was elsewhere {after:.2?} after it was told; longest gap {:.2?}",
        crowd.longest_gap()
    );
    println!("an origin restarted: {counts}");
    assert_eq!(
        counts.disconnected() + counts.of(Count::Refused) + counts.of(Count::Backwards),
        0,
        "{}",
        crowd.troubles()
    );
    assert!(crowd.longest_gap() < Duration::from_secs(8), "{}", crowd.troubles());
    cluster.until_ready().await;
}
