//! An endpoint that can be asked: one signed POST, within one deadline, with a bounded answer.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::address::Allowed;
use super::config::{Endpoint, OnError, parse_url};
use super::connect::{ConnectError, Connector, Resolve};
use super::event::{EventId, EventKind, now_ms};
use super::seldom::Seldom;
use super::sign::Signer;

/// Bytes of an answer that are read. What is said with it takes some hundred.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of an answer's head at most.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Header fields of an answer at most.
const MAX_HEADERS: usize = 64;

/// Connections that wait for the next event.
const MAX_IDLE: usize = 4;

/// For how long they do: shorter than servers keep theirs, so that an event rarely meets one that was just closed.
const IDLE: Duration = Duration::from_secs(4);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));

/// What is POSTed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) kind: EventKind,
    pub(super) id: EventId,
    /// JSON.
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// In how long the endpoint wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// `None` if it is longer than what is read, broke off or did not come in time.
    pub(super) body: Option<Bytes>,
}

/// Why nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not in time.
    Late,
    /// The URL's host has no address.
    Name,
    /// It has none that a hook may lead to.
    Address,
    /// Nobody is there, or the handshake failed.
    Connect,
    /// The connection was there and broke, or what came is not HTTP.
    Broken,
}

impl Failure {
    /// For metrics and the log.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Late => "timeout",
            Self::Name => "name",
            Self::Address => "address_refused",
            Self::Connect => "connect",
            Self::Broken => "broken",
        }
    }
}

/// Names an endpoint in the journal: a hash of its URL, which may have secrets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndpointId(pub(super) u64);

impl EndpointId {
    pub(super) fn of(url: &str) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(url.as_bytes());
        let head = digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        Self(head)
    }
}

type Https = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// What all targets share.
#[derive(Debug, Clone)]
pub(super) struct Reaching {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) allowed: Arc<Allowed>,
    pub(super) tls: ClientConfig,
}

/// An endpoint that can be asked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: EndpointId,
    /// How it is called in the log and in metrics: its host and port, since a path may be a secret.
    pub(super) name: String,
    pub(super) events: Vec<EventKind>,
    pub(super) timeout: Duration,
    pub(super) admission_timeout: Duration,
    pub(super) on_error: OnError,
    /// Lines about it.
    pub(super) unanswered: Seldom,
    pub(super) rejecting: Seldom,
    uri: Uri,
    signer: Signer,
    client: Client<Https, Full<Bytes>>,
}

impl Target {
    /// Of a configuration that was checked; `None` if it was not.
    pub(super) fn new(endpoint: &Endpoint, reaching: &Reaching) -> Option<Self> {
        let uri = parse_url(&endpoint.url)?;
        let timeout = Duration::from_millis(endpoint.timeout_ms);
        let admission_timeout = Duration::from_millis(endpoint.admission_timeout_ms);
        Some(Self {
            id: EndpointId::of(&endpoint.url),
            name: uri.authority()?.to_string(),
            events: endpoint.events.clone(),
            timeout,
            admission_timeout,
            on_error: endpoint.on_error,
            unanswered: Seldom::default(),
            rejecting: Seldom::default(),
            signer: Signer::new(&endpoint.secret)?,
            client: client(reaching, timeout.max(admission_timeout)),
            uri,
        })
    }

    pub(super) fn listens_to(&self, kind: EventKind) -> bool {
        self.events.contains(&kind)
    }

    /// Sends a message once and reads the answer. The deadline is for all of it: name, connection, TLS, head and body.
    pub(super) async fn post(&self, message: &Message, deadline: Instant) -> Result<Answer, Failure> {
        let request = self.request(message).ok_or(Failure::Broken)?;
        let answered = timeout_at(deadline, self.client.request(request)).await.map_err(|_| Failure::Late)?;
        let (head, body) = answered.map_err(|error| failure(&error))?.into_parts();
        let body = timeout_at(deadline, read(body)).await.unwrap_or(None);
        Ok(Answer { status: head.status, retry_after: retry_after(&head.headers), body })
    }

    fn request(&self, message: &Message) -> Option<Request<Full<Bytes>>> {
        let signature = self.signer.sign(now_ms() / 1000, &message.body);
        Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, AGENT)
            .header("x-weir-event", HeaderValue::from_static(message.kind.name()))
            .header("x-weir-delivery", message.id.to_string())
            .header("x-weir-signature", signature)
            .body(Full::new(message.body.clone()))
            .ok()
    }
}

fn client(reaching: &Reaching, within: Duration) -> Client<Https, Full<Bytes>> {
    let plain = Connector::new(Arc::clone(&reaching.resolver), Arc::clone(&reaching.allowed), within);
    let plain = service_fn(move |uri: Uri| plain.clone().connect(uri));
    let secure = HttpsConnectorBuilder::new()
        .with_tls_config(reaching.tls.clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain);
    // The client goes on with a connection that it no longer needs: it must not do that for ever.
    let bounded = service_fn(move |uri: Uri| {
        let connected = secure.clone().oneshot(uri);
        async move { tokio::time::timeout(within, connected).await.map_err(|_| ConnectError::Late)? }
    });
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .build(Https::new(bounded))
}

/// The body, if it is no longer than what is read. One that is longer is left, and with it its connection.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if read.len() + data.len() > MAX_ANSWER_BYTES {
            return None;
        }
        read.extend_from_slice(&data);
    }
    Some(read.freeze())
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What kind of failure it is: our own connector's errors stand somewhere below the client's.
fn failure(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return match error {
                ConnectError::Resolve(_) => Failure::Name,
                ConnectError::Refused(_) => Failure::Address,
                ConnectError::Connect(_) => Failure::Connect,
                ConnectError::Late => Failure::Late,
            };
        }
        cause = error.source();
    }
    if error.is_connect() { Failure::Connect } else { Failure::Broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = of(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60))).unwrap();
        assert!((58..=60).contains(&soon.as_secs()), "{soon:?}");
        for nothing in ["", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn an_endpoint_is_known_by_its_url() {
        assert_eq!(EndpointId::of("http://a/"), EndpointId::of("http://a/"));
        assert_ne!(EndpointId::of("http://a/"), EndpointId::of("http://a/b"));
    }
}
