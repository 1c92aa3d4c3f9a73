//! etcd and Redis hang, and are killed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{STREAM, lasting, on_air, unnoticed};
use crate::support::clip::Clip;
use crate::support::cluster::{Cluster, Settings};
use crate::support::crowd::Crowd;
use crate::support::rtmp::Publication;
use crate::support::turn::{self, Load};
use crate::support::until;

/// Longer than each lease and each silence, and how long that is promised to be survived.
fn outage() -> Duration {
    lasting(Duration::from_secs(60), Duration::from_secs(12))
}

/// For so long the state has to stay right before it is believed: records that go with a lease that has ended do so late.
const STAYS: Duration = Duration::from_secs(3);

/// Whether each replica has all nodes as ready, and the stream as it was, with all who watch it.
async fn is_right(cluster: &Cluster, before: &Value) -> bool {
    for control in &cluster.controls {
        let nodes = control.nodes().await;
        if nodes.len() != 5 || nodes.iter().any(|node| node["state"] != "ready") {
            return false;
        }
        let Some(after) = control.stream(STREAM).await else { return false };
        let same = ["epoch", "started_at_ms", "state"].iter().all(|key| after[*key] == before[*key]);
        let live = ["flv", "rtmp"].iter().filter_map(|how| after["viewers"][*how].as_u64()).sum::<u64>();
        if !same || live != 140 {
            return false;
        }
    }
    true
}

/// The state is right again soon, and what is new is agreed on.
async fn right_again(cluster: &Cluster, crowd: &Crowd, before: &Value, what: &str) {
    let back = Instant::now();
    // Whose lease both replicas have to know.
    let name = format!("live/after-{}", what.split(' ').next().unwrap().to_lowercase());
    let another = Publication::start(cluster.origins[1].rtmp, &name, &Clip::small().await).await;
    for control in &cluster.controls {
        control.until_live(&name).await;
    }
    let agreed = back.elapsed();
    drop(another);
    let wrong = Cell::new(Instant::now());
    until("the state to stay right", async || {
        if !is_right(cluster, before).await {
            wrong.set(Instant::now());
        }
        (wrong.get().elapsed() >= STAYS).then_some(())
    })
    .await;
    let last = wrong.get() - back;
    println!("{what}: agreed on a new stream after {agreed:.2?}, and all right from {last:.2?} on");
    assert!(agreed.max(last) < Duration::from_secs(10), "{agreed:?} {last:?}");
    unnoticed(crowd, what);
    crowd.mark();
}

#[tokio::test]
async fn nobody_notices_that_etcd_or_redis_hangs_or_dies() {
    let _turn = turn::take(Load::Alone).await;
    let mut cluster = Cluster::start(Settings::default()).await;
    let (_publication, crowd) = on_air(&cluster).await;
    let before = cluster.controls[0].until_live(STREAM).await;

    cluster.etcd.freeze().await;
    crowd.play_for(outage()).await;
    unnoticed(&crowd, &format!("etcd hangs for {:?}", outage()));
    cluster.etcd.thaw().await;
    right_again(&cluster, &crowd, &before, "etcd answers again").await;

    cluster.etcd.kill().await;
    crowd.play_for(outage()).await;
    unnoticed(&crowd, &format!("no etcd for {:?}", outage()));
    cluster.etcd.restart().await;
    right_again(&cluster, &crowd, &before, "etcd is back").await;

    // Nothing is leased there; whatever it kept is told again each second.
    let outage = lasting(outage(), Duration::from_secs(4));
    cluster.redis.freeze().await;
    crowd.play_for(outage).await;
    unnoticed(&crowd, &format!("Redis hangs for {outage:?}"));
    cluster.redis.thaw().await;
    right_again(&cluster, &crowd, &before, "Redis answers again").await;

    cluster.redis.kill().await;
    crowd.play_for(outage).await;
    unnoticed(&crowd, &format!("no Redis for {outage:?}"));
    cluster.redis.restart().await;
    right_again(&cluster, &crowd, &before, "Redis is back").await;
}
