//! The server's side: one session, in which a client publishes one stream or plays one.

mod commands;
mod config;
mod event;

pub use config::Config;
pub use event::{Event, Request};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::aggregate::Parts;
use super::chunk::{self, type_id};
use super::command::Command;
use super::connect::Connect;
use super::control::{Control, User};
use super::error::{Deadline, Error};
use super::message::{Kind, Message};
use super::status::{Refusal, Status};
use super::transport::{Incoming, Transport};

/// How many events may wait. One piece of input holds some dozens of real messages; of messages of
/// one byte it could hold tens of thousands.
const MAX_EVENTS: usize = 8192;

/// How much media is kept for a publisher that does not wait for the answer to `publish`, unfinished messages
/// included: several reads of its socket.
const MAX_EARLY_BYTES: usize = 256 << 10;

/// What the client is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing yet.
    None,
    /// It asked to publish, and waits.
    AskedPublish { id: u32 },
    /// It asked to play, and waits.
    AskedPlay { id: u32 },
    /// It publishes.
    Publishing { id: u32, first_frame: bool },
    /// It plays.
    Playing { id: u32 },
    /// It was refused, or told that it is over: nothing more is read.
    Closed,
}

/// The server's side of a connection.
pub struct Session {
    config: Config,
    transport: Transport,
    connect: Option<Arc<Connect>>,
    /// Message streams that were created, as a set of bits.
    streams: u32,
    role: Role,
    events: VecDeque<Event>,
    /// Media of a publisher that has not been accepted yet.
    early: Vec<Message>,
    early_bytes: usize,
    deadline: Option<(Instant, Deadline)>,
}

impl Session {
    /// A session whose connection was accepted at `now`.
    pub fn new(config: Config, now: Instant) -> Self {
        let deadline = Some((now + config.handshake_timeout, Deadline::Handshake));
        Self {
            config,
            transport: Transport::server(),
            connect: None,
            streams: 0,
            role: Role::None,
            events: VecDeque::new(),
            early: Vec::new(),
            early_bytes: 0,
            deadline,
        }
    }

    /// Takes bytes from the socket.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) -> Result<(), Error> {
        let mut input = input;
        self.transport.received(input.len());
        while self.role != Role::Closed {
            let Some(incoming) = self.transport.read(&mut input)? else { break };
            match incoming {
                Incoming::Ready => self.expect(now, Deadline::Request),
                Incoming::Message(message) => self.message(now, message)?,
                Incoming::User(_) => {}
            }
            if self.events.len() > MAX_EVENTS {
                return Err(Error::TooManyMessages);
            }
        }
        if matches!(self.role, Role::AskedPublish { .. })
            && self.early_bytes + self.transport.unfinished_bytes() > MAX_EARLY_BYTES
        {
            return Err(Error::MediaTooEarly);
        }
        if matches!(self.role, Role::Publishing { first_frame: true, .. }) {
            self.expect(now, Deadline::Idle);
        }
        Ok(())
    }

    /// Takes note of the time: an error if something did not happen in time.
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

    /// What the client said of itself, once it did.
    pub fn connect(&self) -> Option<&Arc<Connect>> {
        self.connect.as_ref()
    }

    /// Nothing more comes of this session: send what [`poll_output`](Self::poll_output) still has, then
    /// close.
    pub fn is_closed(&self) -> bool {
        self.role == Role::Closed
    }

    /// Lets the client publish. Nothing happens if it no longer waits for that.
    pub fn accept_publish(&mut self, now: Instant, id: u32) -> Result<(), Error> {
        if self.role != (Role::AskedPublish { id }) {
            return Ok(());
        }
        self.role = Role::Publishing { id, first_frame: false };
        self.expect(now, Deadline::FirstFrame);
        self.transport.control(Control::User(User::StreamBegin(id)));
        self.status(id, &Status::ok("NetStream.Publish.Start", "Publishing."))?;
        self.early_bytes = 0;
        for message in std::mem::take(&mut self.early) {
            self.media(now, message)?;
        }
        Ok(())
    }

    /// Lets the client play: from here on, messages for it may be [sent](Self::send), or written to its
    /// socket as chunks of [`CHUNK_SIZE`](super::CHUNK_SIZE). Nothing happens if it no longer waits for
    /// that.
    pub fn accept_play(&mut self, id: u32) -> Result<(), Error> {
        if self.role != (Role::AskedPlay { id }) {
            return Ok(());
        }
        self.role = Role::Playing { id };
        self.transport.control(Control::User(User::StreamBegin(id)));
        self.status(id, &Status::ok("NetStream.Play.Reset", "Playing and resetting."))?;
        // No `|RtmpSampleAccess` and no `NetStream.Data.Start`, which only Flash asked for: ffmpeg takes either
        // for a track of its own.
        self.status(id, &Status::ok("NetStream.Play.Start", "Started playing."))
    }

    /// Refuses what was asked for on a message stream, or ends what was accepted; the session is then
    /// [closed](Self::is_closed).
    pub fn refuse(&mut self, id: u32, refusal: &Refusal) -> Result<(), Error> {
        self.close();
        self.status(id, &Status::from(refusal))
    }

    /// Tells a player that the stream has ended; the session is then [closed](Self::is_closed).
    pub fn end_play(&mut self) -> Result<(), Error> {
        let Role::Playing { id } = self.role else { return Ok(()) };
        self.close();
        self.transport.control(Control::User(User::StreamEof(id)));
        self.status(id, &Status::ok("NetStream.Play.UnpublishNotify", "The stream has ended."))?;
        self.status(id, &Status::ok("NetStream.Play.Stop", "Stopped playing."))
    }

    /// Sends a player one message. Dropped if nothing plays.
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        let Role::Playing { id } = self.role else { return Ok(()) };
        self.transport.message(&message.kind.header(id, message.timestamp_ms), &[&message.body])
    }

    fn close(&mut self) {
        self.role = Role::Closed;
        self.deadline = None;
        self.early = Vec::new();
        self.early_bytes = 0;
    }

    fn expect(&mut self, now: Instant, deadline: Deadline) {
        let after = match deadline {
            Deadline::Handshake => self.config.handshake_timeout,
            Deadline::Request | Deadline::Answer => self.config.request_timeout,
            Deadline::FirstFrame => self.config.first_frame_timeout,
            Deadline::Idle => self.config.idle_timeout,
        };
        self.deadline = Some((now + after, deadline));
    }

    fn status(&mut self, id: u32, status: &Status) -> Result<(), Error> {
        self.transport.command(id, &status.command())
    }

    fn message(&mut self, now: Instant, message: chunk::Message) -> Result<(), Error> {
        if let Some(command) = Command::from_chunk(message.header.type_id, &message.body) {
            return self.command(now, message.header.stream_id, &command?);
        }
        if !matches!(self.role, Role::AskedPublish { .. } | Role::Publishing { .. }) {
            // Players send nothing of interest, and publishers may be late to notice that it is over.
            return Ok(());
        }
        if message.header.type_id == type_id::AGGREGATE {
            let mut parts = Parts::new(message);
            while let Some(part) = parts.next()? {
                if let Some(message) = Message::from_chunk(part) {
                    self.media(now, message)?;
                }
            }
            return Ok(());
        }
        match Message::from_chunk(message) {
            Some(message) => self.media(now, message),
            None => Ok(()),
        }
    }

    fn media(&mut self, now: Instant, message: Message) -> Result<(), Error> {
        match &mut self.role {
            Role::AskedPublish { .. } => {
                // An empty message costs its place in the list.
                self.early_bytes += message.body.len() + size_of::<Message>();
                if self.early_bytes > MAX_EARLY_BYTES {
                    return Err(Error::MediaTooEarly);
                }
                self.early.push(message);
            }
            Role::Publishing { first_frame, .. } => {
                if !*first_frame && message.kind != Kind::Data {
                    *first_frame = true;
                    self.expect(now, Deadline::Idle);
                }
                self.events.push_back(Event::Media(message));
                if self.events.len() > MAX_EVENTS {
                    return Err(Error::TooManyMessages);
                }
            }
            Role::None | Role::AskedPlay { .. } | Role::Playing { .. } | Role::Closed => {}
        }
        Ok(())
    }
}
