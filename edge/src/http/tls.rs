//! TLS (RFC 8446) on a TCP connection: which protocol the client wants is part of the handshake (ALPN, RFC 7301).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificates;
use crate::metrics::Metrics;

/// HTTP/2's name in ALPN (RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";

/// How the handshake is done, and what clients are told of HTTP/3.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    limit: Duration,
    alt_svc: Option<HeaderValue>,
}

/// A connection after its handshake.
pub(super) struct Secured<S> {
    pub(super) io: TlsStream<S>,
    pub(super) http2: bool,
}

impl Tls {
    /// Clients have `limit` for the handshake, and are told that HTTP/3 is spoken at `http3`.
    pub(super) fn new(
        certificates: &Certificates,
        limit: Duration,
        http3: Option<SocketAddr>,
    ) -> Result<Self, rustls::Error> {
        let config = certificates.server(&[HTTP2, b"http/1.1"])?;
        let alt_svc = http3.and_then(alternative);
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), limit, alt_svc })
    }

    /// How long a handshake may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Where the same is to be had over HTTP/3 (RFC 7838).
    pub(super) fn alt_svc(&self) -> Option<HeaderValue> {
        self.alt_svc.clone()
    }

    /// Shakes hands.
    pub(super) async fn accept<S>(&self, io: S, metrics: &Metrics) -> io::Result<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = tokio::time::timeout(self.limit, self.acceptor.accept(io)).await;
        metrics.shaken(&shaken);
        let io = shaken??;
        let http2 = io.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok(Secured { io, http2 })
    }
}

/// The same on that port, for a day.
fn alternative(at: SocketAddr) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{}\"; ma=86400", at.port())).ok()
}

/// For clients that speak one of `protocols`, the best liked first.
pub(super) fn config(
    certificates: Certificates,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Who comes back brings along what was agreed on, so that nothing is kept here for it.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
