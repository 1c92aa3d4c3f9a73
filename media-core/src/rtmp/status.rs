//! What a server says of a stream: `onStatus` (RTMP 1.0 §7.2.2).

use std::borrow::Cow;

use crate::amf0::Value;

use super::command::Command;

/// How serious a status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Status,
    /// The request failed.
    Error,
}

/// A status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How serious it is.
    pub level: Level,
    /// Such as `NetStream.Publish.Start`.
    pub code: Cow<'static, str>,
    /// For people.
    pub description: Cow<'static, str>,
}

/// Why a publish or play is refused or ended, in the protocol's words and in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `NetStream.Publish.Denied`.
    pub code: &'static str,
    /// For people.
    pub description: String,
}

impl Refusal {
    /// The publisher may not publish this: a key is wrong or missing. Encoders stop retrying.
    pub fn publish_denied(description: impl Into<String>) -> Self {
        Self { code: "NetStream.Publish.Denied", description: description.into() }
    }

    /// The name is taken, or is not one that a stream can have.
    pub fn bad_name(description: impl Into<String>) -> Self {
        Self { code: "NetStream.Publish.BadName", description: description.into() }
    }

    /// This server takes it no longer, and another one may: encoders come back.
    pub fn shutting_down(description: impl Into<String>) -> Self {
        Self { code: "NetConnection.Connect.AppShutdown", description: description.into() }
    }

    /// Nothing of that name is live.
    pub fn not_found(description: impl Into<String>) -> Self {
        Self { code: "NetStream.Play.StreamNotFound", description: description.into() }
    }

    /// Any other reason not to play.
    pub fn play_failed(description: impl Into<String>) -> Self {
        Self { code: "NetStream.Play.Failed", description: description.into() }
    }
}

impl Status {
    pub(super) fn ok(code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { level: Level::Status, code: code.into(), description: description.into() }
    }

    pub(super) fn error(code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { level: Level::Error, code: code.into(), description: description.into() }
    }

    pub(super) fn info(&self) -> Value {
        let level = match self.level {
            Level::Status => "status",
            Level::Error => "error",
        };
        Value::object([
            ("level", Value::from(level)),
            ("code", Value::from(&*self.code)),
            ("description", Value::from(&*self.description)),
        ])
    }

    /// The `onStatus` command.
    pub(super) fn command(&self) -> Command {
        Command::new("onStatus", 0.0, vec![self.info()])
    }

    /// From the info object of an `onStatus` or answer.
    pub(super) fn from_info(info: &Value) -> Self {
        let text = |key| info.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let level = if text("level") == "error" { Level::Error } else { Level::Status };
        Self { level, code: text("code").into(), description: text("description").into() }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        Self::error(refusal.code, refusal.description.clone())
    }
}
