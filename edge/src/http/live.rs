//! A stream as a response: over HTTP/1 its head, and the shared bytes of its ring on the bare socket; over HTTP/2 the
//! same bytes as a body, one piece a flush.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;

use super::connection::{Connection, Progress};
use super::watched::chunk;
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
pub(super) fn headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The body of a response over HTTP/2.
pub(super) fn body(
    viewer: Viewer,
    seat: Option<Seat>,
    until: Option<Instant>,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
) -> Body {
    LiveBody { viewer, until, progress, connection: Arc::clone(connection), _seat: seat }.boxed_unsync()
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
    if format == Format::ChunkedFlv {
        line(b"transfer-encoding", b"chunked");
    }
    if matches!(format, Format::Flv | Format::ChunkedFlv) {
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

struct LiveBody {
    viewer: Viewer,
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
        let next = self.viewer.poll_next(cx);
        self.progress.polled(next.is_pending());
        next.map(|next| match next {
            // What the client has yet to take outlives the stream.
            Ok(bytes) => Some(Ok(Frame::data(chunk(bytes, &self.progress)))),
            Err(Over::Ended) => {
                self.progress.over();
                None
            }
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
