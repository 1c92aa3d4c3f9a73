//! One origin over HTTP.
//!
//! HTTP/1.1, by TLS if its URL says so, and a connection for each question that is open: a feed is endless and a blocking
//! reload waits for seconds, so over HTTP/2 they would share windows and the server's limit of streams, and queue behind
//! each other. Connections that are done are kept for the next.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use super::{Body, BoxError, Upstream};

/// Bytes of a response's head at most: that of an origin takes some hundred.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Header fields of a response at most.
const MAX_HEADERS: usize = 64;

/// Connections that wait for the next question, for each origin: as many as are answered at once in a busy moment.
const MAX_IDLE: usize = 256;

/// How long a connection waits for the next question. The other side closes its own later: an edge after
/// `edge.http.header_timeout_ms`, 10 s by default.
const IDLE: Duration = Duration::from_secs(5);

/// After how long an origin's machine that takes nothing, or says nothing on an idle connection, is given up by the
/// kernel: it may be gone without a word.
const DEAD: Duration = Duration::from_secs(10);

/// Why a URL can't be an origin's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url:?} is no origin; expected a URL such as http://10.0.0.1:8081 or https://origin.example:8081, without a path"
)]
pub struct OriginUrlError {
    url: String,
}

/// An origin's answer that can't be trusted to be whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer does not say how long it is")]
struct NoLength;

/// An origin that takes no connection, or does not finish the handshake.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct NoConnection(Duration);

/// Where an origin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OriginUrl {
    scheme: Scheme,
    authority: Authority,
}

impl OriginUrl {
    pub(super) fn parse(url: &str) -> Result<Self, OriginUrlError> {
        let bad = || OriginUrlError { url: url.to_owned() };
        let parts = url.parse::<Uri>().map_err(|_| bad())?.into_parts();
        let root = parts.path_and_query.is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if (scheme == Scheme::HTTP || scheme == Scheme::HTTPS)
                    && root
                    && !authority.as_str().contains('@')
                    && !authority.host().is_empty() =>
            {
                Ok(Self { scheme, authority })
            }
            _ => Err(bad()),
        }
    }

    /// How it is called: what each edge that asks it calls it, however it is configured.
    pub(super) fn name(&self) -> String {
        format!("{}://{}", self.scheme, self.authority.as_str().to_ascii_lowercase())
    }

    /// Whether it shows a certificate.
    pub(super) fn is_secure(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

/// What connects to an origin.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// Connections to origins.
#[derive(Clone)]
pub(super) struct Pool {
    kept: Client<Connector, Empty<Bytes>>,
    /// Begins a connection for each question.
    fresh: Client<Connector, Empty<Bytes>>,
}

impl Pool {
    /// `trust`: how origins that show a certificate are met.
    pub(super) fn new(connect_timeout: Duration, trust: ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(DEAD / 2));
        connector.set_keepalive_interval(Some(DEAD / 5));
        connector.set_keepalive_retries(Some(2));
        connector.set_tcp_user_timeout(Some(DEAD));
        let secure = HttpsConnectorBuilder::new()
            .with_tls_config(trust)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // The handshake included.
        let connector = Connector::new(service_fn(move |uri: Uri| {
            let connected = secure.clone().oneshot(uri);
            async move {
                let connected = tokio::time::timeout(connect_timeout, connected).await;
                connected.map_err(|_| NoConnection(connect_timeout))?
            }
        }));
        let client = |max_idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(max_idle)
                .http1_max_buf_size(MAX_HEAD_BYTES)
                .http1_max_headers(MAX_HEADERS)
                .build(connector.clone())
        };
        Self { kept: client(MAX_IDLE), fresh: client(0) }
    }

    /// An origin as a service. `bearer` goes with every question.
    pub(super) fn origin(&self, url: OriginUrl, bearer: Option<HeaderValue>) -> Upstream {
        let pool = self.clone();
        Upstream::new(service_fn(move |request: Request<()>| {
            let (pool, url, bearer) = (pool.clone(), url.clone(), bearer.clone());
            async move { pool.ask(url, bearer, request).await }
        }))
    }

    async fn ask(
        self,
        url: OriginUrl,
        bearer: Option<HeaderValue>,
        request: Request<()>,
    ) -> Result<Response<Body>, BoxError> {
        let (mut head, ()) = request.into_parts();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(url.scheme);
        uri.authority = Some(url.authority);
        uri.path_and_query =
            head.uri.path_and_query().cloned().or_else(|| Some(PathAndQuery::from_static("/")));
        head.uri = Uri::from_parts(uri)?;
        if let Some(bearer) = bearer {
            head.headers.insert(AUTHORIZATION, bearer);
        }
        let again = Request::from_parts(head.clone(), Empty::new());
        let response = match self.kept.request(Request::from_parts(head, Empty::new())).await {
            // The other end may have closed a connection that was kept, or somebody in between one that waited: that says
            // nothing of the origin yet. One that closes a new one, too, has failed.
            Err(error) if is_unanswered(&error) => self.fresh.request(again).await?,
            answered => answered?,
        };
        // Such a body ends with its connection: nobody could tell the end from a break.
        let bounded = response.body().size_hint().exact().is_some()
            || response.headers().contains_key(TRANSFER_ENCODING);
        if !bounded {
            return Err(NoLength.into());
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// Whether a connection broke after the question was put, and before its answer. To ask again is safe: all questions are
/// GET or HEAD.
fn is_unanswered(error: &hyper_util::client::legacy::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    !error.is_connect()
        && cause.is_some_and(|cause| {
            cause.is_incomplete_message()
                || cause.is_canceled()
                || cause.is_closed()
                || cause.source().is_some_and(|cause| cause.is::<io::Error>())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_host_and_a_port() {
        for (url, name) in [
            ("http://10.0.0.1:8081", "http://10.0.0.1:8081"),
            ("http://Origin.example:8081/", "http://origin.example:8081"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("https://Origin.example:8081", "https://origin.example:8081"),
        ] {
            assert_eq!(OriginUrl::parse(url).unwrap().name(), name);
        }
        for url in [
            "",
            "10.0.0.1:8081",
            "https://",
            "ftp://a",
            "http://",
            "http://a/x",
            "http://a/?x",
            "http://me@a:1",
            "/a",
            "*",
        ] {
            assert!(OriginUrl::parse(url).is_err(), "{url}");
        }
    }
}
