//! Peers on threads: one shard a core, each with a socket of its own on the port that all share (SO_REUSEPORT), so that
//! no datagram crosses threads. See [`crate::directory`] for how a peer comes to its shard.

mod ranks;
mod receiving;
mod run;
mod seat;
mod sender;
mod viewing;

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashSet;
use media_core::rtp::Depacketized;
use mio::Waker;
use parking_lot::Mutex;

use crate::broadcast::Broadcast;
use crate::config::Config;
use crate::directory::{Directory, Name};
use crate::metrics::Metrics;
use crate::peer::{Credentials, Peer, Role};

pub(crate) use run::{WAKER, start};

/// Letters that a shard has not read. It reads them all each time it wakes.
const MAX_LETTERS: usize = 4_096;

/// Why a peer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// It did not become connected in time.
    Handshake,
    /// It left, or was not heard.
    Left,
    /// Its session was deleted.
    Asked,
    /// What it published or watched is over.
    Stream,
    /// Its stream has other codecs than its answer named.
    OtherCodecs,
    /// Its stream has B-frames.
    Reordered,
    /// It may no longer.
    Revoked,
    /// Its state machine failed.
    Failed,
    /// The server is shutting down.
    Draining,
}

impl Ended {
    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake_timeout",
            Self::Left => "left",
            Self::Asked => "deleted",
            Self::Stream => "stream_ended",
            Self::OtherCodecs => "other_codecs",
            Self::Reordered => "b_frames",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

/// Where a publisher's frames go. Called on a shard's thread: nothing here may wait.
pub trait Sink: Send {
    /// Takes what came. An error ends the publisher.
    fn media(&mut self, item: Depacketized) -> Result<(), Ended>;

    /// How loud a packet of sound is, in dB below the loudest, 0 to 127 (RFC 6464 §3), where the publisher says so.
    fn audio_level(&mut self, _: u8) {}

    /// Whether it may go on; asked once a second.
    fn may_stay(&mut self) -> Result<(), Ended> {
        Ok(())
    }

    /// Whether somebody who watches can't go on without a keyframe, since this was asked last.
    fn wants_keyframe(&mut self) -> bool {
        false
    }

    /// The publisher is over.
    fn ended(self: Box<Self>, why: Ended);
}

/// Who watches. Called on a shard's thread: nothing here may wait.
pub trait Watcher: Send {
    /// Whether it may stay; asked once a second, with the bytes that were sent to it.
    fn may_stay(&mut self, bytes: u64) -> Result<(), Ended>;

    /// It is over.
    fn ended(self: Box<Self>, why: Ended, bytes: u64);
}

/// What a peer is for.
pub(crate) enum Work {
    Publish(Box<dyn Sink>),
    Play(Arc<Broadcast>, Box<dyn Watcher>),
}

impl Work {
    pub(crate) fn end(self, why: Ended) {
        match self {
            Self::Publish(sink) => sink.ended(why),
            Self::Play(_, watcher) => watcher.ended(why, 0),
        }
    }
}

/// A peer that no datagram came from yet.
pub(crate) struct Newcomer {
    pub(crate) name: Name,
    /// The fragment that its peer has since ICE was restarted.
    pub(crate) renamed: Option<String>,
    pub(crate) peer: Box<dyn Peer>,
    pub(crate) work: Work,
    pub(crate) begun: Instant,
    pub(crate) count: Count,
}

impl Newcomer {
    pub(crate) fn end(self, why: Ended) {
        self.count.ended(why);
        self.work.end(why);
    }
}

/// A place in the counts; dropping it gives it back.
pub(crate) struct Count {
    metrics: Metrics,
    role: &'static str,
}

impl Count {
    pub(crate) fn new(metrics: &Metrics, role: &Role) -> Self {
        let role = role.name();
        metrics.accepted.with_label_values(&[role]).inc();
        metrics.peers.with_label_values(&[role]).inc();
        Self { metrics: metrics.clone(), role }
    }

    fn ended(&self, why: Ended) {
        self.metrics.ended.with_label_values(&[why.name()]).inc();
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.metrics.peers.with_label_values(&[self.role]).dec();
    }
}

/// What a shard is told.
pub(crate) enum Letter {
    /// A broadcast, by its address, has news.
    News(usize),
    /// A datagram for one of its peers came to another shard.
    Datagram(Box<Strayed>),
    /// A session is deleted.
    Close(String),
    /// A session's client tells of a candidate.
    Candidate(String, String),
    /// A session's client restarts ICE.
    Restart(Box<Restart>),
    /// The server ends.
    End,
}

/// A restart of ICE.
pub(crate) struct Restart {
    /// The fragment that the session began with.
    pub(crate) session: String,
    pub(crate) ours: Credentials,
    pub(crate) theirs: Credentials,
}

/// A datagram that came to another shard than its peer's.
pub(crate) struct Strayed {
    from: std::net::SocketAddr,
    to: Option<std::net::IpAddr>,
    bytes: Box<[u8]>,
}

/// A shard's letters.
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waker: Waker,
    /// The broadcasts that are watched there, by their address.
    watched: Mutex<AHashSet<usize>>,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { letters: Mutex::default(), waker, watched: Mutex::default() }
    }

    /// `false`: there is no room.
    pub(crate) fn post(&self, letter: Letter) -> bool {
        let mut letters = self.letters.lock();
        if letters.len() >= MAX_LETTERS {
            return false;
        }
        letters.push(letter);
        let first = letters.len() == 1;
        drop(letters);
        // Whoever wrote the first has woken it; it takes all.
        if first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a WebRTC thread can't be woken");
        }
        true
    }

    /// Whether a broadcast is watched there.
    pub(crate) fn watches(&self, broadcast: usize) -> bool {
        self.watched.lock().contains(&broadcast)
    }

    fn watch(&self, broadcast: usize, watch: bool) {
        let mut watched = self.watched.lock();
        if watch {
            watched.insert(broadcast);
        } else {
            watched.remove(&broadcast);
        }
    }

    fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock())
    }
}

/// What all shards share.
pub(crate) struct Common {
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    pub(crate) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(crate) addresses: Arc<[std::net::SocketAddr]>,
    pub(crate) handshake: Duration,
    pub(crate) keyframes: Option<Duration>,
}

impl Common {
    pub(crate) fn times(config: &Config) -> (Duration, Option<Duration>) {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        let keyframes = (config.keyframe_interval_ms > 0).then(|| millis(config.keyframe_interval_ms));
        (millis(config.handshake_timeout_ms), keyframes)
    }
}

/// Says what a thread panicked with.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> io::Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    io::Error::other(text.unwrap_or("a panic").to_owned())
}
