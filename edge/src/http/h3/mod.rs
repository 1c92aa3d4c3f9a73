//! HTTP/3 (RFC 9114) over QUIC: the same requests to the same handler, and their answers as they come.

mod frames;
mod quic;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use h3::error::{ConnectionError, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, TransportConfig, VarInt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::handler::handle;
use super::progress::Progress;
use super::tls::{self, Tls};
use super::{Certificates, Shared};
use crate::places::Place;
use crate::socket::Sent;
use crate::upstream::BoxError;
use quic::{Quic, Receiver, Settled};

/// HTTP/3's name in ALPN (RFC 9114 §3.1).
const HTTP3: &[u8] = b"h3";

/// Requests at once on a connection, as over HTTP/2.
const MAX_REQUESTS: u32 = 64;

/// Streams in one direction: HTTP/3 has three (RFC 9114 §6.2), and clients add some of no meaning.
const MAX_UNIDIRECTIONAL: u32 = 8;

/// A request's head, as over HTTP/2.
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// What a client may send on a stream, and on all of a connection's, before it was read: requests are short.
const RECEIVE_BYTES: (u32, u32) = (64 * 1024, 256 * 1024);

/// What is on its way to a client on all streams of a connection: 40 Mbit/s at a round trip of 200 ms.
const SEND_BYTES: u64 = 1024 * 1024;

/// How long a client may be silent, and how often one is asked whether it is there.
const SILENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Connections whose first packet has come and which nobody has looked at yet, and what they may have sent: they are
/// looked at once a packet has come.
const WAITING: (usize, u64, u64) = (1_024, 16 * 1024, 4 * 1024 * 1024);

/// Handshakes at once with clients whose address may be forged. Others prove theirs first, which takes a round trip
/// (RFC 9000 §8.1.2).
const MAX_UNPROVEN: usize = 128;

/// Handed to QUIC at once. Each is progress once it was taken.
const CHUNK_BYTES: usize = 16 * 1024;

/// How long clients are given to hear of the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// GOAWAY names the first request that is not answered (RFC 9114 §5.2): the one behind the last that was taken. Clients
/// give that and all after it up.
const UNTOUCHED: usize = 1;

/// What is of one connection only (RFC 9114 §4.2).
const NOT_SENT: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Where QUIC is listened.
pub(super) struct Door {
    endpoint: Endpoint,
    unproven: Arc<Semaphore>,
    tls: Arc<Tls>,
}

impl Door {
    pub(super) fn open(socket: UdpSocket, certificates: Certificates, tls: Arc<Tls>) -> io::Result<Self> {
        let config =
            tls::config(certificates, &[&rustls::version::TLS13], &[HTTP3]).map_err(io::Error::other)?;
        let config = QuicServerConfig::try_from(config).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
        config.transport_config(Arc::new(transport()?));
        config.max_incoming(WAITING.0).incoming_buffer_size(WAITING.1).incoming_buffer_size_total(WAITING.2);
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?;
        Ok(Self { endpoint, unproven: Arc::new(Semaphore::new(MAX_UNPROVEN)), tls })
    }

    /// Who comes next. Clients that should prove their address are told so, and come again.
    pub(super) async fn next(&self) -> Option<Guest> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if incoming.remote_address_validated() {
                return Some(Guest { incoming, unproven: None, tls: Arc::clone(&self.tls) });
            }
            match Arc::clone(&self.unproven).try_acquire_owned() {
                Ok(permit) => {
                    return Some(Guest { incoming, unproven: Some(permit), tls: Arc::clone(&self.tls) });
                }
                Err(_) => {
                    if let Err(error) = incoming.retry() {
                        error.into_incoming().refuse();
                    }
                }
            }
        }
    }

    /// Nobody is let in any more.
    pub(super) fn close(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Whoever is still there is told to go.
    pub(super) async fn cut(self) {
        self.endpoint.close(NO_ERROR, b"");
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

fn transport() -> io::Result<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(MAX_REQUESTS.into())
        .max_concurrent_uni_streams(MAX_UNIDIRECTIONAL.into())
        .stream_receive_window(RECEIVE_BYTES.0.into())
        .receive_window(RECEIVE_BYTES.1.into())
        .send_window(SEND_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(SILENCE.0.try_into().map_err(io::Error::other)?))
        .keep_alive_interval(Some(SILENCE.1));
    Ok(transport)
}

/// Who wants to come in.
pub(super) struct Guest {
    incoming: Incoming,
    unproven: Option<tokio::sync::OwnedSemaphorePermit>,
    tls: Arc<Tls>,
}

impl Guest {
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.incoming.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// There is no place.
    pub(super) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Serves a connection to its end.
    pub(super) async fn serve(self, shared: Arc<Shared>, place: Place, drain: watch::Receiver<bool>) {
        let peer = self.address();
        if let Err(cut) = self.serve_to_its_end(&shared, drain).await {
            tracing::debug!(%peer, reason = %cut, "HTTP/3 connection cut");
        }
        drop(place);
    }

    async fn serve_to_its_end(self, shared: &Arc<Shared>, drain: watch::Receiver<bool>) -> Result<(), Cut> {
        let connection = Arc::new(Connection::new(self.address(), Some(&self.tls), Some(drain.clone())));
        let shaken = tokio::time::timeout(self.tls.limit(), async { self.incoming.accept()?.await }).await;
        shared.metrics.shaken(&shaken);
        let quic = shaken.map_err(|_| Cut::Late)??;
        drop(self.unproven);
        shared.metrics.http3.inc();
        let served = serve(shared, &connection, quic.clone(), drain).await;
        // Whatever the reason: a request that was never answered may be asked again elsewhere.
        quic.close(NO_ERROR, b"");
        served
    }
}

/// Why a connection did not end by itself.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("not ready in time")]
    Late,
    #[error("no request in time")]
    NoRequest,
    #[error("a stream was not taken")]
    Stuck,
    #[error("{0}")]
    Quic(#[from] quinn::ConnectionError),
    #[error("{0}")]
    Http(#[from] ConnectionError),
}

async fn serve(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    quic: quinn::Connection,
    mut drain: watch::Receiver<bool>,
) -> Result<(), Cut> {
    let header_timeout = Duration::from_millis(shared.config.header_timeout_ms);
    let max_stall = Duration::from_millis(shared.config.write_stall_ms);
    let (quic, last_settled) = Quic::new(quic);
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEAD_BYTES).send_grease(false);
    let built = tokio::time::timeout(header_timeout, builder.build(quic)).await;
    let mut http = built.map_err(|_| Cut::Late)??;
    // Dropped with their answers when the connection ends.
    let mut requests = JoinSet::new();
    let mut no_request = pin!(connection.no_request(Instant::now() + header_timeout));
    let mut stuck = pin!(connection.stuck_stream(max_stall));
    let mut idle = pin!(connection.idle(header_timeout));
    let mut draining = false;
    loop {
        if draining && requests.is_empty() {
            return Ok(());
        }
        tokio::select! {
            accepted = http.accept() => {
                let Some(resolver) = accepted? else { return Ok(()) };
                let Some(settled) = last_settled.lock().take() else { continue };
                let (shared, connection) = (Arc::clone(shared), Arc::clone(connection));
                requests.spawn(async move { request(&shared, &connection, resolver, settled).await });
            }
            Some(_) = requests.join_next() => {}
            () = no_request.as_mut() => return Err(Cut::NoRequest),
            () = stuck.as_mut() => return Err(Cut::Stuck),
            () = idle.as_mut() => {
                http.shutdown(UNTOUCHED).await?;
                return Ok(());
            }
            () = async { drain.wait_for(|drain| *drain).await.map_or((), drop) }, if !draining => {
                draining = true;
                http.shutdown(UNTOUCHED).await?;
            }
        }
    }
}

type Resolver = RequestResolver<Quic, Bytes>;

/// A request to its end: until its answer has arrived, or nobody wants it any more.
async fn request(shared: &Shared, connection: &Arc<Connection>, resolver: Resolver, mut settled: Settled) {
    let answered = tokio::select! {
        answered = answer(shared, connection, resolver) => answered,
        () = &mut settled => return,
    };
    match answered {
        Ok(_progress) => {
            // What was written is on its way, and lost if the connection ends before.
            let max_stall = Duration::from_millis(shared.config.write_stall_ms);
            let _ = tokio::time::timeout(max_stall, settled).await;
        }
        Err(error) => tracing::debug!(peer = %connection.peer, %error, "HTTP/3 request broken off"),
    }
}

/// Why a request has no whole answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no whole head in time")]
    NoHead,
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Body(BoxError),
}

/// Answers a request, which is in progress until what is returned is dropped.
async fn answer(
    shared: &Shared,
    connection: &Arc<Connection>,
    resolver: Resolver,
) -> Result<Arc<Progress>, Broken> {
    let header_timeout = Duration::from_millis(shared.config.header_timeout_ms);
    let resolved = tokio::time::timeout(header_timeout, resolver.resolve_request()).await;
    let (request, stream) = resolved.map_err(|_| Broken::NoHead)??;
    let progress = connection.begin(Version::HTTP_3);
    let (mut sender, receiver) = stream.split();
    let is_head = request.method() == Method::HEAD;
    let request = request.map(|()| RequestBody(receiver).boxed_unsync());
    let (mut head, body) = handle(shared, connection, Arc::clone(&progress), request).await.into_parts();
    // RFC 9110 §8.6.
    let has_length = !is_head && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    complete(&mut head.headers, has_length.then(|| body.size_hint().exact()).flatten());
    connection.advertise(&mut head.headers);
    // The head, too, waits for a window.
    progress.polled(false);
    sender.send_response(Response::from_parts(head, ())).await?;
    let mut sent = Sent::new(shared.metrics.sent_bytes.clone());
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let Ok(mut bytes) = frame.map_err(Broken::Body)?.into_data() else { continue };
        while !bytes.is_empty() {
            let len = bytes.len().min(CHUNK_BYTES);
            sender.send_data(bytes.split_to(len)).await?;
            progress.taken();
            progress.sent(len);
            sent.add(len);
        }
    }
    sender.finish().await?;
    Ok(progress)
}

/// What hyper does for HTTP/1.1 and HTTP/2.
fn complete(headers: &mut HeaderMap, len: Option<u64>) {
    for name in &NOT_SENT {
        headers.remove(name);
    }
    if let Some(len) = len {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(len));
    }
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        headers.entry(DATE).or_insert(date);
    }
}

/// What a client sends with its request.
struct RequestBody(RequestStream<Receiver, Bytes>);

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv_data(cx).map(|received| match received {
            Ok(Some(mut data)) => Some(Ok(Frame::data(data.copy_to_bytes(data.remaining())))),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }
}
