//! One trace of a stream, from its publisher through origin, shield and edge to a viewer; and what a collector that is not
//! there costs.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::support::clip::Clip;
use crate::support::cluster::{Control, JOIN};
use crate::support::collector::{Collector, Span, config};
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::{Weir, send};

/// Opens origin and shield to edges.
const KEY: &str = "between-origin-and-edges";

/// What a viewer's app says of a trace of its own.
const OF_AN_APP: &str = "0af7651916cd43dd8448eb211c80319c";

async fn origin(traces: &str) -> Weir {
    Weir::role("origin", &format!("{traces}[origin.http]\nkey = \"{KEY}\"\n"), &[]).await
}

async fn edge(traces: &str, upstream: &Weir) -> Weir {
    let keys = format!("[edge.upstream]\nkey = \"{KEY}\"\n[edge.http]\nrelay_key = \"{KEY}\"\n");
    Weir::role("edge", &format!("{traces}{keys}"), &["--origin", &upstream.url("")]).await
}

fn is_child_of(span: &Span, parent: &Span) {
    assert_eq!((&span.trace, &span.parent), (&parent.trace, &parent.id), "{span:?}\n{parent:?}");
    assert_eq!(span.error, None);
}

#[tokio::test]
async fn a_stream_is_one_trace_from_its_publisher_to_its_viewers() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let collector = Collector::start().await;
    let origin = origin(&collector.config("origin")).await;
    let shield = edge(&collector.config("shield"), &origin).await;
    let edge = edge(&collector.config("edge"), &shield).await;
    let publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    let live = origin.until_live("live/a", 2).await;

    let mut viewer = Viewer::open(&edge.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;
    let mut player = Client::open(edge.rtmp, "live").await.unwrap();
    assert!(player.play("a").await.unwrap().says("NetStream.Play.Reset"));
    origin.until_hls("live/a").await;
    let said = format!("00-{OF_AN_APP}-b7ad6b7169203331-01");
    let playlist = reqwest::Client::new().get(edge.url("/live/a/index.m3u8")).header("traceparent", said);
    assert_eq!(send(playlist).await.status, 200);
    assert_eq!(edge.get("/live/none.flv").await.status, 404);

    let publish = collector.span("origin", "publish", |_| true).await;
    let epoch = live["epoch"].to_string();
    assert_eq!((publish.parent.as_str(), &publish.error), ("", &None));
    for (key, value) in
        [("app", "live"), ("name", "a"), ("protocol", "rtmp"), ("epoch", &epoch), ("codecs", "H.264,AAC")]
    {
        assert_eq!(publish.said[key], value, "{key}");
    }
    let pulled = collector.span("shield", "relay", |span| span.error.is_none()).await;
    is_child_of(&pulled, &publish);
    for (key, value) in [("stream", "live/a"), ("upstream", &*origin.url("")), ("epoch", &epoch)] {
        assert_eq!(pulled.said[key], value, "{key}");
    }
    let relay = collector.span("edge", "relay", |span| span.error.is_none()).await;
    is_child_of(&relay, &pulled);
    assert_eq!(relay.said["upstream"], shield.url(""));
    for protocol in ["flv", "rtmp", "hls"] {
        let play = collector.span("edge", "play", |span| span.said["protocol"] == protocol).await;
        is_child_of(&play, &relay);
        assert_eq!((play.said["stream"].as_str(), play.said["status"].as_str()), ("live/a", "200"));
        let links: &[&str] = if protocol == "hls" { &[OF_AN_APP] } else { &[] };
        assert_eq!(play.links, links);
    }
    let refused = collector.span("edge", "play", |span| span.said["stream"] == "live/none").await;
    assert_eq!((refused.error.as_deref(), refused.said["status"].as_str()), (Some("Not Found"), "404"));

    // Who is refused is told of, too, and what it showed is not.
    let mut second = Client::open(origin.rtmp, "live").await.unwrap();
    assert!(second.publish("a?key=20406080").await.unwrap().says("NetStream.Publish.BadName"));
    let busy = collector.span("origin", "publish", |span| span.error.is_some()).await;
    assert!(busy.error.as_ref().unwrap().contains("already"), "{busy:?}");
    drop((publication, viewer, player));
    assert!(!format!("{:?}", collector.spans()).contains("20406080"));
    assert!(collector.spans().iter().all(|span| span.ms < 60_000), "they end with the beginning");
    assert!(collector.shown().iter().all(|shown| shown == "Bearer for-the-collector"));
    assert_eq!(edge.metric("weir_traces_spans_total{outcome=\"dropped\"}").await, Some(0.0));
    for weir in [origin, shield, edge] {
        let (_, log) = weir.stop().await;
        assert!(!log.contains("for-the-collector"), "{log}");
    }
}

#[tokio::test]
async fn leases_and_decisions_of_the_control_plane_belong_to_it() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let collector = Collector::start().await;
    let control = Control::configured(&collector.config("control")).await;
    let traces = collector.config("origin");
    let config = format!("{traces}[cluster]\njoin_token = \"{JOIN}\"\n");
    let flags = ["--control", &format!("http://{}", control.grpc), "--name", "origin-1"];
    let origin = Weir::role("origin", &config, &flags).await;
    control.until_nodes(&[("origin-1", "ready")]).await;

    let said = format!("00-{OF_AN_APP}-b7ad6b7169203331-01");
    let asked =
        reqwest::Client::new().get(control.url("/api/v1/publish/live/a")).bearer_auth(control.token());
    let told = send(asked.header("traceparent", said)).await.json();
    let decide = collector.span("control", "decide", |_| true).await;
    assert_eq!((decide.trace.as_str(), decide.parent.as_str()), (OF_AN_APP, "b7ad6b7169203331"));
    for (key, value) in [("what", "publish"), ("stream", "live/a"), ("node", "origin-1")] {
        assert_eq!(decide.said[key], value, "{key}");
    }
    let mut client = Client::open(origin.rtmp, "live").await.unwrap();
    let status = client.publish(told["stream_key"].as_str().unwrap()).await.unwrap();
    assert!(status.says("NetStream.Publish.Start"), "{}", String::from_utf8_lossy(&status.body));
    let _publication = Publication::send(client, &clip).await;
    let publish = collector.span("origin", "publish", |_| true).await;
    let lease = collector.span("control", "lease", |_| true).await;
    is_child_of(&lease, &publish);
    assert_eq!((&lease.said["node"], &lease.said["epoch"]), (&"origin-1".to_owned(), &publish.said["epoch"]));
    assert_eq!(lease.said["stream"], "live/a");
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_asked_for_and_nothing_sent() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Whoever ships with such variables has not asked for traces.
    let url = format!("http://{}", listener.local_addr().unwrap());
    let weir =
        Weir::with_env("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("OTEL_TRACES_SAMPLER", "always_on")])
            .await;
    let _publication = Publication::start(weir.rtmp, "live/a", &clip).await;
    weir.until_live("live/a", 2).await;
    Viewer::open(&weir.url("/live/a.flv")).await.next_frame(VIDEO).await;
    assert_eq!(weir.metric("weir_traces_spans_total{outcome=\"sent\"}").await, None);
    // Longer than a span would wait for others.
    let nobody = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await;
    assert!(nobody.is_err(), "somebody came");
    let (status, log) = weir.stop().await;
    assert!(status.success() && !log.contains("traces"), "{log}");
}

#[tokio::test]
async fn a_collector_that_is_down_costs_nothing_and_is_said_once() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    // Who listened there is gone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let origin = origin(&config(at, "origin")).await;
    let edge = edge(&config(at, "edge"), &origin).await;
    drop(listener);
    let _publication = Publication::start(origin.rtmp, "live/a", &clip).await;
    origin.until_live("live/a", 2).await;
    let lost = "weir_traces_spans_total{outcome=\"lost\"}";
    for expected in [1.0, 2.0] {
        let mut viewer = Viewer::open(&edge.url("/live/a.flv")).await;
        for _ in 0..10 {
            viewer.next_frame(VIDEO).await;
        }
        until("lost spans", async || edge.metric(lost).await.filter(|lost| *lost >= expected)).await;
    }
    edge.process.line("the collector of traces takes no spans").await;
    let lines = edge.process.output().matches("the collector of traces").count();
    assert_eq!(lines, 1, "{}", edge.process.output());

    // It comes back, and what begins then is told of.
    let collector = Collector::on(TcpListener::bind(at).await.unwrap());
    until("a span", async || {
        edge.get("/live/a/index.m3u8").await;
        collector.spans().into_iter().find(|span| span.name == "play")
    })
    .await;
    edge.process.line("takes spans again").await;
    drop(collector);
    // Nor is the end waited for.
    let (status, _) = edge.stop().await;
    assert!(status.success());
}
