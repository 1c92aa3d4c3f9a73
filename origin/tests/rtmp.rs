//! RTMP ingest over real sockets: publishers, refusals, limits, and everything a hostile client sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what is wrong by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media_core::amf0::Value;
use media_core::flv::{Reader, Tag, TagKind};
use media_core::hub::{Consumer, Event, Phase, StreamKey, Unit};
use media_core::rtmp::chunk::{self, Header, type_id};
use media_core::rtmp::client::{self, Mode, Session, Target};
use media_core::rtmp::{Capabilities, Command, Error, Kind, Message, Refusal};
use origin::ingest::rtmp::{Handoff, Ingest, OnPlay};
use origin::{Config, Origin, auth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// H.264 and AAC, some seconds.
const CLIP: &[u8] = include_bytes!("../../src/demo/clip.flv");

/// What a test waits for comes within this, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// An origin with an RTMP listener.
struct Server {
    origin: Origin,
    ingest: Ingest,
    address: SocketAddr,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    metrics: prometheus::Registry,
}

impl Server {
    async fn start(config: Config, on_play: Option<OnPlay>) -> Self {
        let metrics = prometheus::Registry::new();
        let origin = Origin::new(config, &metrics).unwrap();
        let ingest = Ingest::new(origin.clone(), on_play, &metrics).unwrap();
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

    async fn open() -> Self {
        Self::start(Config::default(), None).await
    }

    fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    async fn publish(&self, path: &str) -> Result<Client, Error> {
        Client::start(&self.url(path), Mode::Publish).await
    }

    async fn play(&self, path: &str) -> Result<Client, Error> {
        Client::start(&self.url(path), Mode::Play).await
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let samples = families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric());
        samples.map(|m| m.get_counter().get_value()).sum()
    }

    fn consumer(&self, key: &StreamKey) -> Consumer {
        self.origin.registry().subscribe(key).unwrap()
    }

    async fn raw(&self) -> Raw {
        Raw { socket: TcpStream::connect(self.address).await.unwrap() }
    }
}

fn key(app: &str, name: &str) -> StreamKey {
    StreamKey::parse(app, name, &[]).unwrap()
}

/// An RTMP client on a socket.
struct Client {
    socket: TcpStream,
    session: Session,
}

impl Client {
    /// Connects, and waits for consent or refusal.
    async fn start(url: &str, mode: Mode) -> Result<Self, Error> {
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

    async fn flush(&mut self) {
        while let Some(bytes) = self.session.poll_output() {
            // The server may have closed its end; what it said is still to be read.
            let _ = self.socket.write_all(&bytes).await;
        }
    }

    async fn event(&mut self) -> Result<client::Event, Error> {
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

    async fn send(&mut self, message: &Message) {
        self.session.send(message).unwrap();
        self.flush().await;
    }

    async fn send_all<'a>(&mut self, tags: impl IntoIterator<Item = &'a Tag>) {
        for tag in tags {
            self.send(&message(tag, 0)).await;
        }
    }

    /// The server's last words.
    async fn refused(&mut self) -> (String, String) {
        match self.event().await {
            Err(Error::Refused { code, description }) => (code, description),
            other => panic!("{other:?}"),
        }
    }
}

fn refused(result: Result<Client, Error>) -> (String, String) {
    match result {
        Err(Error::Refused { code, description }) => (code, description),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

fn clip() -> Vec<Tag> {
    let mut reader = Reader::new();
    reader.push(Bytes::from_static(CLIP));
    let mut tags = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        tags.push(tag);
    }
    tags
}

fn message(tag: &Tag, shift_ms: u32) -> Message {
    let kind = match tag.kind {
        TagKind::Audio => Kind::Audio,
        TagKind::Video => Kind::Video,
        TagKind::Script => Kind::Data,
    };
    Message { kind, timestamp_ms: tag.timestamp_ms.wrapping_add(shift_ms), body: tag.body.clone() }
}

/// Sends messages and receives each frame before the next is sent: a consumer that lags would skip.
async fn in_lockstep(
    client: &mut Client,
    consumer: &mut Consumer,
    messages: impl IntoIterator<Item = (Message, bool)>,
) -> Vec<Arc<Unit>> {
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
fn is_frame(tag: &Tag) -> bool {
    tag.kind != TagKind::Script && tag.body.get(1) == Some(&1)
}

/// An AAC or AVC sequence header.
fn is_sequence_header(tag: &Tag) -> bool {
    tag.kind != TagKind::Script && tag.body.get(1) == Some(&0)
}

async fn units(consumer: &mut Consumer, count: usize) -> Vec<Arc<Unit>> {
    within("frames", async {
        let mut units = Vec::new();
        while units.len() < count {
            match consumer.next().await {
                Event::Unit(unit) => units.push(unit),
                Event::Ended => panic!("the stream ended after {} frames", units.len()),
            }
        }
        units
    })
    .await
}

/// A connection without manners.
struct Raw {
    socket: TcpStream,
}

impl Raw {
    async fn shake(&mut self) {
        let mut hello = vec![3u8];
        hello.resize(1537, 1);
        self.socket.write_all(&hello).await.unwrap();
        let mut answer = vec![0; 3073];
        within("the handshake", self.socket.read_exact(&mut answer)).await.unwrap();
        self.socket.write_all(&answer[1..1537]).await.unwrap();
    }

    async fn message(&mut self, type_id: u8, stream_id: u32, body: &[u8]) {
        let mut wire = BytesMut::new();
        let header = Header { chunk_stream: 3, type_id, stream_id, timestamp_ms: 0 };
        chunk::write(&mut wire, 128, &header, &[body]).unwrap();
        let _ = self.socket.write_all(&wire).await;
    }

    /// Shakes hands and gets as far as being a publisher.
    async fn publish(&mut self, app: &str, name: &str) {
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
    async fn until_closed(mut self, what: &str) -> Vec<u8> {
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
struct Witness {
    client: Client,
    consumer: Consumer,
    tags: Vec<Tag>,
    next: usize,
}

impl Witness {
    async fn start(server: &Server) -> Self {
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

    async fn still_arrives(&mut self) {
        while self.consumer.try_next().is_some() {}
        self.client.send(&message(&self.tags[self.next], 0)).await;
        self.next += 1;
        units(&mut self.consumer, 1).await;
    }
}

#[tokio::test]
async fn a_publisher_becomes_a_stream_and_leaves_it_interrupted() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let mut consumer = server.consumer(&key("live", "a"));
    let tags = clip();
    let first = tags.iter().position(|t| t.kind == TagKind::Video && is_frame(t)).unwrap();
    client.send_all(&tags[..first]).await;
    let messages = tags[first..].iter().map(|t| (message(t, 0), is_frame(t)));
    let got = in_lockstep(&mut client, &mut consumer, messages).await;
    assert_eq!(got[0].tracks.tracks.len(), 2);
    assert!(got[0].is_join_point());
    let stream = server.origin.registry().stream(&key("live", "a")).unwrap();
    assert_eq!(stream.snapshot().phase, Phase::Live);
    drop(client);
    within("the interruption", async {
        while stream.snapshot().phase == Phase::Live {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stream.snapshot().phase, Phase::Interrupted);
    let mut client = server.publish("live/a").await.unwrap();
    client.send_all(&tags[..20]).await;
    let again = units(&mut consumer, 1).await;
    assert!(again[0].tracks.epoch > got[0].tracks.epoch, "the same stream goes on under a new epoch");
}

#[tokio::test]
async fn keys_are_asked_for_and_can_be_replaced() {
    let rule = |key: &str| auth::Key { streams: "live/*".to_owned(), key: key.to_owned() };
    let config = |keys| Config { auth: auth::Config { mode: auth::Mode::Keys, keys }, ..Config::default() };
    let server = Server::start(config(vec![rule("s3cret")]), None).await;
    let (code, description) = refused(server.publish("live/a").await);
    assert_eq!(code, "NetStream.Publish.Denied");
    assert!(description.contains("?key="), "{description}");
    assert_eq!(refused(server.publish("live/a?key=wrong").await).0, "NetStream.Publish.Denied");
    assert_eq!(refused(server.publish("other/a?key=s3cret").await).0, "NetStream.Publish.Denied");
    assert!(server.origin.registry().streams().is_empty());
    let _first = server.publish("live/a?key=s3cret").await.unwrap();
    server.ingest.reload(&config(vec![rule("new")]));
    assert_eq!(refused(server.publish("live/b?key=s3cret").await).0, "NetStream.Publish.Denied");
    let _second = server.publish("live/b?key=new").await.unwrap();
    assert_eq!(server.metric("weir_origin_rtmp_refused_publishes_total"), 4.0);
    assert_eq!(server.origin.publishers(), 2);
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    let (code, description) = refused(server.publish("live/good").await);
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(description.contains("live/good is being published already"), "{description}");
    witness.still_arrives().await;

    let mut config = Config::default();
    config.streams.takeover = true;
    let server = Server::start(config, None).await;
    let mut first = server.publish("live/a").await.unwrap();
    let _second = server.publish("live/a").await.unwrap();
    let (code, description) = first.refused().await;
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(description.contains("took the stream over"), "{description}");
}

#[tokio::test]
async fn a_kicked_publisher_is_told_so() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    assert!(server.origin.kick(&key("live", "a")));
    assert_eq!(client.refused().await.1, "an operator ended the stream");
}

#[tokio::test]
async fn names_that_no_stream_can_have_are_refused_and_leave_nothing() {
    let server = Server::open().await;
    for path in ["live/..", "live/a%2fb", "live/a\0b", "api/a", "live/.a", "a/b/c", "live/ä/../b", "live/a b"]
    {
        let (code, _) = refused(server.publish(path).await);
        assert_eq!(code, "NetStream.Publish.BadName", "{path}");
    }
    let long = format!("live/{}", "a".repeat(8192));
    assert_eq!(refused(server.publish(&long).await).0, "NetStream.Publish.BadName");
    assert!(server.origin.registry().streams().is_empty());
}

#[tokio::test]
async fn players_are_handed_on_with_their_session() {
    let (handed, mut handoffs) = mpsc::channel::<Handoff>(1);
    let on_play: OnPlay = Box::new(move |handoff| assert!(handed.try_send(handoff).is_ok()));
    let server = Server::start(Config::default(), Some(on_play)).await;
    let serve = async {
        let mut handoff = handoffs.recv().await.unwrap();
        assert_eq!((handoff.request.app.as_str(), handoff.request.name.as_str()), ("live", "a"));
        handoff.session.accept_play(handoff.request.id).unwrap();
        while let Some(bytes) = handoff.session.poll_output() {
            handoff.socket.write_all(&bytes).await.unwrap();
        }
        handoff
    };
    let (player, mut handoff) = tokio::join!(server.play("live/a"), serve);
    let mut player = player.unwrap();
    // Bytes made for all viewers alike.
    let body = Bytes::from(vec![0x17; 100_000]);
    let mut wire = BytesMut::new();
    let header = Kind::Video.header(handoff.request.id, 70_000_000);
    chunk::write(&mut wire, media_core::rtmp::CHUNK_SIZE, &header, &[&body]).unwrap();
    handoff.socket.write_all(&wire).await.unwrap();
    let expected = Message { kind: Kind::Video, timestamp_ms: 70_000_000, body };
    assert!(player.event().await.unwrap() == client::Event::Media(expected));
}

#[tokio::test]
async fn players_that_nobody_serves_are_told_so() {
    let server = Server::open().await;
    assert_eq!(refused(server.play("live/a").await).0, "NetStream.Play.Failed");
}

#[tokio::test]
async fn connections_are_limited_and_places_given_back() {
    let mut config = Config::default();
    config.rtmp.max_connections_per_address = 2;
    let server = Server::start(config, None).await;
    let a = server.publish("live/a").await.unwrap();
    let _b = server.publish("live/b").await.unwrap();
    assert!(server.raw().await.until_closed("one too many").await.is_empty());
    assert_eq!(server.metric("weir_origin_rtmp_refused_connections_total"), 1.0);
    drop(a);
    within("the place to be free", async {
        while server.origin.publishers() > 1 {
            tokio::task::yield_now().await;
        }
        // The publisher is counted out just before its connection is.
        loop {
            let mut raw = server.raw().await;
            let _ = raw.socket.write_all(&[3; 1537]).await;
            if raw.socket.read_u8().await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_at_each_step() {
    let mut config = Config::default();
    config.rtmp.handshake_timeout_ms = 100;
    config.rtmp.request_timeout_ms = 100;
    config.rtmp.first_frame_timeout_ms = 100;
    config.rtmp.idle_timeout_ms = 100;
    let server = Server::start(config, None).await;
    let silent = server.raw().await;
    silent.until_closed("silent").await;
    let mut half = server.raw().await;
    half.socket.write_all(&[3; 700]).await.unwrap();
    half.until_closed("half").await;
    let mut idle = server.raw().await;
    idle.shake().await;
    idle.until_closed("idle").await;
    let mut no_frame = server.raw().await;
    no_frame.publish("live", "a").await;
    no_frame.until_closed("no_frame").await;
    let mut stalled = server.raw().await;
    stalled.publish("live", "b").await;
    stalled.message(type_id::AUDIO, 1, &[0xaf, 0, 0x12, 0x10]).await;
    stalled.until_closed("stalled").await;
    assert_eq!(server.metric("weir_origin_rtmp_closed_total"), 5.0);
}

/// What a client without manners sends, before or after it became a publisher.
fn attacks() -> Vec<(&'static str, bool, Vec<u8>)> {
    let one_chunk = |chunk_stream: u32, type_id: u8, body: &[u8]| {
        let mut wire = BytesMut::new();
        let header = Header { chunk_stream, type_id, stream_id: 1, timestamp_ms: 0 };
        chunk::write(&mut wire, 128, &header, &[body]).unwrap();
        wire.to_vec()
    };
    let announced_16_mb =
        [&[4, 0, 0, 0, 0xff, 0xff, 0xff, type_id::VIDEO, 1, 0, 0, 0][..], &[0; 10]].concat();
    let many_ids = (2..65_600u32).flat_map(|id| one_chunk(id, type_id::AUDIO, &[0xaf])).collect();
    // A chunk of 60,000 of a message of 4 MB, on each of 60 ids.
    let mut interleaved = one_chunk(2, type_id::SET_CHUNK_SIZE, &60_000u32.to_be_bytes());
    for id in 3..63u8 {
        interleaved.extend([id, 0, 0, 0, 0x40, 0, 0, type_id::VIDEO, 1, 0, 0, 0]);
        interleaved.extend(vec![0; 60_000]);
    }
    let connect = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0";
    let nested = [&connect[..], &[0x0a, 0, 0, 0, 1].repeat(200_000)].concat();
    let nested_short = [&connect[..], &[0x0a, 0, 0, 0, 1].repeat(12_000)].concat();
    let long_string = [&connect[..], b"\x0c\xff\xff\xff\xff", &[b'a'; 1000]].concat();
    vec![
        ("garbage", false, vec![0xa5; 10_000]),
        ("another protocol", false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a message of 16 MB announced", true, announced_16_mb),
        ("chunk size 0", true, one_chunk(2, type_id::SET_CHUNK_SIZE, &[0; 4])),
        ("chunk size 2^31", true, one_chunk(2, type_id::SET_CHUNK_SIZE, &[0x80, 0, 0, 0])),
        ("65,600 chunk streams", true, many_ids),
        ("interleaved partial messages", true, interleaved),
        ("200,000 nested arrays", true, one_chunk(3, type_id::COMMAND_AMF0, &nested)),
        ("12,000 nested arrays", true, one_chunk(3, type_id::COMMAND_AMF0, &nested_short)),
        ("a string of 4 GiB", true, one_chunk(3, type_id::COMMAND_AMF0, &long_string)),
    ]
}

#[tokio::test]
async fn hostile_bytes_end_their_own_connection_only() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    for (what, after_publish, bytes) in attacks() {
        let mut raw = server.raw().await;
        if after_publish {
            raw.publish("live", "bad").await;
        }
        // The server may close before it has read all.
        let _ = raw.socket.write_all(&bytes).await;
        raw.until_closed(what).await;
        witness.still_arrives().await;
        // Its name is free again at once.
        within("the attacker to be gone", async {
            while server.origin.publishers() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn audio_without_its_configuration_is_refused_alone_and_left_out_beside_video() {
    let server = Server::open().await;
    let tags = clip();
    let broken = |tag: &&Tag| !(tag.kind == TagKind::Audio && is_sequence_header(tag));
    let mut client = server.publish("live/sound").await.unwrap();
    let frame = tags.iter().find(|t| t.kind == TagKind::Audio && is_frame(t)).unwrap();
    for n in 0..200 {
        client.send(&message(frame, n * 23)).await;
    }
    let (code, description) = client.refused().await;
    assert_eq!(code, "NetStream.Publish.Rejected");
    assert!(description.contains("sequence header"), "{description}");

    let mut client = server.publish("live/both").await.unwrap();
    let mut consumer = server.consumer(&key("live", "both"));
    let messages = tags.iter().filter(broken).take(300);
    let messages = messages.map(|t| (message(t, 0), t.kind == TagKind::Video && is_frame(t)));
    let got = in_lockstep(&mut client, &mut consumer, messages).await;
    assert_eq!(got.last().unwrap().tracks.tracks.len(), 1);
    assert!(server.metric("weir_origin_rtmp_bad_messages_total") > 200.0);
}

#[tokio::test]
async fn a_broken_configuration_in_mid_stream_does_not_end_the_stream() {
    let server = Server::open().await;
    let mut witness = Witness::start(&server).await;
    let bodies: [&[u8]; 4] = [
        b"\x17\x00",
        b"\x17\x00\x00\x00\x00\x01\x64\x00\x1f\xff\xe1\x00\x04\x67\xff\xff\xff\x01\x00\x01\x68",
        b"\xaf\x00\xff",
        b"\x22\x00",
    ];
    for body in bodies {
        let kind = if body[0] == 0xaf { Kind::Audio } else { Kind::Video };
        witness.client.send(&Message { kind, timestamp_ms: 1000, body: Bytes::from_static(body) }).await;
    }
    witness.still_arrives().await;
    assert_eq!(server.metric("weir_origin_rtmp_bad_messages_total"), 4.0);
}

/// A sequence header of another picture than the clip's: 4:2:2, 100 × 76 or so.
const OTHER_PICTURE: &[u8] = b"\x17\x00\x00\x00\x00\x01\x7a\x00\x0d\xff\xe1\x00\x1a\x67\x7a\x00\x0d\xb6\xcd\x94\x14\x19\xf8\xdc\x04\x40\x00\x00\x03\x00\x40\x00\x00\x0f\x03\xc5\x0a\x65\x80\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfe\xfa\xfa\x00";

#[tokio::test]
async fn a_picture_that_changes_in_mid_stream_is_a_new_set_of_tracks() {
    let server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let mut consumer = server.consumer(&key("live", "a"));
    let video: Vec<_> = clip().into_iter().filter(|t| t.kind == TagKind::Video).collect();
    let keyframe = video.iter().find(|t| is_frame(t)).unwrap();
    let first = video.iter().take(10).map(|t| (message(t, 0), is_frame(t)));
    let before = in_lockstep(&mut client, &mut consumer, first).await.pop().unwrap();
    let body = Bytes::from_static(OTHER_PICTURE);
    client.send(&Message { kind: Kind::Video, timestamp_ms: 1000, body }).await;
    let after =
        in_lockstep(&mut client, &mut consumer, [(message(keyframe, 1000), true)]).await.pop().unwrap();
    assert_eq!(after.sequence, before.sequence + 1);
    assert!(after.tracks.version > before.tracks.version);
    assert_eq!(after.tracks.epoch, before.tracks.epoch);
    let size = |unit: &Unit| unit.track().unwrap().video().map(|v| (v.width, v.height)).unwrap();
    assert_ne!(size(&before), size(&after));
}

#[tokio::test]
async fn codecs_that_are_not_carried_are_refused_by_name() {
    let server = Server::open().await;
    let mut client = server.publish("live/h263").await.unwrap();
    for n in 0..200 {
        let body = Bytes::from_static(b"\x12\x00\x00\x84");
        client.send(&Message { kind: Kind::Video, timestamp_ms: n * 40, body }).await;
    }
    let (code, description) = client.refused().await;
    assert_eq!(code, "NetStream.Publish.Rejected");
    assert!(description.contains("video codec 2"), "{description}");
}

#[tokio::test]
async fn clocks_that_jump_wrap_or_run_backwards_come_out_in_order() {
    const HOUR_MS: u32 = 3_600_000;
    let server = Server::open().await;
    let tags = clip();
    let frames: Vec<_> = tags.iter().filter(|t| t.kind == TagKind::Video && is_frame(t)).collect();
    let shifts: [(&str, [u32; 3]); 4] = [
        ("jumps", [0, HOUR_MS, 0]),
        ("back", [HOUR_MS, 0, HOUR_MS]),
        ("wraps", [0u32.wrapping_sub(300), 0u32.wrapping_sub(300), 0u32.wrapping_sub(300)]),
        ("runs", [5000, 4000, 3000]),
    ];
    for (name, shifts) in shifts {
        let mut client = server.publish(&format!("live/{name}")).await.unwrap();
        let mut consumer = server.consumer(&key("live", name));
        client.send_all(tags.iter().filter(|t| t.kind == TagKind::Video && is_sequence_header(t))).await;
        let messages = frames.iter().take(60).enumerate().map(|(n, t)| (message(t, shifts[n / 20]), true));
        let got = in_lockstep(&mut client, &mut consumer, messages).await;
        let times: Vec<_> = got.iter().map(|u| u.frame.dts).collect();
        assert!(times.windows(2).all(|w| w[0] < w[1]), "{name}: {times:?}");
        let span_ms = (times[59].0 - times[0].0) / 90;
        assert!(span_ms < 10_000, "{name}: {span_ms} ms for 60 frames");
    }
}

#[tokio::test]
async fn a_drain_takes_no_more_publishers_and_tells_those_there_are() {
    let mut server = Server::open().await;
    let mut client = server.publish("live/a").await.unwrap();
    let origin = server.origin.clone();
    server.drain.take().unwrap().send(()).unwrap();
    origin.drain(Duration::ZERO).await;
    assert_eq!(client.refused().await.0, "NetConnection.Connect.AppShutdown");
    drop(client);
    within("the end of the listener", server.task).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_refusal_is_read_even_if_more_was_sent_behind_it() {
    let server = Server::open().await;
    let refusal = Refusal::bad_name("");
    for _ in 0..20 {
        let mut raw = server.raw().await;
        raw.shake().await;
        let connect = Command {
            name: "connect".to_owned(),
            transaction: 1.0,
            object: Value::object([("app", Value::from("api"))]),
            arguments: vec![],
        };
        raw.message(type_id::COMMAND_AMF0, 0, &connect.body()).await;
        let publish = Command::new("publish", 3.0, vec!["a".into(), "live".into()]);
        raw.message(type_id::COMMAND_AMF0, 1, &publish.body()).await;
        for _ in 0..20 {
            raw.message(type_id::VIDEO, 1, &[0x17; 10_000]).await;
        }
        let said = raw.until_closed("refused").await;
        let code = refusal.code.as_bytes();
        assert!(said.windows(code.len()).any(|w| w == code));
    }
}
