//! Parts: what players are given first (RFC 8216bis §4.4.4.9).

use std::time::Duration;

use crate::fmp4::Fragment;

/// A part of a segment, in all renditions.
#[derive(Debug, Clone)]
pub struct Part {
    /// How long it plays.
    pub duration: Duration,
    /// When it began by the wall clock, in milliseconds since 1970 (UTC).
    pub program_date_time_ms: i64,
    /// Its media, one for each rendition in their order.
    pub media: Vec<Media>,
}

/// What one rendition has of a part.
#[derive(Debug, Clone, Default)]
pub struct Media {
    /// A movie fragment; empty where there is a gap.
    pub data: Fragment,
    /// Decoding can start here: its first picture is a keyframe, or it has no pictures.
    pub independent: bool,
    /// The rendition has no media for this time (GAP=YES).
    pub gap: bool,
    /// Pictures in it.
    pub pictures: u32,
}
