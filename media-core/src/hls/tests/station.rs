//! A publisher with its own clock, and everything that players could have seen of its stream.

use std::ops::Range;

use bytes::Bytes;

use super::reader::Playlist;
use crate::codec::testing::hex;
use crate::codec::track;
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};
use crate::hls::playlist::{self, Form};
use crate::hls::{Config, Event, Position, Segmenter, Window};

/// 320 × 180 at 30 frames a second.
pub(super) const AVC_30: &str =
    "0164000dffe1001a6764000dacd941419f9f0110000003001000000303c0f142996001000468ef8fcbfdf8f800";
/// 1920 × 1080 at 29.97.
pub(super) const AVC_2997: &str =
    "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000668ebe3cb22c0fdf8f800";
/// When the first frame comes in: 2026-01-01T00:00:00Z.
pub(super) const EPOCH_MS: i64 = 1_767_225_600_000;

pub(super) fn video(index: u8, config: &str) -> Track {
    track(TrackId::video(index), Codec::H264, Timescale::HZ_90K, hex(config).into()).unwrap()
}

/// H.264 whose configuration tells no frame rate.
pub(super) fn video_of_unknown_rate() -> Track {
    let mut track = video(0, AVC_30);
    if let crate::frame::Params::Video(video) = &mut track.params {
        video.frame_rate = None;
    }
    track
}

/// AAC-LC, 48 kHz, stereo.
pub(super) fn audio(index: u8) -> Track {
    track(TrackId::audio(index), Codec::Aac, Timescale::HZ_90K, hex("1190").into()).unwrap()
}

/// A publication of a part, as a player would have seen it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Time of the frame that brought it about.
    pub(super) at_ms: i64,
    pub(super) position: Position,
    pub(super) playlists: Vec<Playlist>,
    pub(super) texts: Vec<String>,
}

pub(super) struct Station {
    pub(super) segmenter: Segmenter,
    pub(super) window: Window,
    /// Every state in which there was something to see.
    pub(super) seen: Vec<Seen>,
    pub(super) gop_frames: u64,
    pub(super) frame_rate: (u64, u64),
    pub(super) frame_bytes: usize,
    /// The wall clock where frames have the time 0.
    pub(super) wall_from_ms: i64,
    now_ms: i64,
}

impl Station {
    pub(super) fn new(config: Config) -> Self {
        config.check().unwrap();
        Self {
            segmenter: Segmenter::new(&config),
            window: Window::new(config),
            seen: Vec::new(),
            gop_frames: 60,
            frame_rate: (30, 1),
            frame_bytes: 100,
            wall_from_ms: EPOCH_MS,
            now_ms: 0,
        }
    }

    /// 30 frames a second, a keyframe every 2 s, AAC.
    pub(super) fn live(seconds: u64) -> Self {
        let mut station = Self::new(Config::default());
        station.tracks(1, &[video(0, AVC_30), audio(0)]);
        station.play(0..seconds * 1_000);
        station
    }

    pub(super) fn tracks(&mut self, epoch: u64, tracks: &[Track]) {
        self.segmenter.set_tracks(epoch, tracks);
        self.drain();
    }

    pub(super) fn frame(&mut self, id: TrackId, ms: i64, keyframe: bool) {
        let frame = Frame {
            track: id,
            dts: Timestamp::from_millis(ms, Timescale::HZ_90K),
            cts: 0,
            keyframe,
            data: Bytes::from(vec![0u8; self.frame_bytes]),
        };
        self.now_ms = ms;
        let is_key_picture = keyframe && id.kind == Kind::Video;
        let quiet = self.segmenter.quiet_until_ms().is_some_and(|until| ms < until && !is_key_picture);
        self.segmenter.push(frame, self.wall_from_ms + ms);
        // Unless it began anew, because too much waits or all pictures are gone.
        let quiet = quiet && self.segmenter.quiet_until_ms().is_some();
        assert!(!quiet || !self.segmenter.has_events(), "{id} at {ms} ms was to change nothing");
        self.drain();
    }

    /// Pictures and sound for that time, in the order of their time and in whole milliseconds, as RTMP has them.
    pub(super) fn play(&mut self, ms: Range<u64>) {
        self.play_tracks(ms, &[TrackId::VIDEO], &[TrackId::AUDIO]);
    }

    /// A stretch of what [`Self::play`] would play from 0.
    pub(super) fn play_part(&mut self, ms: Range<u64>) {
        let (num, den) = self.frame_rate;
        let mut frames = Vec::new();
        let pictures =
            (0..).map(|n| (n, (n * 1_000 * den + num / 2) / num)).take_while(|(_, at)| *at < ms.end);
        frames.extend(pictures.map(|(n, at)| (at, TrackId::VIDEO, n % self.gop_frames == 0)));
        let sounds = (0..).map(|n: u64| (n * 1_024 + 24) / 48).take_while(|at| *at < ms.end);
        frames.extend(sounds.map(|at| (at, TrackId::AUDIO, true)));
        frames.retain(|(at, ..)| *at >= ms.start);
        frames.sort();
        for (at, id, keyframe) in frames {
            self.frame(id, at as i64, keyframe);
        }
    }

    pub(super) fn play_tracks(&mut self, ms: Range<u64>, videos: &[TrackId], audios: &[TrackId]) {
        let (num, den) = self.frame_rate;
        let mut frames = Vec::new();
        for id in videos {
            let times = (0..).map(|n| (n, ms.start + (n * 1_000 * den + num / 2) / num));
            let times = times.take_while(|(_, at)| *at < ms.end);
            frames.extend(times.map(|(n, at)| (at, *id, n % self.gop_frames == 0)));
        }
        for id in audios {
            let times = (0..).map(|n: u64| ms.start + (n * 1_024 + 24) / 48);
            frames.extend(times.take_while(|at| *at < ms.end).map(|at| (at, *id, true)));
        }
        frames.sort();
        for (at, id, keyframe) in frames {
            self.frame(id, at as i64, keyframe);
        }
    }

    pub(super) fn end(&mut self) {
        self.segmenter.end();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.segmenter.poll_event() {
            let visible = !matches!(event, Event::Begun { .. });
            self.window.apply(event);
            // A stream that ended without a single part has no playlist.
            if visible && self.window.listed().next().is_some() {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let texts: Vec<String> =
            (0..self.window.renditions().len()).map(|r| self.text(r, Form::Full)).collect();
        let playlists: Vec<Playlist> = texts.iter().map(|t| Playlist::read(t)).collect();
        for playlist in &playlists {
            playlist.assert_legal();
        }
        self.seen.push(Seen { at_ms: self.now_ms, position: self.window.position(), playlists, texts });
    }

    pub(super) fn text(&self, rendition: usize, form: Form) -> String {
        playlist::media(&self.window, rendition, form)
    }

    pub(super) fn playlist(&self) -> Playlist {
        Playlist::read(&self.text(0, Form::Full))
    }
}
