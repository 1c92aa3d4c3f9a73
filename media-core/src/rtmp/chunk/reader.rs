//! Chunks to messages, from bytes in any pieces, with a bound on everything a peer can make it keep.

use bytes::Bytes;

use super::{Header, INITIAL_CHUNK_SIZE, Message};

/// The longest message that is taken. The largest real ones are keyframes: at 100 Mbit/s one of 4K
/// video takes 2 to 3 MB.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// How many chunk streams a peer may use. Encoders use 3 to 6; each costs about 100 bytes here.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// How much memory unfinished messages may take together, beside the largest of them. Encoders that
/// interleave put audio, some hundred bytes, between the chunks of a picture.
pub const MAX_INTERLEAVED_BYTES: usize = 512 << 10;

/// The least memory an unfinished message takes: less would only mean growing it at each chunk.
pub(super) const MIN_BODY_CAPACITY: usize = 4 << 10;

/// The longest chunk header: 3 bytes basic, 11 bytes message header, 4 bytes extended timestamp.
const MAX_HEADER_BYTES: usize = 18;

/// A 24-bit timestamp field of this value says that the 32-bit one follows.
const EXTENDED: u32 = 0xff_ffff;

/// What a peer's chunks did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message longer than is taken.
    #[error("a message of {announced} bytes was announced; {limit} are taken")]
    MessageTooLong {
        /// What its header says.
        announced: usize,
        /// What is taken at this point of the session.
        limit: usize,
    },
    /// More than [`MAX_CHUNK_STREAMS`].
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams are in use")]
    TooManyChunkStreams,
    /// More than [`MAX_INTERLEAVED_BYTES`].
    #[error("unfinished messages take more than {MAX_INTERLEAVED_BYTES} bytes")]
    TooMuchInterleaved,
    /// The first chunk of a chunk stream refers to one before it.
    #[error("chunk stream {0} begins with a chunk that refers to one before it")]
    NoHeader(u32),
    /// A header in the middle of a message.
    #[error("a new message begins on chunk stream {0} before the last one has ended")]
    Unfinished(u32),
    /// A chunk size of 0, or of more than 31 bits.
    #[error("a chunk size of {0} is not valid")]
    ChunkSize(u32),
}

/// Puts messages together.
#[derive(Debug)]
pub struct Reader {
    pub(super) chunk_size: usize,
    max_message: usize,
    streams: Vec<Stream>,
    /// The chunk whose payload comes next: its stream's id, and how much of the payload is to come.
    chunk: Option<(u32, usize)>,
    /// Bytes that were taken from the input but not used: the beginning of a header, mostly.
    carry: Carry,
    /// Capacity of all unfinished bodies.
    pub(super) reserved: usize,
}

/// What is remembered of a chunk stream.
#[derive(Debug)]
struct Stream {
    id: u32,
    type_id: u8,
    stream_id: u32,
    length: usize,
    timestamp_ms: u32,
    /// The timestamp or difference as it was last sent.
    field: u32,
    /// It was sent as an extended one.
    extended: bool,
    /// Payload of the unfinished message.
    body: Vec<u8>,
    unfinished: bool,
}

/// A chunk's header, as sent.
struct ChunkHeader {
    id: u32,
    /// Timestamp or difference, if sent, and whether as an extended one.
    field: Option<(u32, bool)>,
    absolute: bool,
    length_and_type: Option<(usize, u8)>,
    stream_id: Option<u32>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(MAX_MESSAGE_BYTES)
    }
}

impl Reader {
    /// A reader that takes messages up to `max_message` bytes, but never more than
    /// [`MAX_MESSAGE_BYTES`].
    pub fn new(max_message: usize) -> Self {
        Self {
            chunk_size: INITIAL_CHUNK_SIZE,
            max_message: max_message.min(MAX_MESSAGE_BYTES),
            streams: Vec::new(),
            chunk: None,
            carry: Carry::default(),
            reserved: 0,
        }
    }

    /// Changes the longest message that is taken from now on.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message.min(MAX_MESSAGE_BYTES);
    }

    /// Memory that unfinished messages take.
    pub fn unfinished_bytes(&self) -> usize {
        self.reserved
    }

    /// The peer's Set Chunk Size (§5.4.1). Sizes beyond the longest message mean the same as that.
    pub fn set_chunk_size(&mut self, chunk_size: u32) -> Result<(), Error> {
        if chunk_size == 0 || chunk_size >= 1 << 31 {
            return Err(Error::ChunkSize(chunk_size));
        }
        self.chunk_size = usize::try_from(chunk_size).unwrap_or(MAX_MESSAGE_BYTES).min(MAX_MESSAGE_BYTES);
        Ok(())
    }

    /// The peer's Abort (§5.4.2): forgets the unfinished message of a chunk stream.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.id == chunk_stream) {
            self.reserved -= stream.body.capacity();
            stream.body = Vec::new();
            stream.unfinished = false;
        }
    }

    /// Takes bytes from the front of `input` until a message is whole. `None`: all of it was taken.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            let (id, left) = match self.chunk {
                Some(chunk) => chunk,
                None => match self.begin_chunk(input)? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                },
            };
            let Some(stream) = self.streams.iter_mut().find(|s| s.id == id) else {
                return Err(Error::NoHeader(id));
            };
            let waiting = self.carry.len + input.len();
            let source = if self.carry.is_empty() { *input } else { self.carry.as_slice() };
            let (payload, _) = source.split_at(left.min(source.len()));
            let taken = payload.len();

            let needed = stream.body.len() + taken;
            if needed > stream.body.capacity() {
                // All that waits may be this message's: then it is allocated once, at its size.
                let target = needed.max(stream.body.len() + waiting).max(2 * stream.body.capacity());
                let target = target.max(MIN_BODY_CAPACITY).min(stream.length);
                self.reserved -= stream.body.capacity();
                stream.body.reserve_exact(target - stream.body.len());
                self.reserved += stream.body.capacity();
            }
            stream.body.extend_from_slice(payload);
            if self.carry.is_empty() {
                *input = input.get(taken..).unwrap_or_default();
            } else {
                self.carry.consume(taken);
            }

            let left = left - taken;
            self.chunk = (left > 0).then_some((id, left));
            if stream.body.len() >= stream.length {
                self.reserved -= stream.body.capacity();
                stream.unfinished = false;
                return Ok(Some(stream.finish()));
            }
            self.check_interleaved()?;
            if left > 0 && self.carry.is_empty() && input.is_empty() {
                return Ok(None);
            }
        }
    }

    fn check_interleaved(&self) -> Result<(), Error> {
        if self.reserved <= MAX_INTERLEAVED_BYTES {
            return Ok(());
        }
        let largest = self.streams.iter().map(|s| s.body.capacity()).max().unwrap_or(0);
        if self.reserved - largest > MAX_INTERLEAVED_BYTES {
            return Err(Error::TooMuchInterleaved);
        }
        Ok(())
    }

    /// Reads a chunk's header; the chunk is then (stream id, payload bytes).
    fn begin_chunk(&mut self, input: &mut &[u8]) -> Result<Option<(u32, usize)>, Error> {
        let header = if self.carry.is_empty() {
            match self.parse(input)? {
                Some((header, len)) => {
                    *input = input.get(len..).unwrap_or_default();
                    header
                }
                None => {
                    self.carry.fill(input);
                    return Ok(None);
                }
            }
        } else {
            self.carry.fill(input);
            match self.parse(self.carry.as_slice())? {
                Some((header, len)) => {
                    self.carry.consume(len);
                    header
                }
                None => return Ok(None),
            }
        };
        let chunk = self.apply(&header)?;
        self.chunk = Some(chunk);
        Ok(Some(chunk))
    }

    /// §5.3.1: the header at the front of `bytes`, and its length; `None` if it is not all there.
    fn parse(&self, bytes: &[u8]) -> Result<Option<(ChunkHeader, usize)>, Error> {
        let mut rest = bytes;
        let Some((format, id)) = basic_header(&mut rest) else { return Ok(None) };
        let known = self.streams.iter().find(|s| s.id == id);
        match known {
            None if format > 1 => return Err(Error::NoHeader(id)),
            None if self.streams.len() >= MAX_CHUNK_STREAMS => return Err(Error::TooManyChunkStreams),
            Some(stream) if stream.unfinished && format != 3 => return Err(Error::Unfinished(id)),
            _ => {}
        }
        let mut header =
            ChunkHeader { id, field: None, absolute: format == 0, length_and_type: None, stream_id: None };
        if format <= 2 {
            let Some(field) = take::<3>(&mut rest) else { return Ok(None) };
            let field = u24(field);
            if format <= 1 {
                let Some(length) = take::<3>(&mut rest) else { return Ok(None) };
                let Some([type_id]) = take::<1>(&mut rest) else { return Ok(None) };
                let announced = usize::try_from(u24(length)).unwrap_or(usize::MAX);
                if announced > self.max_message {
                    return Err(Error::MessageTooLong { announced, limit: self.max_message });
                }
                header.length_and_type = Some((announced, type_id));
            }
            if format == 0 {
                let Some(stream_id) = take::<4>(&mut rest) else { return Ok(None) };
                header.stream_id = Some(u32::from_le_bytes(stream_id));
            }
            header.field = Some((field, false));
            if field == EXTENDED {
                let Some(extended) = take::<4>(&mut rest) else { return Ok(None) };
                header.field = Some((u32::from_be_bytes(extended), true));
            }
        } else if let Some(stream) = known.filter(|s| s.extended) {
            // §5.3.1.3 repeats the extended timestamp in continuations. Not every sender does, so it is
            // taken for one only if it is the one that was sent before.
            let mut ahead = rest;
            let Some(bytes) = take::<4>(&mut ahead) else { return Ok(None) };
            let value = u32::from_be_bytes(bytes);
            if value == stream.field || value == stream.timestamp_ms {
                rest = ahead;
            }
        }
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Brings the chunk stream's state up to its new header.
    fn apply(&mut self, header: &ChunkHeader) -> Result<(u32, usize), Error> {
        let stream = match self.streams.iter().position(|s| s.id == header.id) {
            Some(index) => self.streams.get_mut(index),
            None => {
                self.streams.push(Stream::new(header.id));
                self.streams.last_mut()
            }
        };
        let Some(stream) = stream else { return Err(Error::NoHeader(header.id)) };
        if !stream.unfinished {
            if let Some((field, extended)) = header.field {
                stream.field = field;
                stream.extended = extended;
            }
            if let Some((length, type_id)) = header.length_and_type {
                stream.length = length;
                stream.type_id = type_id;
            }
            if let Some(stream_id) = header.stream_id {
                stream.stream_id = stream_id;
            }
            // A message without a header of its own repeats the last field as a difference, even if that
            // was an absolute timestamp (§5.3.1.2.4): so do librtmp and ffmpeg.
            stream.timestamp_ms =
                if header.absolute { stream.field } else { stream.timestamp_ms.wrapping_add(stream.field) };
            if stream.length > self.max_message {
                return Err(Error::MessageTooLong { announced: stream.length, limit: self.max_message });
            }
            stream.unfinished = true;
        }
        Ok((stream.id, (stream.length - stream.body.len()).min(self.chunk_size)))
    }
}

impl Stream {
    fn new(id: u32) -> Self {
        Self {
            id,
            type_id: 0,
            stream_id: 0,
            length: 0,
            timestamp_ms: 0,
            field: 0,
            extended: false,
            body: Vec::new(),
            unfinished: false,
        }
    }

    fn finish(&mut self) -> Message {
        Message {
            header: Header {
                chunk_stream: self.id,
                type_id: self.type_id,
                stream_id: self.stream_id,
                timestamp_ms: self.timestamp_ms,
            },
            body: Bytes::from(std::mem::take(&mut self.body)),
        }
    }
}

/// Up to one chunk header's worth of bytes.
#[derive(Debug, Default)]
struct Carry {
    bytes: [u8; MAX_HEADER_BYTES],
    len: usize,
}

impl Carry {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes as much of the input as fits.
    fn fill(&mut self, input: &mut &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let (head, tail) = input.split_at(room.len().min(input.len()));
        for (to, from) in room.iter_mut().zip(head) {
            *to = *from;
        }
        self.len += head.len();
        *input = tail;
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.len);
        self.bytes.copy_within(len..self.len, 0);
        self.len -= len;
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// §5.3.1.1: format and chunk stream id.
fn basic_header(bytes: &mut &[u8]) -> Option<(u8, u32)> {
    let [first] = take::<1>(bytes)?;
    let id = match first & 0x3f {
        0 => {
            let [low] = take::<1>(bytes)?;
            64 + u32::from(low)
        }
        1 => {
            let low_high = take::<2>(bytes)?;
            64 + u32::from(u16::from_le_bytes(low_high))
        }
        id => u32::from(id),
    };
    Some((first >> 6, id))
}
