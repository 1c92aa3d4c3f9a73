//! A server with its origin, clients with and without manners, and media to send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use control_api::grant::{Grants, KeySet};
use media_core::amf0::Value;
use media_core::flv::{Reader, Tag, TagKind};
use media_core::hub::{Consumer, Event, StreamKey, Unit};
use media_core::rtmp::chunk::{self, Header, type_id};
use media_core::rtmp::client::{self, Mode, Session, Target};
use media_core::rtmp::{Capabilities, Command, Error, Kind, Message};
use origin::ingest::rtmp::{Ingest, OnPlay};
use origin::{Config, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// H.264 and AAC, some seconds.
pub const CLIP: &[u8] = include_bytes!("../../../src/demo/clip.flv");

/// What a test waits for comes within this, or the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

fn no_grants() -> Arc<Grants> {
    Arc::new(Grants::new(KeySet::new([]).unwrap()))
}

/// An origin with an RTMP listener.
pub struct Server {
    pub origin: Origin,
    pub ingest: Ingest,
    pub address: SocketAddr,
    pub drain: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
    metrics: prometheus::Registry,
}

impl Server {
    pub async fn start(config: Config, on_play: Option<OnPlay>) -> Self {
        let metrics = prometheus::Registry::new();
        let origin = Origin::new(config, &metrics).unwrap();
        let ingest = Ingest::new(origin.clone(), no_grants(), on_play, &metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, drained) = oneshot::channel();
        let serving = ingest.clone();
        let task = tokio::spawn(async move {
            serving
                .serve(listener, async {
                    let _ = drained.await;
                })
                .await;
        });
        Self { origin, ingest, address, drain: Some(drain), task, metrics }
    }

    pub async fn open() -> Self {
        Self::start(Config::default(), None).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    pub async fn publish(&self, path: &str) -> Result<Client, Error> {
        Client::start(&self.url(path), Mode::Publish).await
    }

    pub async fn play(&self, path: &str) -> Result<Client, Error> {
        Client::start(&self.url(path), Mode::Play).await
    }

    pub fn metric(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let samples = families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric());
        samples.map(|m| m.get_counter().get_value()).sum()
    }

    pub fn consumer(&self, key: &StreamKey) -> Consumer {
        self.origin.registry().subscribe(key).unwrap()
    }

    pub async fn raw(&self) -> Raw {
        Raw { socket: TcpStream::connect(self.address).await.unwrap() }
    }
}

pub fn key(app: &str, name: &str) -> StreamKey {
    StreamKey::parse(app, name, &[]).unwrap()
}

/// An RTMP client on a socket.
pub struct Client {
    pub socket: TcpStream,
    pub session: Session,
}

impl Client {
    /// Connects, and waits for consent or refusal.
    pub async fn start(url: &str, mode: Mode) -> Result<Self, Error> {
        let target = Target::parse(url).unwrap();
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await.unwrap();
        let config = client::Config {
            target,
            mode,
            flash_ver: "test".to_owned(),
            capabilities: Capabilities::all(),
            timeout: PATIENCE,
        };
        let mut client = Self { socket, session: Session::new(config, Instant::now())? };
        match client.event().await? {
            client::Event::Started => Ok(client),
            other => panic!("{other:?}"),
        }
    }

    pub async fn flush(&mut self) {
        while let Some(bytes) = self.session.poll_output() {
            // The server may have closed its end; what it said is still to be read.
            let _ = self.socket.write_all(&bytes).await;
        }
    }

    pub async fn event(&mut self) -> Result<client::Event, Error> {
        let mut buffer = [0; 4096];
        within("an event", async {
            loop {
                if let Some(event) = self.session.poll_event() {
                    return Ok(event);
                }
                self.flush().await;
                let len = self.socket.read(&mut buffer).await.unwrap();
                assert!(len > 0, "closed without a word");
                self.session.handle_input(Instant::now(), &buffer[..len])?;
            }
        })
        .await
    }

    pub async fn send(&mut self, message: &Message) {
        self.session.send(message).unwrap();
        self.flush().await;
    }

    pub async fn send_all<'a>(&mut self, tags: impl IntoIterator<Item = &'a Tag>) {
        for tag in tags {
            self.send(&message(tag, 0)).await;
        }
    }

    /// The server's last words.
    pub async fn refused(&mut self) -> (String, String) {
        match self.event().await {
            Err(Error::Refused { code, description }) => (code, description),
            other => panic!("{other:?}"),
        }
    }
}

pub fn refused(result: Result<Client, Error>) -> (String, String) {
    match result {
        Err(Error::Refused { code, description }) => (code, description),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

pub fn clip() -> Vec<Tag> {
    let mut reader = Reader::new();
    reader.push(Bytes::from_static(CLIP));
    let mut tags = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        tags.push(tag);
    }
    tags
}

pub fn message(tag: &Tag, shift_ms: u32) -> Message {
    let kind = match tag.kind {
        TagKind::Audio => Kind::Audio,
        TagKind::Video => Kind::Video,
        TagKind::Script => Kind::Data,
    };
    Message { kind, timestamp_ms: tag.timestamp_ms.wrapping_add(shift_ms), body: tag.body.clone() }
}

/// Sends messages and receives each frame before the next is sent: a consumer that lags would skip.
pub async fn in_lockstep(
    client: &mut Client,
    consumer: &mut Consumer,
    messages: impl IntoIterator<Item = (Message, bool)>,
) -> Vec<Unit> {
    let mut got = Vec::new();
    for (message, is_frame) in messages {
        client.send(&message).await;
        if is_frame {
            got.extend(units(consumer, 1).await);
        }
    }
    got
}

/// An AAC or AVC frame: neither a sequence header nor the end of the sequence.
pub fn is_frame(tag: &Tag) -> bool {
    tag.kind != TagKind::Script && tag.body.get(1) == Some(&1)
}

/// An AAC or AVC sequence header.
pub fn is_sequence_header(tag: &Tag) -> bool {
    tag.kind != TagKind::Script && tag.body.get(1) == Some(&0)
}

pub async fn units(consumer: &mut Consumer, count: usize) -> Vec<Unit> {
    within("frames", async {
        let mut units = Vec::new();
        let stream = Arc::clone(consumer.stream());
        while units.len() < count {
            let changed = stream.changed();
            match consumer.try_next() {
                Some(Event::Unit(unit)) => units.push(unit),
                Some(Event::Ended) => panic!("the stream ended after {} frames", units.len()),
                None => changed.await,
            }
        }
        units
    })
    .await
}

/// A connection without manners.
pub struct Raw {
    pub socket: TcpStream,
}

impl Raw {
    pub async fn shake(&mut self) {
        let mut hello = vec![3u8];
        hello.resize(1537, 1);
        self.socket.write_all(&hello).await.unwrap();
        let mut answer = vec![0; 3073];
        within("the handshake", self.socket.read_exact(&mut answer)).await.unwrap();
        self.socket.write_all(&answer[1..1537]).await.unwrap();
    }

    pub async fn message(&mut self, type_id: u8, stream_id: u32, body: &[u8]) {
        let mut wire = BytesMut::new();
        let header = Header { chunk_stream: 3, type_id, stream_id, timestamp_ms: 0 };
        chunk::write(&mut wire, 128, &header, &[body]).unwrap();
        let _ = self.socket.write_all(&wire).await;
    }

    /// Shakes hands and gets as far as being a publisher.
    pub async fn publish(&mut self, app: &str, name: &str) {
        self.shake().await;
        let connect = Command {
            name: "connect".to_owned(),
            transaction: 1.0,
            object: Value::object([("app", Value::from(app))]),
            arguments: vec![],
        };
        self.message(type_id::COMMAND_AMF0, 0, &connect.body()).await;
        self.message(type_id::COMMAND_AMF0, 0, &Command::new("createStream", 2.0, vec![]).body()).await;
        let publish = Command::new("publish", 3.0, vec![name.into(), "live".into()]);
        self.message(type_id::COMMAND_AMF0, 1, &publish.body()).await;
        let mut said = Vec::new();
        within("the consent", async {
            while !said.windows(23).any(|w| w == b"NetStream.Publish.Start") {
                assert!(self.socket.read_buf(&mut said).await.unwrap() > 0, "refused");
            }
        })
        .await;
    }

    /// Waits until the server closes the connection; what it said before.
    pub async fn until_closed(mut self, what: &str) -> Vec<u8> {
        let mut said = Vec::new();
        within(&format!("the end of the connection ({what})"), async {
            // A reset is a way to close, too.
            while matches!(self.socket.read_buf(&mut said).await, Ok(n) if n > 0) {}
        })
        .await;
        said
    }
}

/// Publishes a clip to `live/good`, and can tell that it still arrives.
pub struct Witness {
    pub client: Client,
    pub consumer: Consumer,
    pub tags: Vec<Tag>,
    next: usize,
}

impl Witness {
    pub async fn start(server: &Server) -> Self {
        let mut client = server.publish("live/good").await.unwrap();
        let tags = clip();
        let next = 20;
        client.send_all(&tags[..next]).await;
        let consumer = loop {
            match server.origin.registry().subscribe(&key("live", "good")) {
                Some(consumer) => break consumer,
                None => tokio::task::yield_now().await,
            }
        };
        let mut witness = Self { client, consumer, tags, next };
        witness.still_arrives().await;
        witness
    }

    pub async fn still_arrives(&mut self) {
        while self.consumer.try_next().is_some() {}
        self.client.send(&message(&self.tags[self.next], 0)).await;
        self.next += 1;
        units(&mut self.consumer, 1).await;
    }
}
