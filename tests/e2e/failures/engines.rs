//! etcd and Redis hang, and are killed.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{STREAM, lasting, on_air, unnoticed};
use crate::support::cluster::{Cluster, Settings};
use crate::support::crowd::Crowd;
use crate::support::turn::{self, Load};

/// Longer than each lease and each silence, and how long that is promised to be survived.
fn outage() -> Duration {
    lasting(Duration::from_secs(60), Duration::from_secs(12))
}

/// The state is right again, soon: all nodes are ready, and the stream is what it was.
async fn right_again(cluster: &Cluster, crowd: &Crowd, before: &Value, what: &str) {
    let back = Instant::now();
    cluster.until_ready().await;
    for control in &cluster.controls {
        let after = control.until_live(STREAM).await;
        assert_eq!((&after["epoch"], &after["started_at_ms"]), (&before["epoch"], &before["started_at_ms"]));
        let watched = |info: &Value| {
            let viewers = &info["viewers"];
            ["flv", "rtmp"].iter().filter_map(|how| viewers[*how].as_u64()).sum::<u64>() == 140
        };
        control.until_stream(STREAM, "with its viewers", watched).await;
    }
    println!("{what}: right again {:.2?} after that", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    crowd.all_play().await;
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
