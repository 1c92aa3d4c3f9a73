//! Payloads → tracks and frames.

mod av1;
mod lane;
mod nal;
mod vpx;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock::{SenderReport, ticks_since};
use super::packet::Packet;
use crate::codec;
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};
use lane::{Lane, Unit};

/// How many tracks a sender may have.
const MAX_TRACKS: usize = 16;
/// How long a track that has not shown what it is keeps the others from beginning.
const START_WAIT: Duration = Duration::from_secs(3);
/// How long a missing packet is waited for: a NACK, its answer, and both once more, at 100 ms there and back.
const PATIENCE: Duration = Duration::from_millis(250);

/// What came of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depacketized {
    /// The tracks changed; this is the whole set now, ordered by id. Frames that follow belong to it.
    Tracks(Vec<Track>),
    /// A frame; its timestamp counts from the first packet of any track, in 90 kHz.
    Frame(Frame),
    /// Nothing of the track can be used before its next keyframe. Said again while that does not come.
    KeyframeWanted(TrackId),
    /// An access unit that cannot be used.
    Dropped(TrackId, Damage),
}

/// Why an access unit is not handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Packets of it are lost.
    Lost,
    /// A payload is not what its format says, or is of a kind that was not offered.
    Malformed,
    /// It is larger than any access unit may be.
    TooLarge,
    /// It refers to one that was lost.
    NoKeyframe,
    /// Its parameter sets are refused.
    Configuration,
}

/// Turns the packets of one sender's tracks into frames. After each input, drain [`Depacketizer::poll`].
#[derive(Debug, Default)]
pub struct Depacketizer {
    lanes: Vec<Lane>,
    /// When the first packet came.
    start: Option<Instant>,
    started: bool,
    out: VecDeque<Depacketized>,
}

impl Depacketizer {
    /// Without tracks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that packets of a track will come, or that from now on they are of another codec. `false` for a codec that
    /// has no payload format here, and for one track too many.
    pub fn expect(&mut self, id: TrackId, codec: Codec) -> bool {
        let Some(lane) = Lane::new(id, codec, PATIENCE) else { return false };
        match self.lanes.binary_search_by_key(&id, |lane| lane.id) {
            Ok(at) => {
                if let Some(slot) = self.lanes.get_mut(at) {
                    *slot = lane;
                }
            }
            Err(_) if self.lanes.len() >= MAX_TRACKS => return false,
            Err(at) => self.lanes.insert(at, lane),
        }
        true
    }

    /// Whether that is what packets of the track are expected to be.
    pub fn expects(&self, id: TrackId, codec: Codec) -> bool {
        self.lanes.iter().any(|lane| lane.id == id && lane.codec == codec)
    }

    /// Takes a packet of the track that came at `now`; one of a track that is not expected is dropped.
    pub fn push(&mut self, now: Instant, id: TrackId, packet: Packet) {
        self.start.get_or_insert(now);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            lane.push(now, packet);
            self.advance(now, id);
        }
    }

    /// Takes what a sender report says of the track.
    pub fn report(&mut self, id: TrackId, report: SenderReport) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) else { return };
        lane.report(report);
        let sound = self.lanes.iter().find(|lane| lane.id.kind == Kind::Audio);
        let Some(reference) = sound.and_then(|lane| lane.clock.to_wall_clock()) else { return };
        for lane in self.lanes.iter_mut().filter(|lane| lane.id.kind == Kind::Video) {
            lane.clock.follow(reference);
        }
    }

    /// Gives up what is overdue at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let ids: Vec<TrackId> = self.lanes.iter().map(|lane| lane.id).collect();
        for id in ids {
            self.advance(now, id);
        }
    }

    /// When [`Depacketizer::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::deadline).min()
    }

    /// The next of what came of the packets.
    pub fn poll(&mut self) -> Option<Depacketized> {
        self.out.pop_front()
    }

    fn advance(&mut self, now: Instant, id: TrackId) {
        let start = *self.start.get_or_insert(now);
        while let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            let Some(unit) = lane.next(now) else { break };
            match unit {
                Unit::Frame(unit) => self.unit(now, start, id, unit),
                Unit::KeyframeWanted => self.out.push_back(Depacketized::KeyframeWanted(id)),
                Unit::Dropped(why) => self.out.push_back(Depacketized::Dropped(id, why)),
            }
        }
    }

    fn unit(&mut self, now: Instant, start: Instant, id: TrackId, unit: lane::AccessUnit) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) else { return };
        let mut changed = false;
        if let Some(config) = unit.config
            && lane.track.as_ref().is_none_or(|track| track.config != config)
        {
            match codec::track(id, lane.codec, Timescale::HZ_90K, config) {
                Ok(track) => (lane.track, changed) = (Some(track), true),
                Err(_) => {
                    lane.lost();
                    self.out.push_back(Depacketized::Dropped(id, Damage::Configuration));
                    return;
                }
            }
        }
        // Placed even when it is not handed out, so that the first one of each track says when it began.
        let pts = lane.clock.time(unit.timestamp, ticks_since(start, now));
        let (dts, cts) = lane.decoding_time(pts);
        if !self.started {
            let waited = now.saturating_duration_since(start) >= START_WAIT;
            let known = self.lanes.iter().filter(|lane| lane.track.is_some()).count();
            if known < self.lanes.len() && !waited || known == 0 {
                // What was thrown away is referred to by what follows.
                if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
                    lane.lost();
                }
                return;
            }
            self.started = true;
            changed = true;
        }
        if changed {
            let tracks = self.lanes.iter().filter_map(|lane| lane.track.clone()).collect();
            self.out.push_back(Depacketized::Tracks(tracks));
        }
        let frame = Frame { track: id, dts: Timestamp(dts), cts, keyframe: unit.keyframe, data: unit.data };
        self.out.push_back(Depacketized::Frame(frame));
    }
}
