//! The TURN server beside an edge, if there is to be one: its ports, and its life.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use edge::Certificates;
use prometheus::Registry;
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

/// Serves until the process drains.
pub(crate) fn start(
    config: &Config,
    ports: Ports,
    certificates: Option<&Certificates>,
    registry: &Registry,
    life: &Lifecycle,
) -> anyhow::Result<()> {
    let server = TurnServer::new(config.turn.clone(), registry)?;
    let tls = match (ports.tls, certificates) {
        (Some(listener), Some(certificates)) => Some((listener, Arc::new(certificates.server(&[])?))),
        (Some(_), None) => anyhow::bail!("`turn.tls_listen` needs the certificate of `edge.tls`"),
        (None, _) => None,
    };
    let listeners = turn_server::Listeners { udp: ports.udp, tcp: ports.tcp.0, tls };
    let life = life.clone();
    // What is relayed is of viewers and publishers who have this process for nothing else, and ends with it.
    tokio::spawn(async move { server.serve(listeners, async move { life.draining().await }).await });
    Ok(())
}
