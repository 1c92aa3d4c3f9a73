//! Edges and origins are killed.

use std::time::{Duration, Instant};

use super::{STREAM, on_air};
use crate::support::browser::Page;
use crate::support::clip::Clip;
use crate::support::cluster::{Cluster, Control, Settings, edge, node};
use crate::support::crowd::{Count, percentile};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::Weir;

/// An encoder that comes back at another origin, as soon as it is let in there.
async fn reconnect(origin: &Weir, clip: &Clip) -> Publication {
    let (app, name) = STREAM.split_once('/').unwrap();
    let client = until("an origin that takes the encoder", async || {
        let mut client = Client::open(origin.rtmp, app).await.ok()?;
        client.publish(name).await.is_some_and(|said| said.says("NetStream.Publish.Start")).then_some(client)
    });
    Publication::send(client.await, clip).await
}

#[tokio::test]
async fn viewers_of_a_killed_edge_play_elsewhere_and_those_of_a_killed_origin_stay() {
    let _turn = turn::take(Load::Alone).await;
    let clip = Clip::small().await;
    let mut cluster = Cluster::start(Settings::default()).await;
    let (publication, crowd) = on_air(&cluster).await;

    // The edge with the most viewers.
    let names = ["edge-1", "edge-2", "edge-3"];
    let most = (0..3).max_by_key(|at| crowd.at(names[*at])).unwrap();
    let there = crowd.at(names[most]);
    println!("viewers at {:?}", names.map(|name| crowd.at(name)));
    crowd.mark();
    let edge = cluster.edges.remove(most);
    edge.process.signal("KILL").await;
    crowd.all_play().await;
    let moved = crowd.elsewhere_after();
    let p95 = percentile(&moved, 0.95);
    println!(
        "an edge killed: its {there} viewers played elsewhere after {:.2?} (p50), {p95:.2?} (p95), {:.2?} (most); {}",
        percentile(&moved, 0.5),
        percentile(&moved, 1.0),
        crowd.counts()
    );
    assert_eq!(moved.len(), there, "nobody else had to move\n{}", crowd.troubles());
    assert!(p95 < Duration::from_secs(3), "{moved:?}\n{}", crowd.troubles());
    assert_eq!(crowd.counts().of(Count::Backwards), 0, "{}", crowd.troubles());

    // The origin, and its encoder goes to the other one.
    crowd.mark();
    let origin = cluster.origins.remove(0);
    origin.process.signal("KILL").await;
    drop(publication);
    let killed = Instant::now();
    let _publication = reconnect(&cluster.origins[0], &clip).await;
    let published = killed.elapsed();
    crowd.all_play().await;
    let gaps = crowd.gaps();
    println!(
        "an origin killed, published elsewhere after {published:.2?}: viewers waited {:.2?} (p50), {:.2?} (p95), {:.2?} \
         (most); {}",
        percentile(&gaps, 0.5),
        percentile(&gaps, 0.95),
        percentile(&gaps, 1.0),
        crowd.counts()
    );
    assert_eq!(crowd.counts().disconnected(), 0, "{}", crowd.troubles());
    assert_eq!(crowd.counts().of(Count::Refused), 0, "{}", crowd.troubles());
    assert_eq!(crowd.counts().of(Count::Backwards), 0, "{}", crowd.troubles());
    assert!(crowd.longest_gap() < Duration::from_secs(8), "{gaps:?}\n{}", crowd.troubles());
}

#[tokio::test]
async fn hls_js_goes_on_when_its_stream_goes_to_another_origin() {
    let _turn = turn::take(Load::Alone).await;
    let clip = Clip::large().await;
    let control = Control::start().await;
    let one = node("origin", "origin-1", &control).await;
    let two = node("origin", "origin-2", &control).await;
    let edge = edge("edge-1", &control).await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    let publication = Publication::start(one.rtmp, STREAM, &clip).await;
    one.until_hls(STREAM).await;
    let mut page = Page::open(&edge.url("/watch/live/a?via=hls"));
    let begin = page.until("the picture", |report| report.number("total_frames") > 250.0).await;
    assert_eq!(begin.number("fatal_errors"), 0.0, "{begin:?}");

    one.process.signal("KILL").await;
    let killed = Instant::now();
    drop(publication);
    let _publication = reconnect(&two, &clip).await;
    let lost = page.report().await;
    let mut shown = (lost.number("total_frames"), Instant::now(), Duration::ZERO);
    let end = page
        .until("the picture of the other origin", |report| {
            assert_eq!(report.number("fatal_errors"), 0.0, "{report:?}");
            let frames = report.number("total_frames");
            if frames > shown.0 {
                shown = (frames, Instant::now(), shown.2.max(shown.1.elapsed()));
            }
            // More than can have been on its way when the origin died.
            frames - lost.number("total_frames") > 250.0
        })
        .await;
    println!(
        "hls.js stood still for {:.2?}, and showed 250 pictures more {:.2?} after its origin was killed",
        shown.2,
        killed.elapsed()
    );
    assert_eq!((end.number("loads"), end.number("errors")), (1.0, 0.0), "{end:?}");
}
