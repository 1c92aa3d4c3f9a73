//! The listener that edges in other processes connect to: the origin's service behind a key, and beside it what is for
//! people and programs (the API), which has rules of its own. By TLS if it has a certificate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_api::Secret;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::{Body, BoxError, problem};
use crate::Origin;
use crate::config::HttpConfig;
use crate::http::Service;
use crate::ingest::whip::is_whip;
use crate::metrics::Metrics;

/// What is not for edges: requests below [`PAGES`]. The peer's [`SocketAddr`] is among a request's extensions.
pub type Pages = BoxCloneSyncService<Request<UnsyncBoxBody<Bytes, BoxError>>, Response<Body>, BoxError>;

/// The first path segment of what is not for edges.
const PAGES: &str = "/api/";

/// How long an edge has for a request's head, and how long an idle connection is kept: longer than edges keep theirs, so
/// that none is closed just when it is used.
const IDLE: Duration = Duration::from_secs(60);

/// How long an edge's machine may take nothing of what is sent to it before the kernel gives it up.
const STALL: Duration = Duration::from_secs(30);

/// How long an edge has for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted, for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves edges, by TLS alone if `tls` says how, until `drain` completes, then until their connections have ended: feeds do
/// when their streams do. Dropping the future closes them.
pub async fn serve(
    origin: &Origin,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    pages: Option<Pages>,
    drain: impl Future<Output = ()>,
) {
    let config: &HttpConfig = &origin.config().http;
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let gate = Gate {
        service: origin.service(),
        tls: tls.map(TlsAcceptor::from),
        key: config.key.clone().map(Arc::new),
        pages,
        metrics: origin.metrics().clone(),
    };
    let (draining, drained) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut drain = std::pin::pin!(drain);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut drain => break,
        };
        // The semaphore is never closed.
        let Ok(slot) = slot else { break };
        match accepted {
            Ok((socket, peer)) => {
                connections.spawn(gate.clone().connection(socket, peer, slot, drained.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection of an edge can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    draining.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Who may ask what.
#[derive(Clone)]
struct Gate {
    service: Service,
    tls: Option<TlsAcceptor>,
    key: Option<Arc<Secret>>,
    pages: Option<Pages>,
    metrics: Metrics,
}

impl Gate {
    async fn connection(
        self,
        socket: TcpStream,
        peer: SocketAddr,
        _slot: OwnedSemaphorePermit,
        drained: watch::Receiver<bool>,
    ) {
        // A frame is to leave at once.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_user_timeout(Some(STALL));
        let Some(tls) = self.tls.clone() else { return self.requests(socket, peer, drained).await };
        match tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await {
            Ok(Ok(socket)) => self.requests(socket, peer, drained).await,
            Ok(Err(error)) => {
                self.metrics.http_handshake_failures.inc();
                tracing::warn!(%peer, %error, "the TLS handshake with an edge failed");
            }
            Err(_) => self.metrics.http_handshake_failures.inc(),
        }
    }

    async fn requests<S>(self, socket: S, peer: SocketAddr, mut drained: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answers = service_fn(move |request| {
            let gate = self.clone();
            async move { Ok::<_, Infallible>(gate.answer(request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(socket), answers);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = async { drop(drained.wait_for(|drained| *drained).await) } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "an edge's connection ended");
        }
    }

    async fn answer(self, mut request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let path = request.uri().path();
        if (path.starts_with(PAGES) || is_whip(path))
            && let Some(pages) = self.pages
        {
            request.extensions_mut().insert(peer);
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            return ask(pages, request).await.unwrap_or_else(|error| {
                tracing::warn!(error, "the API failed");
                problem(StatusCode::BAD_GATEWAY, "the API can't be had at the moment")
            });
        }
        if self.key.is_some_and(|key| !key.is_borne_by(request.headers())) {
            self.metrics.http_refusals.inc();
            tracing::warn!(%peer, "refused: its key (`edge.upstream.key`) is missing or is not `origin.http.key`");
            let mut response = problem(StatusCode::UNAUTHORIZED, "this is for edges, and needs their key");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        self.service.oneshot(request.map(drop)).await.unwrap_or_else(|error| {
            tracing::warn!(error, "the origin failed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the origin failed")
        })
    }
}

/// A future of a known type, which may be sent between threads.
fn ask(
    pages: Pages,
    request: Request<UnsyncBoxBody<Bytes, BoxError>>,
) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
    pages.oneshot(request).boxed()
}
