//! An app: where it plays, and what it does when that fails.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::seen::{Count, How, Seen};
use super::{Directory, flv, hls, http, rtmp};

/// How long a replica has for its answer before another is asked.
const ANSWER: Duration = Duration::from_secs(2);

/// How long somebody whom nobody lets in waits before it tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// How long nothing may come before somebody gives an edge up: longer than a stream waits for its publisher.
pub(super) const STALL: Duration = Duration::from_secs(20);

/// How long an edge has for taking a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// A stream at an edge.
#[derive(Debug, Clone, Deserialize)]
struct Told {
    node: String,
    hls: String,
    flv: String,
    rtmp: String,
}

#[derive(Debug, Deserialize)]
struct Play {
    edges: Vec<Told>,
}

/// How playing from an edge ended.
pub(super) struct End(pub(super) Count, pub(super) String);

impl End {
    pub(super) fn of(count: Count, what: impl Into<String>) -> Self {
        Self(count, what.into())
    }

    pub(super) fn refused(what: impl std::fmt::Display) -> Self {
        Self(Count::Refused, what.to_string())
    }
}

/// The end of a task, however it comes.
struct Over<'a>(&'a Seen);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Watches; never ends.
pub(super) async fn watch(seen: &Seen, directory: &Directory, index: usize) {
    let _over = Over(seen);
    let mut known: Vec<Told> = Vec::new();
    loop {
        // With nobody to ask, what it was told is good for longer.
        if let Some(told) = ask(directory, index).await {
            known = told;
        }
        let mut played = false;
        for told in &known {
            let end = match seen.how {
                How::Flv => flv::play(seen, &told.node, &told.flv).await,
                How::Rtmp => rtmp::play(seen, &told.node, &told.rtmp).await,
                How::Hls => hls::play(seen, &told.node, &told.hls).await,
            };
            seen.trouble(end.0, &format!("{} {}", told.node, end.1));
            played = end.0 != Count::Refused;
            if played {
                break;
            }
        }
        if !played {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the first replica says that answers.
async fn ask(directory: &Directory, index: usize) -> Option<Vec<Told>> {
    let count = directory.replicas.len();
    for at in 0..count {
        let (replica, token) = &directory.replicas[(index + at) % count];
        let answer = tokio::time::timeout(ANSWER, ask_one(*replica, token, &directory.stream)).await;
        if let Ok(Some(play)) = answer {
            return Some(play.edges);
        }
    }
    None
}

async fn ask_one(replica: SocketAddr, token: &str, stream: &str) -> Option<Play> {
    let mut connection = http::Connection::open(&replica.to_string()).await.ok()?;
    let answer = connection.get(&format!("/api/v1/play/{stream}"), Some(token)).await.ok()?;
    let body = connection.body(&answer).await.ok()?;
    if answer.status != 200 {
        return None;
    }
    serde_json::from_slice(&body).ok()
}
