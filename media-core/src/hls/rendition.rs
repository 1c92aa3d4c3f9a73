//! Which tracks go into which playlist.

use crate::frame::{Kind, Track, TrackId};

/// A media playlist's share of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// The path segment under which its playlist and objects are: `main`, or a track's id.
    pub name: String,
    holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// The first video and the first audio track, muxed, whichever of them there are.
    Main,
    One(TrackId),
}

impl Rendition {
    /// Whether the track goes into this rendition, given all tracks of the stream.
    pub fn carries(&self, id: TrackId, tracks: &[Track]) -> bool {
        match self.holds {
            Holds::One(one) => one == id,
            Holds::Main => first(tracks, id.kind) == Some(id),
        }
    }

    /// The kind of its only track; `None` of the muxed one.
    pub fn kind(&self) -> Option<Kind> {
        match self.holds {
            Holds::Main => None,
            Holds::One(id) => Some(id.kind),
        }
    }

    /// Where its playlist is, seen from the multivariant playlist.
    pub fn uri(&self) -> String {
        format!("{}/media.m3u8", self.name)
    }
}

fn first(tracks: &[Track], kind: Kind) -> Option<TrackId> {
    tracks.iter().map(|t| t.id).filter(|id| id.kind == kind).min()
}

/// Decides the renditions of a stream: one muxed rendition when there is at most one track of a kind (half the
/// requests), one for each track otherwise. Decided once a stream: players that watch a rendition don't read the
/// multivariant playlist again, so the list can't change under them.
pub fn plan(tracks: &[Track]) -> Vec<Rendition> {
    let count = |kind| tracks.iter().filter(|t| t.id.kind == kind).count();
    if count(Kind::Video) <= 1 && count(Kind::Audio) <= 1 {
        return vec![Rendition { name: "main".to_owned(), holds: Holds::Main }];
    }
    let mut ids: Vec<TrackId> = tracks.iter().map(|t| t.id).collect();
    ids.sort();
    ids.into_iter().map(|id| Rendition { name: id.to_string(), holds: Holds::One(id) }).collect()
}
