//! The journal: events that were accepted and are not delivered everywhere yet, on disk.
//!
//! It only ever appends, to segments of bounded size. An event is a record; that an endpoint is done with it is another
//! one. Old segments go from the oldest on, since a record that says "done" is needed for as long as the event before it:
//! one without undelivered events is removed, and where most of the journal is about delivered events, what is left of the
//! oldest segment is written again at the end, with its number.
//!
//! It knows no clock and no endpoint, and a disk only as [`Disk`].

mod disk;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub(super) use disk::{Disk, Folder};
use record::{Record, Scan, scan};

use super::held::Held;
use super::target::EndpointId;

/// How large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of what is undelivered. Files take up to twice as much and two segments.
    pub(super) live_bytes: u64,
    /// Of a segment.
    pub(super) segment_bytes: u64,
}

/// An event that is to be accepted: [`Held`] without its number, and who is to have it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) held: Held,
    pub(super) to: Vec<EndpointId>,
}

/// What is not delivered everywhere.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) held: Arc<Held>,
    /// Who has not had it.
    pub(super) to: Vec<EndpointId>,
    segment: u64,
    bytes: u64,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Places at which records are damaged, or events that can't be read.
    pub(super) damaged: u64,
    /// Bytes of a record that was not finished; they were cut off.
    pub(super) torn: u64,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    live: BTreeSet<u64>,
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal<D> {
    disk: D,
    bounds: Bounds,
    live: BTreeMap<u64, Live>,
    live_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    bytes: u64,
    /// The segment that is written to, once something was.
    open: Option<u64>,
    next_seq: u64,
    next_segment: u64,
}

impl<D: Disk> Journal<D> {
    /// Reads what is there.
    pub(super) fn open(disk: D, bounds: Bounds) -> io::Result<(Self, Found)> {
        let mut journal = Self {
            disk,
            bounds,
            live: BTreeMap::new(),
            live_bytes: 0,
            segments: BTreeMap::new(),
            bytes: 0,
            open: None,
            next_seq: 1,
            next_segment: 1,
        };
        let mut found = Found::default();
        let segments = journal.disk.segments()?;
        for (i, segment) in segments.iter().enumerate() {
            let file = Bytes::from(journal.disk.read(*segment)?);
            let scan = scan(&file);
            let torn = (file.len() - scan.end) as u64;
            found.damaged += scan.damaged;
            if torn > 0 && i + 1 == segments.len() {
                found.torn = torn;
                journal.disk.truncate(*segment, scan.end as u64)?;
            } else {
                found.damaged += u64::from(torn > 0);
            }
            found.damaged += journal.replay(*segment, scan);
        }
        // What can be removed by now is removed with the next commit.
        Ok((journal, found))
    }

    /// Takes a segment's records over; how many events could not be read.
    fn replay(&mut self, segment: u64, scan: Scan) -> u64 {
        let mut unread = 0;
        self.next_segment = self.next_segment.max(segment.saturating_add(1));
        self.segments.insert(segment, Segment { bytes: scan.end as u64, live: BTreeSet::new() });
        self.bytes += scan.end as u64;
        for (record, length) in scan.records {
            match record {
                Record::Event { seq, accepted_ms, to, body } => {
                    self.next_seq = self.next_seq.max(seq.saturating_add(1));
                    // The segment's other records need not stay in memory with it.
                    let body = Bytes::copy_from_slice(&body);
                    match Held::parse(seq, accepted_ms, body) {
                        Some(held) => {
                            self.enter(Live { held: Arc::new(held), to, segment, bytes: length as u64 });
                        }
                        None => unread += 1,
                    }
                }
                Record::Done { seq, at } => drop(self.done_with(seq, at)),
                Record::Gone { seq } => drop(self.leave(seq)),
            }
        }
        unread
    }

    /// What is not delivered, in order.
    pub(super) fn live(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    /// Bytes of what is not delivered, and of all files.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.live_bytes, self.bytes)
    }

    /// Other bounds from now on.
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Accepts events, and notes who is done with others. When it returns, the events are on disk, and the oldest were
    /// dropped where there was no room. If it fails, none is accepted and none dropped, though some may be found at the
    /// next start.
    pub(super) fn commit(&mut self, drafts: Vec<Draft>, done: &[(u64, EndpointId)]) -> io::Result<Committed> {
        let mut writing = Writing::default();
        for &(seq, at) in done {
            // Of one that was dropped meanwhile there is nothing to note.
            if self.done_with(seq, at).is_some() {
                writing.put(self, &Record::Done { seq, at })?;
            }
        }
        let mut accepted = Vec::with_capacity(drafts.len());
        for Draft { mut held, to } in drafts {
            // A number is never used again, even if this fails.
            held.seq = self.next_seq;
            self.next_seq += 1;
            let (seq, accepted_ms, body) = (held.seq, held.accepted_ms, held.body.clone());
            let record = Record::Event { seq, accepted_ms, to: to.clone(), body };
            let (segment, bytes) = writing.put(self, &record)?;
            accepted.push(Live { held: Arc::new(held), to, segment, bytes });
        }
        let doomed = self.oldest(accepted.iter().map(|live| live.bytes).sum());
        for &seq in &doomed {
            writing.put(self, &Record::Gone { seq })?;
        }
        writing.finish(self, !accepted.is_empty())?;
        let dropped = doomed.into_iter().filter_map(|seq| self.leave(seq)).collect();
        for live in &accepted {
            self.enter(live.clone());
        }
        Ok(Committed { accepted, dropped })
    }

    /// Those that have to go, so that so many bytes can come.
    fn oldest(&self, coming: u64) -> Vec<u64> {
        let mut excess = (self.live_bytes + coming).saturating_sub(self.bounds.live_bytes);
        let mut doomed = Vec::new();
        for (seq, live) in &self.live {
            if excess == 0 {
                break;
            }
            doomed.push(*seq);
            excess = excess.saturating_sub(live.bytes);
        }
        doomed
    }

    /// Makes room on the disk. If it fails, it may be tried again.
    pub(super) fn clean(&mut self) -> io::Result<()> {
        while let Some((&oldest, segment)) = self.segments.first_key_value()
            && self.open != Some(oldest)
        {
            if !segment.live.is_empty() {
                if self.bytes <= 2 * (self.live_bytes + self.bounds.segment_bytes) {
                    return Ok(());
                }
                self.rewrite(oldest)?;
            }
            self.disk.remove(oldest)?;
            if let Some(removed) = self.segments.remove(&oldest) {
                self.bytes -= removed.bytes;
            }
        }
        Ok(())
    }

    /// Writes what is left of a segment again, at the end.
    fn rewrite(&mut self, segment: u64) -> io::Result<()> {
        let left = self.segments.get(&segment).into_iter().flat_map(|segment| &segment.live);
        let left: Vec<Live> = left.filter_map(|seq| self.live.get(seq).cloned()).collect();
        let mut writing = Writing::default();
        let mut moved = Vec::with_capacity(left.len());
        for live in left {
            let record = Record::Event {
                seq: live.held.seq,
                accepted_ms: live.held.accepted_ms,
                to: live.to.clone(),
                body: live.held.body.clone(),
            };
            let (segment, bytes) = writing.put(self, &record)?;
            moved.push(Live { segment, bytes, ..live });
        }
        writing.finish(self, true)?;
        for live in moved {
            self.enter(live);
        }
        Ok(())
    }

    /// Everything that was written stays.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.open.is_some() { self.disk.sync() } else { Ok(()) }
    }

    fn enter(&mut self, live: Live) {
        let seq = live.held.seq;
        self.leave(seq);
        if live.to.is_empty() {
            return;
        }
        self.live_bytes += live.bytes;
        self.segments.entry(live.segment).or_default().live.insert(seq);
        self.live.insert(seq, live);
    }

    fn leave(&mut self, seq: u64) -> Option<Live> {
        let live = self.live.remove(&seq)?;
        self.live_bytes -= live.bytes;
        if let Some(segment) = self.segments.get_mut(&live.segment) {
            segment.live.remove(&seq);
        }
        Some(live)
    }

    /// `None` if the endpoint was done with it already.
    fn done_with(&mut self, seq: u64, at: EndpointId) -> Option<()> {
        let live = self.live.get_mut(&seq)?;
        let place = live.to.iter().position(|to| *to == at)?;
        live.to.swap_remove(place);
        if live.to.is_empty() {
            self.leave(seq);
        }
        Some(())
    }

    /// The segment that a record of this length goes to.
    fn room(&mut self, pending: u64, length: u64) -> Option<u64> {
        let open = self.open?;
        let bytes = self.segments.get(&open)?.bytes + pending;
        (bytes == 0 || bytes + length <= self.bounds.segment_bytes).then_some(open)
    }

    /// Begins a segment.
    fn begin(&mut self) -> io::Result<u64> {
        let segment = self.next_segment;
        // A number is not used again, whatever there may be by that name.
        self.next_segment += 1;
        self.open = None;
        self.disk.create(segment)?;
        self.segments.insert(segment, Segment::default());
        self.open = Some(segment);
        Ok(segment)
    }

    /// Appends to the open segment; after a failure nothing more is written behind what may be half a record.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(open) = self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let written = self.disk.append(bytes);
        let length = bytes.len() as u64;
        match written {
            Ok(()) => {
                if let Some(segment) = self.segments.get_mut(&open) {
                    segment.bytes += length;
                }
                self.bytes += length;
                Ok(())
            }
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn sync_open(&mut self) -> io::Result<()> {
        let synced = self.disk.sync();
        if synced.is_err() {
            // What the kernel could not write it may have forgotten: a later sync would say nothing of it.
            self.abandon();
        }
        synced
    }

    /// Writes to this segment no more, and cuts off what may be half a record, if the disk lets it.
    fn abandon(&mut self) {
        if let Some(open) = self.open.take()
            && let Some(segment) = self.segments.get(&open)
            && let Err(error) = self.disk.truncate(open, segment.bytes)
        {
            tracing::debug!(%error, "what was written in part could not be cut off");
        }
    }
}

/// What a commit did.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The drafts, in order, with their numbers.
    pub(super) accepted: Vec<Live>,
    /// The oldest, for which there was no room any more.
    pub(super) dropped: Vec<Live>,
}

/// Records that are gathered for one write.
#[derive(Debug, Default)]
struct Writing {
    bytes: Vec<u8>,
    one: Vec<u8>,
}

impl Writing {
    /// Adds a record; its segment and length.
    fn put<D: Disk>(&mut self, journal: &mut Journal<D>, record: &Record) -> io::Result<(u64, u64)> {
        self.one.clear();
        let length = record.write(&mut self.one) as u64;
        let segment = match journal.room(self.bytes.len() as u64, length) {
            Some(segment) => segment,
            None => {
                // The old segment is whole before there is another one.
                if journal.open.is_some() {
                    self.finish(journal, true)?;
                }
                journal.begin()?
            }
        };
        self.bytes.extend_from_slice(&self.one);
        Ok((segment, length))
    }

    fn finish<D: Disk>(&mut self, journal: &mut Journal<D>, sync: bool) -> io::Result<()> {
        if !self.bytes.is_empty() {
            journal.append(&self.bytes)?;
            self.bytes.clear();
        }
        if sync { journal.sync_open() } else { Ok(()) }
    }
}
