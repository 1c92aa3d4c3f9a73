//! The extended video and audio headers (Enhanced RTMP v2, *ExVideoTagHeader* and *ExAudioTagHeader*):
//! what kind of packet a body holds, of which codec, for which tracks.

use bytes::{Buf, Bytes};

use super::Error;
use crate::frame::{Codec, Kind, TrackId};

/// How many packets one multitrack body may hold. Each belongs to another track, so this is also
/// how many tracks of a kind can be sent together.
const MAX_PACKETS: u8 = 16;

/// The codecs' fourCCs.
pub(super) const fn fourcc(codec: Codec) -> [u8; 4] {
    match codec {
        Codec::H264 => *b"avc1",
        Codec::H265 => *b"hvc1",
        Codec::Av1 => *b"av01",
        Codec::Vp8 => *b"vp08",
        Codec::Vp9 => *b"vp09",
        Codec::Aac => *b"mp4a",
        Codec::Opus => *b"Opus",
        Codec::Mp3 => *b".mp3",
    }
}

fn codec_of(kind: Kind, fourcc: [u8; 4]) -> Result<Codec, Error> {
    let codec = match &fourcc {
        b"avc1" => Codec::H264,
        b"hvc1" => Codec::H265,
        b"av01" => Codec::Av1,
        b"vp08" => Codec::Vp8,
        b"vp09" => Codec::Vp9,
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        b".mp3" => Codec::Mp3,
        _ => return Err(Error::FourCc(fourcc)),
    };
    if codec.kind() == kind { Ok(codec) } else { Err(Error::FourCc(fourcc)) }
}

/// Numbers of `VideoPacketType` and `AudioPacketType`; the first three are the same in both.
pub(super) mod packet_type {
    pub(in super::super) const SEQUENCE_START: u8 = 0;
    pub(in super::super) const CODED_FRAMES: u8 = 1;
    pub(in super::super) const SEQUENCE_END: u8 = 2;
    pub(in super::super) const VIDEO_CODED_FRAMES_X: u8 = 3;
    pub(in super::super) const VIDEO_METADATA: u8 = 4;
    pub(in super::super) const VIDEO_MPEG2TS_SEQUENCE_START: u8 = 5;
    pub(in super::super) const VIDEO_MULTITRACK: u8 = 6;
    pub(in super::super) const AUDIO_MULTICHANNEL_CONFIG: u8 = 4;
    pub(in super::super) const AUDIO_MULTITRACK: u8 = 5;
    pub(in super::super) const MOD_EX: u8 = 7;
}

/// `FrameType` of a video tag: a command to the player, no picture.
pub(super) const COMMAND_FRAME: u8 = 5;

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A decoder configuration.
    Config,
    /// A frame.
    Frame {
        /// Presentation time minus decoding time in milliseconds.
        cts_ms: i32,
    },
    /// Something that is known and not needed: the end of a sequence, colour information, a
    /// multichannel layout, MPEG-2 TS descriptors.
    Other,
}

/// One packet of a body.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) codec: Codec,
    pub(super) content: Content,
    pub(super) payload: Bytes,
}

/// A packet, or why it can't be used, and its track.
pub(super) type TrackPacket = (TrackId, Result<Packet, Error>);

/// How the packets of a body lie behind each other (`AvMultitrackType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// No multitrack: one packet of track 0.
    Single,
    OneTrack,
    ManyTracks,
    ManyTracksManyCodecs,
}

/// A body behind its header byte, read packet by packet.
#[derive(Debug)]
pub(super) struct Packets {
    kind: Kind,
    packet_type: u8,
    layout: Layout,
    fourcc: [u8; 4],
    rest: Bytes,
    read: u8,
    done: bool,
    /// What ModEx adds to the tag's timestamp, in nanoseconds.
    pub(super) nanos: u32,
}

impl Packets {
    /// Reads the header. `first` is its first byte.
    pub(super) fn read(kind: Kind, first: u8, mut rest: Bytes) -> Result<Self, Error> {
        let mut packet_type = first & 0x0f;
        let mut nanos = 0;
        while packet_type == packet_type::MOD_EX {
            packet_type = mod_ex(&mut rest, &mut nanos)?;
        }
        let mut packets = Self {
            kind,
            packet_type,
            layout: Layout::Single,
            fourcc: [0; 4],
            rest,
            read: 0,
            done: false,
            nanos,
        };
        let frame_type = (first >> 4) & 0b111;
        if kind == Kind::Video && frame_type == COMMAND_FRAME && packet_type != packet_type::VIDEO_METADATA {
            packets.done = true;
            return Ok(packets);
        }
        let multitrack = match kind {
            Kind::Video => packet_type::VIDEO_MULTITRACK,
            Kind::Audio => packet_type::AUDIO_MULTITRACK,
        };
        if packet_type == multitrack {
            let byte = u8(&mut packets.rest)?;
            packets.packet_type = byte & 0x0f;
            packets.layout = match byte >> 4 {
                0 => Layout::OneTrack,
                1 => Layout::ManyTracks,
                2 => Layout::ManyTracksManyCodecs,
                other => return Err(Error::MultitrackType(other)),
            };
        }
        if packets.layout != Layout::ManyTracksManyCodecs {
            packets.fourcc = four(&mut packets.rest)?;
        }
        Ok(packets)
    }

    /// The next packet. One that can't be used says so and leaves those behind it readable; after an
    /// error it is not known where the next one begins.
    pub(super) fn next(&mut self) -> Result<Option<TrackPacket>, Error> {
        if self.done {
            return Ok(None);
        }
        let mut index = 0;
        let payload = match self.layout {
            Layout::Single | Layout::OneTrack => {
                self.done = true;
                if self.layout == Layout::OneTrack {
                    index = u8(&mut self.rest)?;
                }
                std::mem::take(&mut self.rest)
            }
            Layout::ManyTracks | Layout::ManyTracksManyCodecs => {
                if self.rest.is_empty() {
                    return Ok(None);
                }
                if self.layout == Layout::ManyTracksManyCodecs {
                    self.fourcc = four(&mut self.rest)?;
                }
                index = u8(&mut self.rest)?;
                let size = self.rest.try_get_uint(3).map_err(|_| HEADER_TRUNCATED)?;
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if size > self.rest.len() {
                    return Err(Error::Truncated("track of a multitrack body"));
                }
                self.rest.split_to(size)
            }
        };
        let track = TrackId { kind: self.kind, index };
        self.read += 1;
        if self.read > MAX_PACKETS {
            return Err(Error::TooManyTracks(track));
        }
        Ok(Some((track, self.packet(payload))))
    }

    fn packet(&self, mut payload: Bytes) -> Result<Packet, Error> {
        let codec = codec_of(self.kind, self.fourcc)?;
        let content = self.content(codec, &mut payload)?;
        Ok(Packet { codec, content, payload })
    }

    fn content(&self, codec: Codec, payload: &mut Bytes) -> Result<Content, Error> {
        Ok(match (self.kind, self.packet_type) {
            (_, packet_type::SEQUENCE_START) => Content::Config,
            (_, packet_type::CODED_FRAMES) => Content::Frame {
                cts_ms: if matches!(codec, Codec::H264 | Codec::H265) {
                    composition_time(payload)?
                } else {
                    0
                },
            },
            (Kind::Video, packet_type::VIDEO_CODED_FRAMES_X) => Content::Frame { cts_ms: 0 },
            (_, packet_type::SEQUENCE_END)
            | (Kind::Video, packet_type::VIDEO_METADATA | packet_type::VIDEO_MPEG2TS_SEQUENCE_START)
            | (Kind::Audio, packet_type::AUDIO_MULTICHANNEL_CONFIG) => Content::Other,
            (kind, number) => {
                return Err(Error::PacketType {
                    kind: match kind {
                        Kind::Video => "video",
                        Kind::Audio => "audio",
                    },
                    number,
                });
            }
        })
    }
}

const HEADER_TRUNCATED: Error = Error::Truncated("enhanced header");

/// A ModEx block: its size, its data, its type, and the packet type behind it, which is returned.
fn mod_ex(rest: &mut Bytes, nanos: &mut u32) -> Result<u8, Error> {
    /// `TimestampOffsetNano`.
    const TIMESTAMP_OFFSET_NANO: u8 = 0;
    /// An offset stays below the millisecond that the tag's own timestamp counts.
    const MAX_OFFSET_NANOS: u32 = 999_999;

    let mut size = usize::from(u8(rest)?) + 1;
    if size == 256 {
        size = usize::from(rest.try_get_u16().map_err(|_| HEADER_TRUNCATED)?) + 1;
    }
    if size > rest.len() {
        return Err(HEADER_TRUNCATED);
    }
    let data = rest.split_to(size);
    let types = u8(rest)?;
    if types >> 4 == TIMESTAMP_OFFSET_NANO {
        let &[a, b, c, ..] = data.as_ref() else { return Err(Error::Truncated("TimestampOffsetNano")) };
        *nanos = u32::from_be_bytes([0, a, b, c]).min(MAX_OFFSET_NANOS);
    }
    Ok(types & 0x0f)
}

/// SI24 CompositionTime, milliseconds.
pub(super) fn composition_time(body: &mut Bytes) -> Result<i32, Error> {
    let ms = body.try_get_int(3).map_err(|_| Error::Truncated("composition time"))?;
    Ok(i32::try_from(ms).unwrap_or_default())
}

fn u8(body: &mut Bytes) -> Result<u8, Error> {
    body.try_get_u8().map_err(|_| HEADER_TRUNCATED)
}

fn four(body: &mut Bytes) -> Result<[u8; 4], Error> {
    let mut bytes = [0; 4];
    body.try_copy_to_slice(&mut bytes).map_err(|_| HEADER_TRUNCATED)?;
    Ok(bytes)
}
