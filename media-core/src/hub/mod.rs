//! Who publishes, who reads.
//!
//! A [`Registry`] knows the live streams by [`StreamKey`]. A publisher holds a [`Producer`], a reader (the
//! packager, the relay) a [`Consumer`]; dropping one ends its role. Each [`Unit`] is stored once, in the
//! stream's GOP cache, and read through cursors: a consumer owns no queue, so it can't grow one.
//!
//! A stream outlives its publisher: when the producer is dropped the stream is interrupted, its consumers
//! wait, and whoever publishes under a newer epoch goes on with the same stream and timeline. Who owns the
//! clock decides when the wait is over ([`Registry::expire`]).

mod cache;
mod consumer;
mod key;
mod producer;
mod registry;
mod sound;
mod stream;
mod timeline;

use std::sync::Arc;

pub use cache::CacheLimits;
pub use consumer::{Consumer, Event};
pub use key::{KeyError, StreamKey};
pub use producer::{Producer, Revoked};
pub use registry::{Clock, Limits, PublishError, Registry, Takeover};
pub use stream::{Phase, Snapshot, Stream};

use crate::frame::{Frame, Kind, Track, TrackId};

/// A publish lease's number. Of two publishers of a stream the one with the higher epoch is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The tracks of a stream at some time. A new one is made whenever anything of it changes, so readers
/// compare `Arc`s (or `version`) to see that decoders must be set up anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackSet {
    /// The publish lease that the tracks belong to; a new one marks a discontinuity.
    pub epoch: Epoch,
    /// Grows by one with each new set over the whole life of the stream.
    pub version: u32,
    /// Ordered by id: video before audio.
    pub tracks: Vec<Track>,
}

impl TrackSet {
    /// The track of that id.
    pub fn get(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|t| t.id == id)
    }

    /// Whether there is any video track.
    pub fn has_video(&self) -> bool {
        self.main_picture().is_some()
    }

    /// The video track with the lowest number, which need not be 0.
    pub fn main_picture(&self) -> Option<TrackId> {
        self.tracks.iter().map(|t| t.id).filter(|id| id.kind == Kind::Video).min()
    }
}

/// A frame in a stream, with what is needed to decode it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Counts the stream's units from 0 without gaps.
    pub sequence: u64,
    /// The tracks then.
    pub tracks: Arc<TrackSet>,
    /// The frame. Its DTS is on the stream's own timeline: strictly increasing per track, continuing
    /// over wraps, jumps and re-publishes.
    pub frame: Frame,
    /// When it came, in milliseconds since 1970.
    pub wall_clock_ms: u64,
}

impl Unit {
    /// The unit's track.
    pub fn track(&self) -> Option<&Track> {
        self.tracks.get(self.frame.track)
    }

    /// Reading can start here: a keyframe of the main picture, or any unit of a stream without video.
    pub fn is_join_point(&self) -> bool {
        self.frame.keyframe && self.tracks.main_picture().is_none_or(|main| main == self.frame.track)
    }
}
