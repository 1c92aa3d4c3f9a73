//! One HTTP connection: HTTP/1.1 or HTTP/2, until it ends, idles, stalls, the server drains, or a shard takes it over.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use control_api::trace::Span;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::header::ALT_SVC;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{SetOnce, watch};
use tokio::time::Instant;

use super::at_once::at_once;
use super::calm::Calm;
use super::handler::handle;
use super::head_timer::HeadTimer;
use super::opening::opening;
use super::progress::Progress;
use super::tls::{Secured, Tls};
use super::watched::counted;
use super::{Shared, Wire};
use crate::feed::Viewer;
use crate::guard::{Record, Seat, Standing, Who};
use crate::places::Place;
use crate::shard::{Arrival, Guest, Leave, Link, Protocol, Transport, Window};
use crate::socket::Socket;
use crate::upstream::{Body, BoxError};

/// A request's head, and what is buffered of a response: small, since live bytes are shared and wait in
/// their ring.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// HTTP/2 requests at once on a connection: players have a handful.
const MAX_HTTP2_STREAMS: u32 = 64;

/// An HTTP/2 request's head.
const MAX_HTTP2_HEAD_BYTES: u32 = 16 * 1024;

/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// What requests know of their connection, and leave there.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    requests: AtomicU64,
    stalled: Arc<AtomicBool>,
    /// A viewer that is to be served on the bare socket.
    departure: Mutex<Option<Departure>>,
    /// Requests over HTTP/2 and HTTP/3 whose answer was not taken yet. At most as many as there may be at once.
    streams: Mutex<Vec<Weak<Progress>>>,
    /// The first request came over HTTP/2 or HTTP/3.
    multiplexed: SetOnce<()>,
    /// Where the same is to be had over HTTP/3.
    alt_svc: Option<HeaderValue>,
    /// It is encrypted.
    secure: bool,
    /// Of HTTP/1.
    wire: Arc<Wire>,
    drain: Option<watch::Receiver<bool>>,
}

/// Why and how a connection is taken out of HTTP's hands: a live response is for a shard.
pub(super) struct Departure {
    /// The response's, as it goes out.
    pub(super) head: Bytes,
    pub(super) viewer: Viewer,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) window: Window,
    /// When the viewer's grant expires.
    pub(super) until: Option<std::time::Instant>,
    pub(super) seat: Seat,
    pub(super) notes: Notes,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, tls: Option<&Tls>, drain: Option<watch::Receiver<bool>>) -> Self {
        Self {
            peer,
            wire: Arc::default(),
            drain,
            secure: tls.is_some(),
            alt_svc: tls.and_then(Tls::alt_svc),
            requests: AtomicU64::new(0),
            stalled: Arc::default(),
            departure: Mutex::default(),
            streams: Mutex::default(),
            multiplexed: SetOnce::new(),
        }
    }

    /// A request was read.
    fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A request begins.
    pub(super) fn begin(&self, version: Version) -> Arc<Progress> {
        self.asked();
        let progress = Arc::new(Progress::new());
        if version < Version::HTTP_2 {
            return progress;
        }
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&progress));
        // Only the first time is news.
        let _ = self.multiplexed.set(());
        progress
    }

    /// Says in an answer where the same is to be had over HTTP/3.
    pub(super) fn advertise(&self, headers: &mut HeaderMap) {
        if let Some(alt_svc) = &self.alt_svc {
            headers.insert(ALT_SVC, alt_svc.clone());
        }
    }

    /// The viewer is to be served on the bare socket. The request is answered by nobody else.
    pub(super) fn take_out(&self, departure: Departure) {
        *self.departure.lock() = Some(departure);
    }

    /// Whose request came here.
    pub(super) fn who(&self, peer: SocketAddr) -> Who {
        let standing = Standing { stalled: Arc::clone(&self.stalled), drain: self.drain.clone() };
        Who { peer, tls: self.secure, standing }
    }

    /// A response is to be logged once it has left, or has broken off.
    pub(super) async fn note(
        &self,
        record: Record,
        progress: &Progress,
        response: Response<Body>,
        (version, is_head): (Version, bool),
    ) -> Response<Body> {
        if version < Version::HTTP_2 {
            self.wire.settled().await;
            return response.map(|body| self.wire.begin(record, body, is_head));
        }
        progress.note(record);
        response
    }

    /// The client took nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Resolves when a body has not been asked for more for too long, though there is more.
    pub(super) async fn stuck_stream(&self, max_stall: Duration) {
        self.multiplexed.wait().await;
        loop {
            tokio::time::sleep(max_stall / 2).await;
            let stuck = |stream: &Weak<Progress>| stream.upgrade().is_some_and(|s| s.is_stuck(max_stall));
            if self.streams.lock().iter().any(stuck) {
                self.stalled.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Resolves when nothing was asked for over HTTP/2 or HTTP/3 for that long, nor anything still answered. Between requests
    /// of HTTP/1.1, hyper waits no longer than for a head.
    pub(super) async fn idle(&self, limit: Duration) {
        self.multiplexed.wait().await;
        loop {
            let before = self.at_rest();
            tokio::time::sleep(limit).await;
            if before.is_some() && before == self.at_rest() {
                return;
            }
        }
    }

    /// How many requests there were, if none is in progress.
    fn at_rest(&self) -> Option<u64> {
        let streams = self.streams.lock();
        let rests = streams.iter().all(|stream| stream.strong_count() == 0);
        rests.then(|| self.requests.load(Ordering::Relaxed))
    }

    /// Resolves when the first request did not come in time.
    pub(super) async fn no_request(&self, asked_by: Instant) {
        tokio::time::sleep_until(asked_by).await;
        if self.requests.load(Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves a connection to its end, or until it is a shard's.
pub(super) async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    tls: Option<Arc<Tls>>,
    drain: watch::Receiver<bool>,
) {
    let connection = Arc::new(Connection::new(peer, tls.as_deref(), Some(drain.clone())));
    let served = match tls {
        None => serve_http(&shared, socket, &connection, drain).await,
        Some(tls) => serve_https(&shared, &tls, socket, &connection, drain).await,
    };
    let Taken { io: link, said, departure } = match served {
        Ok(Some(taken)) => taken,
        Ok(None) => return,
        Err(cut) => return tracing::debug!(%peer, reason = %cut, "connection cut"),
    };
    let Departure { head, viewer, mut protocol, window, until, seat, notes } = departure;
    if !said.is_empty() {
        protocol.input(std::time::Instant::now(), &said);
    }
    shared.shards.admit(Arrival {
        link,
        transport: Transport::Http,
        head,
        viewer: Some(viewer),
        protocol,
        window,
        until,
        guard: Box::new(Visit { _place: place, _seat: seat, notes }),
    });
}

/// What is noted of a viewer: its line in the access log, and its span until it was sent something.
pub(super) struct Notes {
    pub(super) record: Option<Record>,
    pub(super) play: Option<Span>,
}

/// A viewer's places, until it has left.
struct Visit {
    _place: Place,
    _seat: Seat,
    notes: Notes,
}

impl Guest for Visit {
    fn begun(&mut self) {
        self.notes.play = None;
    }

    fn so_far(&mut self, bytes: u64) {
        if let Some(record) = &mut self.notes.record {
            record.so_far(bytes);
        }
    }

    fn left(self: Box<Self>, bytes: u64, why: Leave) {
        if let Some(record) = self.notes.record {
            record.left(bytes, why);
        }
    }
}

/// What was taken out of HTTP's hands.
struct Taken<S> {
    io: S,
    /// What the client had said behind its request.
    said: Bytes,
    departure: Departure,
}

/// Serves HTTP/2 on what needs not be a socket.
#[cfg(test)]
pub(crate) async fn serve_pipe<S>(shared: Arc<Shared>, io: S, peer: SocketAddr, drain: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(Connection::new(peer, None, None));
    let max_stall = Duration::from_millis(shared.config.write_stall_ms);
    let sent = shared.metrics.sent_bytes.clone();
    let socket = Socket::new(io, max_stall, Arc::clone(&connection.stalled), sent);
    // However it ends, the client sees it.
    let _ = serve_http2(&shared, socket, &connection, asked_by(&shared), drain).await;
}

/// Why a connection did not end by itself.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("no request in time")]
    NoRequest,
    #[error("idle, and did not leave when told to")]
    Idle,
    #[error("a stream was not taken")]
    Stuck,
    #[error("frames that ask for nothing, without end")]
    Flood,
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Socket(#[from] io::Error),
}

async fn serve_http(
    shared: &Arc<Shared>,
    socket: TcpStream,
    connection: &Arc<Connection>,
    mut drain: watch::Receiver<bool>,
) -> Result<Option<Taken<Link>>, Cut> {
    let asked_by = asked_by(shared);
    let (version, io) = tokio::select! {
        opening = tokio::time::timeout_at(asked_by, opening(socket)) => opening.map_err(|_| Cut::NoRequest)??,
        _ = drain.wait_for(|drain| *drain) => return Ok(None),
    };
    let socket = watched_socket(shared, io, connection);
    if version == Version::HTTP_2 {
        serve_http2(shared, socket, connection, asked_by, drain).await?;
        return Ok(None);
    }
    let unsent = socket.unsent();
    let taken = serve_http1(shared, socket, &unsent, connection, asked_by, drain).await?;
    let Some(Taken { io, said, departure }) = taken else { return Ok(None) };
    let (unread, socket) = io.into_inner().into_parts();
    // What hyper has read comes before what it has not.
    let said = if unread.is_empty() { said } else { [said, unread].concat().into() };
    Ok(Some(Taken { io: Link::plain(socket.into_std()?), said, departure }))
}

/// When the first request is to be there.
fn asked_by(shared: &Shared) -> Instant {
    Instant::now() + Duration::from_millis(shared.config.header_timeout_ms)
}

async fn serve_https(
    shared: &Arc<Shared>,
    tls: &Tls,
    socket: TcpStream,
    connection: &Arc<Connection>,
    drain: watch::Receiver<bool>,
) -> Result<Option<Taken<Link>>, Cut> {
    let socket = watched_socket(shared, socket, connection);
    let unsent = socket.unsent();
    let Secured { io, http2 } = tls.accept(socket, &shared.metrics).await.map_err(Cut::Handshake)?;
    if http2 {
        serve_http2(shared, io, connection, asked_by(shared), drain).await?;
        return Ok(None);
    }
    let taken = serve_http1(shared, io, &unsent, connection, asked_by(shared), drain).await?;
    let Some(Taken { io, said, departure }) = taken else { return Ok(None) };
    let (socket, tls) = io.into_inner();
    Ok(Some(Taken { io: Link::sealed(socket.into_inner().into_std()?, tls), said, departure }))
}

fn watched_socket<S>(shared: &Shared, socket: S, connection: &Connection) -> Socket<S> {
    let max_stall = Duration::from_millis(shared.config.write_stall_ms);
    let sent = shared.metrics.sent_bytes.clone();
    Socket::new(socket, max_stall, Arc::clone(&connection.stalled), sent).on(Arc::clone(&connection.wire))
}

type Answer = Result<Response<Body>, Infallible>;

fn respond(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
) -> impl Fn(Request<Incoming>) -> Either<Ready<Answer>, BoxFuture<'static, Answer>> + use<> {
    let (shared, connection) = (Arc::clone(shared), Arc::clone(connection));
    move |request| {
        if let Some(mut response) = at_once(&shared, &connection, &request) {
            connection.asked();
            connection.advertise(response.headers_mut());
            return Either::Left(ready(Ok(response)));
        }
        let progress = connection.begin(request.version());
        let counts = (request.version() >= Version::HTTP_2).then(|| Arc::clone(&progress));
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
        let answer = async move {
            let mut response = handle(&shared, &connection, progress, request).await;
            connection.advertise(response.headers_mut());
            if let Some(progress) = counts {
                response.extensions_mut().insert(progress);
            }
            Ok(response)
        };
        Either::Right(answer.boxed())
    }
}

/// HTTP/1.1. Ends with the bare socket when a live response is to be sent on it.
///
/// hyper offers no way to answer on the bare socket but for upgrades. What is done instead: the service leaves a
/// [`Departure`] and never answers; once hyper has flushed what it wrote before, the connection is taken from it.
async fn serve_http1<S>(
    shared: &Arc<Shared>,
    io: S,
    unsent: &AtomicBool,
    connection: &Arc<Connection>,
    asked_by: Instant,
    mut drain: watch::Receiver<bool>,
) -> Result<Option<Taken<S>>, Cut>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.metrics.http1.inc();
    let header_timeout = Duration::from_millis(shared.config.header_timeout_ms);
    let mut http = http1::Builder::new()
        .timer(HeadTimer::default())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(io), service_fn(respond(shared, connection)));
    let mut no_request = pin!(connection.no_request(asked_by));
    let mut draining = false;
    loop {
        let served = poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(ended.map(|()| None));
            }
            if unsent.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            connection
                .departure
                .lock()
                .take()
                .map_or(Poll::Pending, |departure| Poll::Ready(Ok(Some(departure))))
        });
        tokio::select! {
            served = served => {
                let Some(departure) = served? else { return Ok(None) };
                let parts = http.into_parts();
                return Ok(Some(Taken { io: parts.io.into_inner(), said: parts.read_buf, departure }));
            }
            () = no_request.as_mut() => return Err(Cut::NoRequest),
            _ = drain.wait_for(|drain| *drain), if !draining => {
                draining = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    }
}

async fn serve_http2<S>(
    shared: &Arc<Shared>,
    io: S,
    connection: &Arc<Connection>,
    asked_by: Instant,
    mut drain: watch::Receiver<bool>,
) -> Result<(), Cut>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.metrics.http2.inc();
    let io = Calm::new(io);
    let flooded = io.flooded();
    let header_timeout = Duration::from_millis(shared.config.header_timeout_ms);
    let max_stall = Duration::from_millis(shared.config.write_stall_ms);
    let respond = respond(shared, connection);
    let respond = move |request| {
        let answer = respond(request);
        async move { Ok::<_, Infallible>(counted(answer.await?)) }
    };
    let mut http = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_HTTP2_STREAMS)
            .max_header_list_size(MAX_HTTP2_HEAD_BYTES)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING)
            .serve_connection(TokioIo::new(io), service_fn(respond))
    );
    let mut no_request = pin!(connection.no_request(asked_by));
    let mut stuck = pin!(connection.stuck_stream(max_stall));
    let mut idle = pin!(connection.idle(header_timeout));
    let mut draining = false;
    let mut told_to_leave = false;
    loop {
        tokio::select! {
            ended = http.as_mut() => return Ok(ended?),
            () = no_request.as_mut() => return Err(Cut::NoRequest),
            () = stuck.as_mut() => return Err(Cut::Stuck),
            () = flooded.wait().map(|_| ()) => {
                shared.metrics.floods.inc();
                http.as_mut().graceful_shutdown();
                // Says GOAWAY, if the client takes as much as that.
                let _ = http.as_mut().now_or_never();
                return Err(Cut::Flood);
            }
            () = idle.as_mut() => {
                if told_to_leave {
                    return Err(Cut::Idle);
                }
                told_to_leave = true;
                http.as_mut().graceful_shutdown();
                idle.set(connection.idle(header_timeout));
            }
            _ = drain.wait_for(|drain| *drain), if !draining => {
                draining = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}
