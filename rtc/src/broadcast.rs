//! What WHEP viewers of a stream watch: its frames as RTP payloads, made once, in a ring that all of them refer to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use media_core::codec;
use media_core::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};
use media_core::rtp::{Packetizer, Payload};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::peer::{MAX_PAYLOAD_BYTES, Sent};
use crate::shard::{Ended, Letter, Mailbox};

/// Payload bytes in a ring: the newest keyframe and what follows, ten seconds of 12 Mbit/s.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Frames in a ring.
const MAX_SAMPLES: usize = 4_096;
/// Frames before the newest keyframe that are kept for shards that are late.
const KEPT_BEHIND: usize = 120;
/// How fast the time of arrival may drift away from the publisher's clock, in microseconds a frame.
const DRIFT_US: i64 = 20;

/// Why a stream can't be watched by WebRTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwatchable {
    /// It has no track that WebRTC carries.
    #[error(
        "the stream has no track that WebRTC carries: of its codecs, H.264, H.265, AV1, VP8, VP9 and Opus are"
    )]
    NoTrack,
    /// Its frames are not shown in the order they come in.
    #[error(
        "the stream has B-frames, which browsers do not play by WebRTC: let its encoder make none (x264: bframes=0, or tune=zerolatency)"
    )]
    Reordered,
    /// It is over.
    #[error("the stream has ended")]
    Ended,
}

impl Unwatchable {
    /// Its name in metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoTrack => "no_track",
            Self::Reordered => "b_frames",
            Self::Ended => "ended",
        }
    }
}

/// A frame as payloads.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) kind: Kind,
    pub(crate) keyframe: bool,
    /// In ticks of the payload format's clock.
    pub(crate) timestamp: i64,
    /// The moment that it stands for: never later than it came.
    pub(crate) shown: Instant,
    pub(crate) payloads: Vec<Payload>,
    bytes: usize,
}

/// Where a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Join {
    /// The number of the keyframe.
    pub(crate) first: u64,
    /// Pictures from it on.
    pub(crate) count: i64,
    /// The timestamp of the last of them.
    pub(crate) last: i64,
}

/// What a shard reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// All before that number is read.
    Until(u64),
    /// What was next is gone: begin anew at the newest keyframe.
    Lost,
    /// It is over.
    Over(Ended),
}

/// See the module.
pub struct Broadcast {
    shards: Arc<[Arc<Mailbox>]>,
    /// Whether a shard has been told of news that it has not read yet.
    told: Vec<AtomicBool>,
    state: Mutex<State>,
    ready: watch::Sender<bool>,
    /// Viewers can't go on without a keyframe.
    wanted: Notify,
}

struct State {
    lanes: Vec<Lane>,
    /// What of the stream's tracks is not carried.
    left_out: Vec<Codec>,
    ring: VecDeque<Arc<Sample>>,
    /// The number of the ring's first.
    first: u64,
    /// The number of the newest keyframe.
    join: Option<u64>,
    bytes: usize,
    epoch: Instant,
    /// Arrival less presentation, in microseconds since `epoch`: the least of late.
    offset_us: Option<i64>,
    reordered: bool,
    /// An answer may have named the tracks: until then, they come one after the other.
    named: bool,
    over: Option<Ended>,
}

struct Lane {
    id: TrackId,
    sent: Sent,
    timescale: Timescale,
    packetizer: Packetizer,
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Those of the ring with the numbers from `from` on and before `until`.
    fn between(&self, from: u64, until: u64) -> impl Iterator<Item = &Arc<Sample>> {
        let at = |number: u64| usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (from, until) = (at(from), at(until));
        self.ring.iter().skip(from).take(until.saturating_sub(from))
    }
}

impl Broadcast {
    pub(crate) fn new(shards: Arc<[Arc<Mailbox>]>) -> Arc<Self> {
        let state = State {
            lanes: Vec::new(),
            left_out: Vec::new(),
            ring: VecDeque::new(),
            first: 0,
            join: None,
            bytes: 0,
            epoch: Instant::now(),
            offset_us: None,
            reordered: false,
            named: false,
            over: None,
        };
        let told = shards.iter().map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self {
            shards,
            told,
            state: Mutex::new(state),
            ready: watch::Sender::new(false),
            wanted: Notify::new(),
        })
    }

    /// Says which tracks there are. Of each kind the first is sent that WebRTC carries. Other codecs than before end those
    /// who watch: their answer named the ones before.
    pub fn set_tracks(&self, tracks: &[Track]) {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut left_out = Vec::new();
        for track in tracks {
            if lanes.iter().any(|lane| lane.id.kind == track.id.kind) {
                continue;
            }
            match Packetizer::new(track, MAX_PAYLOAD_BYTES) {
                Ok(packetizer) => lanes.push(Lane {
                    id: track.id,
                    sent: Sent { codec: track.codec, profile: profile(track) },
                    timescale: track.timescale,
                    packetizer,
                }),
                Err(_) => left_out.push(track.codec),
            }
        }
        let mut state = self.state.lock();
        let codecs = |lanes: &[Lane]| lanes.iter().map(|lane| lane.sent.codec).collect::<Vec<_>>();
        let other = state.named && codecs(&state.lanes) != codecs(&lanes);
        state.lanes = lanes;
        state.left_out = left_out;
        drop(state);
        if other {
            self.end(Ended::OtherCodecs);
        }
    }

    /// Appends a frame. One of a track that is not sent is passed over.
    pub fn push(&self, now: Instant, frame: &Frame) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.iter_mut().find(|lane| lane.id == frame.track) else { return };
        if frame.cts != 0 && frame.track.kind == Kind::Video {
            state.reordered = true;
        }
        let mut payloads = Vec::new();
        let timestamp = lane.packetizer.packetize(frame, &mut payloads);
        if payloads.is_empty() {
            return;
        }
        let shown = shown(state.epoch, &mut state.offset_us, now, frame.pts(), lane.timescale);
        let bytes = payloads.iter().map(|payload| payload.data.len()).sum();
        let kind = frame.track.kind;
        let keyframe = kind == Kind::Video && frame.keyframe;
        if keyframe {
            state.join = Some(state.next());
        }
        state.ring.push_back(Arc::new(Sample { kind, keyframe, timestamp, shown, payloads, bytes }));
        state.bytes += bytes;
        self.evict(state);
        let has_video = state.lanes.iter().any(|lane| lane.id.kind == Kind::Video);
        let ready = state.join.is_some() || !has_video;
        drop(guard);
        self.tell();
        if ready {
            self.ready.send_if_modified(|before| !std::mem::replace(before, true));
        }
    }

    /// It is over: those who watch are let go.
    pub fn end(&self, why: Ended) {
        self.state.lock().over.get_or_insert(why);
        self.tell();
        self.ready.send_replace(true);
    }

    /// Whether it is over, so that nobody can begin to watch it.
    pub fn is_over(&self) -> bool {
        self.state.lock().over.is_some()
    }

    /// Waits until there is something to begin with. Cancel-safe.
    pub async fn ready(&self) {
        // The sender is ours: it does not go while we wait.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Waits until viewers can't go on without a keyframe. Cancel-safe.
    pub async fn keyframe_wanted(&self) {
        self.wanted.notified().await;
    }

    /// A viewer can't go on without a keyframe.
    pub(crate) fn want_keyframe(&self) {
        self.wanted.notify_one();
    }

    /// What an answer to a viewer names, and which codecs are left out; or why nobody can watch.
    pub fn tracks(&self) -> Result<(Vec<Sent>, Vec<Codec>), Unwatchable> {
        let mut state = self.state.lock();
        if state.over.is_some() {
            return Err(Unwatchable::Ended);
        }
        if state.lanes.is_empty() {
            return Err(Unwatchable::NoTrack);
        }
        if state.reordered {
            return Err(Unwatchable::Reordered);
        }
        state.named = true;
        Ok((state.lanes.iter().map(|lane| lane.sent.clone()).collect(), state.left_out.clone()))
    }

    /// Appends what follows `next` for a shard that was told.
    pub(crate) fn read(&self, shard: usize, next: u64, out: &mut Vec<Arc<Sample>>) -> News {
        if let Some(told) = self.told.get(shard) {
            told.store(false, Ordering::Release);
        }
        let state = self.state.lock();
        if let Some(why) = state.over {
            return News::Over(why);
        }
        if state.reordered {
            return News::Over(Ended::Reordered);
        }
        let Some(skip) = next.checked_sub(state.first).and_then(|skip| usize::try_from(skip).ok()) else {
            return News::Lost;
        };
        out.extend(state.ring.iter().skip(skip).map(Arc::clone));
        News::Until(state.next())
    }

    /// Where a viewer begins: the newest keyframe, of which pictures are there until `until`. `None`: there is none.
    pub(crate) fn join(&self, until: u64) -> Option<Join> {
        let state = self.state.lock();
        let first = state.join.filter(|join| *join < until)?;
        let pictures = state.between(first, until).filter(|sample| sample.kind == Kind::Video);
        let (mut count, mut last) = (0, 0);
        for picture in pictures {
            count += 1;
            last = picture.timestamp;
        }
        Some(Join { first, count, last })
    }

    /// Appends what was before `until` and is `next` for a viewer who is behind, as many bytes as are given, and says what
    /// is next for it then. `None`: that is gone, or a newer keyframe makes it needless.
    pub(crate) fn past(
        &self,
        next: u64,
        until: u64,
        most_bytes: usize,
        out: &mut Vec<Arc<Sample>>,
    ) -> Option<u64> {
        let state = self.state.lock();
        if next < state.first || state.join.is_some_and(|join| join > next && join < until) {
            return None;
        }
        let (mut next, mut bytes) = (next, 0);
        for sample in state.between(next, until) {
            if bytes > 0 && bytes + sample.bytes > most_bytes {
                break;
            }
            bytes += sample.bytes;
            next += 1;
            out.push(Arc::clone(sample));
        }
        Some(next)
    }

    /// The number of what comes next.
    pub(crate) fn next(&self) -> u64 {
        self.state.lock().next()
    }

    fn evict(&self, state: &mut State) {
        loop {
            let behind = state.join.map_or(0, |join| join.saturating_sub(state.first));
            let too_many = state.bytes > MAX_BYTES || state.ring.len() > MAX_SAMPLES;
            let no_pictures = state.join.is_none() && state.ring.len() > KEPT_BEHIND;
            if !too_many && !no_pictures && behind <= KEPT_BEHIND as u64 {
                return;
            }
            let Some(gone) = state.ring.pop_front() else { return };
            state.bytes = state.bytes.saturating_sub(gone.bytes);
            if state.join == Some(state.first) {
                // Nobody can begin before the next keyframe.
                state.join = None;
            }
            state.first += 1;
        }
    }

    fn tell(&self) {
        let address = std::ptr::from_ref(self) as usize;
        for (mailbox, told) in self.shards.iter().zip(&self.told) {
            if mailbox.watches(address) && !told.swap(true, Ordering::AcqRel) {
                // A mailbox that is full now has room when the next frame comes.
                if !mailbox.post(Letter::News(address)) {
                    told.store(false, Ordering::Release);
                }
            }
        }
    }
}

/// `profile-level-id` (RFC 6184 §8.1): three bytes of the configuration record; or `profile-id` (RFC 9628 §6.1).
fn profile(track: &Track) -> Option<u32> {
    match (track.codec, track.config.get(1..4)) {
        (Codec::H264, Some(&[profile, constraints, level])) => {
            Some(u32::from_be_bytes([0, profile, constraints, level]))
        }
        (Codec::Vp9, _) => codec::vpx::profile(&track.config).map(u32::from),
        _ => None,
    }
}

/// The moment that a presentation time stands for. What comes earliest after its time is what is live; a backlog that
/// comes at once is older than it arrives.
fn shown(
    epoch: Instant,
    offset_us: &mut Option<i64>,
    now: Instant,
    pts: Timestamp,
    scale: Timescale,
) -> Instant {
    const MICROS: u32 = 1_000_000;
    let micros = Timescale::new(MICROS).unwrap_or(scale);
    let pts_us = pts.rescale(scale, micros).0;
    let arrival = i64::try_from(now.saturating_duration_since(epoch).as_micros()).unwrap_or(i64::MAX);
    let fresh = arrival.saturating_sub(pts_us);
    let offset = offset_us.map_or(fresh, |offset| fresh.min(offset.saturating_add(DRIFT_US)));
    *offset_us = Some(offset);
    let at = u64::try_from(pts_us.saturating_add(offset)).unwrap_or(0);
    epoch.checked_add(std::time::Duration::from_micros(at)).unwrap_or(now)
}
