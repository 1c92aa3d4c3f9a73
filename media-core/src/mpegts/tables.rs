//! The program association table (§2.4.4.3) and the program map table (§2.4.4.8).

use bytes::{BufMut, BytesMut};

use super::packet::NULL_PID;
use super::section::Section;
use super::stream_type;
use crate::codec::opus;
use crate::frame::{Codec, Kind};

pub(super) const PAT_PID: u16 = 0;
const PAT_ID: u8 = 0;
const PMT_ID: u8 = 2;
/// PIDs below have meanings of their own.
const FIRST_FREE_PID: u16 = 0x10;

/// `registration_descriptor` (§2.6.8).
const REGISTRATION: u8 = 0x05;
/// `extension_descriptor` of DVB, and what of it is Opus's (ETSI TS 101 154, and Opus in MPEG-TS §4.2).
const DVB_EXTENSION: u8 = 0x7f;
const OPUS_EXTENSION: u8 = 0x80;
const OPUS_FORMAT: &[u8; 4] = b"Opus";

/// Programmes that a transport stream may have here: a whole multiplex of a satellite has some 30.
pub(super) const MAX_PROGRAMS: usize = 64;
/// Streams of a programme that are followed: as many as FLV's demultiplexer takes tracks.
const MAX_STREAMS: usize = 16;

/// A programme in a PAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) number: u16,
    pub(super) pmt_pid: u16,
}

/// The programmes of a section; `None` if it is no part of a PAT that holds now.
pub(super) fn read_pat(section: &Section<'_>) -> Option<Vec<Program>> {
    if section.table_id != PAT_ID || !section.current {
        return None;
    }
    let entries = section.body.as_chunks::<4>().0.iter();
    let programs = entries.map(|&[n1, n0, p1, p0]| Program {
        number: u16::from_be_bytes([n1, n0]),
        pmt_pid: u16::from_be_bytes([p1 & 0x1f, p0]),
    });
    // Number 0 is the network's own.
    let known = programs.filter(|p| p.number != 0 && is_free(p.pmt_pid));
    Some(known.take(MAX_PROGRAMS).collect())
}

/// How a stream's access units lie in its PES packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    H264,
    H265,
    /// AAC with ADTS headers.
    Adts,
    /// AAC in LATM and LOAS.
    Latm,
    /// MPEG-1 or MPEG-2 audio, of which weir knows layer III.
    MpegAudio,
    /// Opus with so many channels.
    Opus(u8),
}

impl Coding {
    pub(super) fn codec(self) -> Codec {
        match self {
            Self::H264 => Codec::H264,
            Self::H265 => Codec::H265,
            Self::Adts | Self::Latm => Codec::Aac,
            Self::MpegAudio => Codec::Mp3,
            Self::Opus(_) => Codec::Opus,
        }
    }

    pub(super) fn kind(self) -> Kind {
        self.codec().kind()
    }

    fn read(stream_type: u8, descriptors: &[u8]) -> Option<Self> {
        Some(match stream_type {
            stream_type::H264 => Self::H264,
            stream_type::H265 => Self::H265,
            stream_type::ADTS => Self::Adts,
            stream_type::LATM => Self::Latm,
            stream_type::MPEG1_AUDIO | stream_type::MPEG2_AUDIO => Self::MpegAudio,
            stream_type::PRIVATE_PES => Self::Opus(opus_channels(descriptors)?),
            _ => return None,
        })
    }
}

/// The channels of a private stream that is registered as Opus.
fn opus_channels(descriptors: &[u8]) -> Option<u8> {
    let (mut is_opus, mut channels) = (false, None);
    let mut rest = descriptors;
    while let Some((&[tag, length], behind)) = rest.split_first_chunk::<2>() {
        let (body, behind) = behind.split_at_checked(length.into())?;
        rest = behind;
        match (tag, body) {
            (REGISTRATION, format) if format.starts_with(OPUS_FORMAT) => is_opus = true,
            (DVB_EXTENSION, &[OPUS_EXTENSION, code, ..]) => channels = Some(code),
            _ => {}
        }
    }
    // Codes above tell layouts that nobody sends; 0 is dual mono, which decodes as stereo does.
    match channels.filter(|_| is_opus)? {
        0 => Some(2),
        code => (usize::from(code) <= opus::MAX_CHANNELS).then_some(code),
    }
}

/// A stream of a programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) coding: Coding,
}

/// What a PMT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Of the packets with the programme's clock.
    pub(super) pcr_pid: u16,
    /// Those that weir knows, in the order of the table.
    pub(super) streams: Vec<Stream>,
}

/// Whether a section is a map of `program` that holds now.
pub(super) fn is_pmt_of(section: &Section<'_>, program: u16) -> bool {
    section.table_id == PMT_ID && section.extension == program && section.current
}

/// The map; `None` if its lengths are lies.
pub(super) fn read_pmt(section: &Section<'_>) -> Option<Map> {
    let (&[p1, p0, i1, i0], rest) = section.body.split_first_chunk::<4>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes([i1 & 0x0f, i0]))..)?;
    let mut map = Map { pcr_pid: u16::from_be_bytes([p1 & 0x1f, p0]), streams: Vec::new() };
    while let Some((&[stream_type, p1, p0, l1, l0], behind)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([l1 & 0x0f, l0]));
        let (descriptors, behind) = behind.split_at_checked(length)?;
        rest = behind;
        let pid = u16::from_be_bytes([p1 & 0x1f, p0]);
        let Some(coding) = Coding::read(stream_type, descriptors) else { continue };
        let is_new = map.streams.iter().all(|stream| stream.pid != pid);
        if is_new && is_free(pid) && map.streams.len() < MAX_STREAMS {
            map.streams.push(Stream { pid, coding });
        }
    }
    Some(map)
}

fn is_free(pid: u16) -> bool {
    (FIRST_FREE_PID..NULL_PID).contains(&pid)
}

/// Writes the section of a PAT with one programme.
pub(super) fn write_pat(program: Program, version: u8, out: &mut BytesMut) {
    const TRANSPORT_STREAM_ID: u16 = 1;
    let mut body = BytesMut::new();
    body.put_u16(program.number);
    body.put_u16(0xe000 | program.pmt_pid);
    let section = Section {
        table_id: PAT_ID,
        extension: TRANSPORT_STREAM_ID,
        version,
        current: true,
        number: 0,
        body: &body,
    };
    section.write(out);
}

/// Writes the section of a PMT. Of MP3, `stream_type` depends on the sampling rate.
pub(super) fn write_pmt(
    program: u16,
    version: u8,
    pcr_pid: u16,
    streams: &[(u8, Stream)],
    out: &mut BytesMut,
) {
    let mut body = BytesMut::new();
    body.put_u16(0xe000 | pcr_pid);
    body.put_u16(0xf000);
    for (stream_type, stream) in streams {
        body.put_u8(*stream_type);
        body.put_u16(0xe000 | stream.pid);
        match stream.coding {
            Coding::Opus(channels) => {
                body.put_slice(&[0xf0, 10, REGISTRATION, 4]);
                body.put_slice(OPUS_FORMAT);
                body.put_slice(&[DVB_EXTENSION, 2, OPUS_EXTENSION, channels]);
            }
            Coding::H265 => {
                // Without it some receivers take the stream type for something else.
                body.put_slice(&[0xf0, 6, REGISTRATION, 4]);
                body.put_slice(b"HEVC");
            }
            _ => body.put_u16(0xf000),
        }
    }
    let section =
        Section { table_id: PMT_ID, extension: program, version, current: true, number: 0, body: &body };
    section.write(out);
}
