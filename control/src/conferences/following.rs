//! Those who follow a conference's events, as server-sent events (WHATWG HTML §9.2). An event is written once for all of them.
//!
//! What changes a conference has an id, the same at all replicas, so that a follower goes on where it was, wherever it comes
//! back. Who lacks more than is kept begins with a `snapshot`. Who speaks has no id: it is lost when nobody is there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::Conferences;
use super::record::{Conference, Happened, What};
use super::speaker::ActiveSpeaker;

/// Events that a slow follower may be behind; then it begins with a snapshot.
const MAX_BEHIND: usize = 64;

/// How often something is said where nothing happens: proxies hang up after a minute or half of one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back.
const RETRY_MS: u32 = 1_000;

/// Why nobody can follow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("there is no conference {0}")]
    None(String),
    #[error(
        "as many follow conferences here as may (`control.conferences.max_followers`); ask another replica"
    )]
    Full,
}

/// What followers of a conference have in common.
pub(super) struct Hub {
    said: broadcast::Sender<Arc<Said>>,
    pub(super) speaker: ActiveSpeaker,
}

impl Hub {
    fn new() -> Self {
        Self { said: broadcast::channel(MAX_BEHIND).0, speaker: ActiveSpeaker::default() }
    }

    pub(super) fn is_followed(&self) -> bool {
        self.said.receiver_count() > 0
    }

    fn say(&self, said: Said) {
        // Nobody may follow.
        let _ = self.said.send(Arc::new(said));
    }

    /// Tells who speaks.
    pub(super) fn say_speaker(&self, now_ms: u64) {
        self.say(Said { id: None, text: speaker(self.speaker.speaks(), now_ms), is_last: false });
    }
}

/// An event as it is sent.
struct Said {
    id: Option<u64>,
    text: Bytes,
    is_last: bool,
}

impl Said {
    fn of(happened: &Happened) -> Self {
        let mut data = serde_json::Map::from_iter([("at_ms".to_owned(), json!(happened.at_ms))]);
        if let Some(member) = &happened.member {
            data.insert("member".to_owned(), json!(member));
        }
        if let Some(role) = happened.role {
            data.insert("role".to_owned(), json!(role));
        }
        let data = serde_json::Value::Object(data);
        let text = format!("id: {}\nevent: {}\ndata: {data}\n\n", happened.id, happened.what.name());
        Self { id: Some(happened.id), text: text.into(), is_last: happened.what == What::Ended }
    }
}

fn snapshot(conference: &Conference) -> Bytes {
    let data = json!({ "members": conference.members, "max_speakers": conference.max_speakers });
    format!("id: {}\nevent: snapshot\ndata: {data}\n\n", conference.sequence).into()
}

fn speaker(who: Option<&str>, now_ms: u64) -> Bytes {
    format!("event: speaker\ndata: {}\n\n", json!({ "member": who, "at_ms": now_ms })).into()
}

impl Conferences {
    /// What has changed, for those who follow.
    pub(super) fn tell_followers(&self, path: &str, before: Option<&Conference>, now: &Conference) {
        let hubs = self.0.hubs.lock();
        let Some(hub) = hubs.get(path) else { return };
        match before.and_then(|before| now.since(before.sequence)) {
            Some(events) => events.for_each(|happened| hub.say(Said::of(happened))),
            None => hub.say(Said { id: Some(now.sequence), text: snapshot(now), is_last: now.has_ended() }),
        }
    }

    /// Follows a conference from the event after `last`, until `until`.
    pub(crate) fn events(
        &self,
        path: &str,
        last: Option<u64>,
        until: Option<Instant>,
    ) -> Result<Follower, FollowError> {
        let none = || FollowError::None(path.to_owned());
        let permit = Arc::clone(&self.0.room).try_acquire_owned().map_err(|_| FollowError::Full)?;
        // Held until it is among those who are told.
        let known = self.0.known.read();
        let kept = known.get(path).filter(|kept| !kept.conference.has_ended()).ok_or_else(none)?;
        let conference = &kept.conference;
        let mut hubs = self.0.hubs.lock();
        let hub = hubs.entry(path.to_owned()).or_insert_with(Hub::new);
        let mut waiting = VecDeque::from([Bytes::from(format!("retry: {RETRY_MS}\n\n"))]);
        match last.and_then(|last| conference.since(last)) {
            Some(events) => waiting.extend(events.map(|happened| Said::of(happened).text)),
            None => waiting.push_back(snapshot(conference)),
        }
        // Nobody, too: who comes back may show somebody.
        waiting.push_back(speaker(hub.speaker.speaks(), (self.0.clock)()));
        let mut alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Follower {
            conferences: self.clone(),
            path: path.to_owned(),
            said: hub.said.subscribe(),
            waiting,
            last: conference.sequence,
            is_over: false,
            alive,
            until,
            closing: self.0.closing.subscribe(),
            _permit: permit,
        })
    }

    /// Lets go of what nobody follows.
    pub(super) fn forget_unfollowed(&self) {
        self.0.hubs.lock().retain(|_, hub| hub.is_followed());
    }
}

/// Somebody who follows a conference.
pub(crate) struct Follower {
    conferences: Conferences,
    path: String,
    said: broadcast::Receiver<Arc<Said>>,
    waiting: VecDeque<Bytes>,
    /// The newest event that it has.
    last: u64,
    is_over: bool,
    alive: Interval,
    until: Option<Instant>,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// What is sent next; `None`: nothing any more.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(waiting) = self.waiting.pop_front() {
                return Some(waiting);
            }
            if self.is_over {
                return None;
            }
            let until = self.until;
            let expires = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let said = tokio::select! {
                said = self.said.recv() => said,
                _ = self.alive.tick() => return Some(Bytes::from_static(b": still here\n\n")),
                () = expires => return None,
                _ = self.closing.wait_for(|closing| *closing) => return None,
            };
            match said {
                Ok(said) => self.take(&said),
                Err(RecvError::Lagged(_)) => self.begin_again(),
                // The conference is forgotten.
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn take(&mut self, said: &Said) {
        // It may have had it with what it began with.
        if said.id.is_some_and(|id| id <= self.last) {
            return;
        }
        self.last = said.id.unwrap_or(self.last);
        self.is_over = said.is_last;
        self.waiting.push_back(said.text.clone());
    }

    fn begin_again(&mut self) {
        // Of one that is over the last event is still to come.
        let Some(conference) = self.conferences.get(&self.path) else { return };
        self.last = conference.sequence;
        self.waiting.push_back(snapshot(&conference));
        let inner = &self.conferences.0;
        let speaks =
            inner.hubs.lock().get(&self.path).and_then(|hub| hub.speaker.speaks().map(str::to_owned));
        self.waiting.push_back(speaker(speaks.as_deref(), (inner.clock)()));
    }
}
