//! The sound of streams in the codec that viewers take: Opus for WebRTC, AAC for players that know no Opus.
//!
//! A stream's sound is transcoded once for all who want it, and only while somebody does, by the task that reads the
//! stream for them: a frame of 20 ms takes about a quarter of one, so that a thread beside it, with a queue and its wakes,
//! would save nobody anything. Such a task lets others run after each frame: one that begins with a backlog stalls nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use media_core::frame::{Codec, Frame, Track};
use media_core::hub::StreamKey;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use transcode::Counters;

use crate::config::SoundConfig;
use crate::metrics::Metrics;

/// What sound a viewer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// As it was published.
    #[default]
    Published,
    /// Opus as AAC, all else as it was published.
    Aac,
}

/// What is wrong with an `audio`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("audio can be \"aac\"; without it the sound is as it was published")]
pub(crate) struct BadAudio;

impl Wanted {
    /// Of the parameter `audio`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, BadAudio> {
        match text {
            None => Ok(Self::Published),
            Some("aac") => Ok(Self::Aac),
            Some(_) => Err(BadAudio),
        }
    }
}

/// The sound that is transcoded in this process.
pub(crate) struct Sounds {
    max_streams: usize,
    at_work: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Sounds {
    pub(crate) fn new(config: &SoundConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { max_streams: config.max_streams, at_work: AtomicUsize::new(0), metrics })
    }

    /// A stream's, in that codec.
    pub(crate) fn of(self: &Arc<Self>, key: &StreamKey, into: Codec) -> Sound {
        Sound {
            key: key.clone(),
            into,
            work: transcode::Sound::new(into, transcode::Options::default()),
            place: None,
            counted: Counters::default(),
            counts: self.metrics.sound.of(into),
            sounds: Arc::clone(self),
        }
    }

    fn place(self: &Arc<Self>, into: Codec) -> Option<Place> {
        let more = |count: usize| (count < self.max_streams).then_some(count + 1);
        self.at_work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let gauge = self.metrics.sound.streams.with_label_values(&[label(into)]);
        gauge.inc();
        Some(Place { sounds: Arc::clone(self), gauge })
    }
}

/// One of the streams whose sound may be transcoded. Dropping it makes way for another.
struct Place {
    sounds: Arc<Sounds>,
    gauge: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sounds.at_work.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// A stream's sound in one codec; where that can't be had, as it is.
pub(crate) struct Sound {
    key: StreamKey,
    into: Codec,
    work: transcode::Sound,
    /// While it has something to do.
    place: Option<Place>,
    /// What the metrics have, and where that is.
    counted: Counters,
    counts: Counts,
    sounds: Arc<Sounds>,
}

impl Sound {
    /// The tracks that come out.
    pub(crate) fn set_tracks(&mut self, tracks: &[Track]) -> Vec<Track> {
        if !transcode::Sound::is_wanted(tracks, self.into) {
            self.work.stop();
            self.place = None;
            return tracks.to_vec();
        }
        self.place = self.place.take().or_else(|| self.sounds.place(self.into));
        if self.place.is_none() {
            self.sounds.metrics.sound.refused_full.inc();
            tracing::debug!(stream = %self.key, max = self.sounds.max_streams,
                "the sound is not transcoded: edge.sound.max_streams are");
            return tracks.to_vec();
        }
        let (made, problem) = self.work.set_tracks(tracks);
        if let Some(error) = problem {
            self.sounds.metrics.sound.refused_codec.inc();
            tracing::debug!(stream = %self.key, %error, "the sound is not transcoded");
            self.place = None;
        }
        made
    }

    /// Takes a frame, and appends those that come of it.
    pub(crate) fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        self.work.push(frame, out);
        let (now, before) = (self.work.counters(), self.counted);
        if now != before {
            self.counts.frames.inc_by(now.frames.saturating_sub(before.frames));
            self.counts.damaged.inc_by(now.damaged.saturating_sub(before.damaged));
            self.counts
                .gaps
                .inc_by((now.filled + now.restarts).saturating_sub(before.filled + before.restarts));
            self.counted = now;
        }
    }

    /// The track that replaces another one, if one does.
    pub(crate) fn made(&self) -> Option<&Track> {
        self.work.made()
    }
}

/// What metrics call a codec.
fn label(codec: Codec) -> &'static str {
    if codec == Codec::Opus { "opus" } else { "aac" }
}

/// What is counted of sound that is made into one codec.
struct Counts {
    frames: IntCounter,
    damaged: IntCounter,
    gaps: IntCounter,
}

/// What is counted of transcoding.
pub(crate) struct SoundMetrics {
    streams: IntGaugeVec,
    frames: IntCounterVec,
    damaged: IntCounterVec,
    gaps: IntCounterVec,
    refused: IntCounterVec,
    refused_full: IntCounter,
    refused_codec: IntCounter,
}

impl SoundMetrics {
    pub(crate) fn create() -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(format!("weir_edge_transcode_{name}_total"), help), &[label])
        };
        let help =
            "Streams of which viewers were given the sound as it is: too many transcoded, or it can't be";
        let refused = counters("refused", help, "reason")?;
        Ok(Self {
            streams: IntGaugeVec::new(
                Opts::new("weir_edge_transcode_streams", "Streams whose sound is transcoded for viewers"),
                &["into"],
            )?,
            frames: counters("frames", "Frames of sound that were transcoded", "into")?,
            damaged: counters("damaged_frames", "Of them those that were not whole: silence", "into")?,
            gaps: counters("gaps", "Gaps in transcoded sound: filled by silence, or passed on", "into")?,
            refused_full: refused.with_label_values(&["full"]),
            refused_codec: refused.with_label_values(&["codec"]),
            refused,
        })
    }

    fn of(&self, into: Codec) -> Counts {
        let of = |counters: &IntCounterVec| counters.with_label_values(&[label(into)]);
        Counts { frames: of(&self.frames), damaged: of(&self.damaged), gaps: of(&self.gaps) }
    }

    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.frames.clone()))?;
        registry.register(Box::new(self.damaged.clone()))?;
        registry.register(Box::new(self.gaps.clone()))?;
        registry.register(Box::new(self.refused.clone()))
    }
}
