//! Fragmented MP4 (ISO/IEC 14496-12, CMAF ISO/IEC 23000-19): init segments and fragments.

mod empty;
mod entry;
mod fragment;
mod init;

use bytes::Bytes;

pub use empty::empty_fragment;
pub use fragment::{Fragment, fragment};
pub use init::init_segment;

use crate::frame::{Timescale, Track};

/// A track of an init segment.
#[derive(Debug, Clone, Copy)]
pub struct MediaTrack<'a> {
    /// `track_ID`, from 1, unique within the segment.
    pub id: u32,
    /// What it carries.
    pub track: &'a Track,
    /// Ticks per second of the samples' times: `mdhd` timescale.
    pub timescale: Timescale,
}

/// The samples that one track adds to a fragment, in decoding order.
#[derive(Debug, Clone, Copy)]
pub struct TrackRun<'a> {
    /// `track_ID` of the init segment.
    pub id: u32,
    /// Decoding time of the first sample (`tfdt`), in ticks of the track.
    pub base_decode_time: u64,
    /// The samples.
    pub samples: &'a [Sample],
}

/// One access unit in a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Time to the next sample's decoding time, in ticks.
    pub duration: u32,
    /// Composition offset in ticks; may be negative.
    pub cts: i32,
    /// A sync sample.
    pub keyframe: bool,
    /// The coded bytes.
    pub data: Bytes,
}

/// Why a segment could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An init segment without a track, or a fragment without a sample.
    #[error("nothing to write")]
    Empty,
    /// `track_ID` 0, or the same twice.
    #[error("track_ID {0} is zero or used twice")]
    TrackId(u32),
    /// A fragment is larger than its 32-bit offsets can say.
    #[error("a fragment of {0} bytes does not fit 32-bit offsets")]
    TooLarge(u64),
    /// The track's configuration does not fit the sample entry.
    #[error("sample entry: {0}")]
    Codec(#[from] crate::codec::Error),
    /// The box writer refused a value.
    #[error("cannot write a box: {0}")]
    Box(String),
}

impl From<mp4_atom::Error> for Error {
    fn from(error: mp4_atom::Error) -> Self {
        Self::Box(error.to_string())
    }
}

#[cfg(test)]
mod tests;
