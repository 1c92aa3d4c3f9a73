//! HTTPS: HTTP/1.1 and HTTP/2 over TLS.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Player, Server, open, text};
use super::limits::metric;
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{key, until};
use crate::{Access, Certificates, Config, Https, Listeners, Pages};

/// A server with a certificate.
pub(super) struct Secure {
    pub(super) server: Server,
    /// By TCP and UDP.
    pub(super) address: SocketAddr,
    folder: tempfile::TempDir,
    certificates: Certificates,
}

/// Puts a new pair into a folder.
fn renew(folder: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("c.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("k.pem"), made.signing_key.serialize_pem()).unwrap();
}

impl Secure {
    pub(super) async fn start(origin: &Origin, config: Config) -> Self {
        Self::with(origin, config, None).await
    }

    pub(super) async fn with(origin: &Origin, config: Config, pages: Option<Pages>) -> Self {
        Self::guarded(origin, config, open(), pages).await
    }

    pub(super) async fn guarded(
        origin: &Origin,
        config: Config,
        access: Access,
        pages: Option<Pages>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        renew(folder.path());
        let certificates =
            Certificates::load(&folder.path().join("c.pem"), &folder.path().join("k.pem")).unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let https = Https {
            listener,
            certificates: certificates.clone(),
            quic: Some(UdpSocket::bind(address).unwrap()),
        };
        let server = Server::on(Listeners { http, https: Some(https) }, origin, config, access, pages);
        Self { server, address, folder, certificates }
    }

    /// A client that trusts what is in the folder now.
    pub(super) fn client(&self, protocol: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("c.pem")).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        config
    }

    pub(super) async fn connect(&self, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.client(protocol)));
        let socket = TcpStream::connect(self.address).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), socket).await
    }

    async fn get(&self, protocol: &str, path: &str) -> Response<Incoming> {
        self.request(protocol, path, &[]).await
    }

    pub(super) async fn request(
        &self,
        protocol: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let io = TokioIo::new(self.connect(protocol).await.unwrap());
        let mut request = Request::get(format!("https://localhost{path}")).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        if protocol == "h2" {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            return sender.send_request(request).await.unwrap();
        }
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }
}

#[tokio::test]
async fn streams_and_files_are_had_over_tls_by_what_alpn_says() {
    for (protocol, label) in [("http/1.1", "h1"), ("h2", "h2")] {
        let origin = Origin::default();
        origin.file("/live/a/v0/1-1.m4s", Response::new("media"));
        let relay = origin.relay("a");
        let secure = Secure::start(&origin, Config::default()).await;
        let file = secure.get(protocol, "/live/a/v0/1-1.m4s").await;
        let http3 = format!("h3=\":{}\"; ma=86400", secure.address.port());
        assert_eq!(file.headers()["alt-svc"], http3.as_str());
        assert_eq!(text(file).await, "media");
        let mut studio = Studio::new();
        relay.send(opening(&studio.picture(true, 100_000))).await;
        let mut player = Player::new(secure.get(protocol, "/live/a.flv").await);
        assert_eq!(player.number().await, Some(0));
        for n in 1..=20 {
            relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
            assert_eq!(player.number().await, Some(n));
        }
        drop(relay);
        assert_eq!(player.number().await, None, "a regular end");
        let connections = format!("weir_edge_protocol_connections_total{{protocol=\"{label}\"}}");
        assert_eq!(metric(&secure.server, &connections), "2");
        assert_eq!(metric(&secure.server, r#"weir_edge_tls_handshakes_total{result="done"}"#), "2");
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_off_and_counted() {
    let mut config = Config::default();
    config.tls.handshake_timeout_ms = 100;
    let secure = Secure::start(&Origin::default(), config).await;
    let mut silent = TcpStream::connect(secure.address).await.unwrap();
    let _ = silent.read_to_end(&mut Vec::new()).await;
    assert_eq!(metric(&secure.server, r#"weir_edge_tls_handshakes_total{result="timeout"}"#), "1");
    let mut plain = TcpStream::connect(secure.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    assert_eq!(metric(&secure.server, r#"weir_edge_tls_handshakes_total{result="failed"}"#), "1");
    assert!(secure.connect("spdy/3").await.is_err(), "nothing that both speak");
    until(|| metric(&secure.server, "weir_edge_connections ") == "0").await;
}

#[tokio::test]
async fn a_certificate_is_replaced_while_viewers_watch() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let secure = Secure::start(&origin, Config::default()).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut player = Player::new(secure.get("http/1.1", "/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    renew(secure.folder.path());
    assert!(secure.connect("h2").await.is_err(), "the one that was read before is still shown");
    secure.certificates.reload();
    assert_eq!(secure.get("h2", "/live/b.flv").await.status(), 404);
    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(player.number().await, Some(1));
}

#[tokio::test]
async fn a_viewer_that_pauses_misses_nothing_and_is_served_by_a_shard() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.fanout.latency = crate::Window::Frame;
    let secure = Secure::start(&origin, config).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut slow = Player::new(secure.get("http/1.1", "/live/a.flv").await);
    assert_eq!(slow.number().await, Some(0));
    let mut player = Player::new(secure.get("http/1.1", "/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    // More than the sockets' buffers hold, and less than the ring.
    for n in 1..=140 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        assert_eq!(player.number().await, Some(n));
    }
    for n in 1..=140 {
        assert_eq!(slow.number().await, Some(n));
    }
    drop(relay);
    assert_eq!((slow.number().await, player.number().await), (None, None), "a regular end");
    until(|| metric(&secure.server, "weir_edge_connections ") == "0").await;
}

#[tokio::test]
async fn a_viewer_that_hangs_up_is_noticed_though_nothing_is_sent() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let secure = Secure::start(&origin, Config::default()).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let mut socket = secure.connect("http/1.1").await.unwrap();
    socket.write_all(b"GET /live/a.flv HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    socket.read_exact(&mut [0; 1000]).await.unwrap();
    assert_eq!(secure.server.edge.viewers(&key("a")).flv, 1);
    socket.shutdown().await.unwrap();
    until(|| secure.server.edge.viewers(&key("a")).flv == 0).await;
}

#[tokio::test]
async fn websockets_are_spoken_over_tls() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let secure = Secure::start(&origin, Config::default()).await;
    relay.send(opening(&Studio::new().picture(true, 100_000))).await;
    let config = Arc::new(secure.client("http/1.1"));
    let address = secure.address;
    let viewer = tokio::task::spawn_blocking(move || {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = rustls::ClientConnection::new(config, name).unwrap();
        let stream = rustls::StreamOwned::new(tls, std::net::TcpStream::connect(address).unwrap());
        let url = format!("wss://localhost:{}/live/a.flv", address.port());
        let mut socket = tungstenite::client(url, stream).unwrap().0;
        socket.send(tungstenite::Message::Ping(Bytes::from_static(b"there?"))).unwrap();
        let (mut media, mut pong) = (0, false);
        while media < 100_000 || !pong {
            match socket.read().unwrap() {
                tungstenite::Message::Binary(bytes) => media += bytes.len(),
                tungstenite::Message::Pong(bytes) => pong = bytes.as_ref() == b"there?",
                other => panic!("{other:?}"),
            }
        }
        socket
    });
    let mut socket = viewer.await.unwrap();
    assert_eq!(secure.server.edge.viewers(&key("a")).ws_flv, 1);
    drop(relay);
    let closed = tokio::task::spawn_blocking(move || socket.read().unwrap());
    assert!(matches!(closed.await.unwrap(), tungstenite::Message::Close(Some(_))));
}
