//! Frames in; parts, in all renditions at once, out.

mod run;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{CUTS, Lane};
use super::pace::Pace;
use super::presence::Presence;
use super::settle::{Arrived, Settling, Start};
use super::{Config, Layout, Part, Rendition, plan};
use crate::frame::{Frame, Kind, Timescale, Timestamp, Track, TrackId};
use run::Run;

/// Pictures without a keyframe for this long are a problem worth telling, in ticks of 90 kHz: 10 s.
const NO_KEYFRAME: i64 = 900_000;
/// Bytes that may wait for their part: a part of a second at 128 Mbit/s. A publisher that sends more than that without
/// its clock moving is cut off from the packager and starts anew.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// Frames that may wait for their part: ten seconds of 120 pictures and of eight sounds of 80 packets a second, because
/// tracks may be seconds apart. What goes for too many bytes goes for too many frames.
const MAX_WAITING_FRAMES: usize = 8_192;

/// What a segmenter hands out, for the window.
#[derive(Debug, Clone)]
pub enum Event {
    /// The stream's renditions and the PART-TARGET, once, before the first part.
    Begun {
        /// The stream's renditions, for good.
        renditions: Arc<[Rendition]>,
        /// The longest that a part will be.
        part_target: Duration,
    },
    /// What follows is made of these tracks. Each but the first marks a discontinuity.
    Layout(Arc<Layout>),
    /// The next part.
    Part {
        /// The part.
        part: Part,
        /// It is the last of its segment.
        last: bool,
    },
    /// The segment that is growing, if one is, has all its parts, and what follows will be another layout.
    LayoutEnded,
    /// Nothing follows.
    Ended,
}

/// Why a stream can't be watched over HLS, or what its viewers notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Playing can't start anywhere.
    NoKeyframe {
        /// How long pictures have been coming.
        seconds: i64,
    },
    /// The tracks can't be put into fragmented MP4.
    Unpackageable,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeyframe { seconds } => write!(
                f,
                "no keyframe in the first {seconds} s, so HLS cannot start; set the encoder's keyframe interval to 2 s"
            ),
            Self::Unpackageable => write!(f, "the stream's tracks cannot be written as fragmented MP4"),
        }
    }
}

#[derive(Debug)]
enum State {
    /// Waiting for a keyframe, and for tracks that are late.
    Settling(Settling),
    /// Cutting.
    Running(Run),
    /// These tracks can't be packaged; perhaps the next ones can.
    Refused,
    /// Nothing follows.
    Ended,
}

/// Cuts a stream into parts and segments. After each input, drain [`Segmenter::poll_event`].
#[derive(Debug)]
pub struct Segmenter {
    epoch: u64,
    tracks: Vec<Track>,
    renditions: Arc<[Rendition]>,
    state: State,
    pace: Pace,
    begun: bool,
    version: u32,
    events: VecDeque<Event>,
    presence: Presence,
    /// Milliseconds from the frames' time to that of the media; `None` until the first frame.
    media_from_ms: Option<i64>,
}

impl Segmenter {
    /// A segmenter of a stream that has not begun.
    pub fn new(config: &Config) -> Self {
        Self {
            epoch: 0,
            tracks: Vec::new(),
            renditions: Arc::new([]),
            state: State::Settling(Settling::new(Vec::new(), Vec::new())),
            pace: Pace::new(config),
            begun: false,
            version: 0,
            events: VecDeque::new(),
            presence: Presence::default(),
            media_from_ms: None,
        }
    }

    /// The next thing for the window.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is anything for the window.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// No part ends before a frame comes that is to be decoded at this time or later (in milliseconds), the keyframe of
    /// a picture, or a frame of other tracks. `None`: the next frame may change anything.
    pub fn quiet_until_ms(&self) -> Option<i64> {
        match &self.state {
            State::Running(run) => {
                let ms = run.earliest_cut(&self.pace)?.div_euclid(i64::from(CUTS.get()) / 1_000);
                Some(ms.saturating_sub(self.media_from_ms.unwrap_or_default()))
            }
            State::Settling(_) | State::Refused | State::Ended => None,
        }
    }

    /// Why there is nothing to watch, if there is a reason.
    pub fn problem(&self) -> Option<Problem> {
        match &self.state {
            State::Settling(s) => s
                .without_keyframe()
                .filter(|ticks| *ticks >= NO_KEYFRAME)
                .map(|ticks| Problem::NoKeyframe { seconds: ticks / i64::from(CUTS.get()) }),
            State::Running(_) | State::Ended => None,
            State::Refused => Some(Problem::Unpackageable),
        }
    }

    /// The tracks of the frames that follow. A new epoch or other tracks end the segment and begin a new layout.
    pub fn set_tracks(&mut self, epoch: u64, tracks: &[Track]) {
        if epoch == self.epoch && tracks == self.tracks {
            return;
        }
        let same_publish = epoch == self.epoch;
        self.epoch = epoch;
        self.tracks = tracks.to_vec();
        match &mut self.state {
            State::Settling(settling) if same_publish => settling.set_tracks(tracks.to_vec()),
            _ => self.settle_again(),
        }
    }

    /// Frames were lost: what follows doesn't continue what came.
    pub fn interrupt(&mut self) {
        self.settle_again();
    }

    /// The stream is over: what waits is cut, and the window is told.
    pub fn end(&mut self) {
        self.finish_run(false);
        self.state = State::Ended;
        self.events.push_back(Event::Ended);
    }

    /// Takes a frame that came in at `wall_ms` (milliseconds since 1970, UTC). The first one's is its time in the media,
    /// too, and the others keep their distance to it: media time counts from 1970.
    pub fn push(&mut self, mut frame: Frame, wall_ms: i64) {
        let Some(scale) = self.tracks.iter().find(|t| t.id == frame.track).map(|t| t.timescale) else {
            return;
        };
        if self.begun && !self.renditions.iter().any(|r| r.carries(frame.track, &self.tracks)) {
            // The renditions were decided before this track came.
            return;
        }
        self.put_on_media_time(&mut frame, scale, wall_ms);
        let arrived = Arrived::new(frame, scale, wall_ms);
        match &mut self.state {
            State::Refused | State::Ended => {}
            State::Settling(settling) => {
                if let Some(start) = settling.push(arrived) {
                    self.presence = Presence::of(&start.tracks);
                    self.begin(start, Vec::new());
                }
            }
            State::Running(_) => self.run(arrived),
        }
    }

    /// A player that stays while a stream begins anew (its origin was started again) takes what it gets then for what
    /// follows, since discontinuities are counted anew, too (EXT-X-DISCONTINUITY-SEQUENCE, RFC 8216bis §4.4.3.3): so it
    /// must have later timestamps, as far apart as the two beginnings are.
    fn put_on_media_time(&mut self, frame: &mut Frame, scale: Timescale, wall_ms: i64) {
        let from_ms =
            *self.media_from_ms.get_or_insert_with(|| wall_ms.saturating_sub(frame.dts.millis(scale)));
        let from = Timestamp::from_millis(from_ms, scale);
        frame.dts = Timestamp(frame.dts.0.saturating_add(from.0));
    }

    fn settle_again(&mut self) {
        if matches!(self.state, State::Ended) {
            return;
        }
        let before = match &self.state {
            State::Running(run) => run.tracks().collect(),
            State::Settling(_) | State::Refused | State::Ended => Vec::new(),
        };
        self.finish_run(false);
        self.state = State::Settling(Settling::new(self.tracks.clone(), before));
    }

    /// Ends the run. `carry`: what is ahead of its end goes on in the next run instead of into the last part.
    fn finish_run(&mut self, carry: bool) -> Vec<Lane> {
        let State::Running(mut run) = std::mem::replace(&mut self.state, State::Refused) else {
            return Vec::new();
        };
        if run.close(&mut self.pace) {
            self.announce();
        }
        run.finish(&self.pace, carry, &mut self.events);
        self.events.push_back(Event::LayoutEnded);
        run.into_lanes()
    }

    /// Says what the stream consists of, before its first part.
    fn announce(&mut self) {
        if !self.begun
            && let Some(part_target) = self.pace.part_target()
        {
            self.begun = true;
            self.events.push_back(Event::Begun { renditions: Arc::clone(&self.renditions), part_target });
        }
    }

    fn begin(&mut self, start: Start, carried: Vec<Lane>) {
        let tracks: Vec<Track> =
            self.tracks.iter().filter(|t| start.tracks.contains(&t.id)).cloned().collect();
        if self.renditions.is_empty() {
            self.renditions = plan(&tracks).into();
        }
        let Some(mut run) = Run::new(self.epoch, self.version + 1, &tracks, &self.renditions) else {
            self.state = State::Refused;
            return;
        };
        self.version += 1;
        self.pace.restart();
        self.events.push_back(Event::Layout(run.layout()));
        run.carry_on(carried);
        for arrived in start.frames {
            // Once more what other tracks began with, which changes nothing.
            self.presence.hear(&arrived);
            run.push(&arrived, &mut self.pace);
        }
        self.cut(run);
    }

    fn run(&mut self, arrived: Arrived) {
        self.presence.hear(&arrived);
        if let Some(tracks) = self.other_tracks(&arrived) {
            let carried = self.finish_run(true);
            self.begin(Start { tracks, frames: VecDeque::from([arrived]) }, carried);
            return;
        }
        let State::Running(mut run) = std::mem::replace(&mut self.state, State::Refused) else { return };
        run.push(&arrived, &mut self.pace);
        self.cut(run);
    }

    fn cut(&mut self, mut run: Run) {
        if run.decide_part_target(&mut self.pace) {
            self.announce();
            run.cut(&self.pace, &mut self.events);
        }
        let too_much = run.waiting_bytes() > MAX_WAITING_BYTES || run.waiting_frames() > MAX_WAITING_FRAMES;
        self.state = State::Running(run);
        if too_much {
            self.settle_again();
        }
    }

    /// The tracks to go on with from this frame, if they are others than now: a track fell silent or came back. The
    /// change waits for a keyframe, if there is a picture to go on with.
    fn other_tracks(&self, arrived: &Arrived) -> Option<Vec<TrackId>> {
        let State::Running(run) = &self.state else { return None };
        if self.presence.tracks().eq(run.tracks()) {
            return None;
        }
        let may_begin = match self.presence.tracks().next() {
            Some(main) if main.kind == Kind::Video => arrived.frame.track == main && arrived.frame.keyframe,
            Some(_) => true,
            None => false,
        };
        may_begin.then(|| self.presence.tracks().collect())
    }
}
