//! The TURN server beside an edge, if there is to be one: its ports, and its life.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use edge::Certificates;
use prometheus::Registry;
use rtc::{IceServer, IceServers, Login};
use tokio::net::{TcpListener, UdpSocket};
use turn_server::TurnServer;

use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::listen::{Listener, bind};
use crate::roles::Role;

/// With port 0, TCP takes a free one that UDP may not have: another one then, so often.
const ATTEMPTS: usize = 16;

/// What it listens on.
pub(crate) struct Ports {
    udp: UdpSocket,
    tcp: Listener,
    tls: Option<TcpListener>,
}

impl Ports {
    /// Takes its ports. `None`: it is not configured, or the process serves no viewers.
    pub(crate) async fn bind(config: &Config, role: Role) -> anyhow::Result<Option<Self>> {
        const KEY: &str = "turn.listen";
        let Some(at) = config.turn.listen.filter(|_| matches!(role, Role::All | Role::Edge)) else {
            return Ok(None);
        };
        let (tcp, udp) = {
            let mut attempt = 0;
            loop {
                attempt += 1;
                let tcp = bind(KEY, at).await?;
                match UdpSocket::bind(tcp.1).await {
                    Ok(udp) => break (tcp, udp),
                    Err(_) if at.port() == 0 && attempt < ATTEMPTS => {}
                    Err(error) => {
                        return Err(error).context(format!("cannot listen on {at} by UDP (key `{KEY}`)"));
                    }
                }
            }
        };
        let tls = match config.turn.tls_listen {
            Some(at) => Some(bind("turn.tls_listen", at).await?.0),
            None => None,
        };
        Ok(Some(Self { udp, tcp, tls }))
    }

    /// Where it is reached, by UDP and TCP.
    pub(crate) fn at(&self) -> SocketAddr {
        self.tcp.1
    }
}

/// Serves until the process drains. Peers of WebRTC, if there are any, are told of it, and may be relayed to.
pub(crate) fn start(
    config: &Config,
    ports: Ports,
    certificates: Option<&Certificates>,
    registry: &Registry,
    (life, rtc): (&Lifecycle, Option<&rtc::Server>),
) -> anyhow::Result<()> {
    let own_peers = rtc.map(|rtc| rtc.addresses().to_vec()).unwrap_or_default();
    let server = TurnServer::new(turn_server::Config { own_peers, ..config.turn.clone() }, registry)?;
    let tls = match (ports.tls, certificates) {
        (Some(listener), Some(certificates)) => Some((listener, Arc::new(certificates.server(&[])?))),
        (Some(_), None) => anyhow::bail!("`turn.tls_listen` needs the certificate of `edge.tls`"),
        (None, _) => None,
    };
    if let Some(rtc) = rtc {
        let tls = tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let urls = urls(&config.turn.host, server.reached_at(Some(ports.tcp.1)), ports.tcp.1.port(), tls);
        rtc.lend_by(Box::new(Lender { urls, server: server.clone() }));
    }
    let listeners = turn_server::Listeners { udp: ports.udp, tcp: ports.tcp.0, tls };
    let life = life.clone();
    // What is relayed is of viewers and publishers who have this process for nothing else, and ends with it.
    tokio::spawn(async move { server.serve(listeners, async move { life.draining().await }).await });
    Ok(())
}

/// As clients are told of it, the best way first.
fn urls(host: &str, address: IpAddr, port: u16, tls: Option<SocketAddr>) -> Vec<String> {
    let named = !host.is_empty();
    let host = match address {
        _ if named => host.to_owned(),
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let mut urls =
        vec![format!("turn:{host}:{port}?transport=udp"), format!("turn:{host}:{port}?transport=tcp")];
    urls.extend(tls.filter(|_| named).map(|tls| format!("turns:{host}:{}?transport=tcp", tls.port())));
    urls
}

/// Gives out credentials. Allocations are counted for the address that they were given to.
struct Lender {
    urls: Vec<String>,
    server: TurnServer,
}

impl IceServers for Lender {
    fn lend(&self, client: IpAddr) -> Vec<IceServer> {
        let (username, password) = self.server.lend(&client.to_canonical().to_string(), SystemTime::now());
        let login = Login { username, password };
        self.urls.iter().map(|url| IceServer { url: url.clone(), login: Some(login.clone()) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_told_of_by_name_only() {
        let tls = Some("0.0.0.0:5349".parse().unwrap());
        let of = |host: &str, address: &str| urls(host, address.parse().unwrap(), 3478, tls);
        assert_eq!(of("", "::1"), ["turn:[::1]:3478?transport=udp", "turn:[::1]:3478?transport=tcp"]);
        assert_eq!(of("a.example", "10.0.0.1")[2], "turns:a.example:5349?transport=tcp");
    }
}
