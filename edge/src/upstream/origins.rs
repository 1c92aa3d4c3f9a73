//! Several origins as one upstream.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tower::service_fn;

use super::body::Watched;
use super::client::{OriginUrl, OriginUrlError, Pool};
use super::found::Found;
use super::health::Health;
use super::question::{Kind, Question};
use super::race::{ABSENT, Answer, Error, Outcome, race};
use super::rendezvous::score;
use super::trust::{TrustError, client};
use super::{Body, BoxError, GivenBy, Giver, Unreachable, Upstream, ask};
use crate::config::UpstreamConfig;
use crate::http::problem;
use crate::negative::Absent;

/// How long the first origin has for the first byte before a second one is asked, too.
const HEDGE_AFTER: Duration = Duration::from_millis(200);

/// How long an answer to a question that may wait for media takes at most: the origin's own limit is three target
/// durations (RFC 8216bis §6.2.5.2), of 10 s at most each.
const PATIENCE: Duration = Duration::from_secs(32);

/// How long after a stream was last had its HLS is "not there at the moment" when no origin knows it, as if none could be
/// reached: one that was started anew knows nothing until the encoder is back, and players take a 404 for the end.
const RETURN: Duration = Duration::from_secs(15);

/// How long it is remembered that those origins that can be asked don't have something, while others can't be asked or it
/// may return. It is no absence, so viewers are told 503, and no cache keeps that; but who asks for it again and again shall
/// not have it asked upstream each time. Once a second would do for that; what comes to be on another origin, or comes back
/// with its own, is to be found at once.
const AWAY: Duration = Duration::from_millis(250);

/// Why origins can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// What is no URL of an origin.
    #[error(transparent)]
    Url(#[from] OriginUrlError),
    /// Whose certificates are believed can't be told.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Chooses among origins. Clones are the same.
#[derive(Clone)]
pub struct Origins(Arc<Inner>);

struct Inner {
    set: ArcSwap<Set>,
    found: Found,
    /// What nobody has who can be asked.
    away: Absent,
    metrics: Metrics,
}

/// What a configuration makes.
struct Set {
    origins: Vec<Arc<Origin>>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    first_byte: Duration,
    stall: Duration,
}

struct Origin {
    name: Arc<str>,
    /// Of its name: what is remembered of where a stream was.
    id: u64,
    service: Upstream,
    health: Mutex<Health>,
    /// Whoever holds it finds out whether the origin answers at all; when it last was found not to.
    probe: tokio::sync::Mutex<Option<Instant>>,
    requests: IntCounter,
    failures: IntCounter,
    hedges: IntCounter,
    up: IntGauge,
}

struct Metrics {
    requests: IntCounterVec,
    failures: IntCounterVec,
    hedges: IntCounterVec,
    up: IntGaugeVec,
}

impl Origins {
    /// The origins of a configuration.
    pub fn new(config: &UpstreamConfig) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let metrics = Metrics::new()?;
        let set = ArcSwap::from_pointee(Set::connect(config, &metrics)?);
        Ok(Self::over(set, metrics))
    }

    fn over(set: ArcSwap<Set>, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { set, found: Found::new(), away: Absent::new(AWAY), metrics }))
    }

    /// Whether that is an origin's URL.
    pub fn check(url: &str) -> Result<(), OriginUrlError> {
        OriginUrl::parse(url).map(drop)
    }

    /// Those of another one from now on. What is under way goes on.
    pub fn replace(&self, config: &UpstreamConfig) -> Result<(), UpstreamError> {
        self.0.set.store(Arc::new(Set::connect(config, &self.0.metrics)?));
        Ok(())
    }

    /// Puts their metrics (`weir_edge_origin_…`) into `registry`.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let Metrics { requests, failures, hedges, up } = &self.0.metrics;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(hedges.clone()))?;
        registry.register(Box::new(up.clone()))
    }

    /// A stream is at that origin, which is asked for it first. Whether it is one of them.
    pub fn point(&self, stream: &str, url: &str) -> bool {
        let Ok(url) = OriginUrl::parse(url) else { return false };
        let name = url.name();
        let set = self.0.set.load();
        let origin = set.origins.iter().find(|origin| *origin.name == *name);
        if let Some(origin) = origin {
            self.0.found.point(stream, origin.id, now());
        }
        origin.is_some()
    }

    /// All of them as one.
    pub fn service(&self) -> Upstream {
        let inner = Arc::clone(&self.0);
        Upstream::new(service_fn(move |request| {
            let inner = Arc::clone(&inner);
            async move { Ok::<_, BoxError>(inner.answer(request).await) }
        }))
    }

    #[cfg(test)]
    pub(crate) fn of(services: Vec<(&str, Upstream)>, first_byte: Duration, stall: Duration) -> Self {
        let metrics = Metrics::new().expect("metrics");
        let origin = |(name, service): (&str, _)| Arc::new(Origin::new(name.to_owned(), service, &metrics));
        let origins = services.into_iter().map(origin).collect();
        let set = ArcSwap::from_pointee(Set { origins, limits: Limits { first_byte, stall } });
        Self::over(set, metrics)
    }
}

impl Set {
    fn connect(config: &UpstreamConfig, metrics: &Metrics) -> Result<Self, UpstreamError> {
        let urls: Vec<OriginUrl> =
            config.origins.iter().map(|url| OriginUrl::parse(url)).collect::<Result<_, _>>()?;
        let trust = client(urls.iter().any(OriginUrl::is_secure), config.ca.as_deref())?;
        let pool = Pool::new(Duration::from_millis(config.connect_timeout_ms), trust);
        let bearer = config.key.as_ref().and_then(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let origins = urls.into_iter().map(|url| {
            let name = url.name();
            Arc::new(Origin::new(name, pool.origin(url, bearer.clone()), metrics))
        });
        let limits = Limits {
            first_byte: Duration::from_millis(config.first_byte_timeout_ms),
            stall: Duration::from_millis(config.stall_timeout_ms),
        };
        Ok(Self { origins: origins.collect(), limits })
    }

    /// In the order in which they are asked for a stream: where it was found, then by preference; those that fail last.
    fn order(&self, stream: &str, found: Option<u64>) -> Vec<Arc<Origin>> {
        let mut order = self.origins.clone();
        order.sort_by_cached_key(|origin| {
            let failing = !origin.is_good();
            let elsewhere = found.is_some_and(|found| found != origin.id);
            (failing, elsewhere, std::cmp::Reverse(score(&origin.name, stream)))
        });
        order
    }
}

impl Inner {
    async fn answer(&self, request: Request<()>) -> Response<Body> {
        let question = Question::of(request.uri());
        let name = request.uri().path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
        let beside = request.extensions().get::<Giver>().copied();
        if beside.is_none() && self.away.get(name, now()).is_some() {
            return unreachable();
        }
        let set = self.set.load_full();
        let found = self.found.get(question.stream, now());
        let mut order = set.order(question.stream, found.map(|(origin, _)| origin));
        order.retain(|origin| beside.is_none_or(|Giver(id)| origin.id != id));
        // A stream may have moved, which is found out by playlists and feeds.
        let of_media = matches!(question.kind, Kind::Object | Kind::Part);
        let knows =
            found.filter(|_| of_media).and_then(|(id, _)| order.iter().position(|origin| origin.id == id));
        // Who lost the stream, and does not know it, is not asked how it goes on.
        let only = self.found.only(question.stream, now()).filter(|_| !of_media && beside.is_none());
        let only =
            only.and_then(|id| order.iter().find(|origin| origin.id == id && origin.is_good()).cloned());
        let mut outcome = match &only {
            Some(only) => self.ask(std::slice::from_ref(only), &request, &question, None, set.limits).await,
            None => self.ask(&order, &request, &question, knows, set.limits).await,
        };
        if let (Some(only), Outcome::Absent(_) | Outcome::Unreachable) = (&only, &outcome) {
            // It has it no more.
            self.found.leave(question.stream, only.id, now());
            outcome = self.ask(&order, &request, &question, knows, set.limits).await;
        } else if let Some(only) = only {
            order = vec![only];
        }
        match outcome {
            Outcome::Answer(at, mut response) => {
                if let (true, Some(origin)) = (response.status().is_success(), order.get(at)) {
                    self.found.insert(question.stream, origin.id, now());
                    if question.kind == Kind::Relay {
                        response.extensions_mut().insert(GivenBy(Arc::clone(&origin.name)));
                    }
                    if set.origins.len() > 1 {
                        response.extensions_mut().insert(Giver(origin.id));
                    }
                }
                response
            }
            Outcome::Absent(response)
                if question.kind == Kind::Relay
                    || !response.headers().contains_key(ABSENT)
                    || found.is_none_or(|(_, ago)| ago >= RETURN) =>
            {
                response
            }
            Outcome::Trouble(response) => response,
            Outcome::Absent(_) | Outcome::Away => {
                if beside.is_none() {
                    self.away.insert(name, 0, now());
                }
                unreachable()
            }
            // Each has been left alone for a while.
            Outcome::Unreachable => unreachable(),
        }
    }
}

impl Inner {
    async fn ask(
        &self,
        order: &[Arc<Origin>],
        request: &Request<()>,
        question: &Question<'_>,
        knows: Option<usize>,
        limits: Limits,
    ) -> Outcome {
        race(
            order.len(),
            (!question.waits()).then_some(HEDGE_AFTER),
            knows,
            |at| match order.get(at) {
                Some(origin) => Arc::clone(origin).ask(copy(request), question.may_wait(), limits),
                None => std::future::pending().boxed(),
            },
            |at| order.get(at).into_iter().for_each(|origin| origin.hedges.inc()),
        )
        .await
    }
}

fn unreachable() -> Response<Body> {
    let detail = "the stream's origin can't be reached at the moment";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    response.extensions_mut().insert(Unreachable);
    response
}

impl Origin {
    fn new(name: String, service: Upstream, metrics: &Metrics) -> Self {
        let label = [name.as_str()];
        let up = metrics.up.with_label_values(&label);
        up.set(1);
        Self {
            // The same before and after a change of the configuration, and nothing else needs to know it.
            id: score(&name, ""),
            requests: metrics.requests.with_label_values(&label),
            failures: metrics.failures.with_label_values(&label),
            hedges: metrics.hedges.with_label_values(&label),
            up,
            name: name.into(),
            service,
            health: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it answers, as far as is known.
    fn is_good(&self) -> bool {
        self.health.lock().is_good()
    }

    /// Its answer, whose first byte comes in time; if it `may_wait` for media, as long as the origin answers others.
    fn ask(
        self: Arc<Self>,
        request: Request<()>,
        may_wait: bool,
        limits: Limits,
    ) -> BoxFuture<'static, Answer> {
        async move {
            let origin = || Arc::clone(&self.name);
            if !self.health.lock().admit(now(), random()) {
                return Err(Error::Failed { origin: origin(), error: "it failed a moment ago".into() });
            }
            self.requests.inc();
            let limit = if may_wait { PATIENCE } else { limits.first_byte };
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout(limit, ask(&self.service, request)) => answer.map_err(|_| limit),
                () = self.hung(limits.first_byte), if may_wait => Err(limits.first_byte),
            };
            let error = match answer {
                Ok(Ok(response)) if response.status() == StatusCode::UNAUTHORIZED => {
                    Error::Refused { origin: origin() }
                }
                Ok(Ok(response)) => {
                    self.heard();
                    if response.status().is_server_error() {
                        self.failures.inc();
                    }
                    return Ok(response.map(|body| {
                        Watched::new(body, origin(), limits.stall, self.failures.clone()).boxed_unsync()
                    }));
                }
                Ok(Err(error)) => Error::Failed { origin: origin(), error },
                Err(limit) => Error::Late { origin: origin(), limit },
            };
            self.failed(&error);
            Err(error)
        }
        .boxed()
    }

    /// Resolves when the origin does not even answer what waits for nothing. While others have answers from it, it is not
    /// asked; and of all who wait for it, one asks.
    async fn hung(&self, first_byte: Duration) {
        let patience = first_byte / 2;
        loop {
            tokio::time::sleep(patience).await;
            let began = now();
            let mut hung = self.probe.lock().await;
            if hung.is_some_and(|at| at >= began) {
                return;
            }
            if !self.health.lock().is_silent(patience, now()) {
                continue;
            }
            self.requests.inc();
            match tokio::time::timeout(first_byte, ask(&self.service, anything())).await {
                // Whatever it says.
                Ok(Ok(_)) => self.health.lock().spoke(now()),
                Ok(Err(_)) | Err(_) => {
                    *hung = Some(now());
                    return;
                }
            }
        }
    }

    fn heard(&self) {
        let mut health = self.health.lock();
        if !health.is_good() {
            tracing::info!(origin = %self.name, "origin answers again");
        }
        health.answered(now());
        self.up.set(1);
    }

    fn failed(&self, error: &Error) {
        self.failures.inc();
        let mut health = self.health.lock();
        if health.is_good() {
            // A line when the trouble begins, not for each question.
            tracing::warn!(%error, "origin fails");
        }
        health.failed(now(), random());
        self.up.set(0);
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str| {
            IntCounterVec::new(Opts::new(format!("weir_edge_origin_{name}_total"), help), &["origin"])
        };
        Ok(Self {
            requests: counters("requests", "Requests to an origin")?,
            failures: counters("failures", "Requests that an origin did not answer as it should")?,
            hedges: counters("hedges", "Requests to an origin because another one took long")?,
            up: IntGaugeVec::new(
                Opts::new("weir_edge_origin_up", "Whether the origin answered when it was last asked"),
                &["origin"],
            )?,
        })
    }
}

/// The same question once more.
fn copy(request: &Request<()>) -> Request<()> {
    let mut again = Request::new(());
    *again.method_mut() = Method::GET;
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}

/// A question that an origin, and an edge before origins, answers from what it has itself.
fn anything() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = Uri::from_static("/");
    request
}

/// The time, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Below 1. Each `RandomState` is keyed anew.
fn random() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}
