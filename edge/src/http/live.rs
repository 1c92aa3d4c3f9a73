//! A stream as the body of a response: the shared bytes of its ring, one piece a flush.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;

use super::connection::{Connection, Progress};
use super::problem::full;
use super::watched::chunk;
use crate::fanout::Over;
use crate::feed::Viewer;
use crate::upstream::{Body, BoxError};

/// The viewer is too slow: an error, so that its player sees no regular end and tries again.
#[derive(Debug, thiserror::Error)]
#[error("the line is too slow for the stream")]
struct TooSlow;

/// The response to a viewer; to who only asks for the head, without the body.
pub(super) fn response<B>(
    viewer: Viewer,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    request: &Request<B>,
) -> Response<Body> {
    let mut response = if request.method() == Method::HEAD {
        Response::new(full(Bytes::new()))
    } else {
        let progress = (request.version() == Version::HTTP_2).then_some(progress);
        let body = LiveBody { viewer, progress, connection: Arc::clone(connection) };
        Response::new(body.boxed_unsync())
    };
    live_headers(response.headers_mut());
    response
}

fn live_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

struct LiveBody {
    viewer: Viewer,
    /// Of HTTP/2: nothing else asks for it, and each piece that keeps it is an allocation.
    progress: Option<Arc<Progress>>,
    connection: Arc<Connection>,
}

impl HttpBody for LiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = self.viewer.poll_next(cx);
        if let Some(progress) = &self.progress {
            progress.polled(next.is_pending());
        }
        next.map(|next| match next {
            Ok(bytes) => {
                // What the client has yet to take outlives the stream.
                let bytes = match &self.progress {
                    Some(progress) => chunk(bytes, progress),
                    None => bytes,
                };
                Some(Ok(Frame::data(bytes)))
            }
            Err(Over::Ended) => None,
            Err(Over::Lagged | Over::Stalled | Over::Paused) => Some(Err(TooSlow.into())),
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
