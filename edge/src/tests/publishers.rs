//! Publishers whom an edge passes on, and the origins that they come to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use media_core::amf0::{self, Value};
use media_core::hub::StreamKey;
use media_core::rtmp::client::{self, Mode, Target};
use media_core::rtmp::{Capabilities, Error, Kind, Message, Refusal, chunk, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::Server;
use super::origin::Origin;
use super::studio::{Studio, opening};
use crate::{Config, Ingests};

/// What an origin sees of a publisher.
#[derive(Debug, PartialEq, Eq)]
enum Saw {
    Publish { name: String, encoder: String },
    Media,
    Unpublished,
    Lost,
}

/// Takes in who comes, or is shutting down.
async fn origin(drains: bool) -> (SocketAddr, mpsc::Receiver<Saw>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (saw, seen) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(take_in(socket, drains, saw.clone()));
        }
    });
    (address, seen)
}

async fn take_in(mut socket: TcpStream, drains: bool, saw: mpsc::Sender<Saw>) {
    let mut session = server::Session::new(server::Config::default(), Instant::now());
    let mut buffer = vec![0; 4096];
    let mut publishes = false;
    loop {
        while let Some(event) = session.poll_event() {
            let what = match event {
                server::Event::Publish(request) if drains => {
                    session.refuse(request.id, &Refusal::shutting_down("draining")).unwrap();
                    continue;
                }
                server::Event::Publish(request) => {
                    session.accept_publish(Instant::now(), request.id).unwrap();
                    publishes = true;
                    Saw::Publish { name: request.name, encoder: request.connect.flash_ver.clone() }
                }
                server::Event::Media(_) => Saw::Media,
                server::Event::Unpublished => {
                    publishes = false;
                    Saw::Unpublished
                }
                _ => continue,
            };
            saw.send(what).await.unwrap();
        }
        while let Some(output) = session.poll_output() {
            let _ = socket.write_all(&output).await;
        }
        match socket.read(&mut buffer).await {
            Ok(len @ 1..) => session.handle_input(Instant::now(), &buffer[..len]).unwrap(),
            _ => break,
        }
    }
    if publishes {
        saw.send(Saw::Lost).await.unwrap();
    }
}

#[derive(Debug)]
struct Named(Vec<String>);

#[async_trait]
impl Ingests for Named {
    async fn ingests(&self, _: &StreamKey, _: bool) -> Vec<String> {
        self.0.clone()
    }
}

/// An edge's RTMP listener.
struct Listener {
    address: SocketAddr,
    drain: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Listener {
    /// Publishers go to these origins.
    async fn of(server: &Server, origins: &[SocketAddr]) -> Self {
        let urls = origins.iter().map(|origin| format!("rtmp://{origin}")).collect();
        server.edge.publish_by(Arc::new(Named(urls)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, drained) = oneshot::channel();
        let edge = server.edge.clone();
        let serving =
            tokio::spawn(async move { edge.serve_rtmp(listener, async { drop(drained.await) }).await });
        Self { address, drain, serving }
    }
}

/// Somebody who publishes or plays.
struct Client {
    socket: TcpStream,
    session: client::Session,
    events: VecDeque<client::Event>,
}

impl Client {
    async fn connect(address: SocketAddr, mode: Mode, name: &str, encoder: &str) -> Self {
        let config = client::Config {
            target: Target::parse(&format!("rtmp://{address}/live/{name}")).unwrap(),
            mode,
            flash_ver: encoder.to_owned(),
            capabilities: Capabilities::default(),
            timeout: Duration::from_secs(60),
        };
        let session = client::Session::new(config, Instant::now()).unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        Self { socket, session, events: VecDeque::new() }
    }

    async fn publish(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::connect(address, Mode::Publish, name, "test").await;
        assert_eq!(client.event().await, Ok(Some(client::Event::Started)));
        client
    }

    /// What comes next; `Ok(None)` when the server has hung up.
    async fn event(&mut self) -> Result<Option<client::Event>, (String, String)> {
        loop {
            self.flush().await;
            self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let mut buffer = vec![0; 16 * 1024];
            let len = self.socket.read(&mut buffer).await.unwrap_or(0);
            if len == 0 {
                return Ok(None);
            }
            match self.session.handle_input(Instant::now(), &buffer[..len]) {
                Ok(()) => {}
                Err(Error::Refused { code, description }) => return Err((code, description)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn refusal(&mut self) -> (String, String) {
        self.event().await.expect_err("a refusal")
    }

    async fn picture(&mut self) {
        let body = Bytes::from_static(&[0x17, 1, 0, 0, 0]);
        self.session.send(&Message { kind: Kind::Video, timestamp_ms: 0, body }).unwrap();
        self.flush().await;
    }

    async fn flush(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.socket.write_all(&output).await.unwrap();
        }
    }
}

fn command(out: &mut BytesMut, stream_id: u32, arguments: &[Value]) {
    let mut body = BytesMut::new();
    amf0::encode_all(&mut body, arguments);
    let type_id = chunk::type_id::COMMAND_AMF0;
    let header = chunk::Header { chunk_stream: 8, type_id, stream_id, timestamp_ms: 0 };
    chunk::write(out, chunk::INITIAL_CHUNK_SIZE, &header, &[&body]).unwrap();
}

async fn published(seen: &mut mpsc::Receiver<Saw>) -> (String, String) {
    match seen.recv().await {
        Some(Saw::Publish { name, encoder }) => (name, encoder),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_asked_for_with_the_end_of_a_stream_is_not_lost() {
    let server = Server::start(&Origin::default()).await;
    let (at, mut seen) = origin(false).await;
    let listener = Listener::of(&server, &[at]).await;
    let mut encoder = Client::publish(listener.address, "a").await;
    assert_eq!(published(&mut seen).await.0, "a");
    encoder.picture().await;
    assert_eq!(seen.recv().await, Some(Saw::Media));
    let mut both = BytesMut::new();
    command(&mut both, 0, &["deleteStream".into(), 7.0.into(), Value::Null, 1.0.into()]);
    command(&mut both, 0, &["createStream".into(), 8.0.into(), Value::Null]);
    command(&mut both, 1, &["publish".into(), 9.0.into(), Value::Null, "b".into(), "live".into()]);
    encoder.socket.write_all(&both).await.unwrap();
    assert_eq!(seen.recv().await, Some(Saw::Unpublished));
    assert_eq!(published(&mut seen).await.0, "b");
    listener.serving.abort();
}

#[tokio::test]
async fn what_an_edge_passed_on_is_passed_on_by_no_other() {
    let server = Server::start(&Origin::default()).await;
    let (at, mut seen) = origin(false).await;
    let listener = Listener::of(&server, &[at]).await;
    let _encoder = Client::publish(listener.address, "a").await;
    let (_, name) = published(&mut seen).await;
    assert!(name.starts_with("test "), "{name}");
    let mut again = Client::connect(listener.address, Mode::Publish, "a", &name).await;
    let (code, why) = again.refusal().await;
    assert_eq!(code, "NetStream.Publish.Denied");
    assert!(why.contains("leads to edges"), "{why}");
    // A name of any length has the mark as others read it.
    let _encoder = {
        let mut client = Client::connect(listener.address, Mode::Publish, "b", &"é".repeat(6_000)).await;
        assert_eq!(client.event().await, Ok(Some(client::Event::Started)));
        client
    };
    let (_, long) = published(&mut seen).await;
    assert_eq!(long.split_once(' ').map(|(_, mark)| mark), name.split_once(' ').map(|(_, mark)| mark));
    listener.serving.abort();
}

#[tokio::test]
async fn an_origin_that_is_shutting_down_is_passed_over() {
    let server = Server::start(&Origin::default()).await;
    let ((drains, _), (at, mut seen)) = (origin(true).await, origin(false).await);
    let listener = Listener::of(&server, &[drains, at]).await;
    let _encoder = Client::publish(listener.address, "a").await;
    assert_eq!(published(&mut seen).await.0, "a");
    listener.serving.abort();

    let server = Server::start(&Origin::default()).await;
    let listener = Listener::of(&server, &[drains]).await;
    let mut encoder = Client::connect(listener.address, Mode::Publish, "a", "test").await;
    assert_eq!(encoder.refusal().await, ("NetConnection.Connect.AppShutdown".into(), "draining".into()));
    listener.serving.abort();
}

#[tokio::test]
async fn an_edge_that_drains_sends_publishers_elsewhere_and_cuts_players_in_time() {
    let streams = Origin::default();
    let relay = streams.relay("a");
    let mut config = Config::default();
    config.http.drain_ms = 50;
    let server = Server::with(&streams, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let (at, mut seen) = origin(false).await;
    let listener = Listener::of(&server, &[at]).await;
    let mut encoder = Client::publish(listener.address, "a").await;
    assert_eq!(published(&mut seen).await.0, "a");
    encoder.picture().await;
    assert_eq!(seen.recv().await, Some(Saw::Media));
    let mut player = Client::connect(listener.address, Mode::Play, "a", "test").await;
    assert_eq!(player.event().await, Ok(Some(client::Event::Started)));
    let _idle = TcpStream::connect(listener.address).await.unwrap();

    listener.drain.send(()).unwrap();
    assert_eq!(encoder.refusal().await.0, "NetConnection.Connect.AppShutdown");
    assert_eq!(seen.recv().await, Some(Saw::Lost), "the stream is not ended");
    while player.event().await.is_ok_and(|event| event.is_some()) {}
    drop(encoder);
    listener.serving.await.unwrap();
    assert_eq!(server.edge.totals().viewers.rtmp, 0);
}
