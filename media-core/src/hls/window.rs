//! What players may ask for: the newest segments and parts of a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Config, Event, Layout, Name, Part, Position, Rendition, Segment};
use crate::fmp4::Fragment;

/// Layouts whose init segments are kept at most, beside those in use. A stream that changes its tracks all the
/// time has short segments of each.
const MAX_IDLE_LAYOUTS: usize = 4;

/// The growing segment ends, whatever its duration, when it has this share of [`Config::max_bytes`]: it can't be evicted.
/// So the window holds at most `max_bytes`, or this share of them and a part where a part is larger than the rest; what
/// may wait for a part is bounded by the segmenter.
const SEGMENT_SHARE: usize = 4;

/// What a segment takes besides its media and init segments, and a part of it in each rendition, roughly: tiny ones
/// would otherwise be free.
const SEGMENT_BYTES: usize = 256;
const PART_BYTES: usize = 128;

/// What an object's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Its bytes, in pieces.
    Ready(Vec<Fragment>),
    /// The next part: not whole yet, but it was announced (EXT-X-PRELOAD-HINT).
    Hinted,
    /// Unknown, or gone.
    Absent,
}

/// Bits per second of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// The peak segment bit rate since the stream began (RFC 8216bis §4.1), and never less than the average.
    pub peak_bps: u64,
    /// Over the segments that are listed.
    pub average_bps: u64,
}

/// The newest segments of a stream in all its renditions.
#[derive(Debug)]
pub struct Window {
    config: Config,
    renditions: Arc<[Rendition]>,
    part_target: Duration,
    layout: Option<Arc<Layout>>,
    /// Oldest first; the last one may be growing.
    segments: VecDeque<Segment>,
    /// How many of them are kept but not listed any more.
    unlisted: usize,
    /// The longest playlist so far.
    longest: Duration,
    /// Segments that left the playlist or memory before their time.
    hurried: u64,
    /// The media sequence number of the first segment.
    first_msn: u64,
    next_msn: u64,
    discontinuity_sequence: u64,
    bytes: usize,
    peak_bps: Vec<u64>,
    idle_layouts: VecDeque<Arc<Layout>>,
    ended: bool,
}

impl Window {
    /// An empty window, whose first segment will have the media sequence number 1.
    pub fn new(config: Config) -> Self {
        // hls.js doesn't ask for blocking reloads while the last media sequence number is 0.
        Self::starting_at(config, 1)
    }

    /// An empty window, whose segments are counted from `first` on, which is at least 1. The number may not go back in
    /// what a player takes for one playlist (RFC 8216bis §6.2.1): whoever continues the playlist of another window, of
    /// which it knows nothing, starts above what that one can have reached. Discontinuities are counted from 0 all the
    /// same: hls.js goes through all numbers up to theirs, and with large ones stands still.
    pub fn starting_at(config: Config, first: u64) -> Self {
        let part_target = Duration::from_millis(u64::from(config.part_ms));
        let first = first.max(1);
        Self {
            config,
            renditions: Arc::new([]),
            part_target,
            layout: None,
            segments: VecDeque::new(),
            unlisted: 0,
            longest: Duration::ZERO,
            hurried: 0,
            first_msn: first,
            next_msn: first,
            discontinuity_sequence: 0,
            bytes: 0,
            peak_bps: Vec::new(),
            idle_layouts: VecDeque::new(),
            ended: false,
        }
    }

    /// Takes what a segmenter hands out.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Begun { renditions, part_target } => {
                self.peak_bps = vec![0; renditions.len()];
                self.renditions = renditions;
                self.part_target = part_target;
            }
            Event::Layout(layout) => {
                self.end_layout();
                self.layout = Some(layout);
            }
            Event::Part { part, last } => {
                self.push(part);
                let is_large = |s: &Segment| cost(s) >= self.config.max_bytes / SEGMENT_SHARE;
                if last || self.segments.back().is_some_and(is_large) {
                    self.end_segment();
                }
                // Sums up all there is: what a segment holds changes little until it ends.
                if last || self.bytes > self.config.max_bytes {
                    self.evict();
                }
            }
            Event::LayoutEnded => self.end_layout(),
            Event::Ended => {
                self.end_layout();
                self.ended = true;
            }
        }
    }

    fn push(&mut self, part: Part) {
        let Some(layout) = &self.layout else { return };
        self.bytes += part_cost(&part);
        if let Some(growing) = self.segments.back_mut().filter(|s| !s.complete) {
            growing.parts.push(part);
            return;
        }
        self.bytes += layout_cost(layout);
        let discontinuity = self.segments.back().is_some_and(|s| s.layout.version != layout.version);
        self.segments.push_back(Segment {
            msn: self.next_msn,
            layout: Arc::clone(layout),
            discontinuity,
            parts: vec![part],
            complete: false,
        });
    }

    fn end_segment(&mut self) {
        let Some(segment) = self.segments.back_mut().filter(|s| !s.complete) else { return };
        segment.complete = true;
        self.next_msn = segment.msn + 1;
        self.measure_peak();
    }

    /// The peak is that of any segments in a row which last between a half and one and a half target durations
    /// together: a short one, which may be little more than a keyframe, doesn't count alone. Here are those that the
    /// newest whole segment completes.
    fn measure_peak(&mut self) {
        let target = self.config.target_duration();
        let (least, most) = (target / 2, target * 3 / 2);
        let mut duration = Duration::ZERO;
        let mut bytes = vec![0; self.peak_bps.len()];
        for segment in self.segments.iter().rev() {
            duration += segment.duration();
            if duration > most {
                return;
            }
            for (rendition, (peak, bytes)) in self.peak_bps.iter_mut().zip(&mut bytes).enumerate() {
                *bytes += segment.rendition_bytes(rendition);
                if duration >= least {
                    *peak = (*peak).max(bits_per_second(*bytes, duration));
                }
            }
        }
    }

    fn end_layout(&mut self) {
        self.end_segment();
        if let Some(before) = self.layout.take() {
            self.idle_layouts.push_back(before);
            if self.idle_layouts.len() > MAX_IDLE_LAYOUTS {
                self.idle_layouts.pop_front();
            }
        }
    }

    /// Unlists what is older than the window, and drops what nobody can know of any more. What is too much in memory
    /// goes first where it is not listed any more.
    fn evict(&mut self) {
        while self.unlisted > 0 && self.bytes > self.config.max_bytes {
            self.drop_oldest();
            self.hurried += 1;
        }
        let window = self.config.window();
        let mut listed: Duration = self.listed().map(Segment::duration).sum();
        self.longest = self.longest.max(listed);
        while let Some(oldest) = self.segments.get(self.unlisted)
            && self.unlisted + 1 < self.segments.len()
            && (listed.saturating_sub(oldest.duration()) >= window || self.bytes > self.config.max_bytes)
        {
            listed = listed.saturating_sub(oldest.duration());
            // The discontinuity *between* two segments leaves with the one behind it.
            self.discontinuity_sequence += u64::from(oldest.discontinuity);
            self.unlisted += 1;
            if self.bytes > self.config.max_bytes {
                self.drop_oldest();
                self.hurried += 1;
            }
        }
        let mut behind: Duration = self.segments.iter().map(Segment::duration).sum();
        while self.unlisted > 0
            && let Some(oldest) = self.segments.front()
        {
            behind = behind.saturating_sub(oldest.duration());
            // Its Availability Duration (RFC 8216bis §6.2.2), counted from when it left the playlist: its own and that
            // of the longest playlist that it was in, through which somebody may be playing. When it left, what was
            // behind it was shorter than that playlist by itself. Parts must stay for three target durations, which
            // is less.
            if behind < self.longest * 2 {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            self.bytes -= cost(&oldest);
            self.unlisted = self.unlisted.saturating_sub(1);
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The stream's renditions; none before its first part.
    pub fn renditions(&self) -> &[Rendition] {
        &self.renditions
    }

    /// The tracks of what is newest.
    #[cfg(test)]
    pub(super) fn layout(&self) -> Option<&Layout> {
        self.segments.back().map(|s| &*s.layout)
    }

    /// PART-TARGET.
    pub fn part_target(&self) -> Duration {
        self.part_target
    }

    /// Players can start: there is a whole segment.
    pub fn is_ready(&self) -> bool {
        self.next_msn > self.first_msn
    }

    /// The media sequence number of the first segment, which may be long gone, or yet to come.
    pub fn first_msn(&self) -> u64 {
        self.first_msn
    }

    /// How far the stream is.
    pub fn position(&self) -> Position {
        let parts = self.segments.back().filter(|s| !s.complete).map_or(0, Segment::part_count);
        Position { msn: self.next_msn, parts, ended: self.ended }
    }

    /// Bytes it holds: media, and what goes with them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Segments that left the playlist or memory before their time, since there would be more than
    /// [`Config::max_bytes`].
    pub fn hurried(&self) -> u64 {
        self.hurried
    }

    /// No part follows, ever.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The segments that playlists list, oldest first; the last one may be growing.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().skip(self.unlisted)
    }

    /// EXT-X-DISCONTINUITY-SEQUENCE: discontinuities that left the playlist.
    pub fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }

    /// The segment of that media sequence number, if it is kept.
    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        let first = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// The name of a rendition's next part, while it is known: not between two publishes, and not where it will be a
    /// gap.
    pub fn hint(&self, rendition: usize) -> Option<Name> {
        let layout = self.layout.as_ref().filter(|_| !self.ended)?;
        layout.renditions.get(rendition).filter(|r| !r.tracks.is_empty())?;
        let Position { msn, parts, .. } = self.position();
        Some(Name::Part { epoch: layout.epoch, msn, part: parts })
    }

    /// An object of a rendition.
    pub fn object(&self, rendition: usize, name: Name) -> Object {
        let found = match name {
            Name::Init { epoch, version } => {
                self.init(rendition, epoch, version).map(|init| vec![init.into()])
            }
            Name::Segment { epoch, msn } => self
                .segment(msn)
                .filter(|s| s.layout.epoch == epoch && s.complete && !s.has_gap(rendition))
                .map(|s| s.data(rendition)),
            Name::Part { epoch, msn, part } => self
                .segment(msn)
                .filter(|s| s.layout.epoch == epoch)
                .and_then(|s| s.parts.get(usize::try_from(part).ok()?))
                .and_then(|p| p.media.get(rendition))
                .filter(|m| !m.gap)
                .map(|m| vec![m.data.clone()]),
        };
        match found {
            Some(pieces) => Object::Ready(pieces),
            None if self.hint(rendition) == Some(name) => Object::Hinted,
            None => Object::Absent,
        }
    }

    fn init(&self, rendition: usize, epoch: u64, version: u32) -> Option<Bytes> {
        let used = self.segments.iter().rev().map(|s| &s.layout);
        let mut known = self.layout.iter().chain(used).chain(&self.idle_layouts);
        let layout = known.find(|l| l.epoch == epoch && l.version == version)?;
        layout.renditions.get(rendition).map(|r| r.init.clone()).filter(|init| !init.is_empty())
    }

    /// What a rendition needs.
    pub fn bandwidth(&self, rendition: usize) -> Bandwidth {
        let complete = self.listed().filter(|s| s.complete);
        let bytes = complete.clone().map(|s| s.rendition_bytes(rendition)).sum();
        let duration = complete.map(Segment::duration).sum();
        let average_bps = bits_per_second(bytes, duration);
        // The average stands in while too little came to have a peak.
        let peak_bps = self.peak_bps.get(rendition).copied().unwrap_or(0).max(average_bps);
        Bandwidth { peak_bps, average_bps }
    }

    /// Pictures per second of the whole segments that are listed and have some.
    pub fn measured_frame_rate(&self, rendition: usize) -> Option<f64> {
        let (mut pictures, mut duration) = (0, Duration::ZERO);
        for segment in self.listed().filter(|s| s.complete) {
            let media = segment.parts.iter().filter_map(|p| p.media.get(rendition));
            let own: u32 = media.map(|m| m.pictures).sum();
            if own > 0 {
                pictures += own;
                duration += segment.duration();
            }
        }
        (pictures > 0).then(|| f64::from(pictures) / duration.as_secs_f64())
    }
}

fn cost(segment: &Segment) -> usize {
    layout_cost(&segment.layout) + segment.parts.iter().map(part_cost).sum::<usize>()
}

fn part_cost(part: &Part) -> usize {
    part.media.iter().map(|m| m.data.len() + PART_BYTES).sum()
}

/// Charged to each segment, though those of one layout share it: the next segment may have another.
fn layout_cost(layout: &Layout) -> usize {
    SEGMENT_BYTES + layout.renditions.iter().map(|r| r.init.len()).sum::<usize>()
}

fn bits_per_second(bytes: usize, duration: Duration) -> u64 {
    let bits = bytes as u128 * 8 * 1_000_000_000;
    u64::try_from(bits.div_ceil(duration.as_nanos().max(1))).unwrap_or(u64::MAX)
}
