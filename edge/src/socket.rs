//! A client's socket, which counts what is written and gives up on a client that takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::http::Wire;

/// Bytes that are counted together: the counter is shared by all sockets.
const COUNT_EVERY: u64 = 64 * 1024;

/// A socket with a limit on how long a write may make no progress.
pub(crate) struct Socket<S> {
    io: S,
    max_stall: Duration,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
    stalled: Arc<AtomicBool>,
    sent: Sent,
    /// Something was handed over to be written, and it was not yet said that this was all.
    unsent: Arc<AtomicBool>,
    wire: Option<End>,
}

/// The socket's end of its wire: dropped with it.
struct End(Arc<Wire>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl<S> Socket<S> {
    /// Says in `stalled` when it gave up.
    pub(crate) fn new(io: S, max_stall: Duration, stalled: Arc<AtomicBool>, counter: IntCounter) -> Self {
        let sent = Sent::new(counter);
        Self { io, max_stall, stall: None, stalled, sent, unsent: Arc::default(), wire: None }
    }

    /// The same, which tells `wire` what it takes.
    pub(crate) fn on(mut self, wire: Arc<Wire>) -> Self {
        self.wire = Some(End(wire));
        self
    }

    /// False while whoever writes holds something back that the socket did not take yet.
    pub(crate) fn unsent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unsent)
    }

    /// The bare socket.
    pub(crate) fn into_inner(self) -> S {
        self.io
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(result) => {
                self.stall = None;
                if let Ok(len) = result {
                    self.sent.add(len);
                    if let Some(End(wire)) = &self.wire {
                        wire.wrote(len as u64);
                    }
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let max_stall = self.max_stall;
                let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(max_stall)));
                ready!(stall.as_mut().poll(cx));
                self.stalled.store(true, Ordering::Relaxed);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// Bytes that the counter shall know of.
pub(crate) struct Sent {
    bytes: u64,
    counter: IntCounter,
}

impl Sent {
    pub(crate) fn new(counter: IntCounter) -> Self {
        Self { bytes: 0, counter }
    }

    pub(crate) fn add(&mut self, len: usize) {
        self.bytes += u64::try_from(len).unwrap_or_default();
        if self.bytes >= COUNT_EVERY {
            self.counter.inc_by(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.counter.inc_by(self.bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unsent.store(true, Ordering::Relaxed);
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unsent.store(true, Ordering::Relaxed);
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unsent.store(false, Ordering::Relaxed);
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if let (Some(End(wire)), Poll::Ready(Ok(()))) = (&self.wire, &flushed) {
            wire.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let stalled = Arc::new(AtomicBool::new(false));
        let counter = IntCounter::new("x", "x").unwrap();
        let limit = Duration::from_secs(10);
        let mut socket = Socket::new(near, limit, Arc::clone(&stalled), counter.clone());
        let writer = tokio::spawn(async move { socket.write_all(&[0; 64]).await });
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        assert!(writer.await.unwrap().is_ok());
        assert_eq!(counter.get(), 64);
        assert!(!stalled.load(Ordering::Relaxed));

        let (near, _far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, limit, Arc::clone(&stalled), counter);
        let error = socket.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stalled.load(Ordering::Relaxed));
    }
}
