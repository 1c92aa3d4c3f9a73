//! The sockets that a serving process listens on.

use std::net::{SocketAddr, UdpSocket};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::roles::Role;

/// A listener, and where it really is: port 0 took a free one.
pub(crate) type Listener = (TcpListener, SocketAddr);

/// A listener for HTTPS, and one for HTTP/3 at the same port.
pub(crate) struct Secure {
    pub(crate) listener: TcpListener,
    pub(crate) at: SocketAddr,
    pub(crate) quic: Option<UdpSocket>,
}

/// Everything that is listened on.
pub(crate) struct Listeners {
    pub(crate) rtmp: Listener,
    /// If there is to be SRT.
    pub(crate) srt: Option<(UdpSocket, SocketAddr)>,
    pub(crate) http: Listener,
    /// If there is to be HTTPS.
    pub(crate) https: Option<Secure>,
    pub(crate) admin: Listener,
}

impl Listeners {
    /// Takes all ports, or none.
    pub(crate) async fn bind(config: &Config, role: Role) -> anyhow::Result<Self> {
        let https = match role.https(config) {
            Some(at) => Some(bind_secure(at, config.edge.tls.http3).await?),
            None => None,
        };
        let srt = role.srt(config).map(|at| bind_udp(role.srt_key(), at)).transpose()?;
        Ok(Self {
            srt,
            rtmp: bind(role.rtmp_key(), role.rtmp(config)).await?,
            http: bind(role.http_key(), role.http(config)).await?,
            https,
            admin: bind("admin.listen", config.admin.listen).await?,
        })
    }
}

async fn bind_secure(at: SocketAddr, http3: bool) -> anyhow::Result<Secure> {
    const KEY: &str = "edge.tls.listen";
    let (listener, at) = bind(KEY, at).await?;
    let quic = if http3 {
        let naming = || format!("cannot listen on {at} by UDP, for HTTP/3 (key `{KEY}`)");
        Some(UdpSocket::bind(at).with_context(naming)?)
    } else {
        None
    };
    Ok(Secure { listener, at, quic })
}

/// For SRT; libsrt waits there in its own way.
fn bind_udp(key: &str, at: SocketAddr) -> anyhow::Result<(UdpSocket, SocketAddr)> {
    let naming = || format!("cannot listen on {at} by UDP, for SRT (key `{key}`)");
    let socket = UdpSocket::bind(at).with_context(naming)?;
    let at = socket.local_addr().with_context(naming)?;
    Ok((socket, at))
}

pub(crate) async fn bind(key: &str, at: SocketAddr) -> anyhow::Result<Listener> {
    let naming = || format!("cannot listen on {at} (key `{key}`)");
    let listener = TcpListener::bind(at).await.with_context(naming)?;
    let at = listener.local_addr().with_context(naming)?;
    Ok((listener, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_key() {
        let (_taken, at) = bind("a", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let error = bind("edge.http.listen", at).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("`edge.http.listen`") && text.contains(&at.to_string()), "{text}");
        assert!(text.contains("in use"), "{text}");
        let (_taken, at) = bind_udp("a", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let text = format!("{:#}", bind_udp("origin.srt.listen", at).unwrap_err());
        assert!(text.contains("`origin.srt.listen`") && text.contains("in use"), "{text}");
    }
}
