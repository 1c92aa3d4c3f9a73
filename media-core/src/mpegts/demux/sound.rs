//! Sound whose frames find each other by sync words: AAC in ADTS or LOAS, and MP3. Frames may go over the ends of PES
//! packets, whose timestamp is that of the first frame which begins in it.

use bytes::{Bytes, BytesMut};

use super::super::Counters;
use super::Unit;
use super::clock::SampleClock;
use super::stream::Item;
use crate::codec::aac::{adts, loas};
use crate::codec::{self, mp3};
use crate::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};

/// Makes frames of PES packets.
#[derive(Debug)]
pub(super) struct Sound {
    framing: Framing,
    /// The beginning of a frame whose rest is in the next PES packet: all its lengths have 13 bits at most.
    rest: BytesMut,
    /// What frames said of themselves the last time, and the track that it made; `None` if it made none.
    known: Option<(Description, Option<Track>)>,
    clock: SampleClock,
}

#[derive(Debug)]
enum Framing {
    Adts,
    Loas(loas::Reader),
    Mpeg,
}

/// What a frame says of its track.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Description {
    /// A short `AudioSpecificConfig`.
    Adts([u8; 2]),
    /// An `AudioSpecificConfig`.
    Latm(Bytes),
    /// Of a frame header what must not change: version, layer, sampling rate, whether it is mono.
    Mpeg([u8; 4]),
}

/// What stands at a place.
#[derive(Debug)]
enum Found {
    /// A frame, or something else, whose end has not come.
    Part,
    /// So many bytes that are no frame.
    Garbage(usize),
    /// A frame of so many bytes; `None` if weir can't use it.
    Frame(usize, Option<(Description, Bytes)>),
}

impl Sound {
    pub(super) fn adts() -> Self {
        Self::new(Framing::Adts)
    }

    pub(super) fn loas() -> Self {
        Self::new(Framing::Loas(loas::Reader::default()))
    }

    pub(super) fn mpeg() -> Self {
        Self::new(Framing::Mpeg)
    }

    fn new(framing: Framing) -> Self {
        Self { framing, rest: BytesMut::new(), known: None, clock: SampleClock::default() }
    }

    /// Bytes are missing: what was begun is let go of, and when the next samples are due is not known.
    pub(super) fn lost(&mut self) {
        self.rest.clear();
        self.clock.stop();
    }

    pub(super) fn push(&mut self, id: TrackId, unit: &Unit, counters: &mut Counters, out: &mut Vec<Item>) {
        let mut data = std::mem::take(&mut self.rest);
        let own = data.len();
        data.extend_from_slice(&unit.payload);
        let (mut at, mut due, mut in_garbage) = (0, unit.dts, false);
        while let Some(here) = data.get(at..).filter(|here| !here.is_empty()) {
            if at >= own
                && let Some(dts) = due.take()
            {
                self.clock.set(dts);
            }
            match self.framing.find(here) {
                Found::Part => break,
                Found::Garbage(bytes) => {
                    counters.dropped_frames += u64::from(!std::mem::replace(&mut in_garbage, true));
                    at += bytes.max(1);
                }
                Found::Frame(bytes, frame) => {
                    in_garbage = false;
                    at += bytes.max(1);
                    let told = match frame {
                        Some((description, data)) => self.frame(id, description, data, out),
                        None => {
                            // How long it lasts is not known either.
                            self.clock.stop();
                            false
                        }
                    };
                    counters.dropped_frames += u64::from(!told);
                }
            }
        }
        self.rest = BytesMut::from(data.get(at..).unwrap_or_default());
    }

    /// Whether the frame could be told.
    fn frame(&mut self, id: TrackId, description: Description, data: Bytes, out: &mut Vec<Item>) -> bool {
        if self.known.as_ref().is_none_or(|(known, _)| *known != description) {
            let scale = Timescale::HZ_90K;
            let track = match &description {
                Description::Adts(config) => {
                    codec::track(id, Codec::Aac, scale, Bytes::copy_from_slice(config))
                }
                Description::Latm(config) => codec::track(id, Codec::Aac, scale, config.clone()),
                Description::Mpeg(_) => mp3::track(id, scale, &data),
            };
            let track = track.ok();
            out.extend(track.clone().map(Item::Track));
            self.known = Some((description, track));
        }
        let audio = self.known.as_ref().and_then(|(_, track)| track.as_ref()?.audio());
        let Some(samples) = audio.and_then(|audio| Some((audio.frame_samples?, audio.sample_rate))) else {
            self.clock.stop();
            return false;
        };
        let Some(dts) = self.clock.advance(samples.0, samples.1) else { return false };
        if data.is_empty() {
            return false;
        }
        out.push(Item::Frame(Frame { track: id, dts: Timestamp(dts), cts: 0, keyframe: true, data }));
        true
    }
}

impl Framing {
    fn find(&mut self, here: &[u8]) -> Found {
        match self {
            Self::Adts => find_adts(here),
            Self::Loas(reader) => find_loas(reader, here),
            Self::Mpeg => find_mpeg(here),
        }
    }
}

fn find_adts(here: &[u8]) -> Found {
    let Some(header) = here.first_chunk::<{ adts::HEADER_BYTES }>() else { return Found::Part };
    let Ok(header) = adts::Header::parse(*header) else { return garbage(here, 0xff) };
    let Some(frame) = here.get(header.header_bytes..header.frame_bytes) else { return Found::Part };
    // Only decoding tells where the blocks of a frame end.
    let usable = header.config().ok().filter(|_| header.blocks == 1);
    let frame = usable.map(|config| (Description::Adts(config), Bytes::copy_from_slice(frame)));
    Found::Frame(header.frame_bytes, frame)
}

fn find_loas(reader: &mut loas::Reader, here: &[u8]) -> Found {
    let Some(header) = here.first_chunk::<{ loas::HEADER_BYTES }>() else { return Found::Part };
    let Some(length) = loas::element_bytes(*header) else { return garbage(here, 0x56) };
    let end = loas::HEADER_BYTES + length;
    let Some(element) = here.get(loas::HEADER_BYTES..end) else { return Found::Part };
    let frame = reader.read(element).ok().flatten();
    Found::Frame(end, frame.map(|(config, data)| (Description::Latm(config), data)))
}

fn find_mpeg(here: &[u8]) -> Found {
    let Some(header @ &[a, b, c, d]) = here.first_chunk::<4>() else { return Found::Part };
    let Some(bytes) = mp3::frame_bytes(*header) else { return garbage(here, 0xff) };
    let Some(frame) = here.get(..bytes) else { return Found::Part };
    let described = [a, b & 0xfe, c & 0x0c, u8::from(d >> 6 == 0b11)];
    Found::Frame(bytes, Some((Description::Mpeg(described), Bytes::copy_from_slice(frame))))
}

/// Up to where a sync word may begin.
fn garbage(here: &[u8], first: u8) -> Found {
    let behind = here.get(1..).unwrap_or_default();
    Found::Garbage(1 + behind.iter().position(|&byte| byte == first).unwrap_or(behind.len()))
}
