//! A client and a server that talk in virtual time, and servers that are talked to by hand.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::amf0::{self, Value};

use super::chunk::{Header, type_id};
use super::client::{Mode, Target};
use super::*;

/// Both ends of a connection and what they said.
struct Pair {
    client: client::Session,
    server: server::Session,
    now: Instant,
    client_events: Vec<client::Event>,
    server_events: Vec<server::Event>,
    /// The wire is cut into pieces of this many bytes.
    piece: usize,
}

fn client_config(mode: Mode, url: &str) -> client::Config {
    client::Config {
        target: Target::parse(url).unwrap(),
        mode,
        flash_ver: "test 1.0".to_owned(),
        capabilities: Capabilities::all(),
        timeout: Duration::from_secs(5),
    }
}

impl Pair {
    fn new(mode: Mode, url: &str, piece: usize) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            client: client::Session::new(client_config(mode, url), now).unwrap(),
            server: server::Session::new(server::Config::default(), now),
            now,
            client_events: vec![],
            server_events: vec![],
            piece,
        };
        pair.drive().unwrap();
        pair
    }

    /// Lets both talk until neither has anything to say.
    fn drive(&mut self) -> Result<(), Error> {
        loop {
            let mut quiet = true;
            while let Some(bytes) = self.client.poll_output() {
                quiet = false;
                for piece in bytes.chunks(self.piece) {
                    self.server.handle_input(self.now, piece)?;
                    self.server_events.extend(std::iter::from_fn(|| self.server.poll_event()));
                }
            }
            while let Some(bytes) = self.server.poll_output() {
                quiet = false;
                for piece in bytes.chunks(self.piece) {
                    self.client.handle_input(self.now, piece)?;
                    self.client_events.extend(std::iter::from_fn(|| self.client.poll_event()));
                }
            }
            if quiet {
                return Ok(());
            }
        }
    }

    fn request(&self) -> server::Request {
        let find = |event: &server::Event| match event {
            server::Event::Publish(r) | server::Event::Play(r) => Some((**r).clone()),
            _ => None,
        };
        self.server_events.iter().find_map(find).unwrap()
    }

    fn publishing(url: &str, piece: usize) -> Self {
        let mut pair = Self::new(Mode::Publish, url, piece);
        let id = pair.request().id;
        pair.server.accept_publish(pair.now, id).unwrap();
        pair.drive().unwrap();
        assert_eq!(pair.client_events, [client::Event::Started]);
        pair
    }

    fn media(&self) -> Vec<Message> {
        let media = |event: &server::Event| match event {
            server::Event::Media(message) => Some(message.clone()),
            _ => None,
        };
        self.server_events.iter().filter_map(media).collect()
    }
}

fn video(timestamp_ms: u32, len: usize) -> Message {
    Message { kind: Kind::Video, timestamp_ms, body: Bytes::from(vec![0x17; len]) }
}

/// A server past its handshake, talked to by hand.
struct Raw {
    server: server::Session,
    now: Instant,
    said: BytesMut,
    reader: chunk::Reader,
    chunk_size: usize,
}

impl Raw {
    fn shaken() -> Self {
        let now = Instant::now();
        let mut server = server::Session::new(server::Config::default(), now);
        let mut hello = vec![3u8];
        hello.resize(1 + 1536, 1);
        server.handle_input(now, &hello).unwrap();
        let reply = server.poll_output().unwrap();
        assert_eq!(reply.len(), 1 + 2 * 1536);
        server.handle_input(now, &reply[1..1537]).unwrap();
        Self { server, now, said: BytesMut::new(), reader: chunk::Reader::default(), chunk_size: 128 }
    }

    fn connected() -> Self {
        let mut raw = Self::shaken();
        raw.connect(vec![("app", "live".into())]).unwrap();
        raw.answers();
        raw.events();
        raw
    }

    fn connect(&mut self, object: Vec<(&str, Value)>) -> Result<(), Error> {
        self.command(
            0,
            &Command {
                name: "connect".into(),
                transaction: 1.0,
                object: Value::object(object),
                arguments: vec![],
            },
        )
    }

    fn message(&mut self, type_id: u8, stream_id: u32, body: &[u8]) -> Result<(), Error> {
        let mut wire = BytesMut::new();
        let header = Header { chunk_stream: 3, type_id, stream_id, timestamp_ms: 0 };
        chunk::write(&mut wire, self.chunk_size, &header, &[body]).unwrap();
        self.server.handle_input(self.now, &wire)
    }

    fn command(&mut self, stream_id: u32, command: &Command) -> Result<(), Error> {
        self.message(type_id::COMMAND_AMF0, stream_id, &command.body())
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: Vec<Value>) -> Vec<Command> {
        self.command(1, &Command::new(name, transaction, arguments)).unwrap();
        self.answers()
    }

    fn messages(&mut self) -> Vec<chunk::Message> {
        while let Some(bytes) = self.server.poll_output() {
            self.said.extend_from_slice(&bytes);
        }
        let said = self.said.split();
        let mut input = &said[..];
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut input).unwrap() {
            if message.header.type_id == type_id::SET_CHUNK_SIZE {
                self.reader.set_chunk_size(u32::from_be_bytes(message.body[..].try_into().unwrap())).unwrap();
            }
            messages.push(message);
        }
        messages
    }

    fn answers(&mut self) -> Vec<Command> {
        let commands = self.messages().into_iter();
        commands.filter_map(|m| Command::from_chunk(m.header.type_id, &m.body)).map(Result::unwrap).collect()
    }

    fn events(&mut self) -> Vec<server::Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    fn publishing() -> Self {
        let mut raw = Self::connected();
        raw.call("createStream", 4.0, vec![]);
        raw.call("publish", 5.0, vec!["a".into(), "live".into()]);
        raw.server.accept_publish(raw.now, 1).unwrap();
        raw.events();
        raw.answers();
        raw
    }
}

fn code(command: &Command) -> &str {
    command.arguments[0].get("code").and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_publisher_is_asked_about_and_heard() {
    let mut pair = Pair::new(Mode::Publish, "rtmp://cdn.example/live/a?key=s3cret", usize::MAX);
    let request = pair.request();
    assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "a"));
    assert_eq!(request.param("key").as_deref(), Some("s3cret"));
    assert_eq!(request.connect.tc_url, "rtmp://cdn.example/live");
    assert_eq!(request.connect.vhost, "cdn.example");
    assert_eq!(request.connect.flash_ver, "test 1.0");
    assert_eq!(request.connect.capabilities, Capabilities::all());
    assert!(pair.client_events.is_empty(), "nothing before the consent");

    pair.server.accept_publish(pair.now, request.id).unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.client_events, [client::Event::Started]);
    let sent = [video(0, 300_000), video(40, 1), video(u32::MAX, 70_000), video(3, 10)];
    for message in &sent {
        pair.client.send(message).unwrap();
    }
    pair.client.close().unwrap();
    pair.drive().unwrap();
    assert!(pair.media() == sent);
    assert_eq!(pair.server_events.last(), Some(&server::Event::Unpublished));
    assert_eq!(pair.server_events.iter().filter(|e| **e == server::Event::Unpublished).count(), 1);
}

#[test]
fn a_player_hears_until_the_end() {
    let mut pair = Pair::new(Mode::Play, "rtmp://h/live/a", usize::MAX);
    assert!(matches!(pair.server_events.last(), Some(server::Event::Play(_))));
    pair.server.accept_play(pair.request().id).unwrap();
    pair.server.send(&video(7, 100_000)).unwrap();
    pair.server.end_play().unwrap();
    assert!(pair.server.is_closed());
    pair.drive().unwrap();
    let [client::Event::Started, client::Event::Media(got), client::Event::Ended(_)] =
        &pair.client_events[..]
    else {
        panic!("{} events", pair.client_events.len());
    };
    assert!(*got == video(7, 100_000));
}

#[test]
fn a_player_that_leaves_is_noticed() {
    let mut pair = Pair::new(Mode::Play, "rtmp://h/live/a", usize::MAX);
    pair.server.accept_play(pair.request().id).unwrap();
    pair.drive().unwrap();
    pair.client.close().unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.server_events.last(), Some(&server::Event::Stopped));
}

#[test]
fn a_refusal_reaches_the_client_in_the_servers_words() {
    for (mode, refusal) in [
        (Mode::Publish, Refusal::publish_denied("The key is wrong.")),
        (Mode::Publish, Refusal::bad_name("live/a is being published already.")),
        (Mode::Play, Refusal::not_found("live/a is not live.")),
    ] {
        let mut pair = Pair::new(mode, "rtmp://h/live/a", usize::MAX);
        pair.server.refuse(pair.request().id, &refusal).unwrap();
        assert!(pair.server.is_closed());
        let expected =
            Error::Refused { code: refusal.code.to_owned(), description: refusal.description.clone() };
        assert_eq!(pair.drive(), Err(expected));
        assert_eq!(pair.server.poll_timeout(), None);
    }
}

#[test]
fn a_publisher_can_be_thrown_out() {
    let mut pair = Pair::publishing("rtmp://h/live/a", usize::MAX);
    pair.server.refuse(1, &Refusal::publish_denied("Ended by the operator.")).unwrap();
    assert!(matches!(pair.drive(), Err(Error::Refused { .. })));
    let before = pair.server_events.len();
    pair.client.send(&video(0, 10)).unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.server_events.len(), before, "nothing more is read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_split_of_the_bytes_gives_the_same_session(piece in 1usize..5000, lens in prop::collection::vec(1usize..9000, 1..20)) {
        let mut pair = Pair::publishing("rtmp://h/live/a", piece);
        let mut sent = Vec::new();
        for (index, len) in lens.into_iter().enumerate() {
            sent.push(video(u32::try_from(index).unwrap() * 40, len));
            pair.client.send(sent.last().unwrap()).unwrap();
        }
        pair.drive().unwrap();
        prop_assert_eq!(pair.media(), sent);
    }

    #[test]
    fn random_bytes_after_the_handshake_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut raw = Raw::connected();
        let _ = raw.server.handle_input(raw.now, &bytes);
        let mut raw = Raw::publishing();
        let _ = raw.server.handle_input(raw.now, &bytes);
    }

    #[test]
    fn random_commands_never_panic(name in "[a-zA-Z]{0,12}|publish|play|pause|deleteStream|connect", body in prop::collection::vec(0u8..12, 0..60)) {
        let mut raw = Raw::connected();
        let mut message = BytesMut::new();
        amf0::encode(&mut message, &Value::String(name));
        message.extend_from_slice(&body);
        let _ = raw.message(type_id::COMMAND_AMF0, 1, &message);
        let mut client = client::Session::new(client_config(Mode::Play, "rtmp://h/a/b"), raw.now).unwrap();
        let _ = client.handle_input(raw.now, &body);
    }
}

#[test]
fn acknowledgements_follow_the_window_that_was_asked_for() {
    let mut raw = Raw::publishing();
    raw.message(type_id::WINDOW_ACK_SIZE, 0, &100_000u32.to_be_bytes()).unwrap();
    raw.messages();
    let mut acks = 0;
    for _ in 0..40 {
        raw.message(type_id::VIDEO, 1, &[0x17; 10_000]).unwrap();
        for m in raw.messages().iter().filter(|m| m.header.type_id == type_id::ACKNOWLEDGEMENT) {
            acks += 1;
            let bytes = u32::from_be_bytes(m.body[..].try_into().unwrap());
            assert!(bytes >= acks * 100_000, "{bytes}");
        }
    }
    assert!((3..=4).contains(&acks), "{acks}");
    // A window of a byte is no licence to ask for an answer to every packet.
    raw.message(type_id::WINDOW_ACK_SIZE, 0, &1u32.to_be_bytes()).unwrap();
    raw.messages();
    raw.message(type_id::VIDEO, 1, &[0x17; 100]).unwrap();
    assert!(raw.messages().is_empty());
}

#[test]
fn pings_are_answered() {
    let mut raw = Raw::connected();
    raw.message(type_id::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]).unwrap();
    let said = raw.messages();
    assert_eq!(said[0].header.type_id, type_id::USER_CONTROL);
    assert_eq!(said[0].body[..], [0, 7, 1, 2, 3, 4]);
}

#[test]
fn what_encoders_and_players_call_is_answered() {
    let mut raw = Raw::connected();
    assert_eq!(raw.call("releaseStream", 2.0, vec!["a".into()])[0].name, "_result");
    let fc = raw.call("FCPublish", 3.0, vec!["a".into()]);
    assert_eq!(fc.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["onFCPublish", "_result"]);
    assert_eq!(raw.call("createStream", 4.0, vec![])[0].arguments, [Value::Number(1.0)]);
    assert_eq!(raw.call("getStreamLength", 5.0, vec!["a".into()])[0].arguments, [Value::Number(0.0)]);
    assert_eq!(raw.call("_checkbw", 6.0, vec![])[0].name, "_result");
    let unknown = raw.call("makeCoffee", 7.0, vec![]);
    assert_eq!((unknown[0].name.as_str(), unknown[0].transaction), ("_error", 7.0));
    assert!(raw.call("makeCoffee", 0.0, vec![]).is_empty(), "no answer was asked for");
    assert_eq!(raw.call("connect", 8.0, vec![])[0].name, "_error");
    assert_eq!(raw.call("FCSubscribe", 0.0, vec!["a".into()])[0].name, "onFCSubscribe");
    assert_eq!(code(&raw.call("seek", 0.0, vec![0.0.into()])[0]), "NetStream.Seek.Failed");
    assert_eq!(
        code(&raw.call("play2", 0.0, vec![Value::object([("streamName", "b".into())])])[0]),
        "NetStream.Play.Failed"
    );
    raw.call("play", 9.0, vec!["a".into()]);
    raw.server.accept_play(1).unwrap();
    let codes: Vec<_> = raw.answers().iter().map(|c| code(c).to_owned()).collect();
    assert_eq!(codes, ["NetStream.Play.Reset", "NetStream.Play.Start"]);
    raw.events();
    assert_eq!(code(&raw.call("pause", 0.0, vec![true.into(), 0.0.into()])[0]), "NetStream.Pause.Notify");
    assert_eq!(code(&raw.call("pause", 0.0, vec![false.into(), 0.0.into()])[0]), "NetStream.Unpause.Notify");
    assert_eq!(raw.events(), [server::Event::Paused(true), server::Event::Paused(false)]);
    assert!(raw.call("receiveVideo", 0.0, vec![false.into()]).is_empty());
    assert_eq!(raw.call("receiveVideo", 0.0, vec![true.into()]).len(), 2);
    assert_eq!(raw.call("createStream", 10.0, vec![])[0].arguments, [Value::Number(2.0)]);
    raw.call("deleteStream", 0.0, vec![1.0.into()]);
    assert_eq!(raw.events(), [server::Event::Stopped]);
    assert_eq!(raw.call("createStream", 11.0, vec![])[0].arguments, [Value::Number(1.0)]);
}

#[test]
fn streams_without_end_cannot_be_created() {
    let mut raw = Raw::connected();
    let names: Vec<_> = (0..20).map(|_| raw.call("createStream", 4.0, vec![])[0].name.clone()).collect();
    assert_eq!(names.iter().filter(|n| *n == "_result").count(), 8);
    assert_eq!(names.last().map(String::as_str), Some("_error"));
}

#[test]
fn a_url_without_app_or_name_is_told_so() {
    let mut raw = Raw::shaken();
    raw.connect(vec![("app", "/".into())]).unwrap();
    let said = raw.answers();
    assert_eq!((said[0].name.as_str(), code(&said[0])), ("_error", "NetConnection.Connect.Rejected"));
    assert!(raw.server.is_closed());

    let mut raw = Raw::connected();
    let said = raw.call("publish", 5.0, vec!["".into(), "live".into()]);
    assert_eq!(code(&said[0]), "NetStream.Publish.BadName");
    assert!(raw.server.is_closed());

    let mut raw = Raw::connected();
    let said = raw.call("publish", 5.0, vec!["x".repeat(8192).into(), "live".into()]);
    assert_eq!(code(&said[0]), "NetStream.Publish.BadName");
}

#[test]
fn a_connection_has_one_purpose() {
    let mut raw = Raw::publishing();
    assert_eq!(code(&raw.call("publish", 6.0, vec!["b".into()])[0]), "NetStream.Publish.BadName");
    assert_eq!(code(&raw.call("play", 7.0, vec!["a".into()])[0]), "NetStream.Play.Failed");
    assert!(raw.events().is_empty());
    raw.call("FCUnpublish", 0.0, vec!["a".into()]);
    assert_eq!(raw.events(), [server::Event::Unpublished]);
    raw.call("publish", 8.0, vec!["b".into()]);
    assert!(matches!(&raw.events()[..], [server::Event::Publish(r)] if r.name == "b"));
}

#[test]
fn amf3_envelopes_are_opened() {
    let mut raw = Raw::connected();
    raw.call("createStream", 4.0, vec![]);
    let body = [&[0][..], &Command::new("publish", 5.0, vec!["a".into()]).body()].concat();
    raw.message(type_id::COMMAND_AMF3, 1, &body).unwrap();
    assert!(matches!(raw.events()[..], [server::Event::Publish(_)]));
    raw.server.accept_publish(raw.now, 1).unwrap();
    let data = amf0_bytes(&["onMetaData".into(), Value::EcmaArray(vec![])]);
    raw.message(type_id::DATA_AMF3, 1, &[&[0][..], &data].concat()).unwrap();
    assert!(matches!(&raw.events()[..], [server::Event::Media(m)] if m.body == data));
}

fn amf0_bytes(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    amf0::encode_all(&mut out, values);
    out
}

#[test]
fn set_data_frame_is_unwrapped() {
    let mut raw = Raw::publishing();
    let inner = [Value::from("onMetaData"), Value::EcmaArray(vec![("width".into(), 1.0.into())])];
    let wrapped = [&[Value::from("@setDataFrame")][..], &inner].concat();
    raw.message(type_id::DATA_AMF0, 1, &amf0_bytes(&wrapped)).unwrap();
    raw.message(type_id::DATA_AMF0, 1, &amf0_bytes(&inner)).unwrap();
    raw.message(type_id::DATA_AMF0, 1, &amf0_bytes(&["@clearDataFrame".into()])).unwrap();
    raw.message(type_id::AUDIO, 1, &[]).unwrap();
    let events = raw.events();
    assert_eq!(events.len(), 2);
    for event in events {
        let server::Event::Media(message) = event else { panic!("{event:?}") };
        assert_eq!(message.kind, Kind::Data);
        assert_eq!(message.body, amf0_bytes(&inner));
    }
}

#[test]
fn aggregates_are_split() {
    let mut raw = Raw::publishing();
    let mut body = vec![type_id::VIDEO, 0, 0, 2, 0, 0, 10, 0, 0, 0, 0, 0x17, 1, 0, 0, 0, 13];
    body.extend([type_id::AUDIO, 0, 0, 1, 0, 0, 30, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12]);
    raw.message(type_id::AGGREGATE, 1, &body).unwrap();
    let got: Vec<_> = raw.events();
    let [server::Event::Media(v), server::Event::Media(a)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((v.kind, v.timestamp_ms, &v.body[..]), (Kind::Video, 0, &[0x17, 1][..]));
    assert_eq!((a.kind, a.timestamp_ms, &a.body[..]), (Kind::Audio, 20, &[0xaf][..]));
    assert_eq!(raw.message(type_id::AGGREGATE, 1, &body[..20]), Err(Error::Aggregate));
}

#[test]
fn each_wait_has_its_deadline() {
    let config = server::Config::default();
    let now = Instant::now();
    let mut server = server::Session::new(config, now);
    server.handle_input(now + config.handshake_timeout / 2, &[3]).unwrap();
    assert_eq!(server.poll_timeout(), Some(now + config.handshake_timeout), "bytes buy no time");
    assert_eq!(server.handle_timeout(now + config.handshake_timeout / 2), Ok(()));
    assert_eq!(
        server.handle_timeout(now + config.handshake_timeout),
        Err(Error::Timeout(Deadline::Handshake))
    );

    let mut raw = Raw::connected();
    let late = raw.now + config.request_timeout;
    assert_eq!(raw.server.handle_timeout(late), Err(Error::Timeout(Deadline::Request)));
    raw.call("createStream", 4.0, vec![]);
    raw.call("publish", 5.0, vec!["a".into()]);
    assert_eq!(raw.server.poll_timeout(), None, "it waits for the application now");
    raw.server.accept_publish(raw.now, 1).unwrap();
    let late = raw.now + config.first_frame_timeout;
    raw.message(type_id::DATA_AMF0, 1, &amf0_bytes(&["onMetaData".into()])).unwrap();
    assert_eq!(raw.server.handle_timeout(late), Err(Error::Timeout(Deadline::FirstFrame)));
    raw.now += Duration::from_secs(1);
    raw.message(type_id::AUDIO, 1, &[0xaf, 0]).unwrap();
    assert_eq!(raw.server.poll_timeout(), Some(raw.now + config.idle_timeout));
    let late = raw.now + config.idle_timeout;
    assert_eq!(raw.server.handle_timeout(late), Err(Error::Timeout(Deadline::Idle)));

    let mut client = client::Session::new(client_config(Mode::Play, "rtmp://h/a/b"), now).unwrap();
    let late = client.poll_timeout().unwrap();
    assert_eq!(client.handle_timeout(late), Err(Error::Timeout(Deadline::Answer)));
}

#[test]
fn media_before_the_consent_is_kept_up_to_a_bound() {
    let mut raw = Raw::connected();
    raw.call("createStream", 4.0, vec![]);
    raw.call("publish", 5.0, vec!["a".into()]);
    raw.message(type_id::VIDEO, 1, &[0x17; 1000]).unwrap();
    assert!(matches!(raw.events()[..], [server::Event::Publish(_)]));
    raw.server.accept_publish(raw.now, 1).unwrap();
    assert!(matches!(&raw.events()[..], [server::Event::Media(m)] if m.body.len() == 1000));

    for len in [1, 50_000] {
        let mut raw = Raw::connected();
        raw.call("createStream", 4.0, vec![]);
        raw.call("publish", 5.0, vec!["a".into()]);
        let results = (0..10_000).map(|_| raw.message(type_id::VIDEO, 1, &vec![0x17; len]));
        let errors: Vec<_> = results.filter_map(Result::err).take(1).collect();
        assert_eq!(errors, [Error::MediaTooEarly]);
    }
}

/// The head and the beginning of a picture, as one chunk of a large chunk size.
fn large_picture(length: usize, sent: usize) -> Vec<u8> {
    let [_, _, _, _, a, b, c, d] = (length as u64).to_be_bytes();
    assert_eq!(a, 0);
    [&[4, 0, 0, 0, b, c, d, type_id::VIDEO, 1, 0, 0, 0], &vec![0x17; sent][..]].concat()
}

#[test]
fn a_large_picture_may_be_on_its_way_before_the_consent() {
    let asked = || {
        let mut raw = Raw::connected();
        raw.message(type_id::SET_CHUNK_SIZE, 0, &(1u32 << 24).to_be_bytes()).unwrap();
        raw.call("createStream", 4.0, vec![]);
        raw.call("publish", 5.0, vec!["a".into()]);
        raw
    };
    const LENGTH: usize = 1 << 20;
    let mut raw = asked();
    raw.server.handle_input(raw.now, &large_picture(LENGTH, 60_000)).unwrap();
    assert!(matches!(raw.events()[..], [server::Event::Publish(_)]));
    raw.server.accept_publish(raw.now, 1).unwrap();
    raw.server.handle_input(raw.now, &vec![0x17; LENGTH - 60_000]).unwrap();
    assert!(matches!(&raw.events()[..], [server::Event::Media(m)] if m.body.len() == LENGTH));

    // Without the consent there is a bound.
    let mut raw = asked();
    let pieces = std::iter::once(large_picture(LENGTH, 0)).chain(std::iter::repeat(vec![0x17; 10_000]));
    let (mut taken, mut error) = (0, None);
    for piece in pieces.take(LENGTH / 10_000) {
        match raw.server.handle_input(raw.now, &piece) {
            Ok(()) => taken += piece.len(),
            Err(e) => {
                error = Some(e);
                break;
            }
        }
    }
    assert_eq!(error, Some(Error::MediaTooEarly));
    assert!((100_000..300_000).contains(&taken), "{taken}");

    // Who changes its mind sends commands only.
    let mut raw = asked();
    raw.call("FCUnpublish", 0.0, vec!["a".into()]);
    let error = raw.server.handle_input(raw.now, &large_picture(LENGTH, 0)).unwrap_err();
    assert_eq!(error, Error::Chunk(chunk::Error::MessageTooLong { announced: LENGTH, limit: 64 << 10 }));
}

#[test]
fn a_peer_that_may_not_publish_cannot_announce_large_messages() {
    let mut raw = Raw::connected();
    let head = [3, 0, 0, 0, 0x02, 0, 0, type_id::VIDEO, 1, 0, 0, 0];
    let error = raw.server.handle_input(raw.now, &head).unwrap_err();
    assert_eq!(error, Error::Chunk(chunk::Error::MessageTooLong { announced: 0x02_0000, limit: 64 << 10 }));
}

#[test]
fn hostile_amf_in_a_command_is_an_error() {
    let deep = [&b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0"[..], &[0x0a, 0, 0, 0, 1].repeat(10_000)].concat();
    let mut raw = Raw::shaken();
    assert_eq!(raw.message(type_id::COMMAND_AMF0, 0, &deep), Err(Error::Amf(amf0::Error::TooDeep)));
    let long = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x0c\xff\xff\xff\xff";
    let mut raw = Raw::shaken();
    assert_eq!(raw.message(type_id::COMMAND_AMF0, 0, long), Err(Error::Amf(amf0::Error::Truncated)));
    let mut raw = Raw::shaken();
    assert_eq!(raw.message(type_id::COMMAND_AMF0, 0, &[5]), Err(Error::NoCommandName));
}

#[test]
fn chunk_sizes_of_0_and_2_to_the_31_end_the_session() {
    for size in [0u32, 1 << 31] {
        let mut raw = Raw::connected();
        let error = raw.message(type_id::SET_CHUNK_SIZE, 0, &size.to_be_bytes()).unwrap_err();
        assert_eq!(error, Error::Chunk(chunk::Error::ChunkSize(size)));
    }
}

#[test]
fn a_flood_of_tiny_messages_or_questions_is_bounded() {
    let mut raw = Raw::publishing();
    let mut wire = BytesMut::new();
    let header = Header { chunk_stream: 4, type_id: type_id::AUDIO, stream_id: 1, timestamp_ms: 0 };
    chunk::write(&mut wire, 128, &header, &[&[1]]).unwrap();
    wire.extend_from_slice(&[0xc4, 1].repeat(20_000));
    assert_eq!(raw.server.handle_input(raw.now, &wire), Err(Error::TooManyMessages));

    let mut raw = Raw::connected();
    let mut wire = BytesMut::new();
    let ping = Header { chunk_stream: 2, type_id: type_id::USER_CONTROL, stream_id: 0, timestamp_ms: 0 };
    chunk::write(&mut wire, 128, &ping, &[&[0, 6, 0, 0, 0, 0]]).unwrap();
    for _ in 0..40_000 {
        wire.extend_from_slice(&[0xc2, 0, 6, 0, 0, 0, 0]);
    }
    assert_eq!(raw.server.handle_input(raw.now, &wire), Err(Error::TooMuchOutput));
}

#[test]
fn the_independent_client_can_publish_and_play() {
    use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
    use rml_rtmp::sessions::PublishRequestType;
    use rml_rtmp::sessions::{ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult};
    use rml_rtmp::time::RtmpTimestamp;

    let now = Instant::now();
    let mut server = server::Session::new(server::Config::default(), now);
    let mut handshake = Handshake::new(PeerType::Client);
    server.handle_input(now, &handshake.generate_outbound_p0_and_p1().unwrap()).unwrap();
    let reply = server.poll_output().unwrap();
    let HandshakeProcessResult::Completed { response_bytes, .. } = handshake.process_bytes(&reply).unwrap()
    else {
        panic!("the handshake is not done");
    };
    server.handle_input(now, &response_bytes).unwrap();

    let (mut theirs, first) = ClientSession::new(ClientSessionConfig::new()).unwrap();
    let mut queue = first;
    queue.push(theirs.request_connection("live".to_owned()).unwrap());
    let (mut connected, mut accepted) = (false, false);
    let mut media = Vec::new();
    loop {
        for result in queue.drain(..) {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    server.handle_input(now, &packet.bytes).unwrap();
                }
                ClientSessionResult::RaisedEvent(ClientSessionEvent::ConnectionRequestAccepted) => {
                    connected = true;
                }
                ClientSessionResult::RaisedEvent(ClientSessionEvent::PublishRequestAccepted) => {
                    accepted = true;
                }
                _ => {}
            }
        }
        if connected {
            connected = false;
            queue.push(theirs.request_publishing("a".to_owned(), PublishRequestType::Live).unwrap());
        }
        if accepted {
            accepted = false;
            for (ms, len) in [(0, 5000), (40, 200)] {
                let body = vec![0x27; len].into();
                queue.push(theirs.publish_video_data(body, RtmpTimestamp::new(ms), false).unwrap());
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                server::Event::Publish(request) => server.accept_publish(now, request.id).unwrap(),
                server::Event::Media(message) => media.push((message.timestamp_ms, message.body.len())),
                _ => {}
            }
        }
        while let Some(bytes) = server.poll_output() {
            queue.extend(theirs.handle_input(&bytes).unwrap());
        }
        if queue.is_empty() {
            break;
        }
    }
    assert_eq!(media, [(0, 5000), (40, 200)]);
}
