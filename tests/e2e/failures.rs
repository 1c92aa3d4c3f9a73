//! What viewers notice when a process of the cluster dies, hangs, is ended, or loses the others: 200 of them, by HTTP-FLV, RTMP
//! and LL-HLS, over three edges, two origins, two replicas of the control plane, etcd and Redis.
//!
//! What takes time is printed, and bounded generously; what must not happen at all is counted. `WEIR_TEST_LONG=1` makes the
//! outages as long as they are promised to be survived.

mod control;
mod engines;
mod input;
mod nodes;
mod split;
mod upgrade;

use std::time::Duration;

use crate::support::clip::Clip;
use crate::support::cluster::Cluster;
use crate::support::crowd::{CROWD, Count, Crowd, Directory};
use crate::support::rtmp::Publication;

const STREAM: &str = "live/a";

/// How long something lasts: long when that is asked for, and else as short as it may be.
fn lasting(long: Duration, short: Duration) -> Duration {
    if std::env::var_os("WEIR_TEST_LONG").is_some() { long } else { short }
}

/// A stream of the cluster's first origin, and the crowd that watches it.
async fn on_air(cluster: &Cluster) -> (Publication, Crowd) {
    let publication = Publication::start(cluster.origins[0].rtmp, STREAM, &Clip::small().await).await;
    cluster.controls[0].until_live(STREAM).await;
    let crowd = Crowd::gather(&Directory::of(STREAM, &cluster.controls), CROWD).await;
    // Who came while the stream's HLS began saw it begin.
    crowd.mark();
    (publication, crowd)
}

/// Nobody noticed anything since the mark.
fn unnoticed(crowd: &Crowd, what: &str) {
    let (counts, gap) = (crowd.counts(), crowd.longest_gap());
    println!("{what}: {} viewers, {counts}; longest gap {gap:.2?}", crowd.len());
    assert_eq!(counts.failures(), 0, "{what}: {counts}\n{}", crowd.troubles());
    assert!(counts.of(Count::Frame) > 0 && gap < Duration::from_secs(5), "{what}: {gap:?}");
}
