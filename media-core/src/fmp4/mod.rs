//! Fragmented MP4 (ISO/IEC 14496-12, CMAF ISO/IEC 23000-19): init segments and fragments.

use bytes::Bytes;

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
    /// A segment needs at least one track.
    #[error("no track to write")]
    NoTrack,
    /// A fragment or a box is larger than its 32-bit size field can say.
    #[error("a fragment of {0} bytes does not fit a 32-bit size")]
    TooLarge(u64),
    /// The track's configuration does not fit the sample entry.
    #[error("{0}")]
    Codec(#[from] crate::codec::Error),
    /// The box writer refused a value.
    #[error("cannot write box: {0}")]
    Box(String),
}

/// `ftyp` and `moov` (with `mvex`): the init segment of one or more tracks.
pub fn init_segment(tracks: &[MediaTrack<'_>]) -> Result<Bytes, Error> {
    let _ = tracks;
    Err(Error::NoTrack)
}

/// `moof` and `mdat`: a fragment with one `traf` a run. Runs without samples are left out.
pub fn fragment(sequence: u32, runs: &[TrackRun<'_>]) -> Result<Bytes, Error> {
    let _ = (sequence, runs);
    Err(Error::NoTrack)
}
