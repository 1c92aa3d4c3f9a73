//! h3's view of a QUIC connection.
//!
//! The published adapter would do but for three things: frames have no longest length there (see [`Frames`]), nobody is
//! told that a client wants no more of an answer that has nothing to say at the moment, and an answer that breaks off
//! looks like one that ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use parking_lot::Mutex;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use tokio::io::ReadBuf;

use super::frames::Frames;

/// Read at once: requests are short, and uploads wait in QUIC's own buffers.
const READ_BYTES: usize = 4 * 1024;

type Accepting<T> = BoxFuture<'static, Result<T, ConnectionError>>;

/// Resolves when the client has everything of an answer, or wants no more of it.
pub(super) type Settled = BoxFuture<'static, ()>;

/// Of the request that was accepted last.
pub(super) type LastSettled = Arc<Mutex<Option<Settled>>>;

/// A connection.
pub(super) struct Quic {
    connection: quinn::Connection,
    requests: Accepting<(quinn::SendStream, quinn::RecvStream)>,
    unidirectional: Accepting<quinn::RecvStream>,
    opener: Opener,
    settled: LastSettled,
}

impl Quic {
    pub(super) fn new(connection: quinn::Connection) -> (Self, LastSettled) {
        let settled = LastSettled::default();
        let quic = Self {
            requests: requests(&connection),
            unidirectional: unidirectional(&connection),
            opener: Opener { connection: connection.clone(), opening: None },
            connection,
            settled: Arc::clone(&settled),
        };
        (quic, settled)
    }
}

fn requests(connection: &quinn::Connection) -> Accepting<(quinn::SendStream, quinn::RecvStream)> {
    let connection = connection.clone();
    async move { connection.accept_bi().await }.boxed()
}

fn unidirectional(connection: &quinn::Connection) -> Accepting<quinn::RecvStream> {
    let connection = connection.clone();
    async move { connection.accept_uni().await }.boxed()
}

impl quic::Connection<Bytes> for Quic {
    type RecvStream = Receiver;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiver, ConnectionErrorIncoming>> {
        let accepted = ready!(self.unidirectional.poll_unpin(cx));
        self.unidirectional = unidirectional(&self.connection);
        let stream = accepted.map_err(lost)?;
        Poll::Ready(Ok(Receiver { stream, frames: Frames::of_unidirectional() }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        let accepted = ready!(self.requests.poll_unpin(cx));
        self.requests = requests(&self.connection);
        let (send, receive) = accepted.map_err(lost)?;
        *self.settled.lock() = Some(send.stopped().map(drop).boxed());
        Poll::Ready(Ok(Both {
            sender: Sender { stream: send, writing: None, over: false },
            receiver: Receiver { stream: receive, frames: Frames::of_request() },
        }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.connection.clone(), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Quic {
    type BidiStream = Both;
    type SendStream = Sender;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sender, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams: those in one direction that HTTP/3 needs.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<Accepting<quinn::SendStream>>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Both;
    type SendStream = Sender;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no requests (RFC 9114 §6.1)".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sender, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.opening.get_or_insert_with(|| {
            let connection = connection.clone();
            async move { connection.open_uni().await }.boxed()
        });
        let opened = ready!(opening.poll_unpin(cx));
        self.opening = None;
        let stream = opened.map_err(lost_stream)?;
        Poll::Ready(Ok(Sender { stream, writing: None, over: false }))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code.value()), reason);
    }
}

/// A request's stream.
pub(super) struct Both {
    sender: Sender,
    receiver: Receiver,
}

impl quic::BidiStream<Bytes> for Both {
    type SendStream = Sender;
    type RecvStream = Receiver;

    fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl quic::RecvStream for Both {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receiver.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receiver.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiver.recv_id()
    }
}

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sender.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.sender.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sender.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.sender.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.sender.send_id()
    }
}

/// What the client sends on a stream.
pub(super) struct Receiver {
    stream: quinn::RecvStream,
    frames: Frames,
}

impl quic::RecvStream for Receiver {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut space = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(self.stream.poll_read_buf(cx, &mut buffer)).map_err(|error| match error {
            ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
            ReadError::ConnectionLost(error) => lost_stream(error),
            error => StreamErrorIncoming::Unknown(error.into()),
        })?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(None));
        }
        // Whoever does this means harm, so that the whole connection ends.
        self.frames.follow(bytes).map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::InternalError(error.to_string()),
        })?;
        Poll::Ready(Ok(Some(Bytes::copy_from_slice(bytes))))
    }

    fn stop_sending(&mut self, code: u64) {
        // A stream that has ended needs no stopping.
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

/// What is sent on a stream. One that is dropped before its end breaks off.
pub(super) struct Sender {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// Finished or reset.
    over: bool,
}

impl quic::SendStream<Bytes> for Sender {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(
                |error| match error {
                    WriteError::Stopped(code) => {
                        StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
                    }
                    WriteError::ConnectionLost(error) => lost_stream(error),
                    error => StreamErrorIncoming::Unknown(error.into()),
                },
            )?;
            data.advance(written);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("something is still being written".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.over = true;
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        self.over = true;
        // A stream that has ended needs no reset.
        let _ = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.over {
            quic::SendStream::reset(self, Code::H3_INTERNAL_ERROR.value());
        }
    }
}

fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

#[allow(clippy::expect_used, reason = "both are the 62 bits of RFC 9000 §2.1")]
fn id(id: quinn::StreamId) -> StreamId {
    u64::from(id).try_into().expect("a stream's number")
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn lost_stream(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
}
