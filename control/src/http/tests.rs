//! The whole router, as a client sees it, with a cluster of the tests' own behind it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use control_api::{
    ClusterError, ClusterStats, HlsState, MediaClock, PublisherInfo, RESERVED_APPS, StreamInfo, StreamState,
    TrackInfo, Viewers,
};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

struct Fake {
    streams: Mutex<Vec<StreamInfo>>,
}

#[async_trait]
impl Cluster for Fake {
    async fn streams(&self) -> Vec<StreamInfo> {
        self.streams.lock().clone()
    }

    async fn stream(&self, app: &str, name: &str) -> Option<StreamInfo> {
        assert_ne!(name, "bug", "a bug in the cluster");
        self.streams.lock().iter().find(|s| s.app == app && s.name == name).cloned()
    }

    async fn kick(&self, app: &str, name: &str) -> Result<(), ClusterError> {
        let mut streams = self.streams.lock();
        let index = streams.iter().position(|s| s.app == app && s.name == name);
        let index = index.ok_or_else(|| ClusterError::NoSuchStream { app: app.into(), name: name.into() })?;
        streams.remove(index);
        Ok(())
    }

    async fn stats(&self) -> ClusterStats {
        ClusterStats {
            streams: 3,
            viewers: Viewers { flv: 2, hls: 5, ..Viewers::default() },
            ..ClusterStats::default()
        }
    }
}

fn stream(app: &str, name: &str) -> StreamInfo {
    StreamInfo {
        app: app.into(),
        name: name.into(),
        state: StreamState::Live,
        epoch: 7,
        started_at_ms: 1_760_000_000_000,
        publisher: PublisherInfo {
            protocol: "rtmp".into(),
            remote_addr: Some("192.0.2.7:50000".into()),
            encoder: Some("OBS 32".into()),
            line: None,
        },
        tracks: vec![TrackInfo {
            id: "v0".into(),
            codec: "H.264".into(),
            rfc6381: "avc1.64001f".into(),
            width: Some(1280),
            height: Some(720),
            sample_rate: None,
            channels: None,
        }],
        bitrate_bps: 2_500_000,
        frame_rate: 30.0,
        keyframe_interval_ms: Some(2000),
        bytes_in: 1,
        viewers: Viewers { flv: 1, ..Viewers::default() },
        hls: HlsState { ready: true, problem: None },
        clock: Some(MediaClock { media_ms: 40, wall_ms: 1_760_000_000_040 }),
    }
}

struct Server {
    router: Router,
    token: Token,
    cluster: Arc<Fake>,
    metrics: Registry,
}

/// Three streams: `live/a`, `live/b`, `show/a`.
fn server() -> Server {
    server_of(vec![stream("live", "a"), stream("live", "b"), stream("show", "a")])
}

fn server_of(streams: Vec<StreamInfo>) -> Server {
    let (token, metrics) = (Token::random().unwrap(), Registry::new());
    let cluster = Arc::new(Fake { streams: Mutex::new(streams) });
    let router = crate::router(
        Config { publish_url: Some("rtmp://live.example.com".into()), rtmp_port: 1936, ..Config::default() },
        Arc::clone(&cluster) as _,
        token.clone(),
        Metrics::register(&metrics).unwrap(),
    );
    Server { router, token, cluster, metrics }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a well-formed problem document.
    fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["title"], self.status.canonical_reason().unwrap());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Server {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn as_operator(&self, method: &str, path: &str) -> Answer {
        self.ask(method, path, &[("authorization", &format!("Bearer {}", self.token.reveal()))]).await
    }
}

fn names(answer: &Answer) -> Vec<String> {
    let page = answer.json();
    let streams = page["streams"].as_array().unwrap().iter();
    streams.map(|s| format!("{}/{}", s["app"].as_str().unwrap(), s["name"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn streams_are_listed_with_what_is_known_of_them() {
    let answer = server().get("/api/v1/streams").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(names(&answer), ["live/a", "live/b", "show/a"]);
    let page = answer.json();
    assert_eq!(page["total"], 3);
    assert!(page.get("next").is_none());
    assert_eq!(page["streams"][0]["state"], "live");
    assert_eq!(page["streams"][0]["tracks"][0]["width"], 1280);
    assert_eq!(page["streams"][0]["clock"]["wall_ms"], 1_760_000_000_040u64);
}

#[tokio::test]
async fn the_list_can_be_narrowed_to_an_app() {
    let server = server();
    let answer = server.get("/api/v1/streams?app=live").await;
    assert_eq!(names(&answer), ["live/a", "live/b"]);
    assert_eq!(answer.json()["total"], 2);
    assert_eq!(names(&server.get("/api/v1/streams?app=none").await), [""; 0]);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let all: Vec<_> = (0..257).map(|n| stream("live", &format!("{n:04}"))).collect();
    let server = server_of(all.clone());
    let (mut seen, mut path, mut pages) = (Vec::new(), "/api/v1/streams".to_owned(), 0);
    loop {
        let answer = server.get(&path).await;
        seen.extend(names(&answer));
        pages += 1;
        match answer.json().get("next") {
            Some(next) => path = format!("/api/v1/streams?after={}", next.as_str().unwrap()),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, all.iter().map(|s| format!("{}/{}", s.app, s.name)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_is_as_long_as_asked_for_up_to_its_bound() {
    let server = server_of((0..1200).map(|n| stream("live", &format!("{n:04}"))).collect());
    for (limit, length) in [("1", 1), ("1000", 1000), ("999999", 1000)] {
        let answer = server.get(&format!("/api/v1/streams?limit={limit}")).await;
        assert_eq!(names(&answer).len(), length);
        assert_eq!(answer.json()["total"], 1200);
    }
}

#[tokio::test]
async fn a_place_in_the_list_may_have_ended_meanwhile() {
    let answer = server().get("/api/v1/streams?after=live/aa").await;
    assert_eq!(names(&answer), ["live/b", "show/a"]);
}

#[tokio::test]
async fn queries_that_mean_nothing_are_refused() {
    let server = server();
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "after=a",
        "sort=up",
        "limit=1&limit=2",
    ] {
        let answer = server.get(&format!("/api/v1/streams?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.problem(), "bad_query", "{query}");
    }
}

#[tokio::test]
async fn one_stream_is_found_by_app_and_name() {
    let server = server();
    let answer = server.get("/api/v1/streams/show/a").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["app"], "show");
    for path in ["/api/v1/streams/show/b", "/api/v1/streams/none/a", "/api/v1/streams/live/..%2fshow"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.problem(), "no_such_stream");
    }
    let answer = server.get("/api/v1/streams/live/%ff").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.problem(), "bad_path");
}

#[tokio::test]
async fn publishers_addresses_are_told_to_the_operator_only() {
    let server = server();
    for (path, at) in [("/api/v1/streams", "/streams/0"), ("/api/v1/streams/live/a", "")] {
        let at = format!("{at}/publisher/remote_addr");
        assert_eq!(server.get(path).await.json().pointer(&at), Some(&Value::Null), "{path}");
        let answer = server.as_operator("GET", path).await;
        assert_eq!(answer.json().pointer(&at).unwrap(), "192.0.2.7:50000", "{path}");
    }
}

#[tokio::test]
async fn the_operator_ends_a_stream() {
    let server = server();
    let answer = server.as_operator("DELETE", "/api/v1/streams/live/a").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.body.is_empty());
    assert_eq!(server.cluster.streams.lock().len(), 2);
    let answer = server.as_operator("DELETE", "/api/v1/streams/live/a").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.problem(), "no_such_stream");
}

#[tokio::test]
async fn nobody_else_does() {
    let server = server();
    let token = server.token.reveal().to_owned();
    let other = Token::random().unwrap();
    let wrong = [
        format!("Bearer {}", other.reveal()),
        format!("Bearer {}", token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        format!("Bearer {token}0"),
        format!("Bearer {}", &token[1..]),
        format!("Basic {token}"),
        token.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        String::new(),
    ];
    for credentials in &wrong {
        let answer = server.ask("DELETE", "/api/v1/streams/live/a", &[("authorization", credentials)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{credentials}");
        assert_eq!(answer.problem(), "token_wrong", "{credentials}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"weir\", error=\"invalid_token\"");
        assert!(!answer.body.windows(64).any(|window| window == token.as_bytes()));
    }
    for path in ["/api/v1/streams/live/a", "/api/v1/streams/none/none"] {
        let answer = server.ask("DELETE", path, &[]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.problem(), "token_missing");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"weir\"");
    }
    assert_eq!(server.cluster.streams.lock().len(), 3);
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_where_none_is_needed() {
    let answer = server().ask("GET", "/api/v1/streams", &[("authorization", "Bearer x")]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.problem(), "token_wrong");
}

#[tokio::test]
async fn totals_and_the_server_itself_are_told() {
    let server = server();
    let stats = server.get("/api/v1/stats").await.json();
    assert_eq!(stats["streams"], 3);
    assert_eq!(stats["viewers"]["hls"], 5);
    let info = server.get("/api/v1/info").await.json();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["publish_url"], "rtmp://live.example.com");
    assert_eq!(info["rtmp_port"], 1936);
    assert!(info["now_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document() {
    let server = server();
    for path in [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/streams/live",
        "/api/v2/streams",
        "/live/a.flv",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.problem(), "not_found", "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/api/v1/streams", "GET,HEAD"),
        ("PUT", "/api/v1/streams/live/a", "GET,HEAD,DELETE"),
        ("DELETE", "/api/v1/stats", "GET,HEAD"),
        ("POST", "/", "GET,HEAD"),
    ] {
        let answer = server.ask(method, path, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.problem(), "method_not_allowed");
        let methods = |list: &str| list.split(',').map(|m| m.trim().to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(methods(answer.headers["allow"].to_str().unwrap()), methods(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn a_bug_costs_one_request_and_tells_nothing_to_the_caller() {
    let server = server();
    let answer = server.get("/api/v1/streams/live/bug").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.problem(), "internal");
    assert!(!answer.json()["detail"].as_str().unwrap().contains("bug"));
    assert_eq!(server.get("/api/v1/streams/live/a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_that_are_not_the_json_asked_for_are_problem_documents() {
    async fn handler(
        body: Result<Json<Value>, axum::extract::rejection::JsonRejection>,
    ) -> Result<(), Problem> {
        body.map(|_| ()).map_err(Problem::from)
    }
    let router = Router::new().route("/", axum::routing::post(handler));
    for (content_type, body, status) in [
        ("application/json", "{", StatusCode::BAD_REQUEST),
        ("text/plain", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/json", "{}", StatusCode::OK),
    ] {
        let request = Request::post("/").header("content-type", content_type).body(Body::from(body)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        if status != StatusCode::OK {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
}

#[tokio::test]
async fn head_says_what_get_would() {
    let server = server();
    for path in
        ["/api/v1/streams", "/api/v1/streams/live/a", "/api/v1/stats", "/api/v1/openapi.json", "/api/v1/none"]
    {
        let (get, head) = (server.get(path).await, server.ask("HEAD", path, &[]).await);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"], "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_read_but_not_change() {
    let server = server();
    let origin = ("origin", "https://example.com");
    let answer = server.ask("GET", "/api/v1/streams", &[origin]).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let preflight = [origin, ("access-control-request-method", "DELETE")];
    let answer = server.ask("OPTIONS", "/api/v1/streams/live/a", &preflight).await;
    let allowed = answer.headers["access-control-allow-methods"].to_str().unwrap();
    assert_eq!(allowed, "GET,HEAD");
    assert!(!answer.headers.contains_key("access-control-allow-headers"));
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_accept_it() {
    let server = server();
    let answer = server.ask("GET", "/api/v1/streams", &[("accept-encoding", "gzip")]).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert_eq!(answer.headers["vary"], "accept-encoding");
    assert!(!server.get("/api/v1/streams").await.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn every_operation_is_documented_with_its_errors() {
    let document = server().get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.insert(format!("{method} {path}"));
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert!(responses.contains_key("405") && responses.contains_key("500"), "{method} {path}");
            for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
            if method != "get" {
                assert!(responses.contains_key("401"), "{method} {path}");
                assert_eq!(operation["security"], serde_json::json!([{ "operator": [] }]), "{method} {path}");
            }
        }
    }
    let expected = [
        "delete /api/v1/conferences/{app}/{name}",
        "delete /api/v1/conferences/{app}/{name}/members/{id}",
        "get /api/v1/conferences",
        "get /api/v1/conferences/{app}/{name}",
        "get /api/v1/conferences/{app}/{name}/events",
        "patch /api/v1/conferences/{app}/{name}/members/{id}",
        "post /api/v1/conferences",
        "post /api/v1/conferences/{app}/{name}/members",
        "delete /api/v1/pulls/{app}/{name}",
        "delete /api/v1/pushes/{id}",
        "delete /api/v1/streams/{app}/{name}",
        "get /api/v1/info",
        "get /api/v1/keys",
        "get /api/v1/nodes",
        "get /api/v1/play/{app}/{name}",
        "get /api/v1/publish/{app}/{name}",
        "get /api/v1/pulls",
        "get /api/v1/pushes",
        "get /api/v1/sessions",
        "get /api/v1/stats",
        "get /api/v1/streams",
        "get /api/v1/streams/{app}/{name}",
        "post /api/v1/grants",
        "post /api/v1/keys/rotate",
        "post /api/v1/nodes/{name}/drain",
        "post /api/v1/nodes/{name}/reload",
        "post /api/v1/pulls",
        "post /api/v1/pushes",
    ];
    assert_eq!(operations, expected.map(str::to_owned).into());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["Problem", "StreamPage", "StreamInfo", "TrackInfo", "MediaClock", "ClusterStats", "Info"] {
        assert!(schemas.contains_key(name), "{name}");
    }
    assert_eq!(document["components"]["securitySchemes"]["operator"]["scheme"], "bearer");
}

/// The templates of all routes, which axum tells in its debug output only.
fn routes(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let paths = text.split('"').filter(|quoted| quoted.starts_with('/') && !quoted.contains("__private__"));
    paths.map(str::to_owned).collect()
}

#[tokio::test]
async fn no_stream_can_have_the_path_of_a_page() {
    let routes = routes(&server().router);
    for known in ["/", "/watch/{app}/{name}", "/api/v1/openapi.json", "/api/v1/streams/{app}/{name}"] {
        assert!(routes.contains(known), "{known} in {routes:?}");
    }
    for route in routes.iter().filter(|route| *route != "/") {
        let first = route.split('/').nth(1).unwrap();
        assert!(RESERVED_APPS.contains(&first), "{route}: an app could be called {first}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_class() {
    let server = server();
    server.get("/api/v1/streams/live/a").await;
    server.get("/api/v1/streams/live/b").await;
    server.get("/api/v1/streams/live/none").await;
    server.get("/api/v1/streams/live/bug").await;
    for n in 0..50 {
        server.get(&format!("/no/{n}")).await;
    }
    let text = TextEncoder::new().encode_to_string(&server.metrics.gather()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            r#"weir_control_requests_total{route="/api/v1/streams/{app}/{name}",status="2xx"} 2"#,
            r#"weir_control_requests_total{route="/api/v1/streams/{app}/{name}",status="4xx"} 1"#,
            r#"weir_control_requests_total{route="/api/v1/streams/{app}/{name}",status="5xx"} 1"#,
            r#"weir_control_requests_total{route="none",status="4xx"} 50"#,
        ]
    );
}

#[tokio::test]
async fn pages_can_be_left_out() {
    let context = Context {
        replica: None,
        redirects: false,
        config: Config { pages: false, ..Config::default() },
        cluster: server().cluster,
        token: Token::random().unwrap(),
        metrics: Metrics::register(&Registry::new()).unwrap(),
    };
    let server = Server { router: router(context), ..server() };
    for path in ["/", "/watch/live/a"] {
        assert_eq!(server.get(path).await.problem(), "not_found", "{path}");
    }
    assert_eq!(server.get("/api/v1/stats").await.status, StatusCode::OK);
}
