//! FLV over WebSocket, as seen by tungstenite's client.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use http::Method;
use media_core::flv::{Reader, Tag, TagKind};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::client::{Server, text};
use super::origin::Origin;
use super::studio::{self, Studio, opening};
use super::{key, until};

struct Viewer {
    socket: WebSocket<TcpStream>,
    reader: Reader,
}

impl Viewer {
    async fn connect(server: &Server, path: &str) -> Self {
        let url = format!("ws://{}{path}", server.address);
        let address = server.address;
        let connect = move || {
            let stream = TcpStream::connect(address).unwrap();
            tungstenite::client(url, stream).unwrap().0
        };
        let socket = tokio::task::spawn_blocking(connect).await.unwrap();
        Self { socket, reader: Reader::new() }
    }

    /// Something blocking, off the runtime's thread.
    async fn with<T: Send + 'static>(
        self,
        act: impl FnOnce(&mut WebSocket<TcpStream>) -> T + Send + 'static,
    ) -> (Self, T) {
        let Self { mut socket, reader } = self;
        let act = move || {
            let result = act(&mut socket);
            (socket, result)
        };
        let (socket, result) = tokio::task::spawn_blocking(act).await.unwrap();
        (Self { socket, reader }, result)
    }

    async fn tag(mut self) -> (Self, Tag) {
        loop {
            if let Some(tag) = self.reader.next_tag().unwrap() {
                return (self, tag);
            }
            let (this, message) = self.with(|socket| socket.read().unwrap()).await;
            self = this;
            let Message::Binary(bytes) = message else { panic!("{message:?}") };
            self.reader.push(bytes);
        }
    }

    async fn number(mut self) -> (Self, u64) {
        loop {
            let (this, tag) = self.tag().await;
            self = this;
            if tag.kind != TagKind::Script && tag.body[1] != 0 {
                return (self, studio::number(&tag.body));
            }
        }
    }
}

#[tokio::test]
async fn a_viewer_gets_the_stream_and_its_end() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    relay.send(studio.picture(false, 100_000).bytes).await;
    let viewer = Viewer::connect(&server, "/live/a.flv").await;
    let (viewer, first) = viewer.number().await;
    let (viewer, second) = viewer.number().await;
    assert_eq!((first, second), (0, 1));
    assert_eq!(server.edge.viewers(&key("a")).ws_flv, 1);
    drop(relay);
    let (_, message) = viewer.with(|socket| socket.read().unwrap()).await;
    let Message::Close(Some(close)) = message else { panic!("{message:?}") };
    assert_eq!(close.code, CloseCode::Normal);
    until(|| server.edge.viewers(&key("a")).ws_flv == 0).await;
}

#[tokio::test]
async fn pings_are_answered_and_a_close_is_returned() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let viewer = Viewer::connect(&server, "/live/a.flv").await;
    let (viewer, first) = viewer.number().await;
    assert_eq!(first, 0);
    let (viewer, pong) = viewer
        .with(|socket| {
            socket.send(Message::Ping(Bytes::from_static(b"are you there"))).unwrap();
            socket.read().unwrap()
        })
        .await;
    assert_eq!(pong, Message::Pong(Bytes::from_static(b"are you there")));
    let (_, close) = viewer
        .with(|socket| {
            socket.close(None).unwrap();
            socket.read().unwrap()
        })
        .await;
    assert!(matches!(close, Message::Close(_)), "{close:?}");
    until(|| server.edge.viewers(&key("a")).ws_flv == 0).await;
}

#[tokio::test]
async fn a_viewer_that_has_much_to_say_is_told_so() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let viewer = Viewer::connect(&server, "/live/a.flv").await;
    let (viewer, _) = viewer.number().await;
    let (_, message) = viewer
        .with(|socket| {
            // More than the server hears at once: it does not reset the connection under the goodbye for that.
            socket.send(Message::Binary(vec![0; 256 << 10].into())).unwrap();
            socket.read().unwrap()
        })
        .await;
    let Message::Close(Some(close)) = message else { panic!("{message:?}") };
    assert_eq!(close.code, CloseCode::Size);
}

#[tokio::test]
async fn a_viewer_that_sends_garbage_is_told_so() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let viewer = Viewer::connect(&server, "/live/a.flv").await;
    let (viewer, _) = viewer.number().await;
    let (_, rest) = viewer
        .with(|socket| {
            let stream = socket.get_mut();
            stream.write_all(&[0xff; 64]).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            rest
        })
        .await;
    assert_eq!(rest[0], 0x88);
    assert_eq!(rest[2..4], 1002u16.to_be_bytes());
}

#[tokio::test]
async fn an_absent_stream_and_a_bad_handshake_are_refused() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let headers = |version: &'static str, key: &'static str| {
        [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", version),
            ("sec-websocket-key", key),
        ]
    };
    let good = headers("13", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(server.request(Method::GET, "/live/b.flv", &good).await.status(), 404);
    let old = headers("8", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = server.request(Method::GET, "/live/c.flv", &old).await;
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    let bad = headers("13", "short");
    let response = server.request(Method::GET, "/live/c.flv", &bad).await;
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains("Sec-WebSocket-Key"));
    assert_eq!(origin.requests().len(), 1, "only the first was worth asking");
}
