//! The HTTP listener: accepts connections within limits, and lets them end in good order.

mod connection;
mod handler;
mod hls;
mod live;
mod problem;
mod route;
mod watched;
mod websocket;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

#[cfg(test)]
pub(crate) use connection::serve_pipe;
pub(crate) use hls::Hls;

use crate::config::HttpConfig;
use crate::feed::Feeds;
use crate::metrics::Metrics;
use crate::shard::{Shards, Transport, Window};
use crate::upstream::Pages;

/// How long accepting pauses when it fails for want of file descriptors: some will be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: HttpConfig,
    /// How long flushes wait for more, where viewers don't choose.
    pub(crate) latency: Window,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) shards: Shards,
    pub(crate) hls: Hls,
    pub(crate) pages: Option<Pages>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves until `drain` resolves and the connections have ended or the deadline has come.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    drain: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Places::default());
    let (draining, drain_signal) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut drain = std::pin::pin!(drain);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
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
        let peer = std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(place) = places.take(peer.ip(), &shared) else { continue };
        prepare(&socket);
        connections.spawn(connection::serve(Arc::clone(&shared), socket, peer, place, drain_signal.clone()));
    }
    drop(listener);
    draining.send_replace(true);
    let finish = async {
        while connections.join_next().await.is_some() {}
        places.all_free().await;
    };
    let deadline = Duration::from_millis(shared.config.drain_ms);
    if tokio::time::timeout(deadline, finish).await.is_err() {
        tracing::info!(connections = places.taken.lock().total, "cutting what has not finished");
        connections.shutdown().await;
        shared.shards.cut(Transport::Http);
        places.all_free().await;
    }
}

/// A flush is to leave at once.
fn prepare(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
}

/// Who has how many connections. No more addresses than connections.
#[derive(Default)]
struct Places {
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// Resolves when nobody has a place.
    async fn all_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.taken.lock().total == 0 {
                return;
            }
            freed.await;
        }
    }

    fn take(self: &Arc<Self>, address: IpAddr, shared: &Arc<Shared>) -> Option<Place> {
        let address = network(address);
        let mut taken = self.taken.lock();
        if taken.total >= shared.config.max_connections {
            shared.metrics.refused_total.inc();
            return None;
        }
        let count = taken.by_address.get(&address).copied().unwrap_or_default();
        if count >= shared.config.max_connections_per_address {
            shared.metrics.refused_address.inc();
            return None;
        }
        taken.by_address.insert(address, count + 1);
        taken.total += 1;
        shared.metrics.connections.inc();
        Some(Place { places: Arc::clone(self), address, shared: Arc::clone(shared) })
    }
}

/// Whom an address stands for: of IPv6, a customer has at least a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// A connection's place.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        if taken.total == 0 {
            self.places.freed.notify_waiters();
        }
        self.shared.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_customer_of_ipv6_counts_as_one() {
        let network = |text: &str| super::network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::1"), "::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
