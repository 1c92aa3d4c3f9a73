//! How many bytes of each HTTP/1 response reached the wire.
//!
//! hyper doesn't say when a response has left. But its body is dropped when all of it was handed over, and the flush
//! after that is done when the socket has taken all: what the socket counted since the response began is then its own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::live::TooSlow;
use crate::guard::Record;
use crate::upstream::{Body, BoxError};

/// A connection's wire: what its socket took, and whose response that is.
#[derive(Default)]
pub(crate) struct Wire {
    written: AtomicU64,
    /// The body of the open response was handed over whole.
    over: AtomicBool,
    /// Such a response has left.
    left: Notify,
    open: Mutex<Option<Open>>,
}

struct Open {
    record: Record,
    /// What was written before it.
    from: u64,
    /// Why it broke off, if that was our doing.
    why: Option<&'static str>,
}

impl Wire {
    /// The socket took so many bytes.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The socket took all there was.
    pub(crate) fn flushed(&self) {
        if self.over.swap(false, Ordering::Relaxed) {
            self.close(|record, bytes, _| record.end(bytes, "finished"));
            self.left.notify_waiters();
        }
    }

    /// Resolves when the response before this one has left: of requests that were sent at once, hyper has the next one
    /// answered while what it was given of the last one still waits for the socket.
    pub(super) async fn settled(&self) {
        loop {
            let left = self.left.notified();
            if !self.over.load(Ordering::Relaxed) {
                return;
            }
            left.await;
        }
    }

    /// The socket is closed.
    pub(crate) fn closed(&self) {
        self.close(|record, bytes, why| match why {
            Some(why) => record.end(bytes, why),
            None => record.broke_off(bytes),
        });
    }

    fn close(&self, end: impl FnOnce(Record, u64, Option<&'static str>)) {
        let Some(Open { record, from, why }) = self.open.lock().take() else { return };
        end(record, self.written.load(Ordering::Relaxed).saturating_sub(from), why);
    }

    /// A response with that body begins, once the one before has left.
    pub(super) fn begin(self: &Arc<Self>, record: Record, body: Body, is_head: bool) -> Body {
        self.over.store(false, Ordering::Relaxed);
        self.close(|record, bytes, _| record.end(bytes, "finished"));
        let from = self.written.load(Ordering::Relaxed);
        *self.open.lock() = Some(Open { record, from, why: None });
        let left = if is_head { Some(0) } else { body.size_hint().exact() };
        Noted { body, left, ended: false, wire: Arc::clone(self) }.boxed_unsync()
    }

    fn failed(&self, why: &'static str) {
        if let Some(open) = &mut *self.open.lock() {
            open.why = Some(why);
        }
    }
}

struct Noted {
    body: Body,
    /// Bytes that are still to be handed over, where that is known.
    left: Option<u64>,
    ended: bool,
    wire: Arc<Wire>,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        match &next {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(len));
            }
            Poll::Ready(Some(Err(error))) => {
                self.wire.failed(if error.is::<TooSlow>() { "lagged" } else { "failed" });
            }
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // Dropped earlier, the connection broke.
        if self.ended || self.left == Some(0) || self.body.is_end_stream() {
            self.wire.over.store(true, Ordering::Relaxed);
        }
    }
}
