//! A live stream: what its producer and its consumers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::cache::{Cache, CacheLimits};
use super::sound::{Sound, silence};
use super::timeline::{Repair, Timeline};
use super::{Clock, Epoch, Revoked, StreamKey, TrackSet, Unit};
use crate::frame::{Frame, Kind, Track};

/// Units that nobody is told of while the time that is waited for has not come: about a second of pictures and sound.
/// Tracks may be seconds apart, and a publisher's clock may stand still.
const MAX_UNREAD: u64 = 64;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A publisher is there.
    Live,
    /// The publisher dropped; another may continue.
    Interrupted,
    /// Over, for good. A new publish under the name is a new stream.
    Ended,
}

/// A stream's state at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its tracks and the epoch they belong to.
    pub tracks: Arc<TrackSet>,
    /// What the encoder calls itself.
    pub encoder: Option<Arc<str>>,
    /// Payload bytes since the start.
    pub bytes: u64,
    /// Video frames (of all tracks) since the start.
    pub video_frames: u64,
    /// Audio frames (of all tracks) since the start.
    pub audio_frames: u64,
    /// Timestamps that had to be nudged forward.
    pub nudged: u64,
    /// Jumps of the publisher's clock that were closed.
    pub jumps: u64,
    /// The newest frame's decoding time in milliseconds.
    pub position_ms: Option<i64>,
    /// Distance of the main picture's last two keyframes in milliseconds.
    pub keyframe_interval_ms: Option<i64>,
}

/// A live stream.
pub struct Stream {
    key: StreamKey,
    clock: Clock,
    state: Mutex<State>,
    /// Tells those who wait for the next unit.
    changed: Notify,
    /// Tells those who wait for a time.
    reached: Notify,
    /// Somebody who watches can't go on without a keyframe.
    keyframe_wanted: AtomicBool,
    sound: Sound,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) cache: Cache,
    /// The first time that anybody waits for, in milliseconds, and the unit that ends all waiting.
    awaited_ms: i64,
    awaited_sequence: u64,
    tracks: Arc<TrackSet>,
    timeline: Timeline,
    revoke: Option<oneshot::Sender<Revoked>>,
    /// It has ended here, and goes on at another origin.
    elsewhere: bool,
    encoder: Option<Arc<str>>,
    bytes: u64,
    video_frames: u64,
    audio_frames: u64,
    nudged: u64,
    jumps: u64,
    position_ms: Option<i64>,
    keyframe_ms: Option<i64>,
    keyframe_interval_ms: Option<i64>,
}

impl Stream {
    pub(super) fn new(key: StreamKey, limits: CacheLimits, clock: Clock) -> Self {
        Self {
            key,
            clock,
            state: Mutex::new(State {
                phase: Phase::Interrupted,
                cache: Cache::new(limits),
                awaited_ms: i64::MAX,
                awaited_sequence: u64::MAX,
                tracks: Arc::new(TrackSet { epoch: Epoch::default(), version: 0, tracks: Vec::new() }),
                timeline: Timeline::default(),
                revoke: None,
                elsewhere: false,
                encoder: None,
                bytes: 0,
                video_frames: 0,
                audio_frames: 0,
                nudged: 0,
                jumps: 0,
                position_ms: None,
                keyframe_ms: None,
                keyframe_interval_ms: None,
            }),
            changed: Notify::new(),
            reached: Notify::new(),
            keyframe_wanted: AtomicBool::new(false),
            sound: Sound::new(),
        }
    }

    /// Its name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// Whether it has ended here because another origin has it: for who watches it goes on.
    pub fn is_elsewhere(&self) -> bool {
        self.state.lock().elsewhere
    }

    /// Somebody who watches can't go on without a keyframe: its publisher is asked for one, if that can be asked.
    pub fn want_keyframe(&self) {
        self.keyframe_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether that was so since this was asked last, for whoever can ask its publisher.
    pub fn take_keyframe_wanted(&self) -> bool {
        // Most frames find nothing to take: then nothing is written.
        self.keyframe_wanted.load(Ordering::Relaxed) && self.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// Its sound is dropped from now on, or passed on again. Pictures go on.
    pub fn mute(&self, muted: bool) {
        self.sound.mute(muted);
    }

    /// Its publisher is so loud, in dB below the loudest, 0 to 127 (RFC 6464 §3).
    pub fn set_audio_level(&self, level: u8) {
        self.sound.set_level(level);
    }

    /// How loud its publisher is, if that was told since this was asked last.
    pub fn take_audio_level(&self) -> Option<u8> {
        self.sound.take_level()
    }

    /// Its state now.
    pub fn snapshot(&self) -> Snapshot {
        let s = self.state.lock();
        Snapshot {
            phase: s.phase,
            tracks: Arc::clone(&s.tracks),
            encoder: s.encoder.clone(),
            bytes: s.bytes,
            video_frames: s.video_frames,
            audio_frames: s.audio_frames,
            nudged: s.nudged,
            jumps: s.jumps,
            position_ms: s.position_ms,
            keyframe_interval_ms: s.keyframe_interval_ms,
        }
    }

    pub(super) fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// Resolves with the next unit that comes, or the end. None is missed that comes after this call, whenever what it
    /// returns is first polled.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The same for the time that somebody waits for.
    pub(super) fn reached(&self) -> Notified<'_> {
        self.reached.notified()
    }

    /// Hands the stream to a new publisher; the one before is told why it lost it.
    pub(super) fn begin(&self, epoch: Epoch) -> oneshot::Receiver<Revoked> {
        let (revoke, revoked) = oneshot::channel();
        let mut s = self.state.lock();
        if let Some(before) = s.revoke.replace(revoke) {
            // An error means that it is gone already.
            let _ = before.send(Revoked::TakenOver);
        }
        s.phase = Phase::Live;
        s.timeline.new_publisher();
        s.encoder = None;
        s.keyframe_ms = None;
        s.replace_tracks(epoch, Vec::new());
        revoked
    }

    /// The publisher of `epoch` is gone. Nothing happens when another has the stream by now.
    pub(super) fn interrupt(&self, epoch: Epoch) {
        let mut s = self.state.lock();
        if s.tracks.epoch == epoch && s.phase == Phase::Live {
            s.phase = Phase::Interrupted;
            s.revoke = None;
        }
    }

    /// Tells the publisher to leave.
    pub(super) fn dismiss(&self, reason: Revoked) {
        if let Some(revoke) = self.state.lock().revoke.take() {
            // An error means that it is gone already.
            let _ = revoke.send(reason);
        }
    }

    pub(super) fn end(&self, reason: Revoked) {
        {
            let mut s = self.state.lock();
            s.phase = Phase::Ended;
            s.elsewhere = reason == Revoked::TakenOver;
            if let Some(revoke) = s.revoke.take() {
                let _ = revoke.send(reason);
            }
        }
        self.changed.notify_waiters();
        self.reached.notify_waiters();
    }

    pub(super) fn set_tracks(&self, epoch: Epoch, mut tracks: Vec<Track>) -> Result<(), Revoked> {
        let mut s = self.state.lock();
        s.check(epoch)?;
        tracks.sort_by_key(|t| t.id);
        if s.tracks.tracks != tracks {
            s.replace_tracks(epoch, tracks);
        }
        Ok(())
    }

    pub(super) fn set_encoder(&self, epoch: Epoch, encoder: &str) -> Result<(), Revoked> {
        let mut s = self.state.lock();
        s.check(epoch)?;
        s.encoder = Some(encoder.into());
        Ok(())
    }

    /// `Ok(false)` for a frame of no known track, which is dropped.
    pub(super) fn push(&self, epoch: Epoch, mut frame: Frame) -> Result<bool, Revoked> {
        let wall_clock_ms = (self.clock)();
        let reached = {
            let mut s = self.state.lock();
            s.check(epoch)?;
            let Some(track) = s.tracks.get(frame.track) else { return Ok(false) };
            let scale = track.timescale;
            if frame.track.kind == Kind::Audio && self.sound.is_muted() {
                let Some(silence) = silence(track) else { return Ok(true) };
                frame.data = silence;
            }
            match s.timeline.repair(&mut frame, scale) {
                Repair::None => {}
                Repair::Nudged => s.nudged += 1,
                // The first frame of a publisher is no jump.
                Repair::Jumped if s.tracks_have_no_frame_yet() => {}
                Repair::Jumped => s.jumps += 1,
            }
            let dts_ms = frame.dts.millis(scale);
            s.count(&frame, dts_ms);
            let is_key_picture = frame.keyframe && frame.track.kind == Kind::Video;
            let sequence = s.cache.next_sequence();
            let reached = is_key_picture || dts_ms >= s.awaited_ms || sequence >= s.awaited_sequence;
            if reached {
                (s.awaited_ms, s.awaited_sequence) = (i64::MAX, u64::MAX);
            }
            let unit = Unit { sequence, tracks: Arc::clone(&s.tracks), frame, wall_clock_ms };
            s.cache.push(unit);
            reached
        };
        self.changed.notify_waiters();
        if reached {
            self.reached.notify_waiters();
        }
        Ok(true)
    }
}

impl State {
    fn check(&self, epoch: Epoch) -> Result<(), Revoked> {
        match self.phase {
            Phase::Ended => Err(Revoked::Ended),
            _ if self.tracks.epoch != epoch => Err(Revoked::TakenOver),
            _ => Ok(()),
        }
    }

    /// Somebody waits for that time.
    pub(super) fn awaits(&mut self, ms: i64) {
        self.awaited_ms = self.awaited_ms.min(ms);
        self.awaited_sequence = self.awaited_sequence.min(self.cache.next_sequence() + MAX_UNREAD);
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.tracks.epoch
    }

    fn replace_tracks(&mut self, epoch: Epoch, tracks: Vec<Track>) {
        let version = self.tracks.version + 1;
        self.tracks = Arc::new(TrackSet { epoch, version, tracks });
        // Whatever comes next is news.
        self.awaited_ms = i64::MIN;
    }

    fn tracks_have_no_frame_yet(&self) -> bool {
        self.cache.newest().is_none_or(|u| u.tracks.epoch != self.tracks.epoch)
    }

    fn count(&mut self, frame: &Frame, dts_ms: i64) {
        self.bytes += frame.data.len() as u64;
        match frame.track.kind {
            Kind::Video => self.video_frames += 1,
            Kind::Audio => self.audio_frames += 1,
        }
        self.position_ms = Some(self.position_ms.map_or(dts_ms, |p| p.max(dts_ms)));
        if frame.keyframe && self.tracks.main_picture() == Some(frame.track) {
            self.keyframe_interval_ms =
                self.keyframe_ms.map(|before| dts_ms - before).or(self.keyframe_interval_ms);
            self.keyframe_ms = Some(dts_ms);
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("key", &self.key).finish_non_exhaustive()
    }
}
