//! A track on its way into parts: samples that wait for their part to be cut.

use std::collections::VecDeque;

use super::audio_clock::AudioClock;
use crate::codec::opus;
use crate::fmp4::Sample;
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track};

/// All cuts are made on one clock, 90 kHz.
pub(super) const CUTS: Timescale = Timescale::HZ_90K;
/// 20 ms at 48 kHz: what nearly all Opus encoders send, for packets that say nothing usable.
const OPUS_PACKET_SAMPLES: u32 = 960;
/// Duration in ticks of 90 kHz of a track's last frame when it was also its first.
const FIRST_STEP: i64 = 3_000;
/// Longest distance to the frame before that counts as a track's rhythm, in ticks of 90 kHz.
const MAX_STEP: i64 = 90_000;

/// A sample that waits for its part.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Decoding time on the clock of the cuts.
    pub(super) at: i64,
    /// The end on the clock of the cuts, once it is known.
    pub(super) end: Option<i64>,
    /// Decoding time in ticks of the track.
    dts: i64,
    sample: Sample,
}

impl Waiting {
    pub(super) fn is_keyframe(&self) -> bool {
        self.sample.keyframe
    }
}

/// The samples of one track for one part.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) base_decode_time: u64,
    pub(super) samples: Vec<Sample>,
}

/// A track on its way into parts.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) track: Track,
    /// The rendition it goes into.
    pub(super) rendition: usize,
    /// Ticks per second of the samples: the sampling rate for audio, 90 kHz for video.
    pub(super) scale: Timescale,
    /// Waiting samples, oldest first.
    pub(super) queue: VecDeque<Waiting>,
    /// Bytes in the queue.
    waiting_bytes: usize,
    audio: AudioClock,
    started: bool,
    /// Distance of the last two frames on the clock of the cuts.
    step: i64,
    /// Where the next sample would go, in ticks of the track.
    next_dts: i64,
}

impl Lane {
    pub(super) fn new(track: Track, rendition: usize) -> Self {
        let scale = match track.audio() {
            Some(audio) => Timescale::new(audio.sample_rate).unwrap_or(CUTS),
            None => CUTS,
        };
        Self {
            track,
            rendition,
            scale,
            queue: VecDeque::new(),
            waiting_bytes: 0,
            audio: AudioClock::default(),
            started: false,
            step: FIRST_STEP,
            next_dts: 0,
        }
    }

    /// Appends a frame of the track. Pictures before the first keyframe are left out.
    pub(super) fn push(&mut self, frame: &Frame) {
        let dts = frame.dts.rescale(self.track.timescale, self.scale).0;
        let pushed = match self.track.codec.kind() {
            Kind::Video => self.push_picture(frame, dts),
            Kind::Audio => self.push_sound(frame, dts),
        };
        self.started |= pushed;
    }

    fn push_picture(&mut self, frame: &Frame, dts: i64) -> bool {
        if !self.started && !frame.keyframe {
            return false;
        }
        let at = Timestamp(dts).rescale(self.scale, CUTS).0;
        if let Some(before) = self.queue.back_mut() {
            let step = at.saturating_sub(before.at);
            if (1..=MAX_STEP).contains(&step) {
                self.step = step;
            }
            before.end = Some(at);
            before.sample.duration = u32::try_from(dts.saturating_sub(before.dts)).unwrap_or(0);
        }
        let cts = Timestamp(i64::from(frame.cts)).rescale(self.track.timescale, self.scale).0;
        let sample = Sample {
            duration: 0,
            cts: i32::try_from(cts).unwrap_or(0),
            keyframe: frame.keyframe,
            data: frame.data.clone(),
        };
        self.enqueue(Waiting { at, end: None, dts, sample });
        true
    }

    fn push_sound(&mut self, frame: &Frame, stamp: i64) -> bool {
        let samples = match (self.track.codec, self.track.audio().and_then(|a| a.frame_samples)) {
            (Codec::Opus, _) => opus::packet_samples(&frame.data).unwrap_or(OPUS_PACKET_SAMPLES),
            (_, Some(samples)) => samples,
            (_, None) => return false,
        };
        let Some(dts) = self.audio.place(stamp, samples) else { return false };
        let end = dts.saturating_add(i64::from(samples));
        let to_cuts = |ticks| Timestamp(ticks).rescale(self.scale, CUTS).0;
        let (at, end) = (to_cuts(dts), to_cuts(end));
        self.step = end.saturating_sub(at);
        let sample = Sample { duration: samples, cts: 0, keyframe: true, data: frame.data.clone() };
        self.enqueue(Waiting { at, end: Some(end), dts, sample });
        true
    }

    fn enqueue(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.sample.data.len();
        self.queue.push_back(waiting);
    }

    /// Where the newest sample begins.
    pub(super) fn newest(&self) -> Option<i64> {
        self.queue.back().map(|w| w.at)
    }

    /// Distance of the last two frames on the clock of the cuts.
    pub(super) fn step(&self) -> i64 {
        self.step
    }

    /// Goes on with what waited in the same track's lane before.
    pub(super) fn carry_on(&mut self, before: Lane) {
        self.queue = before.queue;
        self.waiting_bytes = before.waiting_bytes;
        self.audio = before.audio;
        self.started = !self.queue.is_empty();
        self.step = before.step;
        self.next_dts = before.next_dts;
    }

    /// Gives the last sample the duration of the one before, because nothing will follow.
    pub(super) fn close(&mut self) {
        let step = self.step;
        let duration = Timestamp(step).rescale(CUTS, self.scale).0;
        if let Some(last) = self.queue.back_mut()
            && last.end.is_none()
        {
            last.end = Some(last.at.saturating_add(step));
            last.sample.duration = u32::try_from(duration).unwrap_or(0);
        }
    }

    /// Takes the samples before `boundary` whose durations are known.
    pub(super) fn take_before(&mut self, boundary: i64) -> Run {
        let mut samples = Vec::new();
        let mut base = None;
        while self.queue.front().is_some_and(|w| w.at < boundary && w.end.is_some())
            && let Some(waiting) = self.queue.pop_front()
        {
            self.waiting_bytes -= waiting.sample.data.len();
            base.get_or_insert(waiting.dts);
            self.next_dts = waiting.dts.saturating_add(i64::from(waiting.sample.duration));
            samples.push(waiting.sample);
        }
        Run { base_decode_time: u64::try_from(base.unwrap_or(self.next_dts)).unwrap_or(0), samples }
    }

    /// Bytes that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::TrackId;

    #[test]
    fn waiting_bytes_are_those_in_the_queue() {
        let config = bytes::Bytes::from_static(&[0x11, 0x90]);
        let track = crate::codec::track(TrackId::AUDIO, Codec::Aac, Timescale::MILLIS, config).unwrap();
        let mut lane = Lane::new(track.clone(), 0);
        let queued = |lane: &Lane| -> usize { lane.queue.iter().map(|w| w.sample.data.len()).sum() };
        for n in 0..100usize {
            let frame = Frame {
                track: TrackId::AUDIO,
                dts: Timestamp(i64::try_from(n).unwrap() * 21),
                cts: 0,
                keyframe: true,
                data: vec![0; n].into(),
            };
            lane.push(&frame);
            if n % 7 == 0 {
                lane.take_before(i64::try_from(n).unwrap() * 1_000);
            }
            if n == 50 {
                let before = std::mem::replace(&mut lane, Lane::new(track.clone(), 0));
                lane.carry_on(before);
            }
            assert_eq!(lane.waiting_bytes(), queued(&lane));
        }
        assert!(lane.waiting_bytes() > 0);
    }
}
