//! Packets → tracks and frames.

mod clock;
mod opus;
mod pictures;
mod sound;
mod stream;

use std::collections::VecDeque;

use bytes::Bytes;

use super::packet::{Continuity, Framer, NULL_PID, PACKET_BYTES, Packet, Step};
use super::section::{self, Section};
use super::tables::{self, Map, PAT_PID, Program};
use super::{CLOCK_MASK, Counters};
use crate::frame::{Frame, Track, TrackId};
use clock::Clock;
use stream::{Item, Stream};

/// What all streams together may have waiting for the rest of their PES packets: two of the largest pictures.
const MAX_BUFFERED_BYTES: usize = 16 * 1024 * 1024;

/// The clock of a programme going on further than this between two of its references has jumped. They are 100 ms apart;
/// what a line loses is seconds.
const MAX_CLOCK_STEP_TICKS: u64 = 10 * 90_000;

/// What a transport stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demuxed {
    /// The tracks changed; this is the whole set now, ordered by id. Frames that follow belong to it.
    Tracks(Vec<Track>),
    /// A frame. Its timestamp is the stream's own, in 90 kHz, with wraps of the 33 bits undone.
    Frame(Frame),
}

/// Turns the packets of a transport stream into tracks and frames: of the first programme that has a stream which weir
/// knows. Every track's timescale is [`crate::frame::Timescale::HZ_90K`].
///
/// After each [`push`](Self::push), take events with [`next_event`](Self::next_event) until there is none: what was
/// pushed waits until then.
#[derive(Debug)]
pub struct Demuxer {
    framer: Framer,
    pat: Psi,
    pat_version: Option<u8>,
    programs: Vec<Watched>,
    /// The programme at hand and its map.
    selected: Option<(u16, Map)>,
    streams: Vec<Stream>,
    clock: Clock,
    /// The last reference of the programme's clock.
    pcr: Option<u64>,
    tracks: Vec<Track>,
    /// The tracks are others than those told.
    tracks_changed: bool,
    found: Vec<Item>,
    out: VecDeque<Demuxed>,
    counters: Counters,
}

/// A PID with sections.
#[derive(Debug, Default)]
struct Psi {
    continuity: Continuity,
    assembly: section::Assembly,
}

/// A programme whose map is looked for.
#[derive(Debug)]
struct Watched {
    program: Program,
    psi: Psi,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new()
    }
}

impl Demuxer {
    /// At the beginning of a stream, or anywhere in it.
    pub fn new() -> Self {
        Self {
            framer: Framer::new(),
            pat: Psi::default(),
            pat_version: None,
            programs: Vec::new(),
            selected: None,
            streams: Vec::new(),
            clock: Clock::default(),
            pcr: None,
            tracks: Vec::new(),
            tracks_changed: false,
            found: Vec::new(),
            out: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes bytes, cut in any way.
    pub fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    /// The next event that is in what was pushed.
    pub fn next_event(&mut self) -> Option<Demuxed> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            let packet = self.framer.next(&mut self.counters)?;
            self.packet(&packet);
        }
    }

    /// Takes the stream for ended: what waited for a next PES packet to end it is handed out as it is.
    pub fn finish(&mut self) {
        for stream in &mut self.streams {
            stream.finish(&mut self.clock, &mut self.counters, &mut self.found);
        }
        self.tell();
    }

    /// What went wrong until now.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn packet(&mut self, bytes: &[u8; PACKET_BYTES]) {
        let Some(packet) = Packet::parse(bytes) else {
            self.counters.malformed_packets += 1;
            return;
        };
        if packet.transport_error {
            self.counters.transport_errors += 1;
            return;
        }
        match packet.pid {
            NULL_PID => {}
            PAT_PID => self.pat_packet(&packet),
            pid if self.programs.iter().any(|watched| watched.program.pmt_pid == pid) => {
                self.pmt_packet(&packet);
            }
            _ => self.stream_packet(&packet),
        }
    }

    fn pat_packet(&mut self, packet: &Packet<'_>) {
        let mut tables = Vec::new();
        self.pat.packet(packet, &mut self.counters, |section, _| {
            tables.extend(tables::read_pat(section).map(|programs| (section.version, programs)));
        });
        for (version, programs) in tables {
            if self.pat_version.replace(version) != Some(version) {
                // The sections of a table come one by one; those of an older one mean nothing any more.
                self.programs.retain(|watched| programs.contains(&watched.program));
            }
            for program in programs {
                if self.programs.iter().all(|watched| watched.program != program)
                    && self.programs.len() < tables::MAX_PROGRAMS
                {
                    self.programs.push(Watched { program, psi: Psi::default() });
                }
            }
        }
    }

    fn pmt_packet(&mut self, packet: &Packet<'_>) {
        let mut maps = Vec::new();
        // Programmes may share a PID.
        for watched in self.programs.iter_mut().filter(|w| w.program.pmt_pid == packet.pid) {
            let number = watched.program.number;
            watched.psi.packet(packet, &mut self.counters, |section, counters| {
                if !tables::is_pmt_of(section, number) {
                    return;
                }
                match tables::read_pmt(section) {
                    Some(map) => maps.push((number, map)),
                    None => counters.malformed_sections += 1,
                }
            });
        }
        for (number, map) in maps {
            self.map(number, map);
        }
    }

    /// Follows a map, if it is that of the programme at hand or of one to begin with.
    fn map(&mut self, number: u16, map: Map) {
        match &self.selected {
            Some((selected, known)) if *selected == number && *known == map => return,
            Some((selected, _)) if *selected == number => {}
            Some((selected, _)) if self.programs.iter().any(|w| w.program.number == *selected) => return,
            _ if map.streams.is_empty() => return,
            _ => {}
        }
        let mut before = std::mem::take(&mut self.streams);
        let (mut pictures, mut sounds) = (0, 0);
        for &tables::Stream { pid, coding } in &map.streams {
            let id = match coding.kind() {
                crate::frame::Kind::Video => TrackId::video(next(&mut pictures)),
                crate::frame::Kind::Audio => TrackId::audio(next(&mut sounds)),
            };
            // One that moved to another PID goes on with what is known of it.
            let same = before.iter().position(|s| s.id == id && s.coding == coding);
            self.streams.push(match same.map(|at| before.swap_remove(at)) {
                Some(stream) if stream.pid == pid => stream,
                Some(stream) => stream.moved(pid),
                None => Stream::new(pid, id, coding),
            });
        }
        let told = self.tracks.len();
        self.tracks.retain(|track| self.streams.iter().any(|stream| stream.id == track.id));
        self.tracks_changed |= self.tracks.len() != told;
        // A programme without streams may be followed by another one.
        self.selected = if map.streams.is_empty() { None } else { Some((number, map)) };
        self.pcr = None;
    }

    fn stream_packet(&mut self, packet: &Packet<'_>) {
        if self.selected.as_ref().is_some_and(|(_, map)| map.pcr_pid == packet.pid) {
            self.clock_reference(packet);
        }
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == packet.pid) else { return };
        stream.packet(packet, &mut self.clock, &mut self.counters, &mut self.found);
        if self.buffered_bytes() > MAX_BUFFERED_BYTES
            && let Some(stream) = self.streams.iter_mut().max_by_key(|stream| stream.buffered_bytes())
        {
            self.counters.malformed_pes += 1;
            stream.lost();
        }
        self.tell();
    }

    /// Bytes that wait for the rest of their PES packets.
    pub fn buffered_bytes(&self) -> usize {
        self.streams.iter().map(Stream::buffered_bytes).sum()
    }

    #[cfg(test)]
    pub(super) fn streams_followed(&self) -> usize {
        self.streams.len()
    }

    fn clock_reference(&mut self, packet: &Packet<'_>) {
        let Some(now) = packet.pcr else { return };
        let jumped = self
            .pcr
            .replace(now)
            .is_some_and(|last| now.wrapping_sub(last) & CLOCK_MASK > MAX_CLOCK_STEP_TICKS);
        if jumped || packet.discontinuity {
            self.counters.discontinuities += 1;
        }
    }

    /// Hands out what was found.
    fn tell(&mut self) {
        for item in self.found.drain(..) {
            match item {
                Item::Track(track) => {
                    match self.tracks.binary_search_by_key(&track.id, |t| t.id) {
                        Ok(at) => {
                            if let Some(slot) = self.tracks.get_mut(at) {
                                *slot = track;
                            }
                        }
                        Err(at) => self.tracks.insert(at, track),
                    }
                    self.tracks_changed = true;
                }
                Item::Frame(frame) => {
                    if std::mem::take(&mut self.tracks_changed) {
                        self.out.push_back(Demuxed::Tracks(self.tracks.clone()));
                    }
                    self.out.push_back(Demuxed::Frame(frame));
                }
            }
        }
    }
}

impl Psi {
    fn packet(
        &mut self,
        packet: &Packet<'_>,
        counters: &mut Counters,
        mut found: impl FnMut(&Section<'_>, &mut Counters),
    ) {
        let Some(payload) = packet.payload else { return };
        if packet.scrambled {
            counters.scrambled += 1;
            return;
        }
        match self.continuity.step(packet.counter, packet.discontinuity) {
            Step::Next => {}
            Step::Repeated => return,
            Step::Cut => self.assembly.reset(),
            Step::Broken => {
                counters.continuity_errors += 1;
                self.assembly.reset();
            }
        }
        self.assembly.push(packet.unit_start, payload, counters, &mut found);
    }
}

/// Counts tracks of a kind: there are fewer than a `u8` holds.
fn next(count: &mut u8) -> u8 {
    let index = *count;
    *count = count.saturating_add(1);
    index
}

/// What a PES packet is for a stream's decoder: its payload, and when it is due on the demuxer's clock.
#[derive(Debug, Clone)]
struct Unit {
    dts: Option<i64>,
    /// Presentation minus decoding time.
    cts: i32,
    payload: Bytes,
}
