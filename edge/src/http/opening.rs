//! How a connection begins: which HTTP is spoken where nothing has been agreed on before.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The beginning of every HTTP/2 connection (RFC 9113 §3.4), and of no request of HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at once: most requests, so that they are read once.
const READ_BYTES: usize = 1_024;

/// Reads as much as tells HTTP/1 from HTTP/2. What was read will be read again.
pub(super) async fn opening<S: AsyncRead + Unpin>(mut io: S) -> io::Result<(Version, Rewind<S>)> {
    let mut start = BytesMut::with_capacity(READ_BYTES);
    let version = loop {
        let len = start.len().min(PREFACE.len());
        if start.get(..len) != PREFACE.get(..len) {
            break Version::HTTP_11;
        }
        if len == PREFACE.len() {
            break Version::HTTP_2;
        }
        // Nothing more comes: whoever serves it will see that.
        if io.read_buf(&mut start).await? == 0 {
            break Version::HTTP_11;
        }
    };
    Ok((version, Rewind { start: start.freeze(), io }))
}

/// A connection whose beginning is read again.
pub(super) struct Rewind<S> {
    start: Bytes,
    io: S,
}

impl<S> Rewind<S> {
    /// What of the beginning was not read again, and what it was read from.
    pub(super) fn into_parts(self) -> (Bytes, S) {
        (self.start, self.io)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.start.len().min(buf.remaining());
        buf.put_slice(self.start.get(..len).unwrap_or_default());
        self.start.advance(len);
        if self.start.is_empty() {
            // Not to be kept while the connection lasts.
            self.start = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let (near, mut far) = tokio::io::duplex(16);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let writer = tokio::spawn(async move {
            for piece in pieces {
                far.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (version, mut io) = opening(near).await.unwrap();
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.unwrap();
        writer.await.unwrap();
        (version, all)
    }

    #[tokio::test]
    async fn each_beginning_is_told_apart_and_read_again() {
        let http2 = [PREFACE, b"more"].concat();
        let bytewise: Vec<&[u8]> = http2.chunks(1).collect();
        assert_eq!(read(&[&http2]).await, (Version::HTTP_2, http2.clone()));
        assert_eq!(read(&bytewise).await, (Version::HTTP_2, http2.clone()));
        for request in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"P", b"PRI * HTTP/1.1\r\n", b"PRX", b""] {
            assert_eq!(read(&[request]).await, (Version::HTTP_11, request.to_vec()));
            let bytewise: Vec<&[u8]> = request.chunks(1).collect();
            assert_eq!(read(&bytewise).await, (Version::HTTP_11, request.to_vec()));
        }
    }
}
