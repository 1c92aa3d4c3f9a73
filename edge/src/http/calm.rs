//! Clients of HTTP/2 that keep the server busy with frames which ask for nothing, or next to nothing: PING, SETTINGS,
//! RST_STREAM and their kind, and windows that open by a few bytes (RFC 9113 §10.5). h2 answers each of them; how many there may be is said here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::SetOnce;
use tokio::time::Instant;

/// What every connection begins with (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// A frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

/// What a WINDOW_UPDATE has behind its head (RFC 9113 §6.9).
const INCREMENT_BYTES: usize = 4;

/// A window that opens by less has to be paid for: who grants a byte at a time has each sent in a frame of its own.
const MIN_INCREMENT: u32 = 256;

/// Such frames at once. A browser sends a few with each request, and resets all its requests when a page is closed.
const MAX_FRAMES: u32 = 256;

/// How soon one more may come.
const FRAME_EVERY: Duration = Duration::from_millis(30);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;

/// A connection whose frames are counted. Once there are too many nothing more is read of it.
pub(super) struct Calm<S> {
    io: S,
    frames: Frames,
    flooded: Arc<SetOnce<()>>,
}

impl<S> Calm<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, frames: Frames::new(Instant::now()), flooded: Arc::default() }
    }

    /// Set when there are too many.
    pub(super) fn flooded(&self) -> Arc<SetOnce<()>> {
        Arc::clone(&self.flooded)
    }
}

/// Follows a connection's frames through whatever pieces they come in.
struct Frames {
    /// Bytes to be read over: the preface, payloads.
    skip: usize,
    /// A frame's head, and of a WINDOW_UPDATE what follows it.
    head: [u8; HEAD_BYTES + INCREMENT_BYTES],
    have: usize,
    /// When as many as there may be have been paid for.
    paid_at: Instant,
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES + INCREMENT_BYTES], have: 0, paid_at: now }
    }

    /// The next bytes. Whether the client is still calm.
    fn follow(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let len = self.skip.min(bytes.len());
                self.skip -= len;
                bytes = bytes.get(len..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            if let Some(byte) = self.head.get_mut(self.have) {
                *byte = *first;
                self.have += 1;
            }
            if self.have == self.wanted() && !self.frame(now) {
                return false;
            }
        }
        true
    }

    /// Bytes of a frame that are looked at.
    fn wanted(&self) -> usize {
        let [l0, l1, l2, kind, ..] = self.head;
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let grants = self.have >= HEAD_BYTES && kind == WINDOW_UPDATE && len == INCREMENT_BYTES;
        HEAD_BYTES + if grants { INCREMENT_BYTES } else { 0 }
    }

    /// A frame begins.
    fn frame(&mut self, now: Instant) -> bool {
        let [l0, l1, l2, kind, _, _, _, _, _, increment @ ..] = self.head;
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        self.skip = len + HEAD_BYTES - self.have;
        let increment = if self.have > HEAD_BYTES { u32::from_be_bytes(increment) } else { 0 };
        self.have = 0;
        // Requests and what is sent with them have limits of their own, and who takes much grants much.
        if matches!((kind, len), (DATA, 1..) | (HEADERS, _))
            || kind == WINDOW_UPDATE && increment >= MIN_INCREMENT
        {
            return true;
        }
        self.paid_at = self.paid_at.max(now) + FRAME_EVERY;
        self.paid_at.saturating_duration_since(now) <= FRAME_EVERY * MAX_FRAMES
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flooded.get().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        if !new.is_empty() && !self.frames.follow(new, Instant::now()) {
            // Nobody sets it twice.
            let _ = self.flooded.set(());
            buf.set_filled(before);
            return Poll::Pending;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, len: u8) -> Vec<u8> {
        [vec![0, 0, len, kind, 0, 0, 0, 0, 0], vec![kind; usize::from(len)]].concat()
    }

    #[test]
    fn frames_are_counted_in_any_pieces_and_those_of_requests_are_not() {
        let now = Instant::now();
        let (ping, max) = (frame(6, 8), MAX_FRAMES as usize);
        let requests = [frame(1, 30), frame(0, 200), frame(8, 4)].concat().repeat(1000);
        let calm = [vec![6; PREFACE_BYTES], ping.repeat(max), requests].concat();
        let flood = [calm.clone(), ping.clone()].concat();
        let dribble: Vec<u8> = [&frame(8, 4)[..9], &[0, 0, 0, 1]].concat().repeat(max + 1);
        let dribble = [vec![6; PREFACE_BYTES], dribble].concat();
        for piece in [1, 7, flood.len()] {
            let mut frames = Frames::new(now);
            let endured = dribble.chunks(piece).all(|bytes| frames.follow(bytes, now));
            assert!(!endured, "a byte at a time, in pieces of {piece}");
            let mut frames = Frames::new(now);
            assert!(calm.chunks(piece).all(|bytes| frames.follow(bytes, now)), "{piece}");
            assert!(frames.follow(&ping, now + FRAME_EVERY), "one more may have come");
            assert!(!frames.follow(&ping, now + FRAME_EVERY));
            let mut frames = Frames::new(now);
            assert!(!flood.chunks(piece).all(|bytes| frames.follow(bytes, now)), "{piece}");
        }
    }
}
