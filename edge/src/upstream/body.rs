//! The body of an origin's answer, which may not stall.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::race::Error;
use super::{Body, BoxError};

/// A body that fails when nothing of it comes for too long, and names its origin when it fails.
pub(super) struct Watched {
    body: Body,
    origin: Arc<str>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    failures: prometheus::IntCounter,
}

impl Watched {
    pub(super) fn new(
        body: Body,
        origin: Arc<str>,
        stall: Duration,
        failures: prometheus::IntCounter,
    ) -> Self {
        Self { body, origin, stall, timer: Box::pin(sleep(stall)), waiting: false, failures }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(next.map(|frame| {
                frame.map_err(|error| {
                    this.failures.inc();
                    Error::Broken { origin: Arc::clone(&this.origin), error }.into()
                })
            }));
        }
        // Counted from when somebody began to wait: a reader who takes his time is not the origin's fault.
        if !this.waiting {
            this.waiting = true;
            this.timer.as_mut().reset(Instant::now() + this.stall);
        }
        match this.timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                this.failures.inc();
                Poll::Ready(Some(Err(Error::Stalled { origin: Arc::clone(&this.origin) }.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
