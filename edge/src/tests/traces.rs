//! Spans of pulls and viewers: whose children they are, when they end, and of what there are none.

use control_api::Secret;
use control_api::trace::{Context, TRACEPARENT, Tracer};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{SpanId, Status, TraceId, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tower::ServiceExt;

use super::client::{Player, Server, open};
use super::origin::Origin;
use super::rtmp;
use super::studio::{Studio, opening};
use super::until;
use crate::{Config, Edge, Upstream};

/// The span in which the origin's stream was published.
const PUBLISH: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

/// What the edge tells of.
struct Spans(InMemorySpanExporter);

impl Spans {
    fn of(edge: &Edge, share: f64) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        edge.trace_by(Tracer::new(BoxedTracer::new(Box::new(provider.tracer("edge"))), share));
        Self(exporter)
    }

    fn all(&self) -> Vec<SpanData> {
        self.0.get_finished_spans().unwrap()
    }

    /// The spans, once there are so many.
    async fn until(&self, count: usize) -> Vec<SpanData> {
        until(|| self.all().len() >= count).await;
        assert_eq!(self.all().len(), count, "{:?}", self.all());
        self.all()
    }
}

/// What a span says.
fn said(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|said| said.key.as_str() == key);
    found.map(|said| said.value.as_str().into_owned()).unwrap_or_default()
}

/// An edge behind an origin that traces.
fn edge(origin: &Origin, config: Config) -> Edge {
    let upstream = origin.upstream().map_response(|mut response| {
        response.headers_mut().insert(TRACEPARENT, PUBLISH.parse().unwrap());
        response
    });
    Edge::new(config, open(), Upstream::new(upstream), None).unwrap()
}

async fn server(origin: &Origin, config: Config) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::serving(edge(origin, config), listener.into())
}

#[tokio::test]
async fn viewers_of_every_protocol_are_children_of_the_pull_and_that_of_the_publish() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = server(&origin, Config::default()).await;
    let spans = Spans::of(&server.edge, 1.0);
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;

    let mut players = vec![Player::new(server.get("/live/a.flv").await)];
    let request = || Request::get("http://edge/live/a.flv").body(Empty::new()).unwrap();
    let mut http2 = server.http2().await;
    players.push(Player::new(http2.send_request(request()).await.unwrap()));
    for player in &mut players {
        assert_eq!(player.number().await, Some(0));
    }
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let socket = server.request(Method::GET, "/live/a.flv", &upgrade).await;
    assert_eq!(socket.status(), 101);
    let mut rtmp = rtmp::Player::connect(&server.edge, "a").await;
    rtmp.number().await;

    let spans = spans.until(5).await;
    let pulled = spans.iter().find(|span| span.name == "relay").unwrap();
    assert_eq!(pulled.span_context.trace_id(), TraceId::from(TRACE));
    assert_eq!(pulled.parent_span_id, SpanId::from(0x00f0_67aa_0ba9_02b7));
    assert_eq!((said(pulled, "stream"), said(pulled, "epoch")), ("live/a".to_owned(), "1".to_owned()));
    assert_eq!(said(pulled, "upstream"), "this process");
    let mut watched = Vec::new();
    for span in spans.iter().filter(|span| span.name == "play") {
        assert_eq!(span.span_context.trace_id(), TraceId::from(TRACE));
        assert_eq!(span.parent_span_id, pulled.span_context.span_id());
        assert_eq!((said(span, "stream"), &span.status), ("live/a".to_owned(), &Status::Unset));
        watched.push((said(span, "protocol"), said(span, "status")));
    }
    watched.sort();
    let expected = [("flv", "200"), ("flv", "200"), ("rtmp", "200"), ("ws_flv", "101")];
    assert_eq!(watched, expected.map(|(protocol, status)| (protocol.to_owned(), status.to_owned())));
}

#[tokio::test]
async fn an_edge_that_pulls_from_this_one_is_told_of_its_pull() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.relay_key = Some(Secret::new("between-edges"));
    let server = server(&origin, config).await;
    let spans = Spans::of(&server.edge, 1.0);
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let key = [("authorization", "Bearer between-edges")];
    let response = server.request(Method::GET, "/relay/live/a", &key).await;
    let told = Context::of(response.headers()).unwrap();
    // Edges are no viewers.
    let span = &spans.until(1).await[0];
    let (trace, id) = (span.span_context.trace_id(), span.span_context.span_id());
    assert_eq!(told.to_string(), format!("00-{trace}-{id}-01"));
}

#[tokio::test]
async fn a_pull_without_a_keyframe_goes_on_and_one_that_breaks_before_it_has_failed() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = server(&origin, Config::default()).await;
    let spans = Spans::of(&server.edge, 0.0);
    let mut studio = Studio::new();
    let first = studio.picture(true, 100);
    // The headers and no picture.
    relay.send(first.start.clone().unwrap()).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert!(spans.all().is_empty());
    let again = origin.relay("a");
    relay.fail().await;
    let failed = &spans.until(1).await[0];
    assert!(
        matches!(&failed.status, Status::Error { description } if description.contains("broken")),
        "{failed:?}"
    );
    // The same stream, of which there were viewers: the next pull is told of, too.
    again.send(opening(&first)).await;
    assert_eq!(player.number().await, Some(0));
    assert_eq!(spans.until(2).await[1].status, Status::Unset);
}

#[tokio::test]
async fn refusals_say_why_and_what_viewers_make_up_is_a_share() {
    let origin = Origin::default();
    let server = server(&origin, Config::default()).await;
    assert_eq!(server.get("/live/a.flv").await.status(), StatusCode::NOT_FOUND);
    let spans = Spans::of(&server.edge, 1.0);
    assert_eq!(server.get("/live/b.flv").await.status(), StatusCode::NOT_FOUND);
    let found = spans.until(2).await;
    for (span, name, why) in [(&found[0], "relay", "no such stream"), (&found[1], "play", "Not Found")] {
        assert_eq!((&*span.name, &span.status), (name, &Status::error(why)));
        assert_eq!(said(span, "stream"), "live/b");
    }
    assert_eq!(said(&found[1], "status"), "404");
    assert_eq!(server.get("/live/b.flv?latency=x").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(said(&spans.until(3).await[2], "status"), "400");

    let origin = Origin::default();
    let server = self::server(&origin, Config::default()).await;
    let spans = Spans::of(&server.edge, 0.0);
    for name in 0..20 {
        assert_eq!(server.get(&format!("/live/{name}.flv")).await.status(), StatusCode::NOT_FOUND);
    }
    assert!(spans.all().is_empty());
}

#[tokio::test]
async fn of_hls_the_first_playlist_is_told_of_and_what_viewers_say_is_linked() {
    let origin = Origin::default();
    let server = server(&origin, Config::default()).await;
    let spans = Spans::of(&server.edge, 1.0);
    let playlist = || {
        let mut response = Response::new("#EXTM3U");
        response.headers_mut().insert("cache-control", "max-age=1".parse().unwrap());
        response
    };
    for path in ["/live/a/index.m3u8", "/live/a/v0/media.m3u8", "/live/a/v0/1-2.m4s"] {
        origin.file(path, playlist());
        let said = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")];
        assert_eq!(server.request(Method::GET, path, &said).await.status(), StatusCode::OK);
    }
    server.request(Method::HEAD, "/live/a/index.m3u8", &[]).await;
    let span = &spans.until(1).await[0];
    assert_eq!((said(span, "protocol"), said(span, "status")), ("hls".to_owned(), "200".to_owned()));
    assert_eq!(span.parent_span_id, SpanId::INVALID, "nobody pulls the stream");
    let trace = TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!(span.links[0].span_context.trace_id(), trace);
    assert_ne!(span.span_context.trace_id(), trace);
    for hostile in ["", "00", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", &"0".repeat(4_000)] {
        server.request(Method::GET, "/live/a/index.m3u8", &[("traceparent", hostile)]).await;
    }
    assert!(spans.until(5).await[1..].iter().all(|span| span.links.is_empty()));
}
