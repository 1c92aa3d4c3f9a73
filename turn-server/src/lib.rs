//! A TURN and STUN server (RFC 8656, RFC 8489): for viewers and publishers whose network lets no media through in any other
//! way.
//!
//! The `turn` crate speaks the protocol. What stands here is what keeps it from being used against others: credentials that
//! expire (the REST scheme that coturn knows, so that one with the same secret can take this one's place), quotas, an end of
//! each allocation, addresses that nothing is relayed to, and a bound on answers to who has not proved anything.

#![forbid(unsafe_code)]

mod allowance;
mod config;
mod credentials;
mod desk;
#[doc(hidden)]
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod metrics;
mod peers;
mod quota;
mod relay;
mod stream;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

pub use config::{Config, Secret};

use allowance::{Allowance, network};
use desk::{Desk, Shared};
use metrics::Metrics;
use quota::Quota;

/// The longest datagram that is looked at: what a client may wrap is itself no longer than a link's usual 1,500 bytes.
const MAX_DATAGRAM_BYTES: usize = 2_048;

/// Nonces of UDP that were given out and are remembered. Whoever comes with one that is not is told a new one (438), so that
/// floods cost others one more request.
const MAX_NONCES: usize = 8_192;

/// The longest time for which a listener that cannot accept waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metric is there already.
    #[error("metrics of the TURN server: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What it listens on.
#[derive(Debug)]
pub struct Listeners {
    /// STUN and TURN over UDP.
    pub udp: UdpSocket,
    /// TURN over TCP, for clients whose network lets no UDP out.
    pub tcp: TcpListener,
    /// The same over TLS.
    pub tls: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
}

/// The server; clones are the same.
#[derive(Debug, Clone)]
pub struct TurnServer {
    shared: Arc<Shared>,
}

impl TurnServer {
    /// A server with its metrics. What [`Config::mistakes`] finds is not looked for again.
    pub fn new(config: Config, registry: &prometheus::Registry) -> Result<Self, Error> {
        let metrics = Metrics::register(registry)?;
        let quota = Quota::new(config.max_allocations, config.max_allocations_per_user);
        let allowance = Allowance::new(config.requests_per_second);
        Ok(Self { shared: Arc::new(Shared { config, metrics, quota, allowance }) })
    }

    /// Credentials for a user, which are good for as long as an allocation lasts at most: name and password.
    pub fn lend(&self, user: &str, now: SystemTime) -> (String, String) {
        let config = &self.shared.config;
        credentials::lend(&config.secret, user, Duration::from_secs(config.max_lifetime_s), now)
    }

    /// Where clients and peers reach one that listens there.
    pub fn reached_at(&self, listen: Option<SocketAddr>) -> IpAddr {
        self.shared.config.external_ip.unwrap_or_else(|| reached_at(listen))
    }

    /// Serves until `drain` resolves; then what is relayed ends.
    pub async fn serve(&self, listeners: Listeners, drain: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let udp = Arc::new(listeners.udp);
        let ip = self.reached_at(udp.local_addr().ok());
        tasks.spawn(self.clone().datagrams(udp, ip));
        let config = &self.shared.config;
        let places = Arc::new(Quota::new(config.max_connections, config.max_connections_per_address));
        tasks.spawn(self.clone().accept(listeners.tcp, None, Arc::clone(&places), ip));
        if let Some((tcp, tls)) = listeners.tls {
            tasks.spawn(self.clone().accept(tcp, Some(tls), places, ip));
        }
        drain.await;
        tasks.shutdown().await;
    }

    async fn datagrams(self, socket: Arc<UdpSocket>, relay_ip: IpAddr) {
        let conn: desk::Conn = Arc::clone(&socket) as _;
        let desk = Desk::new(Arc::clone(&self.shared), conn, relay_ip, MAX_NONCES);
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, from)) => desk.handle(buffer.get(..len).unwrap_or_default(), from).await,
                // Of an answer that somebody did not take (ICMP), or a shortage: the socket is good.
                Err(error) => {
                    tracing::debug!(%error, "TURN datagram");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }

    async fn accept(
        self,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        places: Arc<Quota>,
        relay_ip: IpAddr,
    ) {
        // Ended with this task.
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "TURN connections cannot be accepted at the moment");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.take(&network(from.ip()).to_string()) else {
                self.shared.metrics.refused("connections");
                continue;
            };
            let (shared, tls) = (Arc::clone(&self.shared), tls.clone());
            connections.spawn(async move {
                stream::serve(shared, socket, from, tls, relay_ip).await;
                drop(place);
            });
        }
    }
}

/// Where clients reach this machine: the address that it listens at, or the one by which it would go to the internet.
fn reached_at(listen: Option<SocketAddr>) -> IpAddr {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let Some(listen) = listen else { return loopback };
    if !listen.ip().is_unspecified() {
        return listen.ip();
    }
    // Nothing is sent by connecting.
    let probe = std::net::UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    probe.map_or(loopback, |address| address.ip())
}
