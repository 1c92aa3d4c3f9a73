//! RTMP play, as seen by the client session.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use media_core::amf0::{self, Value};
use media_core::rtmp::chunk;
use media_core::rtmp::client::{self, Config, Mode, Target};
use media_core::rtmp::{Capabilities, Error, Kind, Message, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::Server;
use super::limits::metric;
use super::origin::Origin;
use super::studio::{self, Studio, opening};
use super::{key, until};
use crate::{Edge, Play};

/// A player that is connected to an edge by a listener that hands over, as the origin's does.
pub(super) struct Player {
    socket: TcpStream,
    session: client::Session,
    events: VecDeque<client::Event>,
    received: Vec<u8>,
}

impl Player {
    pub(super) async fn connect(edge: &Edge, name: &str) -> Self {
        Self::held(edge, name, Box::new(())).await
    }

    /// The listener holds something for it.
    async fn held(edge: &Edge, name: &str, hold: Box<dyn Send>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let edge = edge.clone();
        tokio::spawn(async move {
            let (socket, peer) = listener.accept().await.unwrap();
            hand_over(edge, socket, peer, hold).await;
        });
        let config = Config {
            target: Target::parse(&format!("rtmp://{address}/live/{name}")).unwrap(),
            mode: Mode::Play,
            flash_ver: "test".into(),
            capabilities: Capabilities::default(),
            timeout: Duration::from_secs(60),
        };
        let session = client::Session::new(config, Instant::now()).unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        Self { socket, session, events: VecDeque::new(), received: Vec::new() }
    }

    /// The next event, or a refusal; `None` when the server has hung up.
    async fn event(&mut self) -> Option<client::Event> {
        match self.try_event().await {
            Ok(event) => event,
            Err(error) => panic!("{error}"),
        }
    }

    async fn try_event(&mut self) -> Result<Option<client::Event>, Error> {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.socket.write_all(&output).await.unwrap();
            }
            self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let mut buffer = vec![0; 16 * 1024];
            match self.socket.read(&mut buffer).await.unwrap() {
                0 => return Ok(None),
                len => {
                    self.received.extend_from_slice(&buffer[..len]);
                    self.session.handle_input(Instant::now(), &buffer[..len])?;
                }
            }
        }
    }

    async fn message(&mut self) -> Message {
        loop {
            match self.event().await.expect("more") {
                client::Event::Media(message) => return message,
                client::Event::Started => {}
                client::Event::Ended(status) => panic!("{status:?}"),
            }
        }
    }

    pub(super) async fn number(&mut self) -> u64 {
        loop {
            let message = self.message().await;
            if message.kind != Kind::Data && message.body[1] != 0 {
                return studio::number(&message.body);
            }
        }
    }

    async fn pause(&mut self, pause: bool) {
        let arguments = [Value::from("pause"), 0.0.into(), Value::Null, pause.into(), 0.0.into()];
        let mut body = BytesMut::new();
        amf0::encode_all(&mut body, &arguments);
        let header = chunk::Header {
            chunk_stream: 8,
            type_id: chunk::type_id::COMMAND_AMF0,
            stream_id: 1,
            timestamp_ms: 0,
        };
        let mut out = BytesMut::new();
        chunk::write(&mut out, chunk::INITIAL_CHUNK_SIZE, &header, &[&body]).unwrap();
        self.socket.write_all(&out).await.unwrap();
    }

    /// Reads until the server has sent that. The session takes a pause for the end, so it is left out.
    async fn reads(&mut self, words: &[u8]) {
        while !self.has_heard(words) {
            let mut buffer = vec![0; 16 * 1024];
            let len = self.socket.read(&mut buffer).await.unwrap();
            assert_ne!(len, 0, "{words:x?}");
            self.received.extend_from_slice(&buffer[..len]);
        }
    }

    fn has_heard(&self, words: &[u8]) -> bool {
        self.received.windows(words.len()).any(|window| window == words)
    }

    /// Why the server does not let it play.
    pub(super) async fn refusal(&mut self) -> String {
        match self.try_event().await {
            Err(Error::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the server hangs up; whether it said that.
    pub(super) async fn heard(&mut self, words: &str) -> bool {
        let rest = self.socket.read_to_end(&mut self.received).await;
        rest.expect("a server that hangs up in good order");
        self.has_heard(words.as_bytes())
    }
}

async fn hand_over(edge: Edge, mut socket: TcpStream, peer: std::net::SocketAddr, hold: Box<dyn Send>) {
    let mut session = server::Session::new(server::Config::default(), Instant::now());
    let mut buffer = vec![0; 4096];
    loop {
        let len = socket.read(&mut buffer).await.unwrap();
        session.handle_input(Instant::now(), &buffer[..len]).unwrap();
        while let Some(event) = session.poll_event() {
            if let server::Event::Play(request) = event {
                return edge.serve_play(Play { socket, peer, session, request: *request, hold }).await;
            }
        }
        while let Some(output) = session.poll_output() {
            socket.write_all(&output).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_player_gets_headers_the_gop_and_what_follows() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    let kinds = [player.message().await, player.message().await, player.message().await];
    assert_eq!(kinds.each_ref().map(|message| message.kind), [Kind::Data, Kind::Video, Kind::Audio]);
    assert!(kinds[1..].iter().all(|message| message.body[1] == 0));
    assert_eq!(player.number().await, 0);
    assert_eq!(server.edge.viewers(&key("a")).rtmp, 1);
    // Longer than a chunk.
    relay.send(studio.picture(false, 150_000).bytes).await;
    let message = player.message().await;
    assert_eq!((studio::number(&message.body), message.body.len()), (1, 150_005));
    assert_eq!(message.timestamp_ms, 40);
}

#[tokio::test]
async fn the_end_of_the_stream_is_told() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    assert_eq!(player.number().await, 0);
    drop(relay);
    assert!(matches!(player.event().await, Some(client::Event::Ended(_))));
    assert!(player.heard("NetStream.Play.UnpublishNotify").await);
    assert!(player.heard("NetStream.Play.Stop").await);
    until(|| server.edge.totals().viewers.rtmp == 0).await;
}

#[tokio::test]
async fn an_absent_stream_or_an_impossible_name_is_not_found() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    for name in ["b", "b%20c", ".."] {
        let mut player = Player::connect(&server.edge, name).await;
        assert_eq!(player.refusal().await, "NetStream.Play.StreamNotFound", "{name}");
        assert!(player.heard("the stream is not live").await == (name == "b"));
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn low_latency_begins_with_the_next_keyframe() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut early = Player::connect(&server.edge, "a").await;
    assert_eq!(early.number().await, 0);
    let mut player = Player::connect(&server.edge, "a?latency=low").await;
    assert_eq!(player.event().await, Some(client::Event::Started));
    until(|| server.edge.viewers(&key("a")).rtmp == 2).await;
    relay.send(studio.picture(false, 100).bytes).await;
    relay.send(studio.picture(true, 100).bytes).await;
    assert_eq!(player.number().await, 2);
    assert_eq!(early.number().await, 1);
}

#[tokio::test]
async fn a_player_that_paused_goes_on_at_a_keyframe() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    assert_eq!(player.number().await, 0);
    player.pause(true).await;
    player.reads(b"NetStream.Pause.Notify").await;
    let mut other = Player::connect(&server.edge, "a").await;
    assert_eq!(other.number().await, 0);
    for number in 1..=3 {
        relay.send(studio.picture(false, 100).bytes).await;
        assert_eq!(other.number().await, number);
    }
    player.pause(false).await;
    player.reads(b"NetStream.Unpause.Notify").await;
    relay.send(studio.picture(false, 100).bytes).await;
    relay.send(studio.picture(true, 100).bytes).await;
    let video = |first: u8, number: u64| [&[first, 1, 0, 0, 0], &number.to_be_bytes()[..]].concat();
    player.reads(&video(0x17, 5)).await;
    assert!((1..5).all(|number| !player.has_heard(&video(0x27, number))));
}

#[tokio::test]
async fn a_player_that_paused_is_told_the_end_of_the_stream() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    assert_eq!(player.number().await, 0);
    player.pause(true).await;
    player.reads(b"NetStream.Pause.Notify").await;
    relay.send(studio.picture(false, 100).bytes).await;
    drop(relay);
    assert!(player.heard("NetStream.Play.UnpublishNotify").await);
    assert!(!player.has_heard(&[0x27, 1, 0, 0, 0]), "a picture in the pause");
    until(|| server.edge.viewers(&key("a")).rtmp == 0).await;
}

#[tokio::test]
async fn a_pause_has_an_end() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = crate::Config::default();
    config.fanout.max_pause_ms = 200;
    let server = Server::with(&origin, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    assert_eq!(player.number().await, 0);
    let began = Instant::now();
    player.pause(true).await;
    player.reads(b"NetStream.Pause.Notify").await;
    assert!(player.heard("The pause was too long.").await);
    assert!(began.elapsed() > Duration::from_millis(200));
    until(|| server.edge.viewers(&key("a")).rtmp == 0).await;
    let reason = r#"weir_edge_viewer_drops_total{reason="paused"}"#;
    assert_eq!(metric(&server, reason), "1");
}

#[tokio::test]
async fn a_player_that_leaves_is_gone() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let mut player = Player::connect(&server.edge, "a").await;
    assert_eq!(player.number().await, 0);
    player.session.close().unwrap();
    while let Some(output) = player.session.poll_output() {
        player.socket.write_all(&output).await.unwrap();
    }
    until(|| server.edge.viewers(&key("a")).rtmp == 0).await;
    let mut other = Player::connect(&server.edge, "a").await;
    assert_eq!(other.number().await, 0);
    drop(other);
    until(|| server.edge.viewers(&key("a")).rtmp == 0).await;
}

#[tokio::test]
async fn players_that_do_not_finish_by_the_deadline_are_cut() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = crate::Config::default();
    config.http.drain_ms = 50;
    let server = Server::with(&origin, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let (hold, left) = tokio::sync::oneshot::channel::<()>();
    let mut player = Player::held(&server.edge, "a", Box::new(hold)).await;
    assert_eq!(player.number().await, 0);
    server.edge.drain_players(async { drop(left.await) }).await;
    assert_eq!(server.edge.viewers(&key("a")).rtmp, 0);
    // Ends, however it is said.
    let _ = player.socket.read_to_end(&mut player.received).await;
}
