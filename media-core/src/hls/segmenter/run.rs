//! The stretch between two discontinuities, in which all frames belong to the same tracks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Event;
use crate::fmp4::{self, MediaTrack, TrackRun};
use crate::frame::{Kind, Track, TrackId};
use crate::hls::lane::{CUTS, Lane};
use crate::hls::pace::{Candidate, Cut, Pace, Search, duration};
use crate::hls::settle::Arrived;
use crate::hls::{Layout, LayoutRendition, Media, Part, Rendition};

/// How far the picture that is cut by may get ahead of another one before the cut is made without the other, in ticks
/// of 90 kHz: 500 ms.
const MAX_SKEW: i64 = 45_000;

/// A stretch of a stream with the same tracks. The first lane is the one that it is cut by: the main picture, or the
/// first sound of a stream without pictures.
#[derive(Debug)]
pub(super) struct Run {
    layout: Arc<Layout>,
    lanes: Vec<Lane>,
    /// Time of the first frame and the wall clock then.
    anchor: Option<(i64, i64)>,
    part_start: i64,
    segment_start: i64,
    /// For the end of the part that began at `part_start`.
    search: Search,
    /// `mfhd` sequence number of the last fragment.
    sequence: u32,
}

impl Run {
    /// `None`: the tracks can't be packaged.
    pub(super) fn new(epoch: u64, version: u32, tracks: &[Track], renditions: &[Rendition]) -> Option<Self> {
        let mut lanes = Vec::new();
        let mut layout = Layout { epoch, version, renditions: Vec::new() };
        for (index, rendition) in renditions.iter().enumerate() {
            let own: Vec<Track> =
                tracks.iter().filter(|t| rendition.carries(t.id, tracks)).cloned().collect();
            let own_lanes: Vec<Lane> = own.iter().map(|t| Lane::new(t.clone(), index)).collect();
            if own_lanes.is_empty() {
                layout.renditions.push(LayoutRendition::default());
                continue;
            }
            let media: Vec<MediaTrack<'_>> = (1..)
                .zip(&own_lanes)
                .map(|(id, lane)| MediaTrack { id, track: &lane.track, timescale: lane.scale })
                .collect();
            let init = fmp4::init_segment(&media).ok()?;
            layout.renditions.push(LayoutRendition { tracks: own, init });
            lanes.extend(own_lanes);
        }
        lanes.sort_by_key(|lane| lane.track.id);
        if lanes.is_empty() {
            return None;
        }
        Some(Self {
            layout: Arc::new(layout),
            lanes,
            anchor: None,
            part_start: 0,
            segment_start: 0,
            search: Search::default(),
            sequence: 0,
        })
    }

    /// The ids of its tracks, in order.
    pub(super) fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.lanes.iter().map(|lane| lane.track.id)
    }

    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout)
    }

    /// Takes over what waits in the lanes of the run before.
    pub(super) fn carry_on(&mut self, carried: Vec<Lane>) {
        for before in carried {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == before.track) {
                lane.carry_on(before);
            }
        }
    }

    pub(super) fn into_lanes(self) -> Vec<Lane> {
        self.lanes
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::waiting_bytes).sum()
    }

    pub(super) fn waiting_frames(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    pub(super) fn push(&mut self, arrived: &Arrived, pace: &mut Pace) {
        let id = arrived.frame.track;
        let leads = self.lanes.first().is_some_and(|lane| lane.track.id == id);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track.id == id) else { return };
        lane.push(&arrived.frame);
        if leads && self.anchor.is_none() {
            let at = lane.queue.front().map_or(arrived.at, |first| first.at);
            self.anchor = Some((at, arrived.wall_ms.saturating_sub(arrived.at.saturating_sub(at) / 90)));
            self.part_start = at;
            self.segment_start = at;
        }
        if leads && id.kind == Kind::Video && arrived.frame.keyframe {
            pace.keyframe(arrived.at);
        }
    }

    /// Makes all cuts that are due.
    pub(super) fn cut(&mut self, pace: &Pace, events: &mut VecDeque<Event>) {
        while let Some(cut) = self.next_cut(pace)
            && self.others_are_there(self.part_start.saturating_add(cut.offset))
        {
            let boundary = self.part_start.saturating_add(cut.offset);
            let last = cut.at_keyframe || pace.ends_segment(boundary, boundary - self.segment_start);
            self.emit(boundary, boundary, last, events);
        }
    }

    /// No frame that is stamped earlier ends the part, unless it is the keyframe of a picture. `None`: it is not known yet.
    pub(super) fn earliest_cut(&self, pace: &Pace) -> Option<i64> {
        self.anchor?;
        // Sound ends a part by where it ends, which is not known before it comes. Other pictures are waited for.
        let pictures = self.lanes.iter().filter(|lane| lane.track.id.kind == Kind::Video).count();
        if pictures != 1 {
            return None;
        }
        Some(self.part_start.saturating_add(pace.least_part()?))
    }

    /// Nothing follows in this run. `false`: nothing was in it either.
    pub(super) fn close(&mut self, pace: &mut Pace) -> bool {
        for lane in &mut self.lanes {
            lane.close();
        }
        if self.anchor.is_none() {
            return false;
        }
        if pace.part_target().is_none() && !self.decide_part_target(pace) {
            pace.keep_part_target();
        }
        true
    }

    /// Cuts what waits. `carry`: only up to the end of the lane that leads.
    pub(super) fn finish(&mut self, pace: &Pace, carry: bool, events: &mut VecDeque<Event>) {
        if self.anchor.is_none() {
            return;
        }
        while let Some(cut) = self.next_cut(pace) {
            let boundary = self.part_start.saturating_add(cut.offset);
            let last = cut.at_keyframe || pace.ends_segment(boundary, boundary - self.segment_start);
            self.emit(boundary, boundary, last, events);
        }
        let end = self.lanes.first().and_then(|lane| lane.queue.back()).and_then(|w| w.end);
        if let Some(end) = end.filter(|end| *end > self.part_start) {
            self.emit(end, if carry { end } else { i64::MAX }, true, events);
        }
    }

    /// PART-TARGET follows from the frame rate: what the coding says, if the frames agree, or else theirs. So it waits
    /// for enough of them. `false`: not yet.
    pub(super) fn decide_part_target(&self, pace: &mut Pace) -> bool {
        if pace.part_target().is_some() {
            return true;
        }
        let Some(lane) = self.lanes.first() else { return false };
        if let Some(audio) = lane.track.audio()
            && let Some(samples) = audio.frame_samples
        {
            let ticks = i64::from(samples) * i64::from(CUTS.get());
            pace.decide_part_target(i64::from(audio.sample_rate), ticks, true);
            return true;
        }
        let (Some(first), Some(last)) = (lane.queue.front(), lane.queue.back()) else { return false };
        let frames = i64::try_from(lane.queue.len()).unwrap_or(i64::MAX) - 1;
        let ticks = last.at - first.at;
        if ticks < pace.configured_part() * 85 / 100 {
            return false;
        }
        let said = lane.track.video().and_then(|v| v.frame_rate).map(|(num, den)| {
            let per_frame = i128::from(den) * i128::from(CUTS.get());
            (i64::from(num), i64::from(den) * i64::from(CUTS.get()), per_frame * i128::from(frames))
        });
        match said {
            // Within a tenth of what is measured.
            Some((num, den, span))
                if num > 0 && (span - i128::from(ticks) * i128::from(num)).abs() * 10 <= span =>
            {
                pace.decide_part_target(num, den, true);
            }
            _ => pace.decide_part_target(frames, ticks, false),
        }
        true
    }

    fn next_cut(&mut self, pace: &Pace) -> Option<Cut> {
        // What was carried on waits for the first frame that is pushed: only then it is known where the part begins.
        self.anchor?;
        let lane = self.lanes.first()?;
        let has_pictures = lane.track.id.kind == Kind::Video;
        let start = self.part_start;
        let begins = lane.queue.iter().skip(self.search.passed).map(|w| Candidate {
            offset: w.at.saturating_sub(start),
            keyframe: has_pictures && w.is_keyframe(),
        });
        let end = lane.queue.back().and_then(|w| w.end).map(|end| end.saturating_sub(start));
        pace.cut(start.saturating_sub(self.segment_start), &mut self.search, begins, end, lane.step())
    }

    /// Whether the other pictures have got as far as the cut, so that their parts begin where they should.
    fn others_are_there(&self, boundary: i64) -> bool {
        let Some((main, others)) = self.lanes.split_first() else { return false };
        let waited_enough = main.newest().is_some_and(|at| at.saturating_sub(boundary) >= MAX_SKEW);
        waited_enough
            || others
                .iter()
                .filter(|lane| lane.track.id.kind == Kind::Video)
                .all(|lane| lane.newest().is_some_and(|at| at >= boundary))
    }

    /// Ends the part at `boundary` with all samples before `take`.
    fn emit(&mut self, boundary: i64, take: i64, last: bool, events: &mut VecDeque<Event>) {
        let start = self.part_start;
        let media = self.fragments(take);
        let (anchor, wall_ms) = self.anchor.unwrap_or((start, 0));
        let part = Part {
            // From the segment's start, so that rounding doesn't add up.
            duration: duration(boundary - self.segment_start)
                .saturating_sub(duration(start - self.segment_start)),
            program_date_time_ms: wall_ms.saturating_add(start.saturating_sub(anchor) / 90),
            media,
        };
        events.push_back(Event::Part { part, last });
        self.part_start = boundary;
        self.search = Search::default();
        if last {
            self.segment_start = boundary;
        }
    }

    /// One fragment for each rendition, of all samples before `boundary`.
    fn fragments(&mut self, boundary: i64) -> Vec<Media> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut media = Vec::with_capacity(self.layout.renditions.len());
        for (index, rendition) in self.layout.renditions.iter().enumerate() {
            let lanes = self.lanes.iter_mut().filter(|lane| lane.rendition == index);
            let taken: Vec<_> = (1u32..).zip(lanes.map(|lane| lane.take_before(boundary))).collect();
            let runs: Vec<TrackRun<'_>> = taken
                .iter()
                .filter(|(_, run)| !run.samples.is_empty())
                .map(|(id, run)| TrackRun {
                    id: *id,
                    base_decode_time: run.base_decode_time,
                    samples: &run.samples,
                })
                .collect();
            let has_pictures = rendition.tracks.first().is_some_and(|t| t.id.kind == Kind::Video);
            let first = taken.first().and_then(|(_, run)| run.samples.first());
            let fragment = match taken.first() {
                None => None,
                Some((id, run)) if runs.is_empty() => {
                    Some(fmp4::empty_fragment(self.sequence, *id, run.base_decode_time).into())
                }
                Some(_) => fmp4::fragment(self.sequence, &runs).ok(),
            };
            media.push(Media {
                gap: fragment.is_none(),
                independent: first.is_some_and(|s| s.keyframe) && fragment.is_some(),
                pictures: match taken.first() {
                    Some((_, run)) if has_pictures => u32::try_from(run.samples.len()).unwrap_or(u32::MAX),
                    _ => 0,
                },
                data: fragment.unwrap_or_default(),
            });
        }
        media
    }
}
