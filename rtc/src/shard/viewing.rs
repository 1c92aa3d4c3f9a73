//! A viewer of a broadcast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::frame::Kind;

use super::{Ended, Watcher};
use crate::broadcast::{Broadcast, Sample};
use crate::peer::Peer;

/// How often a viewer that can't decode is given the cached keyframe again.
const RESTART_AT_MOST: Duration = Duration::from_millis(500);

pub(super) struct Viewing {
    pub(super) broadcast: Arc<Broadcast>,
    watcher: Box<dyn Watcher>,
    /// Pictures before a keyframe are of no use to it.
    waiting: bool,
    last_video: Option<i64>,
    restarted: Option<Instant>,
    pub(super) bytes: u64,
}

impl Viewing {
    pub(super) fn new(broadcast: Arc<Broadcast>, watcher: Box<dyn Watcher>) -> Self {
        Self { broadcast, watcher, waiting: true, last_video: None, restarted: None, bytes: 0 }
    }

    /// Sends what is new.
    pub(super) fn follow(&mut self, samples: &[Arc<Sample>], peer: &mut dyn Peer) {
        for sample in samples {
            if sample.kind == Kind::Video {
                if self.waiting && !sample.keyframe {
                    continue;
                }
                self.waiting = false;
                self.last_video = Some(sample.timestamp);
            }
            self.send(sample, sample.timestamp, peer);
        }
    }

    /// Sends the newest keyframe and the pictures behind it, which are older than now: all as if they were of about the
    /// moment of the last, so that they are decoded at once and nothing is shown late. Sound begins with what comes next.
    pub(super) fn catch_up(&mut self, backlog: &[Arc<Sample>], peer: &mut dyn Peer) {
        let pictures = || backlog.iter().filter(|sample| sample.kind == Kind::Video);
        let count = i64::try_from(pictures().count()).unwrap_or(0);
        let Some(last) = pictures().last() else {
            self.waiting = true;
            return;
        };
        // One tick apart, and behind what it has already.
        let first = (last.timestamp - count + 1).max(self.last_video.map_or(i64::MIN, |sent| sent + 1));
        for (sample, timestamp) in pictures().zip(first..) {
            self.send(sample, timestamp, peer);
            self.last_video = Some(timestamp);
        }
        self.waiting = false;
    }

    /// Whether it is given a keyframe again that asked for one at `now`.
    pub(super) fn may_restart(&mut self, now: Instant) -> bool {
        let may = self.restarted.is_none_or(|at| now.saturating_duration_since(at) >= RESTART_AT_MOST);
        if may {
            self.restarted = Some(now);
        }
        may
    }

    /// Once a second.
    pub(super) fn may_stay(&mut self) -> Result<(), Ended> {
        self.watcher.may_stay(self.bytes)
    }

    pub(super) fn end(self, why: Ended) {
        self.watcher.ended(why, self.bytes);
    }

    fn send(&self, sample: &Sample, timestamp: i64, peer: &mut dyn Peer) {
        // Wraps, as RTP's timestamps do.
        let [.., a, b, c, d] = timestamp.to_be_bytes();
        peer.send(sample.kind, u32::from_be_bytes([a, b, c, d]), sample.shown, &sample.payloads);
    }
}
