//! Hooks against real servers on loopback, of which some mean harm.

mod hostile;
mod restarts;
mod server;

use std::net::{IpAddr, SocketAddr};

use axum::response::IntoResponse as _;
use control_api::Secret;
use http::StatusCode;
use server::{Server, answer};

use super::*;

const SECRET: &str = "a secret of some length";

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn endpoint(url: impl Into<String>) -> Endpoint {
    Endpoint { timeout_ms: 1_000, ..Endpoint::new(url, Secret::new(SECRET)) }
}

fn config(endpoints: Vec<Endpoint>) -> Config {
    Config { endpoints, allow_private: vec!["127.0.0.1".into()], ..Config::default() }
}

fn event(happening: Happening, name: &str) -> Event {
    let stream = StreamName { app: "live".into(), name: name.into() };
    Event { session: Some("s1".into()), ..Event::new(happening, stream, 7, "origin-1") }
}

fn dropped(name: &str) -> Event {
    event(Happening::OnDrop, name)
}

/// Hooks with a folder of their own.
struct Bench {
    hooks: Hooks,
    registry: prometheus::Registry,
    folder: Arc<tempfile::TempDir>,
}

impl Bench {
    fn new(config: &Config) -> Self {
        Self::with(config, Arc::new(System), tls().unwrap())
    }

    fn with(config: &Config, resolver: Arc<dyn Resolve>, tls: ClientConfig) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let registry = prometheus::Registry::new();
        let hooks = Hooks::open_with(config, folder.path(), &registry, resolver, tls).unwrap();
        Self { hooks, registry, folder }
    }

    /// Ends these hooks and begins others with the same folder.
    async fn restart(self, config: &Config) -> Self {
        self.hooks.shutdown(Duration::from_secs(2)).await;
        let registry = prometheus::Registry::new();
        let hooks = Hooks::open(config, self.folder.path(), &registry).unwrap();
        Self { hooks, registry, folder: self.folder }
    }

    fn value(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == format!("weir_control_hook_{name}"));
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        metrics
            .iter()
            .filter(|metric| {
                labels.iter().all(|wanted| metric.get_label().iter().any(|l| l.value() == *wanted))
            })
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    async fn until(&self, name: &str, labels: &[&str], value: f64) {
        let reached = async {
            while self.value(name, labels) < value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "{name} {labels:?} is {} instead of {value}", self.value(name, labels));
    }
}

/// HMAC-SHA256 as RFC 2104 §2 writes it down, and not as the code under test does it.
fn hmac_by_hand(key: &[u8], text: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    let pad =
        |with: u8| -> Vec<u8> { (0..64).map(|i| key.get(i).copied().unwrap_or_default() ^ with).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_event_arrives_signed_with_all_that_is_known_of_it() {
    let server = Server::start(|_| answer(200, "")).await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    let told = event(Happening::OnRecord { path: "live/a/1.mp4".into() }, "a");
    bench.hooks.tell(&told).await.unwrap();
    let hit = server.hits(1).await.remove(0);
    assert_eq!(serde_json::from_slice::<Event>(&hit.body).unwrap(), told);
    assert_eq!(hit.header("x-weir-event"), "on_record");
    assert_eq!(hit.header("x-weir-delivery"), told.id.to_string());
    assert_eq!(hit.header("content-type"), "application/json");
    let signature = hit.header("x-weir-signature");
    let (t, v1) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert!(t.parse::<u64>().unwrap().abs_diff(event::now_ms() / 1000) < 5);
    let signed = [t.as_bytes(), b".", &hit.body].concat();
    assert_eq!(v1, hmac_by_hand(SECRET.as_bytes(), &signed));
    bench.until("deliveries_total", &["on_record", "delivered"], 1.0).await;
    assert_eq!(bench.value("queue_events", &[]), 0.0);
}

#[tokio::test]
async fn an_endpoint_gets_what_it_listens_to() {
    let all = Server::start(|_| answer(200, "")).await;
    let some = Server::start(|_| answer(200, "")).await;
    let listening = Endpoint { events: vec![EventKind::OnStop], ..endpoint(some.url()) };
    let bench = Bench::new(&config(vec![endpoint(all.url()), listening]));
    for happening in [Happening::OnDrop, Happening::OnStop, Happening::OnResume, Happening::OnUnpublish] {
        bench.hooks.tell(&event(happening, "a")).await.unwrap();
    }
    let kinds: Vec<_> = all.hits(4).await.iter().map(|hit| hit.header("x-weir-event").to_owned()).collect();
    assert_eq!(kinds, ["on_drop", "on_stop", "on_resume", "on_unpublish"]);
    assert_eq!(some.hits(1).await[0].header("x-weir-event"), "on_stop");
    bench.hooks.shutdown(PATIENCE).await;
    assert_eq!(some.hits(0).await.len(), 1);
}

#[tokio::test]
async fn what_fails_is_sent_again_with_its_number_and_body_and_keeps_its_order() {
    let server = Server::start(|n| answer(if n < 2 { 500 } else { 200 }, "")).await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    let told: Vec<_> = (0..3).map(|_| dropped("a")).collect();
    for event in &told {
        bench.hooks.tell(event).await.unwrap();
    }
    let hits = server.hits(5).await;
    let ids: Vec<_> = hits.iter().map(|hit| hit.header("x-weir-delivery").to_owned()).collect();
    let id = |i: usize| told[i].id.to_string();
    assert_eq!(ids, [id(0), id(0), id(0), id(1), id(2)]);
    assert!(hits[0].body == hits[1].body && hits[1].body == hits[2].body);
    bench.until("deliveries_total", &["delivered"], 3.0).await;
    assert_eq!(bench.value("attempts_total", &["5xx"]), 2.0);
    assert_eq!(bench.value("attempts_total", &["2xx"]), 3.0);
}

#[tokio::test]
async fn what_an_endpoint_does_not_want_is_given_up_and_too_many_requests_are_not() {
    let server = Server::start(|n| match n {
        0 => answer(410, ""),
        1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "2")], "").into_response(),
        _ => answer(200, ""),
    })
    .await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    bench.until("deliveries_total", &["on_drop", "rejected"], 1.0).await;
    bench.hooks.tell(&dropped("a")).await.unwrap();
    let hits = server.hits(3).await;
    assert_ne!(hits[0].header("x-weir-delivery"), hits[1].header("x-weir-delivery"));
    assert_eq!(hits[1].header("x-weir-delivery"), hits[2].header("x-weir-delivery"));
    assert!(hits[2].at - hits[1].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn many_events_of_many_streams_arrive_in_order_of_each() {
    let server = Server::start(|n| answer(if n % 17 == 3 { 503 } else { 200 }, "")).await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    let mut telling = tokio::task::JoinSet::new();
    for stream in 0..10 {
        let events: Vec<_> = (0..20).map(|_| dropped(&stream.to_string())).collect();
        told.insert(stream.to_string(), events.iter().map(|event| event.id.to_string()).collect());
        let hooks = bench.hooks.clone();
        telling.spawn(async move {
            for event in events {
                hooks.tell(&event).await.unwrap();
            }
        });
    }
    telling.join_all().await;
    bench.until("deliveries_total", &["delivered"], 200.0).await;
    let mut taken = std::collections::BTreeMap::<String, Vec<String>>::new();
    for hit in server.hits(200).await.iter().filter(|hit| hit.status == StatusCode::OK) {
        let event: Event = serde_json::from_slice(&hit.body).unwrap();
        taken.entry(event.stream.name).or_default().push(event.id.to_string());
    }
    assert_eq!(taken, told);
    assert_eq!(bench.value("queue_events", &[]), 0.0);
    assert_eq!(bench.value("queue_bytes", &[]), 0.0);
}

#[tokio::test]
async fn who_may_publish_is_what_all_endpoints_say() {
    let yes = Server::start(|_| answer(200, r#"{"allow": true}"#)).await;
    let no = Server::start(|n| match n {
        0 => answer(200, r#"{"allow": false, "reason": "no credit"}"#),
        _ => answer(403, ""),
    })
    .await;
    let bench = Bench::new(&config(vec![endpoint(yes.url())]));
    bench.hooks.admit(&event(Happening::OnPublish, "a")).await.unwrap();
    assert_eq!(yes.hits(1).await[0].header("x-weir-event"), "on_publish");
    bench.hooks.reload(&config(vec![endpoint(yes.url()), endpoint(no.url())])).await.unwrap();
    let refused = |why: &str| Err(Refused::ByHook(why.to_owned()));
    assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, refused("no credit"));
    assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, refused("refused"));
    assert_eq!(bench.value("admissions_total", &["on_publish", "allowed"]), 1.0);
    assert_eq!(bench.value("admissions_total", &["on_play", "refused"]), 2.0);
    assert_eq!(bench.value("queue_events", &[]), 0.0, "nothing of it is kept");
    bench.hooks.reload(&config(vec![])).await.unwrap();
    bench.hooks.admit(&event(Happening::OnPlay, "a")).await.unwrap();
}

#[tokio::test]
async fn where_there_is_no_answer_on_error_decides() {
    let broken = Server::start(|_| answer(500, r#"{"allow": true}"#)).await;
    let one =
        |on_error, url: &str| config(vec![Endpoint { on_error, admission_timeout_ms: 300, ..endpoint(url) }]);
    let (_port, nobody) = server::silent().await;
    let bench = Bench::new(&one(OnError::Refuse, &broken.url()));
    for url in [broken.url(), nobody] {
        bench.hooks.reload(&one(OnError::Refuse, &url)).await.unwrap();
        let began = Instant::now();
        assert_eq!(bench.hooks.admit(&event(Happening::OnPublish, "a")).await, Err(Refused::Unanswered));
        bench.hooks.reload(&one(OnError::Allow, &url)).await.unwrap();
        bench.hooks.admit(&event(Happening::OnPublish, "a")).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(bench.value("admissions_total", &["error_refused"]), 2.0);
    assert_eq!(bench.value("admissions_total", &["error_allowed"]), 2.0);
}

#[tokio::test]
async fn so_many_questions_at_once_and_no_more() {
    let (_port, nobody) = server::silent().await;
    let slow = Endpoint { admission_timeout_ms: 1_000, ..endpoint(nobody) };
    let bench = Bench::new(&Config { max_admissions: 3, ..config(vec![slow]) });
    let asked = (0..10).map(|_| async { bench.hooks.admit(&event(Happening::OnPlay, "a")).await });
    let answers = futures_util::future::join_all(asked).await;
    let count = |refused: Refused| answers.iter().filter(|answer| **answer == Err(refused.clone())).count();
    assert_eq!((count(Refused::Unanswered), count(Refused::Busy)), (3, 7));
    assert_eq!(bench.value("admissions_total", &["busy_refused"]), 7.0);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nobody_an_answer() {
    // Closes each connection after its first answer, without saying so beforehand.
    let server = server::raw(|mut stream, _| async move {
        server::read_request(&mut stream).await;
        server::write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    for _ in 0..20 {
        bench.hooks.admit(&event(Happening::OnPlay, "a")).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_keys_and_changes_nothing() {
    let server = Server::start(|_| answer(200, "")).await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    let wrong = config(vec![endpoint("ftp://example.com/")]);
    let error = bench.hooks.reload(&wrong).await.unwrap_err();
    assert!(error.to_string().starts_with("hooks: endpoints.0.url: expected"), "{error}");
    bench.hooks.tell(&dropped("a")).await.unwrap();
    server.hits(1).await;
    let folder = tempfile::tempdir().unwrap();
    let opened = Hooks::open(&wrong, folder.path(), &prometheus::Registry::new());
    assert!(matches!(opened, Err(Error::Config(_))));
}

#[tokio::test]
async fn an_event_that_is_too_long_or_has_to_be_asked_is_an_error() {
    let server = Server::start(|_| answer(200, "")).await;
    let bench = Bench::new(&config(vec![endpoint(server.url())]));
    assert!(matches!(bench.hooks.tell(&event(Happening::OnPlay, "a")).await, Err(Error::Asked("on_play"))));
    let mut long = event(Happening::OnStop, "a");
    long.params.insert("x".into(), "y".repeat(20_000));
    assert!(matches!(bench.hooks.tell(&long).await, Err(Error::TooLarge)));
    assert_eq!(bench.hooks.admit(&long).await, Err(Refused::TooLarge));
    assert_eq!(bench.value("dropped_total", &["too_large"]), 2.0);
}
