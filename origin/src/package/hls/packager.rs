//! The packager: reads a stream from the hub and cuts it.

use std::sync::Arc;

use media_core::hls::{Problem, Segmenter};
use media_core::hub::{Consumer, Event, TrackSet, Unit};
use tokio::task::coop;

use super::live::Live;

/// Packages a stream until it ends.
pub(super) async fn run(mut consumer: Consumer, live: &Live) {
    let mut packager = Packager::new(live);
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
}

impl<'a> Packager<'a> {
    fn new(live: &'a Live) -> Self {
        let segmenter = live.with_window(|window| Segmenter::new(window.config()));
        Self { live, segmenter, tracks: None, next_sequence: 0, problem: None }
    }

    fn take(&mut self, unit: Unit) {
        let first = self.tracks.is_none();
        if self.tracks.as_ref().is_none_or(|tracks| !Arc::ptr_eq(tracks, &unit.tracks)) {
            self.segmenter.set_tracks(unit.tracks.epoch.0, &unit.tracks.tracks);
            self.tracks = Some(Arc::clone(&unit.tracks));
        } else if !first && unit.sequence != self.next_sequence {
            tracing::warn!(stream = %self.live.key(), lost = unit.sequence.saturating_sub(self.next_sequence),
                "HLS lagged behind the stream and begins anew at a keyframe");
            self.live.lagged();
            self.segmenter.interrupt();
        }
        self.next_sequence = unit.sequence + 1;
        self.segmenter.push(unit.frame, i64::try_from(unit.wall_clock_ms).unwrap_or(i64::MAX));
        self.publish();
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
