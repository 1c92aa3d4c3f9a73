//! A viewer of a broadcast.
//!
//! It has what it was sent, and a place in the ring that all viewers share: nothing is queued for it. Where it begins, or
//! can't decode any more, it is *behind*: it is sent the newest keyframe and what follows in slices, so that its line takes
//! them, until it is where its group is. If that does not help it, it goes without pictures until the next keyframe comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::frame::Kind;

use super::{Ended, Watcher};
use crate::broadcast::{Broadcast, Sample};
use crate::peer::Peer;

/// A viewer asks more than once about one loss: what it was given on the first time is on its way.
const SAME_LOSS: Duration = Duration::from_millis(500);
/// Who asks again within this time has a line that does not take what it is sent: more at once would make it worse.
const TOO_SLOW: Duration = Duration::from_secs(3);
/// Payload bytes of the past in a slice, and how often one is sent: 100 Mbit/s, which sockets' buffers take.
const SLICE_BYTES: usize = 48 * 1024;
const SLICE: Duration = Duration::from_millis(4);

/// What is done about a viewer that can't decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It gets the newest keyframe again, and what follows.
    CatchUp,
    /// It waits for the next keyframe.
    Skip,
    /// It is being helped.
    Nothing,
}

/// What a viewer has not been sent of the past.
#[derive(Debug)]
struct Behind {
    /// The number of what is next.
    next: u64,
    /// What is before that number is older than now: its pictures have timestamps one tick apart, the last its own.
    squeezed_until: u64,
    timestamp: i64,
    /// When the next slice is sent.
    at: Instant,
}

pub(super) struct Viewing {
    pub(super) broadcast: Arc<Broadcast>,
    watcher: Box<dyn Watcher>,
    /// Pictures before a keyframe are of no use to it.
    waiting: bool,
    behind: Option<Behind>,
    last_video: Option<i64>,
    /// When it was given the newest keyframe last, and when that was because it asked.
    began: Option<Instant>,
    helped: Option<Instant>,
    pub(super) bytes: u64,
}

impl Viewing {
    pub(super) fn new(broadcast: Arc<Broadcast>, watcher: Box<dyn Watcher>) -> Self {
        let (behind, last_video, began, helped) = Default::default();
        Self { broadcast, watcher, waiting: true, behind, last_video, began, helped, bytes: 0 }
    }

    /// Sends what is new. Pictures are left to [`Self::catch_up`] while it is behind.
    pub(super) fn follow(&mut self, samples: &[Arc<Sample>], peer: &mut dyn Peer) {
        for sample in samples {
            if sample.kind == Kind::Video {
                if self.behind.is_some() || self.waiting && !sample.keyframe {
                    continue;
                }
                self.waiting = false;
                self.show(sample, sample.timestamp, peer);
            } else {
                self.send(sample, sample.timestamp, peer);
            }
        }
    }

    /// It begins with the newest keyframe before `until`: with the next one where there is none.
    pub(super) fn begin(&mut self, now: Instant, until: u64) {
        self.began = Some(now);
        let join = self.broadcast.join(until);
        self.waiting = join.is_none();
        self.behind = join.map(|join| Behind {
            next: join.first,
            squeezed_until: until,
            timestamp: join.last - join.count + 1,
            at: now,
        });
    }

    /// Sends a slice of what is before `until`, if it is time. All that is older than now is sent as if it were of about the
    /// moment of the last, so that it is decoded at once and nothing is shown late. Sound begins with what comes next.
    pub(super) fn catch_up(&mut self, now: Instant, until: u64, peer: &mut dyn Peer) {
        let Some(behind) = &self.behind else { return };
        if now < behind.at {
            return;
        }
        let mut samples = Vec::new();
        let Some(next) = self.broadcast.past(behind.next, until, SLICE_BYTES, &mut samples) else {
            // From the newer keyframe on, now.
            return self.begin(now, until);
        };
        let Some(mut behind) = self.behind.take() else { return };
        for (sample, number) in samples.iter().zip(behind.next..).filter(|(s, _)| s.kind == Kind::Video) {
            let own = if number < behind.squeezed_until { behind.timestamp } else { sample.timestamp };
            behind.timestamp += 1;
            // Behind what it has already.
            let timestamp = self.last_video.map_or(own, |sent| own.max(sent + 1));
            self.show(sample, timestamp, peer);
        }
        self.behind = (next < until).then_some(Behind { next, at: now + SLICE, ..behind });
    }

    /// When [`Self::catch_up`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.behind.as_ref().map(|behind| behind.at)
    }

    /// What is done about it if it can't decode at `now`.
    pub(super) fn remedy(&self, now: Instant) -> Remedy {
        let within =
            |at: Option<Instant>, time| at.is_some_and(|at| now.saturating_duration_since(at) < time);
        if self.behind.is_some() || self.waiting || within(self.began, SAME_LOSS) {
            Remedy::Nothing
        } else if within(self.helped, TOO_SLOW) {
            Remedy::Skip
        } else {
            Remedy::CatchUp
        }
    }

    /// It gets the newest keyframe before `until` again, since it asked.
    pub(super) fn help(&mut self, now: Instant, until: u64) {
        self.helped = Some(now);
        self.begin(now, until);
    }

    /// It goes without pictures until the next keyframe.
    pub(super) fn skip(&mut self) {
        self.waiting = true;
        self.behind = None;
    }

    /// Once a second.
    pub(super) fn may_stay(&mut self) -> Result<(), Ended> {
        self.watcher.may_stay(self.bytes)
    }

    pub(super) fn end(self, why: Ended) {
        self.watcher.ended(why, self.bytes);
    }

    fn show(&mut self, sample: &Sample, timestamp: i64, peer: &mut dyn Peer) {
        self.last_video = Some(timestamp);
        self.send(sample, timestamp, peer);
    }

    fn send(&self, sample: &Sample, timestamp: i64, peer: &mut dyn Peer) {
        // Wraps, as RTP's timestamps do.
        let [.., a, b, c, d] = timestamp.to_be_bytes();
        peer.send(sample.kind, u32::from_be_bytes([a, b, c, d]), sample.shown, &sample.payloads);
    }
}
