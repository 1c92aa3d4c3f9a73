//! The start of packaging: which tracks are really there, and where to begin.

use std::collections::VecDeque;

use super::lane::CUTS;
use crate::frame::{Frame, Kind, Timescale, Track, TrackId};

/// Media to wait for a track that was announced but sends nothing, or was not announced yet, in ticks of 90 kHz: 1 s.
const SETTLE: i64 = 90_000;
/// Sound that is kept while a picture is awaited, in ticks of 90 kHz: what interleaving puts before a keyframe.
const KEEP_SOUND: i64 = 90_000;
/// Frames kept at most: a second of 120 pictures and three sound tracks.
const MAX_FRAMES: usize = 512;
/// Bytes kept at most: a second at 64 Mbit/s.
const MAX_BYTES: usize = 8 << 20;

/// A frame, where it is on the clock of the cuts, and when it came in (milliseconds since 1970).
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) at: i64,
    pub(super) frame: Frame,
    pub(super) wall_ms: i64,
}

impl Arrived {
    pub(super) fn new(frame: Frame, scale: Timescale, wall_ms: i64) -> Self {
        Self { at: frame.dts.rescale(scale, CUTS).0, frame, wall_ms }
    }
}

/// Tracks that settle.
#[derive(Debug)]
pub(super) struct Settling {
    tracks: Vec<Track>,
    /// What was packaged before: when all of it is back there is nothing to wait for.
    before: Vec<TrackId>,
    frames: VecDeque<Arrived>,
    bytes: usize,
    /// First and newest time of any frame.
    span: Option<(i64, i64)>,
    /// The first picture that came, while no keyframe has.
    first_picture: Option<i64>,
    keyframe: bool,
}

/// What packaging begins with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) tracks: Vec<TrackId>,
    pub(super) frames: VecDeque<Arrived>,
}

impl Settling {
    pub(super) fn new(tracks: Vec<Track>, before: Vec<TrackId>) -> Self {
        Self {
            tracks,
            before,
            frames: VecDeque::new(),
            bytes: 0,
            span: None,
            first_picture: None,
            keyframe: false,
        }
    }

    /// The stream announced other tracks before packaging began.
    pub(super) fn set_tracks(&mut self, tracks: Vec<Track>) {
        // Frames of a track that is coded otherwise now can't be decoded with what it says.
        let same = |id| self.tracks.iter().find(|t| t.id == id) == tracks.iter().find(|t| t.id == id);
        self.frames.retain(|a| same(a.frame.track));
        self.bytes = self.frames.iter().map(|a| a.frame.data.len()).sum();
        self.keyframe = self.frames.iter().any(|a| a.frame.track.kind == Kind::Video);
        self.tracks = tracks;
    }

    /// Pictures came for this long (in ticks) without a keyframe.
    pub(super) fn without_keyframe(&self) -> Option<i64> {
        self.first_picture
            .filter(|_| !self.keyframe)
            .zip(self.span)
            .map(|(first, (_, newest))| newest - first)
    }

    /// Takes a frame; says when packaging can begin.
    pub(super) fn push(&mut self, arrived: Arrived) -> Option<Start> {
        let at = arrived.at;
        let (first, newest) = self.span.map_or((at, at), |(first, newest)| (first.min(at), newest.max(at)));
        self.span = Some((first, newest));
        if arrived.frame.track.kind == Kind::Video {
            self.first_picture.get_or_insert(at);
            if !self.keyframe && !arrived.frame.keyframe {
                self.drop_old_sound(at);
                return None;
            }
            self.keyframe = true;
        }
        self.bytes += arrived.frame.data.len();
        self.frames.push_back(arrived);
        if self.first_picture.is_some() && !self.keyframe {
            self.drop_old_sound(newest);
        }
        self.is_settled(newest - first).then(|| self.start())
    }

    fn drop_old_sound(&mut self, now: i64) {
        while self.frames.front().is_some_and(|a| now - a.at > KEEP_SOUND) || self.is_full() {
            match self.frames.pop_front() {
                Some(a) => self.bytes -= a.frame.data.len(),
                None => break,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= MAX_FRAMES || self.bytes > MAX_BYTES
    }

    fn is_settled(&self, span: i64) -> bool {
        if self.first_picture.is_some() && !self.keyframe {
            return false;
        }
        if span >= SETTLE || self.is_full() {
            return true;
        }
        let seen = |id: TrackId| self.frames.iter().any(|a| a.frame.track == id);
        if !self.tracks.iter().all(|t| seen(t.id)) {
            return false;
        }
        let has = |kind| self.tracks.iter().any(|t| t.id.kind == kind);
        let as_before = !self.before.is_empty() && self.before.iter().all(|id| seen(*id));
        as_before || (has(Kind::Video) && has(Kind::Audio))
    }

    fn start(&mut self) -> Start {
        let mut frames = std::mem::take(&mut self.frames);
        self.bytes = 0;
        let begin = frames
            .iter()
            .filter(|a| a.frame.track.kind == Kind::Video && a.frame.keyframe)
            .min_by_key(|a| a.frame.track)
            .map(|a| a.at);
        let seen = |id| frames.iter().any(|a: &Arrived| a.frame.track == id);
        let tracks = self.tracks.iter().map(|t| t.id).filter(|id| seen(*id)).collect();
        if let Some(begin) = begin {
            frames.retain(|a| a.at >= begin);
        }
        Start { tracks, frames }
    }
}
