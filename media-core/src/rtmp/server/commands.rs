//! What clients ask for (RTMP 1.0 §7.2), and the answers.

use std::sync::Arc;
use std::time::Instant;

use crate::amf0::Value;
use crate::rtmp::command::Command;
use crate::rtmp::connect::Connect;
use crate::rtmp::control::{Control, User};
use crate::rtmp::error::{Deadline, Error};
use crate::rtmp::status::Status;

use super::{Event, Request, Role, Session};

/// How many message streams a client may create: it needs one, and some leave an old one behind. The
/// first is always 1, which is what the shared chunks of a played stream carry.
const MAX_STREAMS: u32 = 8;

/// The longest stream name with its query, such as a signed one.
const MAX_NAME_BYTES: usize = 4096;

impl Session {
    pub(super) fn command(&mut self, now: Instant, stream_id: u32, command: &Command) -> Result<(), Error> {
        match (command.name.as_str(), self.connect.clone()) {
            ("connect", None) => self.connect_command(command),
            // Answers to what was not asked.
            ("_result" | "_error" | "onStatus", _) => Ok(()),
            (_, None) => self.fail(command, "connect comes first"),
            ("createStream", _) => self.create_stream(command),
            ("releaseStream" | "_checkbw" | "checkBandwidth", _) => self.result(command, Value::Null),
            ("FCPublish", _) => self.fc(command, "onFCPublish", "NetStream.Publish.Start"),
            ("FCUnpublish", _) => {
                if matches!(self.role, Role::Publishing { .. } | Role::AskedPublish { .. }) {
                    self.stop(now)?;
                }
                self.fc(command, "onFCUnpublish", "NetStream.Unpublish.Success")
            }
            ("FCSubscribe", _) => self.fc(command, "onFCSubscribe", "NetStream.Play.Start"),
            ("publish", Some(connect)) => self.publish(stream_id, &connect, command),
            ("play", Some(connect)) => self.play(now, stream_id, &connect, command),
            ("getStreamLength", _) => self.result(command, Value::Number(0.0)),
            ("deleteStream", _) => {
                let id = command.arguments.first().and_then(Value::as_f64);
                self.delete_stream(now, id.unwrap_or(f64::from(stream_id)))?;
                self.optional_result(command)
            }
            ("closeStream", _) => {
                if self.role_id() == Some(stream_id) {
                    self.stop(now)?;
                }
                self.optional_result(command)
            }
            ("pause" | "pauseRaw", _) => self.pause(stream_id, command),
            ("seek", _) => {
                let why = "a live stream cannot be sought";
                self.status(stream_id, &Status::error("NetStream.Seek.Failed", why))
            }
            ("play2", _) => {
                let why = "streams cannot be switched; play the other one";
                self.status(stream_id, &Status::error("NetStream.Play.Failed", why))
            }
            ("receiveAudio" | "receiveVideo", _) => self.receive(stream_id, command),
            (name, _) => {
                let why = format!("{} is not supported", excerpt(name));
                self.fail(command, &why)
            }
        }
    }

    fn connect_command(&mut self, command: &Command) -> Result<(), Error> {
        let connect = Arc::new(Connect::parse(command));
        if connect.app.is_empty() {
            self.close();
            let status =
                Status::error("NetConnection.Connect.Rejected", "the URL has no app: rtmp://host/app/name");
            return self.error(command, &status);
        }
        self.transport.announce();
        self.transport.command(0, &connect.accept(command.transaction))?;
        self.connect = Some(Arc::clone(&connect));
        self.events.push_back(Event::Connected(connect));
        Ok(())
    }

    fn create_stream(&mut self, command: &Command) -> Result<(), Error> {
        match (1..=MAX_STREAMS).find(|id| self.streams & (1 << id) == 0) {
            Some(id) => {
                self.streams |= 1 << id;
                self.result(command, Value::from(id))
            }
            None => self.fail(command, "too many message streams"),
        }
    }

    fn delete_stream(&mut self, now: Instant, wanted: f64) -> Result<(), Error> {
        let Some(id) = (1..=MAX_STREAMS).find(|id| (f64::from(*id) - wanted).abs() < 0.5) else {
            return Ok(());
        };
        self.streams &= !(1 << id);
        if self.role_id() == Some(id) {
            self.stop(now)?;
        }
        Ok(())
    }

    fn publish(&mut self, id: u32, connect: &Arc<Connect>, command: &Command) -> Result<(), Error> {
        if self.role != Role::None {
            let why = "this connection already publishes or plays a stream";
            return self.status(id, &Status::error("NetStream.Publish.BadName", why));
        }
        match self.request(id, connect, command) {
            Ok(request) => {
                self.role = Role::AskedPublish { id };
                // Its first picture may be on its way already.
                self.transport.expect_media();
                self.deadline = None;
                self.events.push_back(Event::Publish(Box::new(request)));
                Ok(())
            }
            Err(why) => {
                self.close();
                self.status(id, &Status::error("NetStream.Publish.BadName", why))
            }
        }
    }

    fn play(
        &mut self,
        now: Instant,
        id: u32,
        connect: &Arc<Connect>,
        command: &Command,
    ) -> Result<(), Error> {
        if command.arguments.first() == Some(&Value::Boolean(false)) {
            // What a Flash client says to stop.
            return if self.role_id() == Some(id) { self.stop(now) } else { Ok(()) };
        }
        if self.role != Role::None {
            let why = "this connection already publishes or plays a stream";
            return self.status(id, &Status::error("NetStream.Play.Failed", why));
        }
        match self.request(id, connect, command) {
            Ok(request) => {
                self.role = Role::AskedPlay { id };
                self.deadline = None;
                self.events.push_back(Event::Play(Box::new(request)));
                Ok(())
            }
            Err(why) => {
                self.close();
                self.status(id, &Status::error("NetStream.Play.Failed", why))
            }
        }
    }

    fn request(&self, id: u32, connect: &Arc<Connect>, command: &Command) -> Result<Request, &'static str> {
        match command.text(0) {
            _ if id == 0 => Err("createStream comes first"),
            Some(name) if name.len() > MAX_NAME_BYTES => Err("the stream name is too long"),
            Some(name) if !name.is_empty() => Ok(Request::new(id, connect, name)),
            _ => Err("the stream has no name: rtmp://host/app/name"),
        }
    }

    fn pause(&mut self, id: u32, command: &Command) -> Result<(), Error> {
        if self.role != (Role::Playing { id }) {
            return Ok(());
        }
        let paused = command.arguments.first().and_then(Value::as_bool).unwrap_or(true);
        self.events.push_back(Event::Paused(paused));
        let (user, status) = if paused {
            (User::StreamEof(id), Status::ok("NetStream.Pause.Notify", "Paused."))
        } else {
            (User::StreamBegin(id), Status::ok("NetStream.Unpause.Notify", "Playing."))
        };
        self.transport.control(Control::User(user));
        self.status(id, &status)
    }

    /// §7.2.2.4: only "send it" is answered. Everything is always sent.
    fn receive(&mut self, id: u32, command: &Command) -> Result<(), Error> {
        if self.role != (Role::Playing { id }) || command.arguments.first() != Some(&Value::Boolean(true)) {
            return Ok(());
        }
        self.status(id, &Status::ok("NetStream.Seek.Notify", "Live."))?;
        self.status(id, &Status::ok("NetStream.Play.Start", "Started playing."))
    }

    /// The client ends what it does, or no longer waits for it.
    fn stop(&mut self, now: Instant) -> Result<(), Error> {
        let role = std::mem::replace(&mut self.role, Role::None);
        self.early = Vec::new();
        self.early_bytes = 0;
        self.transport.expect_commands();
        self.expect(now, Deadline::Request);
        match role {
            Role::AskedPublish { id } | Role::Publishing { id, .. } => {
                self.events.push_back(Event::Unpublished);
                self.status(id, &Status::ok("NetStream.Unpublish.Success", "Stopped publishing."))
            }
            Role::AskedPlay { id } | Role::Playing { id } => {
                self.events.push_back(Event::Stopped);
                self.status(id, &Status::ok("NetStream.Play.Stop", "Stopped playing."))
            }
            Role::None | Role::Closed => Ok(()),
        }
    }

    fn role_id(&self) -> Option<u32> {
        match self.role {
            Role::AskedPublish { id }
            | Role::AskedPlay { id }
            | Role::Publishing { id, .. }
            | Role::Playing { id } => Some(id),
            Role::None | Role::Closed => None,
        }
    }

    /// `FCPublish` and its like: a status of their own, and an answer.
    fn fc(&mut self, command: &Command, name: &str, code: &'static str) -> Result<(), Error> {
        let about = excerpt(command.text(0).unwrap_or_default()).to_owned();
        let status = Command::new(name, 0.0, vec![Status::ok(code, about).info()]);
        self.transport.command(0, &status)?;
        self.optional_result(command)
    }

    fn optional_result(&mut self, command: &Command) -> Result<(), Error> {
        if command.transaction == 0.0 { Ok(()) } else { self.result(command, Value::Null) }
    }

    fn result(&mut self, command: &Command, value: Value) -> Result<(), Error> {
        self.transport.command(0, &Command::new("_result", command.transaction, vec![value]))
    }

    /// An `_error`, if the client waits for an answer.
    fn fail(&mut self, command: &Command, why: &str) -> Result<(), Error> {
        if command.transaction == 0.0 {
            return Ok(());
        }
        self.error(command, &Status::error("NetConnection.Call.Failed", why.to_owned()))
    }

    fn error(&mut self, command: &Command, status: &Status) -> Result<(), Error> {
        self.transport.command(0, &Command::new("_error", command.transaction, vec![status.info()]))
    }
}

/// What of a client's text is repeated to it.
fn excerpt(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}
