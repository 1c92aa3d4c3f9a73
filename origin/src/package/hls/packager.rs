//! The packager: reads a stream from the hub and cuts it. Where that is wanted, its Opus is AAC by then.

use std::sync::Arc;

use media_core::frame::{Codec, Frame};
use media_core::hls::{Problem, Segmenter};
use media_core::hub::{Consumer, Event, TrackSet, Unit};
use tokio::task::coop;
use transcode::{Options, Sound};

use super::live::Live;

/// Packages a stream until it ends, with its Opus as AAC or as it is.
pub(super) async fn run(mut consumer: Consumer, live: &Live, opus_as_aac: bool) {
    let sound = opus_as_aac.then(|| Sound::new(Codec::Aac, Options::default()));
    let mut packager = Packager::new(live, sound);
    loop {
        match consumer.try_next() {
            Some(Event::Unit(unit)) => {
                packager.take(unit);
                // Other tasks shall run between units that are there all the same.
                coop::consume_budget().await;
            }
            // No end for players: they have the rest of another origin.
            Some(Event::Ended) if consumer.stream().is_elsewhere() => return live.leave(),
            Some(Event::Ended) => return packager.end(),
            None => {
                // A part takes ten to twenty frames: most of them can wait for the one that ends it.
                consumer.reaches(packager.segmenter.quiet_until_ms().unwrap_or(i64::MIN)).await;
            }
        }
    }
}

struct Packager<'a> {
    live: &'a Live,
    segmenter: Segmenter,
    tracks: Option<Arc<TrackSet>>,
    next_sequence: u64,
    problem: Option<Problem>,
    /// What makes AAC of Opus, if that is wanted.
    sound: Option<Sound>,
    /// Kept for its allocation.
    frames: Vec<Frame>,
}

impl<'a> Packager<'a> {
    fn new(live: &'a Live, sound: Option<Sound>) -> Self {
        let segmenter = live.with_window(|window| Segmenter::new(window.config()));
        Self { live, segmenter, tracks: None, next_sequence: 0, problem: None, sound, frames: Vec::new() }
    }

    fn take(&mut self, unit: Unit) {
        let first = self.tracks.is_none();
        if self.tracks.as_ref().is_none_or(|tracks| !Arc::ptr_eq(tracks, &unit.tracks)) {
            self.set_tracks(&unit.tracks);
            self.tracks = Some(Arc::clone(&unit.tracks));
        } else if !first && unit.sequence != self.next_sequence {
            tracing::warn!(stream = %self.live.key(), lost = unit.sequence.saturating_sub(self.next_sequence),
                "HLS lagged behind the stream and begins anew at a keyframe");
            self.live.lagged();
            self.segmenter.interrupt();
        }
        self.next_sequence = unit.sequence + 1;
        let wall_ms = i64::try_from(unit.wall_clock_ms).unwrap_or(i64::MAX);
        match &mut self.sound {
            Some(sound) => {
                sound.push(unit.frame, &mut self.frames);
                self.frames.drain(..).for_each(|frame| self.segmenter.push(frame, wall_ms));
            }
            None => self.segmenter.push(unit.frame, wall_ms),
        }
        self.publish();
    }

    fn set_tracks(&mut self, set: &TrackSet) {
        let Some(sound) = &mut self.sound else { return self.segmenter.set_tracks(set.epoch.0, &set.tracks) };
        let (tracks, problem) = sound.set_tracks(&set.tracks);
        if let Some(error) = problem {
            tracing::warn!(stream = %self.live.key(), %error, "HLS has the sound as it is");
        }
        self.segmenter.set_tracks(set.epoch.0, &tracks);
    }

    fn end(mut self) {
        // Whatever was wrong is over; without tracks the segmenter would call the stream unpackageable.
        self.segmenter.end();
        self.hand_over(None);
    }

    fn publish(&mut self) {
        let problem = self.segmenter.problem();
        if problem == self.problem && !self.segmenter.has_events() {
            return;
        }
        // A line when a problem begins, not for each second that it lasts.
        let same_kind = |a: &Problem, b: &Problem| std::mem::discriminant(a) == std::mem::discriminant(b);
        match (&problem, &self.problem) {
            (Some(now), before) if before.as_ref().is_none_or(|before| !same_kind(now, before)) => {
                tracing::warn!(stream = %self.live.key(), "{now}");
            }
            (None, Some(_)) => tracing::info!(stream = %self.live.key(), "HLS begins after all"),
            _ => {}
        }
        self.problem = problem;
        self.hand_over(self.problem.map(|p| p.to_string()));
    }

    fn hand_over(&mut self, problem: Option<String>) {
        let segmenter = &mut self.segmenter;
        let events = std::iter::from_fn(|| segmenter.poll_event());
        self.live.apply(events, problem);
    }
}
