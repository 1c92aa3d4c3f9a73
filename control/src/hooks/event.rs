//! What hooks tell: an event, and the JSON that it is sent as.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Bytes of an event's JSON at most. Half a kilobyte is usual; what can be long is what a client put into a URL.
pub(super) const MAX_EVENT_BYTES: usize = 16 * 1024;

/// What kind of event an endpoint can listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody wants to publish; the answer may refuse it.
    OnPublish,
    /// Somebody wants to play; the answer may refuse it.
    OnPlay,
    /// A stream has ended.
    OnUnpublish,
    /// A player has left.
    OnStop,
    /// A publisher was lost; its stream has a grace period to come back in.
    OnDrop,
    /// A publisher came back within the grace period.
    OnResume,
    /// A recording is complete.
    OnRecord,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OnPublish,
        Self::OnPlay,
        Self::OnUnpublish,
        Self::OnStop,
        Self::OnDrop,
        Self::OnResume,
        Self::OnRecord,
    ];

    /// As it stands in JSON, in configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnPublish => "on_publish",
            Self::OnPlay => "on_play",
            Self::OnUnpublish => "on_unpublish",
            Self::OnStop => "on_stop",
            Self::OnDrop => "on_drop",
            Self::OnResume => "on_resume",
            Self::OnRecord => "on_record",
        }
    }

    /// Whether endpoints are asked before it happens, instead of told after it did.
    pub fn is_asked(self) -> bool {
        matches!(self, Self::OnPublish | Self::OnPlay)
    }
}

/// What happened, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// Somebody wants to publish.
    OnPublish,
    /// Somebody wants to play.
    OnPlay,
    /// A stream has ended.
    OnUnpublish,
    /// A player has left.
    OnStop,
    /// A publisher was lost.
    OnDrop,
    /// A publisher came back.
    OnResume,
    /// A recording is complete.
    OnRecord {
        /// Where it is, in the store of recordings.
        path: String,
    },
}

impl Happening {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::OnPublish => EventKind::OnPublish,
            Self::OnPlay => EventKind::OnPlay,
            Self::OnUnpublish => EventKind::OnUnpublish,
            Self::OnStop => EventKind::OnStop,
            Self::OnDrop => EventKind::OnDrop,
            Self::OnResume => EventKind::OnResume,
            Self::OnRecord { .. } => EventKind::OnRecord,
        }
    }
}

/// Of which stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct StreamName {
    /// First part of its path.
    pub app: String,
    /// Second part of its path.
    pub name: String,
}

/// An event's number: 128 bits, as 32 hexadecimal digits. It stays the same however often the event is delivered, so that
/// a receiver can tell what it has had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ToSchema)]
#[schema(value_type = String, example = "5f0c1d6e9a3b47d28c1e0f5a6b7c8d9e")]
pub struct EventId(u128);

impl EventId {
    /// The same for the same names.
    pub(crate) fn of(names: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for name in names {
            digest.update(name.len().to_be_bytes());
            digest.update(name);
        }
        let bytes = digest.finalize();
        Self(bytes.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    fn random() -> Self {
        Self(u128::from(random()) << 64 | u128::from(random()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An event, as it is sent to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening,
    /// Its number: the same in each delivery of it.
    pub id: EventId,
    /// When it happened, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// The stream.
    pub stream: StreamName,
    /// The stream's epoch: it grows with every publish.
    pub epoch: u64,
    /// The node where it happened.
    pub node: String,
    /// `rtmp`, `hls`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// The client's session: the same from `on_play` to `on_stop`, and from `on_publish` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Parameters of the URL that the client used. Who makes the event leaves out keys and grants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

impl Event {
    /// An event of now with a number of its own. The fields about a client are empty.
    pub fn new(happening: Happening, stream: StreamName, epoch: u64, node: impl Into<String>) -> Self {
        Self {
            happening,
            id: EventId::random(),
            at_ms: now_ms(),
            stream,
            epoch,
            node: node.into(),
            protocol: None,
            remote_addr: None,
            session: None,
            params: BTreeMap::new(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> EventKind {
        self.happening.kind()
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// 64 bits that are hardly ever the same: std keys each hasher of a thread anew, beginning at the system's randomness.
/// Nothing that uses them has to be secret.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn stream() -> StreamName {
        StreamName { app: "live".into(), name: "a".into() }
    }

    #[test]
    fn the_json_is_flat_and_names_the_event() {
        let mut event =
            Event::new(Happening::OnRecord { path: "live/a/1.mp4".into() }, stream(), 7, "origin-1");
        event.params.insert("lang".into(), "de".into());
        let json = serde_json::to_value(&event).unwrap();
        let expected = serde_json::json!({
            "event": "on_record", "path": "live/a/1.mp4", "id": event.id.to_string(), "at_ms": event.at_ms,
            "stream": {"app": "live", "name": "a"}, "epoch": 7, "node": "origin-1", "params": {"lang": "de"},
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn each_kind_is_called_the_same_everywhere() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            let json = serde_json::json!({"event": kind.name(), "path": "p"});
            assert_eq!(serde_json::from_value::<Happening>(json).unwrap().kind(), kind);
            assert_eq!(kind.is_asked(), ["on_publish", "on_play"].contains(&kind.name()));
        }
    }

    #[test]
    fn numbers_differ_and_are_read_as_written() {
        let ids: HashSet<_> = (0..1_000).map(|_| EventId::random()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            assert_eq!(id.to_string().len(), 32);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
