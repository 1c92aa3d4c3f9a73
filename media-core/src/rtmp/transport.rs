//! What client and server share: handshake, chunks, and the control messages that keep a connection
//! going. Hands up whole messages, collects what is to be sent.

use bytes::{Bytes, BytesMut};

use super::CHUNK_SIZE;
use super::chunk::{self, Header, Message, Reader};
use super::command::{self, Command};
use super::control::{Control, User};
use super::error::Error;
use super::handshake::Handshake;

/// The acknowledgement window (RTMP 1.0 §5.4.4) that is asked of the peer, and kept towards a peer that
/// asks for none.
const WINDOW_BYTES: u32 = 2_500_000;

/// The smallest window that is honoured: a peer that asks for an acknowledgement of every byte must not
/// get one for every packet.
const MIN_WINDOW_BYTES: u32 = 64 << 10;

/// How much may wait to be sent. Answers are some hundred bytes; a peer gets this far only by asking
/// for thousands at once.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// The largest message of a peer that has not asked to publish: commands, with the
/// longest of query strings.
pub(super) const MAX_COMMAND_BYTES: usize = 64 << 10;

pub(super) struct Transport {
    /// Until it is done; boxed, since it is large and short-lived.
    handshake: Option<Box<Handshake>>,
    reader: Reader,
    out: BytesMut,
    /// Of what waits to be sent, how much the peer asked for.
    answer_bytes: usize,
    chunk_size: usize,
    bytes_in: u64,
    acknowledged: u64,
    window: u32,
}

/// What came in.
pub(super) enum Incoming {
    /// The handshake is done.
    Ready,
    /// A message that is not control.
    Message(Message),
    /// A user control event that is for the session.
    User(User),
}

impl Transport {
    fn new(handshake: Handshake, out: BytesMut) -> Self {
        Self {
            handshake: Some(Box::new(handshake)),
            reader: Reader::new(MAX_COMMAND_BYTES),
            out,
            answer_bytes: 0,
            chunk_size: chunk::INITIAL_CHUNK_SIZE,
            bytes_in: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
        }
    }

    pub(super) fn server() -> Self {
        Self::new(Handshake::server(), BytesMut::new())
    }

    pub(super) fn client() -> Result<Self, Error> {
        let mut out = BytesMut::new();
        let handshake = Handshake::client(&mut out)?;
        Ok(Self::new(handshake, out))
    }

    /// Counts a piece of input; once per piece, before it is [read](Self::read).
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes_in = self.bytes_in.wrapping_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.handshake.is_none() && self.bytes_in.wrapping_sub(self.acknowledged) >= self.window.into() {
            self.acknowledged = self.bytes_in;
            // §5.4.3: the total so far, which wraps at 32 bits.
            let bytes = u32::try_from(self.bytes_in & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            self.control(Control::Acknowledgement { bytes });
        }
    }

    /// Takes bytes from the front of `input` until something is to be handled by the session.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Error> {
        if let Some(handshake) = &mut self.handshake {
            if !handshake.input(input, &mut self.out)? {
                return Ok(None);
            }
            self.handshake = None;
            return Ok(Some(Incoming::Ready));
        }
        while let Some(message) = self.reader.read(input)? {
            match Control::parse(message.header.type_id, &message.body)? {
                None => return Ok(Some(Incoming::Message(message))),
                Some(Control::SetChunkSize(size)) => self.reader.set_chunk_size(size)?,
                Some(Control::Abort { chunk_stream }) => self.reader.abort(chunk_stream),
                // 0 would mean an acknowledgement of nothing.
                Some(Control::WindowAckSize(0)) => {}
                Some(Control::WindowAckSize(window)) => self.window = window.max(MIN_WINDOW_BYTES),
                // How much is sent is bounded by the socket. §5.4.5 wants the window told if it differs
                // from the last one; it is always the same here.
                Some(Control::SetPeerBandwidth { .. } | Control::Acknowledgement { .. }) => {}
                Some(Control::User(User::PingRequest(time))) => {
                    let before = self.out.len();
                    self.control(Control::User(User::PingResponse(time)));
                    self.answered(before)?;
                }
                Some(Control::User(user)) => return Ok(Some(Incoming::User(user))),
            }
        }
        Ok(None)
    }

    /// Takes messages of any size that is taken at all.
    pub(super) fn expect_media(&mut self) {
        self.reader.set_max_message(chunk::MAX_MESSAGE_BYTES);
    }

    /// Takes messages of the size of commands, as at the beginning.
    pub(super) fn expect_commands(&mut self) {
        self.reader.set_max_message(MAX_COMMAND_BYTES);
    }

    /// Memory that unfinished messages take.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.reader.unfinished_bytes()
    }

    /// Asks for acknowledgements and announces the chunk size that everything after this is sent with.
    pub(super) fn announce(&mut self) {
        self.control(Control::WindowAckSize(WINDOW_BYTES));
        self.control(Control::SetPeerBandwidth { window: WINDOW_BYTES, limit: 2 });
        self.announce_chunk_size();
    }

    pub(super) fn announce_chunk_size(&mut self) {
        self.control(Control::SetChunkSize(u32::try_from(CHUNK_SIZE).unwrap_or(u32::MAX)));
        self.chunk_size = CHUNK_SIZE;
    }

    pub(super) fn control(&mut self, control: Control) {
        control.write(&mut self.out);
    }

    pub(super) fn command(&mut self, stream_id: u32, command: &Command) -> Result<(), Error> {
        let before = self.out.len();
        self.message(&command::header(stream_id), &[&command.body()])?;
        self.answered(before)
    }

    pub(super) fn message(&mut self, header: &Header, body: &[&[u8]]) -> Result<(), Error> {
        Ok(chunk::write(&mut self.out, self.chunk_size, header, body)?)
    }

    fn answered(&mut self, before: usize) -> Result<(), Error> {
        self.answer_bytes += self.out.len() - before;
        if self.answer_bytes > MAX_ANSWER_BYTES { Err(Error::TooMuchOutput) } else { Ok(()) }
    }

    pub(super) fn poll_output(&mut self) -> Option<Bytes> {
        self.answer_bytes = 0;
        // With all its room: answers are rare, and none is to be kept for as long as a player stays.
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
    }
}
