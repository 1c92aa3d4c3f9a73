//! HTTP/3, with a client over another QUIC adapter.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::{BidiStream, OpenStreams};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use media_core::flv::{Reader, TagKind};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use tower::service_fn;

use super::client::Player;
use super::limits::metric;
use super::origin::Origin;
use super::secure::Secure;
use super::studio::{self, Studio, opening};
use super::{guarded, key, until};
use crate::upstream::Body;
use crate::{BoxError, Config, Pages};

/// A client's connection.
pub(super) struct Client {
    requests: SendRequest<OpenStreams, Bytes>,
    quic: quinn::Connection,
    /// How the connection ended.
    ended: tokio::task::JoinHandle<h3::error::ConnectionError>,
    _endpoint: Endpoint,
}

pub(super) type Answer = (Response<()>, RequestStream<BidiStream<Bytes>, Bytes>);

impl Client {
    pub(super) async fn connect(secure: &Secure) -> Self {
        Self::with(secure, TransportConfig::default()).await
    }

    async fn with(secure: &Secure, transport: TransportConfig) -> Self {
        let (quic, endpoint) = dial(secure, transport).await;
        let (mut connection, requests) =
            h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let ended = tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_close(cx)).await });
        Self { requests, quic, ended, _endpoint: endpoint }
    }

    pub(super) async fn ask(&mut self, method: Method, path: &str, body: &'static str) -> Answer {
        let request =
            Request::builder().method(method).uri(format!("https://localhost{path}")).body(()).unwrap();
        let mut stream = self.requests.send_request(request).await.unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body.as_bytes())).await.unwrap();
        }
        stream.finish().await.unwrap();
        let response = stream.recv_response().await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_3);
        (response, stream)
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }
}

pub(super) async fn dial(secure: &Secure, transport: TransportConfig) -> (quinn::Connection, Endpoint) {
    let tls = QuicClientConfig::try_from(secure.client("h3")).unwrap();
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    (endpoint.connect(secure.address, "localhost").unwrap().await.unwrap(), endpoint)
}

pub(super) async fn whole((_, mut stream): Answer) -> Result<Vec<u8>, h3::error::StreamError> {
    let mut bytes = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        bytes.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(bytes)
}

/// The number of the next frame of a stream.
async fn number(stream: &mut RequestStream<BidiStream<Bytes>, Bytes>, reader: &mut Reader) -> Option<u64> {
    loop {
        while let Some(tag) = reader.next_tag().unwrap() {
            if tag.kind != TagKind::Script && tag.body[1] != 0 {
                return Some(studio::number(&tag.body));
            }
        }
        let mut data = stream.recv_data().await.unwrap()?;
        reader.push(data.copy_to_bytes(data.remaining()));
    }
}

#[tokio::test]
async fn streams_and_files_are_had_over_http3() {
    let origin = Origin::default();
    origin.file("/live/a/v0/1-1.m4s", Response::new("media"));
    let relay = origin.relay("a");
    let secure = Secure::start(&origin, Config::default()).await;
    let mut client = Client::connect(&secure).await;
    let file = client.get("/live/a/v0/1-1.m4s").await;
    assert_eq!(file.0.status(), 200);
    assert_eq!(file.0.headers()["content-length"], "5");
    assert!(file.0.headers().contains_key("date"));
    assert_eq!(whole(file).await.unwrap(), b"media");

    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 300_000))).await;
    let head = client.ask(Method::HEAD, "/live/a.flv", "").await;
    assert_eq!(head.0.headers()["content-type"], "video/x-flv");
    assert!(whole(head).await.unwrap().is_empty());
    for path in ["/live/none/index.m3u8", "/live/none.flv", "/live/a/v0/1-1.m4s"] {
        let head = client.ask(Method::HEAD, path, "").await;
        assert_ne!(head.0.headers()["content-length"], "0", "{path}");
        assert!(whole(head).await.unwrap().is_empty(), "{path}");
    }
    let (response, mut stream) = client.get("/live/a.flv").await;
    assert_eq!(response.headers()["content-type"], "video/x-flv");
    let mut reader = Reader::new();
    assert_eq!(number(&mut stream, &mut reader).await, Some(0));
    let mut other = Player::new(secure.server.get("/live/a.flv").await);
    assert_eq!(other.number().await, Some(0));
    for n in 1..=50 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        assert_eq!(number(&mut stream, &mut reader).await, Some(n));
        assert_eq!(other.number().await, Some(n));
    }
    assert_eq!(secure.server.edge.viewers(&key("a")).flv, 2);
    drop(relay);
    assert_eq!(number(&mut stream, &mut reader).await, None, "a regular end");
    assert_eq!(metric(&secure.server, r#"weir_edge_protocol_connections_total{protocol="h3"}"#), "1");
}

#[tokio::test]
async fn what_is_sent_with_a_request_reaches_the_pages() {
    let pages = Pages::new(service_fn(|request: Request<Body>| async move {
        let answer = request.into_body().collect().await?.to_bytes();
        let body = Full::new(answer).map_err(|never| match never {}).boxed_unsync();
        Ok::<_, BoxError>(Response::builder().header("connection", "close").body(body).unwrap())
    }));
    let secure = Secure::with(&Origin::default(), Config::default(), Some(pages)).await;
    let mut client = Client::connect(&secure).await;
    let answer = client.ask(Method::POST, "/api/v1/streams", "said").await;
    assert!(!answer.0.headers().contains_key("connection"), "of HTTP/1.1 only");
    assert_eq!(whole(answer).await.unwrap(), b"said");
    let long = str::from_utf8(&[b'x'; 200_000]).unwrap().to_owned().leak();
    assert_eq!(
        whole(client.ask(Method::POST, "/api/v1/streams", long).await).await.unwrap(),
        long.as_bytes()
    );
}

#[tokio::test]
async fn a_viewer_who_leaves_a_silent_stream_is_noticed() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let secure = Secure::start(&origin, Config::default()).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let mut client = Client::connect(&secure).await;
    let (_, mut stream) = client.get("/live/a.flv").await;
    assert_eq!(number(&mut stream, &mut Reader::new()).await, Some(0));
    assert_eq!(secure.server.edge.viewers(&key("a")).flv, 1);
    // Its drop says STOP_SENDING.
    drop(stream);
    until(|| secure.server.edge.viewers(&key("a")).flv == 0).await;
    assert_eq!(
        whole(client.get("/live/b.flv").await).await.map(|_| ()).ok(),
        Some(()),
        "the connection goes on"
    );
}

#[tokio::test]
async fn a_viewer_that_takes_nothing_is_dropped() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.http.write_stall_ms = 300;
    let secure = Secure::start(&origin, config).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut client = Client::connect(&secure).await;
    // Read by nobody: the window stays closed once it is used up.
    let answer = client.get("/live/a.flv").await;
    for n in 1.. {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if secure.server.edge.viewers(&key("a")).flv == 0 {
            break;
        }
    }
    assert_eq!(metric(&secure.server, r#"weir_edge_viewer_drops_total{reason="stalled"}"#), "1");
    drop(answer);
}

#[tokio::test]
async fn a_refusal_that_is_not_taken_ends_its_connection() {
    let mut config = Config::default();
    config.http.write_stall_ms = 300;
    // Nor is it idle.
    config.http.header_timeout_ms = 3_600_000;
    let secure = Secure::guarded(&Origin::default(), config, guarded::access(), None).await;
    // More than what is said of the connection, and less than the head; more than that, and less than all.
    for window in [64u32, 150] {
        for path in ["/live/a.flv", "/relay/live/a", "/nothing"] {
            let mut transport = TransportConfig::default();
            transport.stream_receive_window(window.into());
            let mut client = Client::with(&secure, transport).await;
            let request = Request::get(format!("https://localhost{path}")).body(()).unwrap();
            // Read by nobody: the window stays closed once it is used up.
            let mut stream = client.requests.send_request(request).await.unwrap();
            stream.finish().await.unwrap();
            client.quic.closed().await;
        }
    }
    until(|| metric(&secure.server, "weir_edge_connections ") == "0").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_no_regular_end() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = Config::default();
    config.fanout.ring_bytes = 1 << 20;
    config.fanout.max_skips_per_minute = 0;
    let secure = Secure::start(&origin, config).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut client = Client::connect(&secure).await;
    let slow = client.get("/live/a.flv").await;
    let mut player = Player::new(secure.server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    for n in 1..=600 {
        relay.send(studio.picture(n % 25 == 0, 100_000).bytes).await;
        assert_eq!(player.number().await, Some(n));
    }
    assert!(whole(slow).await.is_err());
    assert_eq!(metric(&secure.server, r#"weir_edge_viewer_drops_total{reason="lagged"}"#), "1");
}

#[tokio::test]
async fn a_frame_that_says_it_is_long_ends_its_connection_and_no_other() {
    let secure = Secure::start(&Origin::default(), Config::default()).await;
    let mut honest = Client::connect(&secure).await;
    let head = [&[1][..], &0x8010_0000u32.to_be_bytes()].concat();
    for control in [true, false] {
        let (quic, _endpoint) = dial(&secure, TransportConfig::default()).await;
        if control {
            let mut stream = quic.open_uni().await.unwrap();
            stream.write_all(&[&[0][..], &head].concat()).await.unwrap();
            quic.closed().await;
        } else {
            let (mut stream, _answer) = quic.open_bi().await.unwrap();
            stream.write_all(&head).await.unwrap();
            quic.closed().await;
        }
        assert_eq!(honest.get("/live/a.flv").await.0.status(), 404);
    }
}

#[tokio::test]
async fn who_asks_for_nothing_is_sent_away() {
    let mut config = Config::default();
    config.http.header_timeout_ms = 300;
    let secure = Secure::start(&Origin::default(), config).await;
    // Says nothing at all; begins HTTP/3 and asks for nothing; begins a request and does not end it; asks no more.
    let (silent, _endpoint) = dial(&secure, TransportConfig::default()).await;
    silent.closed().await;
    let client = Client::connect(&secure).await;
    client.quic.closed().await;
    let (slow, _endpoint) = dial(&secure, TransportConfig::default()).await;
    let (mut stream, _answer) = slow.open_bi().await.unwrap();
    stream.write_all(&[1, 40, 0]).await.unwrap();
    slow.closed().await;
    let mut idle = Client::connect(&secure).await;
    assert_eq!(idle.get("/live/a.flv").await.0.status(), 404);
    assert!(idle.ended.await.unwrap().is_h3_no_error());
    until(|| metric(&secure.server, "weir_edge_connections ") == "0").await;
}

#[tokio::test]
async fn a_server_that_drains_says_so_and_lets_viewers_finish() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut secure = Secure::start(&origin, Config::default()).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut client = Client::connect(&secure).await;
    let (_, mut stream) = client.get("/live/a.flv").await;
    let mut reader = Reader::new();
    assert_eq!(number(&mut stream, &mut reader).await, Some(0));
    secure.server.drain();
    // Refused by the client itself once it knows.
    let request = || Request::get("https://localhost/live/a.flv").body(()).unwrap();
    while let Ok(mut late) = client.requests.send_request(request()).await {
        let _ = late.recv_response().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(number(&mut stream, &mut reader).await, Some(1));
    drop(relay);
    assert_eq!(number(&mut stream, &mut reader).await, None);
    secure.server.stopped().await;
    assert!(client.ended.await.unwrap().is_h3_no_error());
}
