//! A stream as a response: over HTTP/1 its head, and the shared bytes of its ring on the bare socket; over HTTP/2 the
//! same bytes as a body, one piece a flush.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use super::connection::Connection;
use super::progress::Progress;
use super::route::Container;
use crate::fanout::{Format, Over};
use crate::feed::Viewer;
use crate::guard::Seat;
use crate::shard::{Protocol, Wish};
use crate::upstream::{Body, BoxError};

/// The viewer is too slow: an error, so that its player sees no regular end and tries again.
#[derive(Debug, thiserror::Error)]
#[error("the line is too slow for the stream")]
pub(super) struct TooSlow;

/// The viewer's grant has expired.
#[derive(Debug, thiserror::Error)]
#[error("the grant has expired")]
struct Expired;

/// What every live response says.
pub(super) fn headers(headers: &mut HeaderMap, container: Container) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(container.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The body of a response over HTTP/2.
pub(super) fn body(
    viewer: Viewer,
    seat: Option<Seat>,
    until: Option<Instant>,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    window: Duration,
) -> Body {
    let (connection, rests) = (Arc::clone(connection), Rests::new(window));
    LiveBody { viewer, rests, until, progress, connection, _seat: seat }.boxed_unsync()
}

/// The head of a response over HTTP/1 as it goes out (RFC 9112 §4), for a connection that is for nothing else any
/// more.
pub(super) fn head_bytes(head: &Response<()>, format: Format) -> Bytes {
    let reason = head.status().canonical_reason().unwrap_or_default();
    let mut out = BytesMut::from(format!("HTTP/1.1 {} {reason}\r\n", head.status().as_str()).as_bytes());
    let mut line = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    for (name, value) in head.headers() {
        line(name.as_str().as_bytes(), value.as_bytes());
    }
    line(b"date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    if format.is_chunked() {
        line(b"transfer-encoding", b"chunked");
    }
    if format.is_ts() || matches!(format, Format::Flv | Format::ChunkedFlv) {
        line(b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    out.freeze()
}

/// HTTP/1's side of a viewer's connection: nothing more is heard.
pub(super) struct Plain {
    chunked: bool,
    last: Option<Bytes>,
    over: bool,
}

impl Plain {
    pub(super) fn new(chunked: bool) -> Self {
        Self { chunked, last: None, over: false }
    }
}

impl Protocol for Plain {
    fn input(&mut self, _now: Instant, _bytes: &[u8]) {}

    fn output(&mut self) -> Option<Bytes> {
        self.last.take()
    }

    /// Only a stream's end is a regular one: after any other the player tries again.
    fn end(&mut self, over: Over) {
        self.over = true;
        if self.chunked && over == Over::Ended {
            self.last = Some(Bytes::from_static(b"0\r\n\r\n"));
        }
    }

    fn wish(&mut self) -> Wish {
        if self.over { Wish::Leave } else { Wish::Play }
    }
}

/// Lets what is new wait for more: once all was handed out, nothing is for the time of a window.
struct Rests {
    window: Duration,
    /// `None` without a window.
    sleep: Option<Pin<Box<Sleep>>>,
    resting: bool,
    /// Something was handed out since the last rest.
    handed_out: bool,
}

impl Rests {
    fn new(window: Duration) -> Self {
        let sleep = (!window.is_zero()).then(|| Box::pin(tokio::time::sleep(Duration::ZERO)));
        Self { window, sleep, resting: false, handed_out: false }
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>, next: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Some(sleep) = &mut self.sleep else { return next(cx) };
        if self.resting {
            ready!(sleep.as_mut().poll(cx));
            (self.resting, self.handed_out) = (false, false);
        }
        let next = next(cx);
        if next.is_pending() && self.handed_out {
            sleep.as_mut().reset(tokio::time::Instant::now() + self.window);
            self.resting = sleep.as_mut().poll(cx).is_pending();
        }
        self.handed_out |= next.is_ready();
        next
    }
}

struct LiveBody {
    viewer: Viewer,
    rests: Rests,
    /// It may watch no longer from then on.
    until: Option<Instant>,
    progress: Arc<Progress>,
    connection: Arc<Connection>,
    _seat: Option<Seat>,
}

impl HttpBody for LiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.viewer.dropped(Over::Expired);
            self.progress.failed("expired");
            return Poll::Ready(Some(Err(Expired.into())));
        }
        let this = &mut *self;
        this.rests.poll(cx, |cx| this.viewer.poll_next(cx)).map(|next| match next {
            Ok(bytes) => Some(Ok(Frame::data(bytes))),
            Err(Over::Ended) => None,
            Err(Over::Lagged | Over::Stalled | Over::Paused | Over::Expired) => {
                self.progress.failed("lagged");
                Some(Err(TooSlow.into()))
            }
        })
    }
}

impl Drop for LiveBody {
    fn drop(&mut self) {
        if self.connection.is_stalled() {
            self.viewer.dropped(Over::Stalled);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_within_a_window_is_handed_out_together() {
        let ms = Duration::from_millis;
        let (sender, mut receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            for n in 0..8 {
                sender.send(n).await.unwrap();
                tokio::time::sleep(ms(40)).await;
            }
        });
        let mut rests = Rests::new(ms(100));
        let began = tokio::time::Instant::now();
        let mut seen = Vec::new();
        while let Some(n) = poll_fn(|cx| rests.poll(cx, |cx| receiver.poll_recv(cx))).await {
            seen.push((n, began.elapsed().as_millis()));
        }
        // A timer of tokio's rounds up to the next millisecond.
        let expected = [(0, 0), (1, 100), (2, 100), (3, 200), (4, 200), (5, 300), (6, 300), (7, 300)];
        let near = |(one, two): (&(i32, u128), &(i32, u128))| one.0 == two.0 && one.1.abs_diff(two.1) <= 5;
        assert!(seen.len() == 8 && seen.iter().zip(&expected).all(near), "{seen:?}");
    }
}
