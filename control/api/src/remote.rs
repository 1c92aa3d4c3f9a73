//! What is known of pulls and pushes, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::LineInfo;

/// What stands for what is not shown.
const HIDDEN: &str = "…";

/// A URL for people: without user, password, query and fragment. A path in which something is assigned may be a login, too,
/// as some cameras have it (`/user=admin&password=…`).
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, more) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let path = if path.contains('=') { format!("/{HIDDEN}") } else { path.to_owned() };
    let more = if more.is_empty() { String::new() } else { format!("?{HIDDEN}") };
    format!("{scheme}://{host}{path}{more}")
}

/// Where a pull or a push is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemoteState {
    /// Nobody wants it: an on-demand pull without viewers, or a push whose stream is not live.
    #[default]
    Idle,
    /// The other side is being called.
    Connecting,
    /// Media goes over the line.
    Live,
    /// It failed, and is tried again after a while.
    Waiting,
}

impl RemoteState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Connecting, Self::Live, Self::Waiting];

    /// That of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Its name, as the API has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Waiting => "waiting",
        }
    }
}

/// How a pull or a push does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// Where it is in its life.
    pub state: RemoteState,
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// Why it failed the last time, for people; absent once it is live again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it is tried again, in milliseconds since 1970 (UTC); only while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<u64>,
    /// What is left out of it, and why; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is known of its line, where the protocol tells: of SRT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineInfo>,
}

/// A pull, or a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemoteInfo {
    /// Of an order of the API: what it is deleted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The stream's app.
    pub app: String,
    /// The stream's name.
    pub name: String,
    /// Whom it calls, without secrets.
    pub url: String,
    /// A pull that begins with the first viewer, and ends with the last.
    #[serde(default)]
    pub on_demand: bool,
    /// It stands in the origin's configuration; else it was ordered by the API.
    #[serde(default)]
    pub configured: bool,
    /// The node that does it, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it does.
    #[serde(flatten)]
    pub standing: Standing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for (url, text) in [
            ("rtsp://camera.example/h264", "rtsp://camera.example/h264"),
            ("rtsp://admin:hunter2@10.0.0.9:554/ch1?token=hunter2", "rtsp://…@10.0.0.9:554/ch1?…"),
            ("rtsp://10.0.0.9/user=admin&password=hunter2&stream=1", "rtsp://10.0.0.9/…"),
            ("srt://[2001:db8::1]:9000?streamid=#!::u=hunter2", "srt://[2001:db8::1]:9000?…"),
            ("rtsp://a:b@c:hunter2@10.0.0.9", "rtsp://…@10.0.0.9"),
            ("hunter2", "…"),
        ] {
            assert_eq!(shown_url(url), text);
        }
    }
}
