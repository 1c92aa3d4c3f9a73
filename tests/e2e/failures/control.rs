//! Replicas of the control plane are killed, one and then all.

use std::time::{Duration, Instant};

use super::{STREAM, lasting, on_air, unnoticed};
use crate::support::cluster::{Cluster, Settings};
use crate::support::crowd::{Crowd, Directory, Plan};
use crate::support::turn::{self, Load};

#[tokio::test]
async fn viewers_with_grants_play_on_and_come_while_there_is_no_control_plane() {
    let _turn = turn::take(Load::Alone).await;
    let signed = "[grants]\nplay = \"required\"\n";
    let settings = Settings { control: signed, edge: signed, ..Settings::default() };
    let mut cluster = Cluster::start(settings).await;
    let (_publication, crowd) = on_air(&cluster).await;
    let before = cluster.controls[0].until_live(STREAM).await;
    let directory = Directory::of(STREAM, &cluster.controls);

    // One is killed: the other has its nodes within a moment, and answers whoever comes.
    let one = cluster.controls.remove(0).kill().await;
    let killed = Instant::now();
    let more = Plan { flv: 4, rtmp: 3, hls: 3 };
    let late = Crowd::gather(&directory, more).await;
    cluster.until_ready().await;
    println!(
        "all nodes were known to the replica that is left {:?} after the other was killed",
        killed.elapsed()
    );
    crowd.play_for(Duration::from_secs(2)).await;
    crowd.all_play().await;
    unnoticed(&crowd, "one replica of two killed");
    unnoticed(&late, "who came then");

    // All of them: nobody is told anything any more, and those who were told before come and go.
    let told = cluster.controls[0].edges(STREAM).await;
    crowd.mark();
    let other = cluster.controls.remove(0).kill().await;
    let killed = Instant::now();
    // Longer than any lease or silence.
    crowd.play_for(lasting(Duration::from_secs(600), Duration::from_secs(11))).await;
    for edge in &told {
        // Without the grant nobody is let in, with it everybody is: edges have the keys, and need nobody for that.
        let flv = edge["flv"].as_str().unwrap();
        let (base, rest) = flv.split_once("/~").unwrap();
        let (_, path) = rest.split_once('/').unwrap();
        assert_eq!(reqwest::get(format!("{base}/{path}")).await.unwrap().status(), 401);
        crate::support::flv::Viewer::open(flv).await.next_frame(crate::support::flv::VIDEO).await;
    }
    crowd.all_play().await;
    unnoticed(&crowd, &format!("no control plane for {:.0?}", killed.elapsed()));

    // They come back, and know what was and is.
    let back = Instant::now();
    let (one, other) = tokio::join!(one.start(), other.start());
    cluster.controls = vec![one, other];
    cluster.until_ready().await;
    for control in &cluster.controls {
        let after = control.until_live(STREAM).await;
        assert_eq!((&after["epoch"], &after["started_at_ms"]), (&before["epoch"], &before["started_at_ms"]));
    }
    println!("all was known again {:?} after two replicas were started", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(10));
    crowd.all_play().await;
    unnoticed(&crowd, "the control plane is back");
}
