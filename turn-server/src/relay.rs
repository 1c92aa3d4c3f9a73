//! Relayed addresses: a socket each, which neither sends to nor hears of addresses that nothing is relayed to, and ends.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use turn::relay::RelayAddressGenerator;

use crate::credentials::user;
use crate::desk::{Conn, Shared, USERNAME};
use crate::peers;
use crate::quota::Place;

/// Ports that are tried before there are none left to all appearances.
const ATTEMPTS: usize = 64;

/// Makes them.
pub(crate) struct Relays {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Relays {
    /// Which peers reach at that address of this machine.
    pub(crate) fn new(shared: Arc<Shared>, ip: IpAddr) -> Self {
        Self { shared, ip }
    }

    async fn bind(&self, requested: u16) -> io::Result<UdpSocket> {
        // The address that peers are told may be another machine's in front of this one.
        let any: IpAddr = if self.ip.is_loopback() {
            self.ip
        } else if self.ip.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0; 16])
        };
        if requested != 0 {
            return UdpSocket::bind((any, requested)).await;
        }
        let [low, high] = self.shared.config.relay_ports;
        let ports = u32::from(high.saturating_sub(low)) + 1;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let mut random = [0; 4];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let port = u32::from(low) + u32::from_ne_bytes(random) % ports;
            match UdpSocket::bind((any, u16::try_from(port).unwrap_or(high))).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[async_trait]
impl RelayAddressGenerator for Relays {
    fn validate(&self) -> Result<(), turn::Error> {
        Ok(())
    }

    async fn allocate_conn(&self, use_ipv4: bool, port: u16) -> Result<(Conn, SocketAddr), turn::Error> {
        let Shared { config, metrics, quota, .. } = &*self.shared;
        let name = USERNAME.try_with(Clone::clone).unwrap_or_default();
        let place = quota.take(user(&name)).map_err(|full| {
            metrics.refused("quota");
            turn::Error::Other(full.to_string())
        })?;
        if use_ipv4 != self.ip.is_ipv4() {
            return Err(turn::Error::Other("no relayed address of that family".to_owned()));
        }
        let socket = self.bind(port).await.inspect_err(|_| metrics.refused("ports"))?;
        let address = SocketAddr::new(self.ip, socket.local_addr()?.port());
        let ends = Instant::now() + Duration::from_secs(config.max_lifetime_s);
        metrics.allocations.inc();
        Ok((Arc::new(Relay { socket, ends, shared: Arc::clone(&self.shared), _place: place }), address))
    }
}

/// A relayed address.
struct Relay {
    socket: UdpSocket,
    ends: Instant,
    shared: Arc<Shared>,
    _place: Place,
}

impl Relay {
    fn may_reach(&self, peer: SocketAddr) -> bool {
        let config = &self.shared.config;
        let may = config.own_peers.contains(&peer) || peers::may_reach(peer.ip(), &config.allow_peers);
        if !may {
            self.shared.metrics.refused("peer");
        }
        may
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.metrics.allocations.dec();
    }
}

fn unconnected<T>() -> Result<T, webrtc_util::Error> {
    Err(io::Error::from(io::ErrorKind::NotConnected).into())
}

#[async_trait]
impl webrtc_util::Conn for Relay {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        unconnected()
    }

    async fn recv(&self, _: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        unconnected()
    }

    /// The end of its time is an error, after which the protocol lets the allocation go.
    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        loop {
            match tokio::time::timeout_at(self.ends, self.socket.recv_from(buffer)).await {
                Ok(Ok((len, peer))) if self.may_reach(peer) => {
                    self.shared.metrics.bytes_in.inc_by(len as u64);
                    return Ok((len, peer));
                }
                Ok(Ok(_)) => {}
                // What a peer did not take (ICMP) is no end.
                Ok(Err(error)) => tracing::debug!(%error, "relayed address"),
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        }
    }

    async fn send(&self, _: &[u8]) -> Result<usize, webrtc_util::Error> {
        unconnected()
    }

    /// What may not be relayed is lost, as anything can be on its way.
    async fn send_to(&self, data: &[u8], peer: SocketAddr) -> Result<usize, webrtc_util::Error> {
        if !self.may_reach(peer) {
            return Ok(data.len());
        }
        self.shared.metrics.bytes_out.inc_by(data.len() as u64);
        Ok(self.socket.send_to(data, peer).await?)
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
