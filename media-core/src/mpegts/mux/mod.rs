//! Tracks and frames → packets.

mod access_unit;
mod packets;

use bytes::BytesMut;

use super::tables::{self, Coding, PAT_PID, Program, Stream};
use super::{CLOCK_MASK, pes, stream_type};
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};
use access_unit::Form;
#[cfg(test)]
pub(super) use packets::put_section;
use packets::{Adaptation, put_payload, put_reference};

/// The only programme.
const PROGRAM: Program = Program { number: 1, pmt_pid: 0x1000 };
/// PIDs of pictures from here on, one a track.
const FIRST_VIDEO_PID: u16 = 0x100;
/// Tracks of a kind that are carried: `stream_id` has 16 numbers for pictures.
const MAX_TRACKS: u8 = 16;
/// PIDs of sounds, behind those.
const FIRST_AUDIO_PID: u16 = FIRST_VIDEO_PID + MAX_TRACKS as u16;

/// How far the programme's clock is behind decoding times: what tracks that are interleaved lie apart, with room.
/// Receivers that go by the clock wait as long.
const CLOCK_DELAY_TICKS: i64 = 18_000;
/// Of a picture or sound that carries the clock, after so much a next reference is due; 100 ms are allowed (§2.7.2).
const REFERENCE_TICKS: i64 = 3_600;
/// After so much a reference goes in a packet of its own, where other tracks alone have frames.
const LONE_REFERENCE_TICKS: i64 = 7_200;
/// After so much the tables are due again: 500 ms are allowed by those who write of receivers (ETSI TR 101 290).
const TABLES_TICKS: i64 = 36_000;
/// Decoding times that go on further than this, or back, are a discontinuity of the clock.
const MAX_STEP_TICKS: i64 = 10 * 90_000;
/// How far tracks may lie behind one another.
const MAX_BEHIND_TICKS: i64 = 5 * 90_000;

/// Turns tracks and frames into a transport stream with one programme. Everything it writes is whole packets of
/// [`super::PACKET_BYTES`]; counters of packets run on over all calls.
#[derive(Debug, Default)]
pub struct Muxer {
    outlets: Vec<Outlet>,
    /// `version_number` of the tables.
    version: u8,
    /// `continuity_counter` of the next PAT and the next PMT.
    table_counters: [u8; 2],
    /// And of the next payload of each PID, pictures first: a track that is left out for a while goes on with its own.
    counters: [u8; 2 * MAX_TRACKS as usize],
    tables: BytesMut,
    /// The first byte behind the PAT in `tables`.
    pmt_at: usize,
    /// When the tables, a reference of the clock and a frame were written the last time.
    tables_at: Option<i64>,
    reference_at: Option<i64>,
    head: Option<i64>,
    /// Somebody may begin with the next frame.
    at_point: bool,
    /// A PES packet is put together here.
    scratch: BytesMut,
}

/// A track on its PID.
#[derive(Debug)]
struct Outlet {
    id: TrackId,
    timescale: Timescale,
    stream_type: u8,
    stream: Stream,
    stream_id: u8,
    form: Form,
}

impl Muxer {
    /// Without tracks.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on these are the tracks. Returns those that a transport stream of ours can't carry, which are left out:
    /// AV1, VP8, VP9, and sound whose configuration has no word in ADTS or for Opus.
    pub fn set_tracks(&mut self, tracks: &[Track]) -> Vec<TrackId> {
        let before = std::mem::take(&mut self.outlets);
        let mut left_out = Vec::new();
        for track in tracks {
            match Outlet::new(track) {
                Some(outlet) => self.outlets.push(outlet),
                None => left_out.push(track.id),
            }
        }
        let streams = |outlets: &[Outlet]| -> Vec<(u8, Stream)> {
            outlets.iter().map(|outlet| (outlet.stream_type, outlet.stream)).collect()
        };
        let (now, then) = (streams(&self.outlets), streams(&before));
        if self.tables.is_empty() || now != then {
            if !self.tables.is_empty() {
                self.version = (self.version + 1) & 0x1f;
            }
            self.tables.clear();
            tables::write_pat(PROGRAM, self.version, &mut self.tables);
            self.pmt_at = self.tables.len();
            let pcr_pid = self.clock_pid().unwrap_or(super::packet::NULL_PID);
            tables::write_pmt(PROGRAM.number, self.version, pcr_pid, &now, &mut self.tables);
        }
        self.begin_point();
        left_out
    }

    /// Whether there is nothing that can be carried.
    pub fn is_empty(&self) -> bool {
        self.outlets.is_empty()
    }

    /// Of a PID with a track.
    fn counter(&mut self, pid: u16) -> Option<&mut u8> {
        self.counters.get_mut(usize::from(pid.checked_sub(FIRST_VIDEO_PID)?))
    }

    /// The PID with the clock: that of the first picture, or else of the first sound.
    fn clock_pid(&self) -> Option<u16> {
        let first = |kind| self.outlets.iter().find(|outlet| outlet.id.kind == kind);
        first(Kind::Video).or_else(|| first(Kind::Audio)).map(|outlet| outlet.stream.pid)
    }

    /// Writes the PAT and the PMT.
    pub fn tables(&mut self, out: &mut BytesMut) {
        let [pat_counter, pmt_counter] = &mut self.table_counters;
        let (pat, pmt) = self.tables.split_at_checked(self.pmt_at).unwrap_or_default();
        packets::put_section(PAT_PID, pat_counter, pat, out);
        packets::put_section(PROGRAM.pmt_pid, pmt_counter, pmt, out);
    }

    /// Writes the tables as they were written the last time: for someone who joins between them.
    pub fn tables_again(&self, out: &mut BytesMut) {
        let [mut pat_counter, mut pmt_counter] = self.table_counters.map(|next| next.wrapping_sub(1) & 0x0f);
        let (pat, pmt) = self.tables.split_at_checked(self.pmt_at).unwrap_or_default();
        packets::put_section(PAT_PID, &mut pat_counter, pat, out);
        packets::put_section(PROGRAM.pmt_pid, &mut pmt_counter, pmt, out);
    }

    /// Somebody may begin with the next frame: the tables and a reference of the clock are due before it.
    pub fn begin_point(&mut self) {
        self.at_point = true;
    }

    /// Writes a frame, before it the tables if they are due, and the clock's reference with it or, if that is due and the
    /// frame is another track's, before it. Nothing is written of a track that is not carried, and of a frame that its
    /// form has no room for.
    pub fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        let Some(clock_pid) = self.clock_pid() else { return };
        let Some(at) = self.outlets.iter().position(|outlet| outlet.id == frame.track) else { return };
        let Some(outlet) = self.outlets.get(at) else { return };
        let (timescale, pid, stream_id) = (outlet.timescale, outlet.stream.pid, outlet.stream_id);
        let ticks = |time: Timestamp| time.rescale(timescale, Timescale::HZ_90K).0;
        let (dts, pts) = (ticks(frame.dts), ticks(frame.pts()));
        self.scratch.clear();
        if !outlet.form.put(frame, &mut self.scratch) {
            return;
        }

        let jumped = self
            .head
            .is_some_and(|head| !(-MAX_BEHIND_TICKS..=MAX_STEP_TICKS).contains(&dts.saturating_sub(head)));
        if jumped {
            (self.tables_at, self.reference_at, self.head) = (None, None, None);
        }
        self.head = Some(self.head.map_or(dts, |head| head.max(dts)));
        let carries_clock = pid == clock_pid;
        let starts = carries_clock && frame.keyframe && frame.track.kind == Kind::Video;
        let starts = std::mem::take(&mut self.at_point) || starts;
        if starts || self.tables_at.is_none_or(|at| dts.saturating_sub(at) >= TABLES_TICKS) {
            self.tables(out);
            self.tables_at = Some(dts);
        }
        let since = self.reference_at.map(|at| dts.saturating_sub(at));
        let after = if carries_clock { REFERENCE_TICKS } else { LONE_REFERENCE_TICKS };
        // A clock does not go back, though a frame of another track may be due before.
        let reference = since.is_none_or(|since| since >= after || starts && since > 0).then(|| clock(dts));
        if reference.is_some() {
            self.reference_at = Some(dts);
        }
        if let Some(reference) = reference.filter(|_| !carries_clock) {
            let next = self.counter(clock_pid).map_or(0, |counter| *counter);
            put_reference(clock_pid, next, (reference, jumped), out);
        }

        let mut header = BytesMut::with_capacity(pes::MAX_HEADER_BYTES);
        pes::write_header(stream_id, wire(pts), wire(dts), self.scratch.len(), &mut header);
        let adaptation = Adaptation {
            reference: reference.filter(|_| carries_clock),
            discontinuity: jumped && carries_clock,
            random_access: frame.keyframe && frame.track.kind == Kind::Video,
        };
        let scratch = std::mem::take(&mut self.scratch);
        if let Some(counter) = self.counter(pid) {
            put_payload(pid, counter, adaptation, [&header, &scratch], out);
        }
        self.scratch = scratch;
        if self.scratch.capacity() > MAX_SCRATCH_BYTES {
            self.scratch = BytesMut::new();
        }
    }
}

/// What a large picture leaves of the room it took.
const MAX_SCRATCH_BYTES: usize = 1024 * 1024;

/// Modulo 2³³, as on the wire.
fn wire(ticks: i64) -> u64 {
    ticks.saturating_add(CLOCK_DELAY_TICKS).cast_unsigned() & CLOCK_MASK
}

/// What the programme's clock says when a frame is written.
fn clock(dts: i64) -> u64 {
    dts.cast_unsigned() & CLOCK_MASK
}

impl Outlet {
    fn new(track: &Track) -> Option<Self> {
        let index = track.id.index;
        if index >= MAX_TRACKS {
            return None;
        }
        let form = Form::of(track)?;
        let (stream_type, coding) = match track.codec {
            Codec::H264 => (stream_type::H264, Coding::H264),
            Codec::H265 => (stream_type::H265, Coding::H265),
            Codec::Aac => (stream_type::ADTS, Coding::Adts),
            Codec::Opus => (stream_type::PRIVATE_PES, Coding::Opus(track.audio()?.channels)),
            Codec::Mp3 => {
                // MPEG-2 and its extension downwards have half the rates.
                let is_mpeg1 = track.audio()?.sample_rate >= 32_000;
                (
                    if is_mpeg1 { stream_type::MPEG1_AUDIO } else { stream_type::MPEG2_AUDIO },
                    Coding::MpegAudio,
                )
            }
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => return None,
        };
        let (first_pid, first_id) = match track.id.kind {
            Kind::Video => (FIRST_VIDEO_PID, 0xe0),
            Kind::Audio => (FIRST_AUDIO_PID, 0xc0),
        };
        /// `private_stream_1`, which all of its kind share.
        const PRIVATE: u8 = 0xbd;
        Some(Self {
            id: track.id,
            timescale: track.timescale,
            stream_type,
            stream: Stream { pid: first_pid + u16::from(index), coding },
            stream_id: if track.codec == Codec::Opus { PRIVATE } else { first_id | index },
            form,
        })
    }
}
