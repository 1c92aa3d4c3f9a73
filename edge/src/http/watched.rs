//! A body whose progress is watched: a client of HTTP/2 that grants no window is noticed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::progress::Progress;
use crate::upstream::{Body, BoxError};

/// Handed out at once: what a DATA frame holds if the client asks for no more (RFC 9113 §4.2). Each is progress
/// once it was taken, so a slow line that takes one now and then is not taken for a client that takes nothing.
const CHUNK_BYTES: usize = 16 * 1024;

/// The body, watched.
pub(super) fn watched(body: Body, progress: Arc<Progress>) -> Body {
    if body.is_end_stream() {
        // Nobody asks for it.
        progress.over();
    }
    Watched { body, chunks: Bytes::new(), progress }.boxed_unsync()
}

struct Watched {
    body: Body,
    /// What is left of the body's last piece.
    chunks: Bytes,
    progress: Arc<Progress>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.chunks.is_empty() {
            let next = Pin::new(&mut self.body).poll_frame(cx);
            self.progress.polled(next.is_pending());
            match ready!(next) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.chunks = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => {
                    self.progress.failed("failed");
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.progress.over();
                    return Poll::Ready(None);
                }
            }
        } else {
            self.progress.polled(false);
        }
        let len = self.chunks.len().min(CHUNK_BYTES);
        let bytes = self.chunks.split_to(len);
        let chunk = Bytes::from_owner(Chunk { bytes, progress: Arc::clone(&self.progress) });
        if self.is_end_stream() {
            self.progress.over();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = u64::try_from(self.chunks.len()).unwrap_or(u64::MAX);
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(left));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(left));
        }
        whole
    }
}

/// Bytes that are waiting to be sent. The last of them outlive the body, which is dropped once they are queued.
struct Chunk {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.progress.taken();
    }
}

/// A response over HTTP/2, whose bytes count as the socket takes them: what was queued is forgotten at a reset.
pub(super) fn counted(mut response: Response<Body>) -> Response<Counted> {
    let progress = response.extensions_mut().remove();
    response.map(|body| Counted { body, progress })
}

/// The body, counted.
pub(super) struct Counted {
    body: Body,
    progress: Option<Arc<Progress>>,
}

/// Some of its bytes.
pub(super) struct Piece {
    bytes: Bytes,
    progress: Option<Arc<Progress>>,
}

impl HttpBody for Counted {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let piece = |bytes: Bytes| {
            let progress = self.progress.clone();
            progress.iter().for_each(|progress| progress.queued(bytes.len()));
            Piece { bytes, progress }
        };
        Poll::Ready(next.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        if let Some(progress) = &self.progress {
            progress.sent(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::full;

    #[tokio::test]
    async fn a_body_is_handed_out_whole_in_chunks_that_keep_it_watched() {
        let bytes: Bytes = (0..=255).cycle().take(2 * CHUNK_BYTES + 7).collect();
        let progress = Arc::new(Progress::new());
        let mut body = watched(full(bytes.clone()), Arc::clone(&progress));
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.push(frame.unwrap().into_data().unwrap());
            let handed: usize = chunks.iter().map(Bytes::len).sum();
            assert_eq!(body.size_hint().exact(), Some((bytes.len() - handed) as u64));
            assert_eq!(body.is_end_stream(), handed == bytes.len());
        }
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [CHUNK_BYTES, CHUNK_BYTES, 7]);
        assert_eq!(chunks.concat(), bytes);
        drop(body);
        assert_eq!(Arc::strong_count(&progress), 4, "each chunk that was not sent");
        drop(chunks);
        assert_eq!(Arc::strong_count(&progress), 1);
    }
}
