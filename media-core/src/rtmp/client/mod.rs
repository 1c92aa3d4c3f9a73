//! The client's side: one session, which publishes one stream or plays one.

mod target;

pub use target::{Target, TargetError};

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::amf0::Value;

use super::aggregate::Parts;
use super::chunk::{self, type_id};
use super::command::Command;
use super::connect::Capabilities;
use super::control::User;
use super::error::{Deadline, Error};
use super::message::Message;
use super::status::{Level, Status};
use super::transport::{Incoming, Transport};

/// How many events may wait: see the server's bound.
const MAX_EVENTS: usize = 8192;

/// Transaction ids: each command is sent once.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH_OR_PLAY: f64 = 5.0;
const END: f64 = 6.0;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To send a stream.
    Publish,
    /// To receive a stream.
    Play,
}

/// What a client wants, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the stream is.
    pub target: Target,
    /// Publish or play.
    pub mode: Mode,
    /// Name and version for the server's logs.
    pub flash_ver: String,
    /// What is told of Enhanced RTMP; the default tells nothing.
    pub capabilities: Capabilities,
    /// From the connection to the server's consent.
    pub timeout: Duration,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server consents: messages may be sent, or will come.
    Started,
    /// Media of the played stream.
    Media(Message),
    /// The server ended it, in its own words.
    Ended(Status),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    Asking { id: u32 },
    Started { id: u32 },
    Ended,
}

/// The client's side of a connection.
pub struct Session {
    config: Config,
    transport: Transport,
    state: State,
    events: VecDeque<Event>,
    deadline: Option<(Instant, Deadline)>,
}

impl Session {
    /// A session over a connection that was made at `now`.
    pub fn new(config: Config, now: Instant) -> Result<Self, Error> {
        let deadline = Some((now + config.timeout, Deadline::Answer));
        let mut transport = Transport::client()?;
        transport.expect_media();
        Ok(Self { config, transport, state: State::Handshake, events: VecDeque::new(), deadline })
    }

    /// Takes bytes from the socket. A refusal is an [`Error::Refused`] with the server's words.
    pub fn handle_input(&mut self, _now: Instant, input: &[u8]) -> Result<(), Error> {
        let mut input = input;
        self.transport.received(input.len());
        while let Some(incoming) = self.transport.read(&mut input)? {
            match incoming {
                Incoming::Ready => self.connect()?,
                Incoming::Message(message) => self.message(message)?,
                Incoming::User(User::StreamEof(_)) if self.config.mode == Mode::Play => {
                    self.ended(Status::ok("NetStream.Play.Complete", "The stream has ended."));
                }
                Incoming::User(_) => {}
            }
            if self.events.len() > MAX_EVENTS {
                return Err(Error::TooManyMessages);
            }
        }
        Ok(())
    }

    /// Takes note of the time: an error if the server did not answer in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.deadline {
            Some((at, deadline)) if at <= now => Err(Error::Timeout(deadline)),
            _ => Ok(()),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for the socket.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.transport.poll_output()
    }

    /// Sends a message of the published stream. Dropped before [`Event::Started`].
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.send_parts(message.kind, message.timestamp_ms, &[&message.body])
    }

    /// Sends a message whose body lies in pieces.
    pub fn send_parts(&mut self, kind: super::Kind, timestamp_ms: u32, body: &[&[u8]]) -> Result<(), Error> {
        let State::Started { id } = self.state else { return Ok(()) };
        self.transport.message(&kind.header(id, timestamp_ms), body)
    }

    /// Ends the stream in good order; close the connection when `poll_output` is sent.
    pub fn close(&mut self) -> Result<(), Error> {
        let (State::Started { id } | State::Asking { id }) = self.state else { return Ok(()) };
        self.state = State::Ended;
        self.deadline = None;
        if self.config.mode == Mode::Publish {
            let name = Value::from(self.config.target.name.as_str());
            self.transport.command(0, &Command::new("FCUnpublish", END, vec![name]))?;
        }
        self.transport.command(0, &Command::new("deleteStream", 0.0, vec![Value::from(id)]))
    }

    fn connect(&mut self) -> Result<(), Error> {
        let target = &self.config.target;
        let mut object = vec![
            ("app".to_owned(), Value::from(target.app.as_str())),
            ("flashVer".to_owned(), Value::from(self.config.flash_ver.as_str())),
            ("tcUrl".to_owned(), Value::from(target.tc_url.as_str())),
            ("fpad".to_owned(), false.into()),
            ("capabilities".to_owned(), 15.0.into()),
            ("audioCodecs".to_owned(), 4071.0.into()),
            ("videoCodecs".to_owned(), 252.0.into()),
            ("videoFunction".to_owned(), 1.0.into()),
        ];
        if self.config.mode == Mode::Publish {
            object.insert(1, ("type".to_owned(), Value::from("nonprivate")));
        }
        object.extend(self.config.capabilities.properties());
        self.state = State::Connecting;
        self.transport.command(
            0,
            &Command {
                name: "connect".to_owned(),
                transaction: CONNECT,
                object: Value::Object(object),
                arguments: vec![],
            },
        )
    }

    fn message(&mut self, message: chunk::Message) -> Result<(), Error> {
        if let Some(command) = Command::from_chunk(message.header.type_id, &message.body) {
            return self.command(&command?);
        }
        if self.config.mode != Mode::Play || !matches!(self.state, State::Started { .. }) {
            return Ok(());
        }
        if message.header.type_id == type_id::AGGREGATE {
            let mut parts = Parts::new(message);
            while let Some(part) = parts.next()? {
                self.media(part)?;
            }
            return Ok(());
        }
        self.media(message)
    }

    fn media(&mut self, message: chunk::Message) -> Result<(), Error> {
        if let Some(message) = Message::from_chunk(message) {
            self.events.push_back(Event::Media(message));
        }
        if self.events.len() > MAX_EVENTS { Err(Error::TooManyMessages) } else { Ok(()) }
    }

    fn command(&mut self, command: &Command) -> Result<(), Error> {
        let same = |transaction: f64| (command.transaction - transaction).abs() < 0.5;
        match (command.name.as_str(), self.state) {
            ("_result", State::Connecting) if same(CONNECT) => self.connected(),
            ("_result", State::Creating) if same(CREATE_STREAM) => {
                let wanted = command.arguments.first().and_then(Value::as_f64).unwrap_or(0.0);
                // Stream ids are small; a server that counts further is not one.
                match (1..=u32::from(u16::MAX)).find(|id| (f64::from(*id) - wanted).abs() < 0.5) {
                    Some(id) => self.created(id),
                    None => Err(refused(command)),
                }
            }
            ("_error", State::Connecting) if same(CONNECT) => Err(refused(command)),
            ("_error", State::Creating) if same(CREATE_STREAM) => Err(refused(command)),
            ("_error", State::Asking { .. }) if same(PUBLISH_OR_PLAY) => Err(refused(command)),
            ("onStatus", state) => self.status(command, state),
            // Refusals of releaseStream and FCPublish mean nothing, and other calls can stay unanswered.
            _ => Ok(()),
        }
    }

    fn connected(&mut self) -> Result<(), Error> {
        self.state = State::Creating;
        self.transport.announce_chunk_size();
        if self.config.mode == Mode::Publish {
            let name = || vec![Value::from(self.config.target.name.as_str())];
            let (release, fc) = (name(), name());
            self.transport.command(0, &Command::new("releaseStream", RELEASE_STREAM, release))?;
            self.transport.command(0, &Command::new("FCPublish", FC_PUBLISH, fc))?;
        }
        self.transport.command(0, &Command::new("createStream", CREATE_STREAM, vec![]))
    }

    fn created(&mut self, id: u32) -> Result<(), Error> {
        self.state = State::Asking { id };
        let name = Value::from(self.config.target.name.as_str());
        let command = match self.config.mode {
            Mode::Publish => Command::new("publish", PUBLISH_OR_PLAY, vec![name, Value::from("live")]),
            // -2 s: the live stream of that name. librtmp sends it in milliseconds, too.
            Mode::Play => Command::new("play", PUBLISH_OR_PLAY, vec![name, Value::Number(-2000.0)]),
        };
        self.transport.command(id, &command)
    }

    fn status(&mut self, command: &Command, state: State) -> Result<(), Error> {
        let status = command.arguments.first().map(Status::from_info);
        let Some(status) = status else { return Ok(()) };
        if status.level == Level::Error {
            return Err(refused(command));
        }
        match (&*status.code, state) {
            ("NetStream.Publish.Start" | "NetStream.Play.Start", State::Asking { id }) => {
                self.state = State::Started { id };
                self.deadline = None;
                self.events.push_back(Event::Started);
            }
            (
                "NetStream.Play.UnpublishNotify"
                | "NetStream.Play.Stop"
                | "NetStream.Play.Complete"
                | "NetStream.Unpublish.Success",
                State::Started { .. },
            ) => self.ended(status),
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, status: Status) {
        if matches!(self.state, State::Started { .. }) {
            self.state = State::Ended;
            self.events.push_back(Event::Ended(status));
        }
    }
}

fn refused(command: &Command) -> Error {
    let status = command.arguments.first().map(Status::from_info);
    let (code, description) = match status {
        Some(status) => (status.code.into_owned(), status.description.into_owned()),
        None => (command.name.clone(), String::new()),
    };
    Error::Refused { code, description }
}
