//! The newest encoded units of a stream, and the cursors of its readers.

use std::collections::VecDeque;

use bytes::Bytes;
use media_core::relay::{Encoded, Place};

/// What a file header takes at the beginning of [`Encoded::start`]: a reader in the middle has had one.
const FILE_HEADER_BYTES: usize = 13;

/// What a unit takes besides its bytes: itself, and the reference counts of its bytes and beginning.
const UNIT_BYTES: usize = size_of::<Encoded>() + 64;

/// Milliseconds kept in any case, within the limit, as many as the hub does: the encoder may catch up with many GOPs
/// before any reader runs, and where every picture is a keyframe two GOPs are no time at all.
const MIN_SPAN_MS: i64 = 5_000;

/// Encoded units: from the last but one place on that reading can start at, and the newest seconds in any case, but at
/// most a number of bytes.
#[derive(Debug)]
pub(super) struct Ring {
    max_bytes: usize,
    units: VecDeque<Encoded>,
    bytes: usize,
    /// The number of the oldest unit kept, counted from 0.
    first: u64,
    /// The newest two units that reading can start at.
    start: Option<u64>,
    previous_start: Option<u64>,
    ended: bool,
}

/// Where a reader is.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// What it has already, until it began.
    after: Option<Place>,
    /// `None` until it began.
    next: Option<u64>,
    /// It begins with the next unit, behind what it has.
    opens: bool,
    resumed: bool,
    /// The frame that comes after a beginning.
    pending: Option<Bytes>,
    /// The number in the stream of the newest frame that it read.
    read: Option<u64>,
    skips: u64,
}

impl Cursor {
    /// Goes on behind a frame, if the ring has it.
    pub(super) fn after(after: Option<Place>) -> Self {
        Self { after, ..Self::default() }
    }

    /// Whether, since this was asked last, the frame was found that it goes on behind.
    pub(super) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.resumed)
    }

    /// How often the frames it wanted were gone, from here or before anybody encoded them.
    pub(super) fn skips(&self) -> u64 {
        self.skips
    }

    /// It reads that unit, and the next one then.
    fn reads(&mut self, unit: &Encoded, at: u64) {
        self.next = Some(at + 1);
        let sequence = unit.mark.sequence;
        let before = self.read.replace(sequence);
        self.skips += u64::from(before.is_some_and(|before| before.checked_add(1) != Some(sequence)));
    }
}

/// What a cursor finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Piece(Bytes),
    /// Nothing yet.
    Later,
    /// The stream is over.
    Ended,
}

impl Ring {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            units: VecDeque::new(),
            bytes: 0,
            first: 0,
            start: None,
            previous_start: None,
            ended: false,
        }
    }

    /// Appends a unit. What comes before the first place to start at nobody can read: it is not kept.
    pub(super) fn push(&mut self, unit: Encoded) {
        if unit.start.is_some() {
            self.previous_start = self.start.replace(self.end_index());
        } else if self.start.is_none() {
            return;
        }
        let now_ms = unit.mark.media_time_ms;
        self.bytes += cost(&unit);
        self.units.push_back(unit);
        while self.units.len() > 1
            && let Some(oldest) = self.units.front()
        {
            let dispensable = now_ms.saturating_sub(oldest.mark.media_time_ms) > MIN_SPAN_MS
                && self.previous_start.is_some_and(|keep| self.first < keep);
            if !dispensable && self.bytes <= self.max_bytes {
                break;
            }
            self.bytes -= cost(oldest);
            self.units.pop_front();
            self.first += 1;
        }
    }

    /// The stream is over.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Whether there is something that the cursor reads next, wherever the newest start is.
    pub(super) fn goes_on(&self, cursor: &Cursor) -> bool {
        cursor.pending.is_some() || cursor.next.is_some_and(|next| self.get(next).is_some())
    }

    /// What the cursor reads next.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Read {
        if let Some(tag) = cursor.pending.take() {
            return Read::Piece(tag);
        }
        if !self.units.is_empty()
            && let Some(after) = cursor.after.take()
            && let Some(at) = self.find(after)
        {
            cursor.next = Some(at + 1);
            (cursor.opens, cursor.resumed) = (true, true);
        }
        if let Some(next) = cursor.next
            && next >= self.first
        {
            let Some(unit) = self.get(next) else { return self.nothing() };
            cursor.reads(unit, next);
            if !std::mem::take(&mut cursor.opens) {
                return Read::Piece(unit.bytes.clone());
            }
            cursor.pending = Some(unit.tag.clone());
            return Read::Piece(unit.opening());
        }
        // It begins, or what it wanted is gone.
        let Some((at, unit, start)) = self.newest_start() else { return self.nothing() };
        let begun = cursor.read.is_some();
        cursor.reads(unit, at);
        (cursor.opens, cursor.pending) = (false, Some(unit.tag.clone()));
        Read::Piece(if begun { start.slice(FILE_HEADER_BYTES.min(start.len())..) } else { start.clone() })
    }

    fn newest_start(&self) -> Option<(u64, &Encoded, &Bytes)> {
        let at = self.start?;
        let unit = self.get(at)?;
        Some((at, unit, unit.start.as_ref()?))
    }

    fn find(&self, place: Place) -> Option<u64> {
        let at = self.units.iter().rposition(|unit| Place::from(unit.mark) == place)?;
        Some(self.first + at as u64)
    }

    fn get(&self, index: u64) -> Option<&Encoded> {
        self.units.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn end_index(&self) -> u64 {
        self.first + self.units.len() as u64
    }

    fn nothing(&self) -> Read {
        if self.ended { Read::Ended } else { Read::Later }
    }
}

fn cost(unit: &Encoded) -> usize {
    unit.bytes.len() + unit.start.as_ref().map_or(0, Bytes::len) + UNIT_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use media_core::hub::{Epoch, TrackSet};
    use media_core::relay::Mark;

    use super::*;

    fn unit(number: u8, start: bool) -> Encoded {
        unit_at(i64::from(number) * 2_000, number, start)
    }

    fn unit_at(media_time_ms: i64, number: u8, start: bool) -> Encoded {
        let bytes = Bytes::from(vec![number; 10]);
        let start = start.then(|| Bytes::from([&[b'H'; FILE_HEADER_BYTES][..], &[number]].concat()));
        let mark = Mark { epoch: Epoch(1), sequence: number.into(), media_time_ms, wall_clock_ms: 0 };
        let tracks = Arc::new(TrackSet { epoch: Epoch(1), version: 1, tracks: Vec::new() });
        Encoded { mark, tracks, tag: bytes.slice(4..), bytes, start }
    }

    fn after(epoch: u64, sequence: u64) -> Cursor {
        Cursor::after(Some(Place { epoch: Epoch(epoch), sequence }))
    }

    fn pieces(ring: &Ring, cursor: &mut Cursor) -> Vec<(u8, usize)> {
        std::iter::from_fn(|| match ring.read(cursor) {
            Read::Piece(piece) => Some((*piece.last().unwrap(), piece.len())),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_reader_begins_at_the_newest_start_and_goes_on() {
        let mut ring = Ring::new(1_000);
        for (number, start) in [(0, false), (1, true), (2, false), (3, true), (4, false)] {
            ring.push(unit(number, start));
        }
        let mut cursor = Cursor::default();
        assert_eq!(pieces(&ring, &mut cursor), [(3, FILE_HEADER_BYTES + 1), (3, 6), (4, 10)]);
        ring.push(unit(5, true));
        assert_eq!(pieces(&ring, &mut cursor), [(5, 10)]);
        assert_eq!(cursor.skips(), 0);
    }

    #[test]
    fn the_last_but_one_start_is_kept_and_a_reader_beyond_it_skips() {
        let mut ring = Ring::new(10_000);
        ring.push(unit(0, true));
        let mut cursor = Cursor::default();
        assert_eq!(pieces(&ring, &mut cursor).len(), 2);
        for (number, start) in [(1, false), (2, true), (3, false), (4, true), (5, false)] {
            ring.push(unit(number, start));
        }
        assert_eq!(ring.units.len(), 4);
        // Begins anew, without a second file header.
        assert_eq!(pieces(&ring, &mut cursor), [(4, 1), (4, 6), (5, 10)]);
        assert_eq!(cursor.skips(), 1);
    }

    #[test]
    fn the_newest_seconds_are_kept_however_many_starts_they_have() {
        let mut ring = Ring::new(10 << 20);
        let mut push = |number: u8| {
            let bytes = Bytes::from(vec![number; 80 << 10]);
            let unit = unit_at(i64::from(number) * 100, number, true);
            ring.push(Encoded { tag: bytes.slice(4..), bytes, ..unit });
        };
        push(0);
        (1..=50).for_each(&mut push);
        assert_eq!((ring.first, ring.units.len()), (0, 51));
        ring.push(unit_at(5_100, 51, true));
        assert_eq!((ring.first, ring.units.len()), (1, 51));
    }

    #[test]
    fn bytes_are_bounded_and_a_reader_waits_for_a_start() {
        let each = 10 + UNIT_BYTES;
        let mut ring = Ring::new(3 * each + 5);
        ring.push(unit(0, true));
        for number in 1..10 {
            ring.push(unit(number, false));
        }
        assert_eq!((ring.units.len(), ring.bytes), (3, 3 * each));
        let mut cursor = Cursor::default();
        assert_eq!(ring.read(&mut cursor), Read::Later);
        ring.push(unit(10, true));
        assert_eq!(pieces(&ring, &mut cursor), [(10, FILE_HEADER_BYTES + 1), (10, 6)]);
    }

    #[test]
    fn a_reader_goes_on_behind_what_it_has() {
        let mut ring = Ring::new(10_000);
        let mut early = after(1, 1);
        assert_eq!(ring.read(&mut early), Read::Later);
        for (number, start) in [(0, true), (1, false), (2, true), (3, false)] {
            ring.push(unit(number, start));
        }
        // An opening, the frame alone, and what follows.
        let opening = unit(2, false).opening();
        let opening = (*opening.last().unwrap(), opening.len());
        assert_eq!(pieces(&ring, &mut early), [opening, (2, 6), (3, 10)]);
        // It has all there is.
        let mut newest = after(1, 3);
        assert_eq!(ring.read(&mut newest), Read::Later);
        assert!(newest.take_resumed());
        ring.push(unit(4, false));
        assert_eq!(pieces(&ring, &mut newest), [opening, (4, 6)]);
        assert!(!newest.take_resumed());
        // Frames that the ring has not, or that are another publisher's.
        for mut unknown in [after(1, 5), after(2, 1), after(1, u64::MAX)] {
            assert_eq!(pieces(&ring, &mut unknown)[0], (2, FILE_HEADER_BYTES + 1));
            assert!(!unknown.take_resumed());
        }
    }

    #[test]
    fn a_reader_whose_next_frame_is_gone_before_it_began_begins_anew() {
        let mut ring = Ring::new(10_000);
        ring.push(unit(0, true));
        let mut cursor = after(1, 0);
        assert_eq!(ring.read(&mut cursor), Read::Later);
        for number in 1..10 {
            ring.push(unit(number, true));
        }
        // With a file header, since it has had none.
        assert_eq!(pieces(&ring, &mut cursor), [(9, FILE_HEADER_BYTES + 1), (9, 6)]);
        assert_eq!(cursor.skips(), 0);
    }

    #[test]
    fn the_end_comes_behind_what_there_is() {
        let mut ring = Ring::new(1_000);
        ring.push(unit(0, true));
        ring.end();
        let mut cursor = Cursor::default();
        assert_eq!(pieces(&ring, &mut cursor).len(), 2);
        assert_eq!(ring.read(&mut cursor), Read::Ended);
    }
}
