//! What is known of each stream beside its media: who publishes it, and how fast it comes in.
//!
//! The hub counts; once a second a sample of its counters is kept, and rates are differences of samples.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use control_api::trace;
use control_api::{HlsState, MediaClock, PublisherInfo, StreamInfo, StreamState, TrackInfo, Viewers};
use media_core::frame::{Params, Track};
use media_core::hub::{Epoch, Phase, Producer, Snapshot, Stream, StreamKey};
use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::publication::{Line, Publisher};

/// Samples kept of a stream, one a second: rates are over the last five seconds.
const MAX_SAMPLES: usize = 6;

/// The streams' records. There is one for each stream in the registry, and for at most a second
/// after it ended.
#[derive(Debug)]
pub(crate) struct Stats {
    max_records: usize,
    records: Mutex<AHashMap<StreamKey, Record>>,
}

#[derive(Debug)]
struct Record {
    stream: Arc<Stream>,
    /// The newest lease that it was told of.
    epoch: Epoch,
    publisher: Publisher,
    started_at_ms: u64,
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    wall_ms: u64,
    epoch: Epoch,
    position_ms: Option<i64>,
    bytes: u64,
    video_frames: u64,
    audio_frames: u64,
    nudged: u64,
    jumps: u64,
}

impl Sample {
    fn new(snapshot: &Snapshot, at: Instant, wall_ms: u64) -> Self {
        Self {
            at,
            wall_ms,
            epoch: snapshot.tracks.epoch,
            position_ms: snapshot.position_ms,
            bytes: snapshot.bytes,
            video_frames: snapshot.video_frames,
            audio_frames: snapshot.audio_frames,
            nudged: snapshot.nudged,
            jumps: snapshot.jumps,
        }
    }
}

impl Stats {
    /// No records yet; there will be `max_streams` streams at most.
    pub(crate) fn new(max_streams: usize) -> Self {
        // As many that ended since the last sample: so going through all of them is seldom due before its time.
        Self { max_records: max_streams.saturating_mul(2).max(1), records: Mutex::default() }
    }

    /// A publisher began, or went on with, the stream. Publishers that take the stream from each other are told of in
    /// any order; the one with the highest epoch has it. An epoch is given before the stream is: one that is newer and
    /// has ended already says nothing.
    pub(crate) fn published(
        &self,
        producer: &Producer,
        publisher: Publisher,
        now: Instant,
        wall_ms: u64,
        metrics: &Metrics,
    ) {
        let (stream, epoch) = (Arc::clone(producer.stream()), producer.epoch());
        let mut records = self.records.lock();
        let snapshot = stream.snapshot();
        if snapshot.phase == Phase::Ended || snapshot.tracks.epoch != epoch {
            return;
        }
        if let Some(record) = records.get_mut(stream.key()) {
            if epoch < record.epoch && record.stream.snapshot().phase != Phase::Ended {
                return;
            }
            if Arc::ptr_eq(&record.stream, &stream) {
                record.epoch = epoch;
                record.publisher = publisher;
                return;
            }
            record.sample(now, wall_ms, metrics);
        }
        if records.len() >= self.max_records {
            records.retain(|_, record| record.sample(now, wall_ms, metrics) != Phase::Ended);
        }
        let samples = VecDeque::from([Sample::new(&snapshot, now, wall_ms)]);
        records.insert(
            stream.key().clone(),
            Record { stream, epoch, publisher, started_at_ms: wall_ms, samples },
        );
    }

    /// Takes a sample of each stream, and forgets those that ended. How many are left.
    pub(crate) fn sample(&self, now: Instant, wall_ms: u64, metrics: &Metrics) -> usize {
        let mut records = self.records.lock();
        records.retain(|_, record| record.sample(now, wall_ms, metrics) != Phase::Ended);
        records.len()
    }

    /// All streams that are live or interrupted, ordered by name.
    pub(crate) fn streams(&self, hls: impl Fn(&StreamKey) -> HlsState) -> Vec<StreamInfo> {
        let records = self.records.lock();
        let mut streams: Vec<_> = records.iter().filter_map(|(key, record)| record.info(key, &hls)).collect();
        drop(records);
        streams.sort_by(|a, b| (&a.app, &a.name).cmp(&(&b.app, &b.name)));
        streams
    }

    /// The span in which a stream was published.
    pub(crate) fn trace(&self, key: &StreamKey) -> Option<trace::Context> {
        self.records.lock().get(key).and_then(|record| record.publisher.trace.clone())
    }

    /// One stream.
    pub(crate) fn stream(&self, key: &StreamKey, hls: impl Fn(&StreamKey) -> HlsState) -> Option<StreamInfo> {
        self.records.lock().get(key).and_then(|record| record.info(key, hls))
    }
}

impl Record {
    fn sample(&mut self, now: Instant, wall_ms: u64, metrics: &Metrics) -> Phase {
        let snapshot = self.stream.snapshot();
        let sample = Sample::new(&snapshot, now, wall_ms);
        let last = self.samples.back().copied().unwrap_or(sample);
        metrics.received_bytes.inc_by(sample.bytes.saturating_sub(last.bytes));
        metrics.video_frames.inc_by(sample.video_frames.saturating_sub(last.video_frames));
        metrics.audio_frames.inc_by(sample.audio_frames.saturating_sub(last.audio_frames));
        metrics.nudged.inc_by(sample.nudged.saturating_sub(last.nudged));
        metrics.jumps.inc_by(sample.jumps.saturating_sub(last.jumps));
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        snapshot.phase
    }

    fn info(&self, key: &StreamKey, hls: impl Fn(&StreamKey) -> HlsState) -> Option<StreamInfo> {
        let snapshot = self.stream.snapshot();
        let state = match snapshot.phase {
            Phase::Live => StreamState::Live,
            Phase::Interrupted => StreamState::Interrupted,
            Phase::Ended => return None,
        };
        let (bitrate_bps, frame_rate) = self.rates();
        Some(StreamInfo {
            app: key.app().to_owned(),
            name: key.name().to_owned(),
            state,
            epoch: snapshot.tracks.epoch.0,
            started_at_ms: self.started_at_ms,
            publisher: PublisherInfo {
                protocol: self.publisher.protocol.to_owned(),
                remote_addr: Some(self.publisher.remote_addr.clone()),
                encoder: snapshot.encoder.as_deref().map(str::to_owned),
                line: self.publisher.line.as_ref().map(Line::info),
            },
            tracks: snapshot.tracks.tracks.iter().map(track_info).collect(),
            bitrate_bps,
            frame_rate,
            keyframe_interval_ms: snapshot.keyframe_interval_ms.and_then(|ms| u64::try_from(ms).ok()),
            bytes_in: snapshot.bytes,
            viewers: Viewers::default(),
            hls: hls(key),
            clock: self.clock(snapshot.tracks.epoch),
        })
    }

    /// Bits and video frames per second.
    fn rates(&self) -> (u64, f64) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return (0, 0.0) };
        let elapsed = last.at.saturating_duration_since(first.at);
        let Ok(elapsed_ms @ 1..) = u64::try_from(elapsed.as_millis()) else { return (0, 0.0) };
        let bits = last.bytes.saturating_sub(first.bytes).saturating_mul(8);
        let frames = last.video_frames.saturating_sub(first.video_frames);
        // Frames of seconds: far below the 2⁵² that a double counts exactly.
        let frame_rate = frames as f64 / elapsed.as_secs_f64();
        (bits.saturating_mul(1000) / elapsed_ms, (frame_rate * 100.0).round() / 100.0)
    }

    /// Of the recent samples the one whose frame had come in most recently when it was taken, and was
    /// least delayed on its way.
    fn clock(&self, epoch: Epoch) -> Option<MediaClock> {
        self.samples
            .iter()
            .filter(|sample| sample.epoch == epoch)
            .filter_map(|sample| Some((sample.position_ms?, sample.wall_ms)))
            .max_by_key(|(media_ms, wall_ms)| {
                media_ms.saturating_sub(i64::try_from(*wall_ms).unwrap_or(i64::MAX))
            })
            .map(|(media_ms, wall_ms)| MediaClock { media_ms, wall_ms })
    }
}

fn track_info(track: &Track) -> TrackInfo {
    let (mut width, mut height, mut sample_rate, mut channels) = (None, None, None, None);
    match &track.params {
        Params::Video(video) => (width, height) = (Some(video.width), Some(video.height)),
        Params::Audio(audio) => (sample_rate, channels) = (Some(audio.sample_rate), Some(audio.channels)),
    }
    TrackInfo {
        id: track.id.to_string(),
        codec: track.codec.name().to_owned(),
        rfc6381: track.rfc6381.clone(),
        width,
        height,
        sample_rate,
        channels,
    }
}

#[cfg(test)]
mod tests;
