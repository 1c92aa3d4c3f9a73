//! Segments: parts in a row, with what is needed to decode them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Part;
use crate::fmp4::Fragment;
use crate::frame::Track;

/// What stays the same between two discontinuities: the tracks and their init segments.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The publish lease that the media belong to.
    pub epoch: u64,
    /// Counts the stream's layouts from 1.
    pub version: u32,
    /// In the order of the stream's renditions.
    pub renditions: Vec<LayoutRendition>,
}

/// A rendition's share of a layout.
#[derive(Debug, Clone, Default)]
pub struct LayoutRendition {
    /// The tracks it carries, video first; none while its track is missing.
    pub tracks: Vec<Track>,
    /// Its init segment; empty without tracks.
    pub init: Bytes,
}

/// A segment in all renditions: growing, or complete.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Media sequence number, from 1.
    pub msn: u64,
    /// The tracks it was made of.
    pub layout: Arc<Layout>,
    /// It doesn't continue the one before: EXT-X-DISCONTINUITY.
    pub discontinuity: bool,
    /// Its parts so far.
    pub parts: Vec<Part>,
    /// No part follows.
    pub complete: bool,
}

impl Segment {
    /// The sum of its parts.
    pub fn duration(&self) -> Duration {
        self.parts.iter().map(|p| p.duration).sum()
    }

    /// When it began by the wall clock, in milliseconds since 1970 (UTC).
    pub fn program_date_time_ms(&self) -> i64 {
        self.parts.first().map_or(0, |p| p.program_date_time_ms)
    }

    /// Bytes of media in one rendition.
    pub fn rendition_bytes(&self, rendition: usize) -> usize {
        self.parts.iter().filter_map(|p| p.media.get(rendition)).map(|m| m.data.len()).sum()
    }

    /// Whether one rendition lacks media somewhere in it.
    pub fn has_gap(&self, rendition: usize) -> bool {
        self.parts.iter().any(|p| p.media.get(rendition).is_none_or(|m| m.gap))
    }

    /// The media of one rendition, part by part.
    pub fn data(&self, rendition: usize) -> Vec<Fragment> {
        self.parts.iter().filter_map(|p| p.media.get(rendition)).map(|m| m.data.clone()).collect()
    }

    /// Parts so far.
    pub fn part_count(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }
}
