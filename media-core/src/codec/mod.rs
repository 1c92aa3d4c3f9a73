//! Codecs: what a decoder configuration says, which frames are keyframes, how long a packet plays.
//!
//! Every configuration record becomes a [`Track`] here and nowhere else, so that a track's
//! parameters and its RFC 6381 string always agree with the bytes that players are given.

pub mod aac;
pub mod av1;
mod error;
pub mod h264;
pub mod h265;
pub mod mp3;
pub mod nal;
pub mod opus;

use bytes::Bytes;

pub use error::Error;

use crate::frame::{Codec, Timescale, Track, TrackId};

/// The track that a decoder configuration describes. `config` is what [`Track::config`] names for
/// the codec; MP3 has none and goes through [`mp3::track`]. An AV1 record without a sequence
/// header is [`Error::NoSequenceHeader`]: complete it from the first keyframe with
/// [`av1::config_from_temporal_unit`].
pub fn track(id: TrackId, codec: Codec, timescale: Timescale, config: Bytes) -> Result<Track, Error> {
    let _ = (id, codec, timescale, config);
    Err(Error::Truncated("not yet read"))
}

/// Whether decoding can start at this frame, by its content: an IDR picture (H.264), an IRAP
/// picture (HEVC), a shown key frame with its sequence header (AV1). Always true for audio.
pub fn keyframe(codec: Codec, data: &[u8]) -> bool {
    let _ = data;
    !matches!(codec, Codec::H264 | Codec::H265 | Codec::Av1)
}
