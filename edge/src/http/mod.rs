//! The HTTP listener: accepts connections within limits, and lets them end in good order.

mod at_once;
mod calm;
mod certificates;
mod connection;
mod h3;
mod handler;
mod head_timer;
mod hls;
mod intake;
mod live;
mod opening;
mod problem;
mod progress;
mod range;
mod route;
mod tls;
mod watched;
mod websocket;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use certificates::{CertificateError, Certificates};
#[cfg(test)]
pub(crate) use connection::serve_pipe;
pub(crate) use hls::Hls;
pub(crate) use problem::{denied_with, problem, refused_with};
pub(crate) use wire::Wire;

use crate::config::{HttpConfig, RtmpConfig, TlsConfig};
use crate::feed::Feeds;
use crate::guard::{Guard, MEASURE_EVERY};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::rtmp::Ingests;
use crate::sessions::Sessions;
use crate::shard::{Shards, Transport};
use crate::upstream::{Pages, Via};
use tls::Tls;

/// How long accepting pauses when it fails for want of file descriptors: some will be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: HttpConfig,
    pub(crate) tls: TlsConfig,
    pub(crate) rtmp: RtmpConfig,
    pub(crate) srt: crate::srt::Players,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) shards: Shards,
    pub(crate) hls: Hls,
    pub(crate) via: Via,
    pub(crate) pages: Option<Pages>,
    pub(crate) guard: Guard,
    pub(crate) sessions: Arc<Sessions>,
    /// Where publishers are passed on to.
    pub(crate) ingests: OnceLock<Arc<dyn Ingests>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What is listened on.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For HTTPS.
    pub https: Option<Https>,
}

/// What is listened on for HTTPS.
#[derive(Debug)]
pub struct Https {
    /// For HTTP/1.1 and HTTP/2.
    pub listener: TcpListener,
    /// What clients are shown.
    pub certificates: Certificates,
    /// For HTTP/3, with the same port number.
    pub quic: Option<UdpSocket>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, https: None }
    }
}

/// A listener for HTTPS that was made ready.
struct Secure {
    listener: TcpListener,
    certificates: Certificates,
    tls: Arc<Tls>,
    http3: Option<h3::Door>,
}

impl Secure {
    fn new(https: Https, shared: &Shared) -> io::Result<Self> {
        let Https { listener, certificates, quic } = https;
        let limit = Duration::from_millis(shared.tls.handshake_timeout_ms);
        let at = quic.as_ref().map(UdpSocket::local_addr).transpose()?;
        let tls = Arc::new(Tls::new(&certificates, limit, at).map_err(io::Error::other)?);
        let open = |socket| h3::Door::open(socket, certificates.clone(), Arc::clone(&tls));
        let http3 = quic.map(open).transpose()?;
        Ok(Self { listener, certificates, tls, http3 })
    }
}

/// Who comes by HTTPS next.
async fn accept(secure: Option<&Secure>) -> io::Result<(TcpStream, SocketAddr)> {
    match secure {
        Some(secure) => secure.listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Who comes by HTTP/3 next.
async fn guest(secure: Option<&Secure>) -> h3::Guest {
    if let Some(door) = secure.and_then(|secure| secure.http3.as_ref())
        && let Some(guest) = door.next().await
    {
        return guest;
    }
    std::future::pending().await
}

/// Serves until `drain` resolves and the connections have ended or the deadline has come.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listeners: Listeners,
    drain: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let Listeners { http, https } = listeners;
    let secure = https.map(|https| Secure::new(https, &shared)).transpose()?;
    let certificates = secure.as_ref().map(|secure| secure.certificates.clone());
    let watching = async {
        match certificates {
            Some(certificates) => certificates.watch().await,
            None => std::future::pending().await,
        }
    };
    let mut watching = std::pin::pin!(watching);
    let config = &shared.config;
    let (total, per_address) = (config.max_connections, config.max_connections_per_address);
    let gauge = shared.metrics.connections.clone();
    let places = Places::new(total, per_address, gauge, Arc::clone(&shared.metrics));
    let place = |address: IpAddr| {
        // Who asks by a proxy is asked with each request.
        let is_proxy = shared.guard.is_proxy(address);
        if !is_proxy {
            shared.guard.may_connect(address).ok()?;
        }
        places.take(address, is_proxy)
    };
    let mut connections = JoinSet::new();
    // Dropped before them, if this is: who is cut so is to know that it is the server that ends.
    let (draining, drain_signal) = watch::channel(false);
    let mut drain = std::pin::pin!(drain);
    let mut measure = tokio::time::interval(MEASURE_EVERY);
    measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (accepted, tls) = tokio::select! {
            accepted = http.accept() => (accepted, None),
            accepted = accept(secure.as_ref()) => (accepted, secure.as_ref().map(|s| Arc::clone(&s.tls))),
            guest = guest(secure.as_ref()) => {
                match place(guest.address().ip()) {
                    Some(place) => {
                        connections.spawn(guest.serve(Arc::clone(&shared), place, drain_signal.clone()));
                    }
                    None => guest.refuse(),
                }
                continue;
            }
            () = watching.as_mut() => continue,
            Some(_) = connections.join_next() => continue,
            _ = measure.tick() => {
                shared.guard.measure();
                continue;
            }
            () = drain.as_mut() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(place) = place(peer.ip()) else { continue };
        prepare(&socket);
        let (shared, drain) = (Arc::clone(&shared), drain_signal.clone());
        connections.spawn(connection::serve(shared, socket, peer, place, tls, drain));
    }
    drop(http);
    let door = secure.and_then(|secure| secure.http3);
    door.iter().for_each(h3::Door::close);
    draining.send_replace(true);
    let finish = async {
        while connections.join_next().await.is_some() {}
        places.all_free().await;
    };
    let deadline = Duration::from_millis(shared.config.drain_ms);
    if tokio::time::timeout(deadline, finish).await.is_err() {
        tracing::info!(connections = places.taken(), "cutting what has not finished");
        connections.shutdown().await;
        shared.shards.cut(Transport::Http);
        places.all_free().await;
    }
    if let Some(door) = door {
        door.cut().await;
    }
    Ok(())
}

/// A flush is to leave at once.
fn prepare(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
}
