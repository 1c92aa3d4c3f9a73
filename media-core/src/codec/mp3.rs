//! MP3.
use super::Error;
use crate::frame::{Timescale, Track, TrackId};

/// The track that an MP3 frame's header describes (ISO/IEC 11172-3 §2.4.1.3, 13818-3).
pub fn track(id: TrackId, timescale: Timescale, frame: &[u8]) -> Result<Track, Error> {
    let _ = (id, timescale, frame);
    Err(Error::Truncated("MP3 frame header"))
}
