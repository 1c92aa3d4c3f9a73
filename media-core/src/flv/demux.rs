//! Tags → tracks and frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::enhanced::{COMMAND_FRAME, Content, Packet, Packets, composition_time};
use super::reader::MAX_BODY_BYTES;
use super::tag::{Tag, TagKind};
use super::{Error, metadata};
use crate::codec;
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};

/// How many tracks a publisher may send. Real multitrack streams have up to 6 pictures and 6 sounds.
const MAX_TRACKS: usize = 16;

/// The largest decoder configuration taken: an `hvcC` with several parameter sets and SEI has some
/// hundred bytes. With [`MAX_TRACKS`] it bounds what a demuxer keeps to 512 KiB.
const MAX_CONFIG_BYTES: usize = 16 * 1024;

/// The largest frame: a reader of our FLV must take it, whose header may be longer than the one it came with, and whose
/// NAL units' lengths may.
const MAX_FRAME_BYTES: usize = MAX_BODY_BYTES - 64;

/// Ticks of the tracks' 90 kHz clock in a millisecond.
const TICKS_PER_MS: i32 = 90;

/// What a tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demuxed {
    /// The tracks changed; this is the whole set now, ordered by id. Frames that follow belong to it.
    Tracks(Vec<Track>),
    /// A frame. Its timestamp is the tag's own, in 90 kHz, not unwrapped.
    Frame(Frame),
    /// The encoder's name, from `onMetaData`.
    Encoder(String),
    /// A frame that could not be used.
    Dropped(Dropped),
}

/// Why a frame was not handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// No sequence header of its track and codec came before it.
    NoSequenceHeader(TrackId),
    /// It has no bytes.
    Empty(TrackId),
    /// The lengths of its NAL units do not lead to its end, or it is larger than a tag may be, or its packet cannot be
    /// used while others of the same body can.
    Malformed(TrackId),
}

/// Turns the tags of one FLV stream, or the audio, video and data messages of one RTMP publisher,
/// into tracks and frames. Every track's timescale is [`Timescale::HZ_90K`].
#[derive(Debug, Default)]
pub struct Demuxer {
    tracks: Vec<TrackState>,
    encoder: Option<String>,
    out: Vec<Demuxed>,
    /// The length of the body at hand.
    body_bytes: usize,
}

#[derive(Debug)]
struct TrackState {
    id: TrackId,
    codec: Codec,
    /// The configuration as it came (of MP3: what of the frame header must not change), to tell
    /// repetitions from changes.
    sent: Bytes,
    /// Bytes of the length before each NAL unit, of H.264 and HEVC.
    nal_length_bytes: usize,
    /// `None` while a configuration of AV1, VP8 or VP9 waits for what the first keyframe says.
    track: Option<Track>,
}

impl Demuxer {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a tag and hands out what is in it.
    pub fn push(&mut self, tag: Tag) -> Result<std::vec::Drain<'_, Demuxed>, Error> {
        self.out.clear();
        self.body_bytes = tag.body.len();
        match tag.kind {
            TagKind::Script => self.script(&tag.body)?,
            TagKind::Video => self.video(tag)?,
            TagKind::Audio => self.audio(tag)?,
        }
        Ok(self.out.drain(..))
    }

    fn script(&mut self, body: &[u8]) -> Result<(), Error> {
        if !metadata::is_metadata(body) {
            return Ok(());
        }
        let encoder = metadata::encoder(body)?;
        if encoder.is_some() && encoder != self.encoder {
            self.out.extend(encoder.clone().map(Demuxed::Encoder));
            self.encoder = encoder;
        }
        Ok(())
    }

    fn video(&mut self, tag: Tag) -> Result<(), Error> {
        let mut body = tag.body;
        // Some encoders send empty messages to keep the connection busy.
        let Ok(first) = body.try_get_u8() else { return Ok(()) };
        if first & 0x80 != 0 {
            return self.enhanced(Kind::Video, tag.timestamp_ms, first, body);
        }
        let codec = match (first >> 4, first & 0x0f) {
            (COMMAND_FRAME, _) => return Ok(()),
            (_, 7) => Codec::H264,
            // Not in the specification, but what encoders sent before Enhanced RTMP.
            (_, 12) => Codec::H265,
            (_, number) => return Err(Error::LegacyCodec { kind: "video", number }),
        };
        let packet_type = body.try_get_u8().map_err(|_| Error::Truncated("video header"))?;
        let cts_ms = composition_time(&mut body)?;
        match packet_type {
            0 => self.configure(TrackId::VIDEO, codec, &body),
            1 => {
                let dts = dts(tag.timestamp_ms, 0);
                self.frame(TrackId::VIDEO, codec, dts, cts_ms.saturating_mul(TICKS_PER_MS), body)
            }
            2 => Ok(()),
            number => Err(Error::PacketType { kind: "video", number }),
        }
    }

    fn audio(&mut self, tag: Tag) -> Result<(), Error> {
        const EX_HEADER: u8 = 9;
        let mut body = tag.body;
        let Ok(first) = body.try_get_u8() else { return Ok(()) };
        let dts = dts(tag.timestamp_ms, 0);
        match first >> 4 {
            EX_HEADER => self.enhanced(Kind::Audio, tag.timestamp_ms, first, body),
            2 | 14 => self.frame(TrackId::AUDIO, Codec::Mp3, dts, 0, body),
            10 => match body.try_get_u8().map_err(|_| Error::Truncated("AAC header"))? {
                0 => self.configure(TrackId::AUDIO, Codec::Aac, &body),
                1 => self.frame(TrackId::AUDIO, Codec::Aac, dts, 0, body),
                number => Err(Error::PacketType { kind: "audio", number }),
            },
            number => Err(Error::LegacyCodec { kind: "audio", number }),
        }
    }

    fn enhanced(&mut self, kind: Kind, timestamp_ms: u32, first: u8, body: Bytes) -> Result<(), Error> {
        let mut packets = Packets::read(kind, first, body)?;
        let dts = dts(timestamp_ms, packets.nanos);
        let mut track = match kind {
            Kind::Video => TrackId::VIDEO,
            Kind::Audio => TrackId::AUDIO,
        };
        let mut failed = None;
        loop {
            match packets.next() {
                Ok(Some((id, packet))) => {
                    if let Err(error) = packet.and_then(|packet| self.packet(id, packet, dts)) {
                        (track, failed) = (id, Some(error));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        match failed {
            None => Ok(()),
            Some(error) if self.out.iter().all(|item| matches!(item, Demuxed::Dropped(_))) => Err(error),
            // What the other packets brought is known by now and must be told.
            Some(_) => {
                self.out.push(Demuxed::Dropped(Dropped::Malformed(track)));
                Ok(())
            }
        }
    }

    fn packet(&mut self, id: TrackId, packet: Packet, dts: Timestamp) -> Result<(), Error> {
        match packet.content {
            Content::Config => self.configure(id, packet.codec, &packet.payload),
            Content::Frame { cts_ms } => {
                let cts = cts_ms.saturating_mul(TICKS_PER_MS);
                self.frame(id, packet.codec, dts, cts, packet.payload)
            }
            Content::Other => Ok(()),
        }
    }

    /// Takes a decoder configuration. One that is empty tells nothing: some encoders send it before
    /// the real one.
    fn configure(&mut self, id: TrackId, codec: Codec, config: &[u8]) -> Result<(), Error> {
        if config.is_empty() || codec == Codec::Mp3 {
            return Ok(());
        }
        if config.len() > MAX_CONFIG_BYTES {
            return Err(Error::ConfigTooLarge(config.len()));
        }
        if self.tracks.iter().any(|t| t.id == id && t.codec == codec && t.sent == config) {
            return Ok(());
        }
        // Copied: a slice would keep the whole message in memory.
        let sent = Bytes::copy_from_slice(config);
        let (config, nal_length_bytes) = with_four_byte_lengths(codec, &sent);
        let track = match codec::track(id, codec, Timescale::HZ_90K, config) {
            Ok(track) => Some(track),
            // What is known of the pictures before stands until a keyframe says otherwise.
            Err(codec::Error::NoSequenceHeader) => {
                let before = self.tracks.iter().find(|state| state.id == id && state.codec == codec);
                before.and_then(|state| state.track.clone())
            }
            Err(source) => return Err(Error::Codec { track: id, source }),
        };
        self.set(TrackState { id, codec, sent, nal_length_bytes, track })
    }

    /// Puts a track in its place and tells the new set.
    fn set(&mut self, state: TrackState) -> Result<(), Error> {
        let known = state.track.is_some();
        match self.tracks.binary_search_by_key(&state.id, |t| t.id) {
            Ok(at) => {
                if let Some(slot) = self.tracks.get_mut(at) {
                    *slot = state;
                }
            }
            Err(_) if self.tracks.len() >= MAX_TRACKS => return Err(Error::TooManyTracks(state.id)),
            Err(at) => self.tracks.insert(at, state),
        }
        if known {
            let tracks = self.tracks.iter().filter_map(|t| t.track.clone()).collect();
            self.out.push(Demuxed::Tracks(tracks));
        }
        Ok(())
    }

    fn frame(
        &mut self,
        id: TrackId,
        codec: Codec,
        dts: Timestamp,
        cts: i32,
        data: Bytes,
    ) -> Result<(), Error> {
        let mut data = match codec {
            Codec::Av1 => without_temporal_delimiter(data),
            _ => data,
        };
        if data.is_empty() {
            self.out.push(Demuxed::Dropped(Dropped::Empty(id)));
            return Ok(());
        }
        if data.len() > MAX_FRAME_BYTES {
            self.out.push(Demuxed::Dropped(Dropped::Malformed(id)));
            return Ok(());
        }
        let error = |source| Error::Codec { track: id, source };
        match codec {
            Codec::Mp3 => self.configure_mp3(id, &data)?,
            Codec::Av1 if !self.ready(id, codec) => {
                if let Some(config) = codec::av1::config_from_temporal_unit(&data).map_err(error)? {
                    self.complete(id, codec, config)?;
                }
            }
            // Each says how large it is.
            Codec::Vp8 | Codec::Vp9 => {
                if let Some(config) = codec::vpx::config_from_frame(codec, &data).unwrap_or_default()
                    && !self.is_configured(id, codec, &config)
                {
                    self.complete(id, codec, config)?;
                }
            }
            // Opus needs no configuration for mono and stereo, and stereo decodes both.
            Codec::Opus if !self.ready(id, codec) => {
                let header = codec::opus::identification_header(2, 48_000).map_err(error)?;
                self.configure(id, codec, &header)?;
            }
            _ => {}
        }
        let Some(state) = self.tracks.iter().find(|t| t.id == id && t.codec == codec && t.track.is_some())
        else {
            self.out.push(Demuxed::Dropped(Dropped::NoSequenceHeader(id)));
            return Ok(());
        };
        if state.nal_length_bytes != 4 && matches!(codec, Codec::H264 | Codec::H265) {
            data = relength(&data, state.nal_length_bytes)?;
        }
        if matches!(codec, Codec::H264 | Codec::H265) && !codec::nal::well_formed(&data) {
            self.out.push(Demuxed::Dropped(Dropped::Malformed(id)));
            return Ok(());
        }
        if data.len() < self.body_bytes / 8 * 7 {
            // A part would keep the whole message in memory, of which nothing knows.
            data = Bytes::copy_from_slice(&data);
        }
        let keyframe = codec::keyframe(codec, &data);
        self.out.push(Demuxed::Frame(Frame { track: id, dts, cts, keyframe, data }));
        Ok(())
    }

    /// Whether frames of that track and codec can be handed out.
    fn ready(&self, id: TrackId, codec: Codec) -> bool {
        self.tracks.iter().any(|t| t.id == id && t.codec == codec && t.track.is_some())
    }

    fn is_configured(&self, id: TrackId, codec: Codec, config: &[u8]) -> bool {
        let mut tracks = self.tracks.iter().filter(|t| t.id == id && t.codec == codec);
        tracks.any(|t| t.track.as_ref().is_some_and(|track| track.config == config))
    }

    /// A configuration made from a frame, beside what the publisher sent as one: so a repetition of that
    /// changes nothing.
    fn complete(&mut self, id: TrackId, codec: Codec, config: Bytes) -> Result<(), Error> {
        let sent = self.tracks.iter().find(|t| t.id == id && t.codec == codec).map(|t| t.sent.clone());
        let track = codec::track(id, codec, Timescale::HZ_90K, config)
            .map_err(|source| Error::Codec { track: id, source })?;
        let sent = sent.unwrap_or_default();
        self.set(TrackState { id, codec, sent, nal_length_bytes: 4, track: Some(track) })
    }

    /// MP3 describes itself in each frame's header, of which version, layer, sampling rate and
    /// channel count make the track.
    fn configure_mp3(&mut self, id: TrackId, frame: &[u8]) -> Result<(), Error> {
        let Some(&[a, b, c, d]) = frame.first_chunk::<4>() else {
            return Err(Error::Truncated("MP3 frame header"));
        };
        let mono = d >> 6 == 0b11;
        let described = [a, b & 0xfe, c & 0x0c, u8::from(mono)];
        if self.tracks.iter().any(|t| t.id == id && t.codec == Codec::Mp3 && t.sent == described[..]) {
            return Ok(());
        }
        let track = codec::mp3::track(id, Timescale::HZ_90K, frame)
            .map_err(|source| Error::Codec { track: id, source })?;
        let sent = Bytes::copy_from_slice(&described);
        self.set(TrackState { id, codec: Codec::Mp3, sent, nal_length_bytes: 4, track: Some(track) })
    }
}

fn dts(timestamp_ms: u32, nanos: u32) -> Timestamp {
    const NANOS_PER_MS: u32 = 1_000_000;
    let ticks = (nanos * TICKS_PER_MS.unsigned_abs() + NANOS_PER_MS / 2) / NANOS_PER_MS;
    Timestamp(i64::from(timestamp_ms) * i64::from(TICKS_PER_MS) + i64::from(ticks))
}

/// The configuration with 4-byte NAL unit lengths, and the length it came with: `lengthSizeMinusOne` of
/// ISO/IEC 14496-15 §5.3.3.1.2 and §8.3.3.1.2.
fn with_four_byte_lengths(codec: Codec, config: &Bytes) -> (Bytes, usize) {
    let at = match codec {
        Codec::H264 => 4,
        Codec::H265 => 21,
        _ => return (config.clone(), 4),
    };
    match config.get(at).map(|byte| usize::from(byte & 0b11) + 1) {
        Some(4) | None => (config.clone(), 4),
        Some(length) => {
            let mut config = BytesMut::from(config.as_ref());
            if let Some(byte) = config.get_mut(at) {
                *byte |= 0b11;
            }
            (config.freeze(), length)
        }
    }
}

/// The NAL units behind 4-byte lengths instead of `from` bytes.
fn relength(data: &[u8], from: usize) -> Result<Bytes, Error> {
    let (mut rest, mut grown) = (data, 0);
    while let Some((_, unit)) = next_unit(&mut rest, from)? {
        grown += 4 + unit.len();
    }
    if grown > MAX_FRAME_BYTES {
        return Err(Error::TagTooLarge(grown));
    }
    // Exactly what it takes: nothing knows of more.
    let (mut rest, mut out) = (data, Vec::with_capacity(grown));
    while let Some((length, unit)) = next_unit(&mut rest, from)? {
        out.put_u32(length);
        out.put_slice(unit);
    }
    Ok(out.into())
}

/// A NAL unit behind its length of `length_bytes`.
fn next_unit<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Result<Option<(u32, &'a [u8])>, Error> {
    if rest.is_empty() {
        return Ok(None);
    }
    let length = rest.try_get_uint(length_bytes).map_err(|_| Error::Truncated("NAL unit length"))?;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let (unit, behind) = rest.split_at_checked(length as usize).ok_or(Error::Truncated("NAL unit"))?;
    *rest = behind;
    Ok(Some((length, unit)))
}

/// Temporal delimiters have no place in a container, but some encoders leave them in.
fn without_temporal_delimiter(mut data: Bytes) -> Bytes {
    /// `obu_type` 2 with `obu_has_size_field`, and a size of 0.
    const TEMPORAL_DELIMITER: &[u8] = &[0x12, 0x00];
    if data.starts_with(TEMPORAL_DELIMITER) {
        data.advance(TEMPORAL_DELIMITER.len());
    }
    data
}

#[cfg(test)]
mod tests;
