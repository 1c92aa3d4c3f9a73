//! Where the edge gets everything from: a service that answers like an origin.
//!
//! In one process it is the origin's own service, on many machines [`Origins`], which chooses among several and asks
//! them over HTTP. The edge asks it for `GET /relay/{app}/{name}` and for the files of HLS, and cannot tell which one
//! it has.

mod body;
mod client;
mod found;
mod health;
mod origins;
mod question;
mod race;
mod rendezvous;
#[cfg(test)]
mod tests;
mod trust;
mod via;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

pub use client::OriginUrlError;
pub use origins::{Origins, UpstreamError};
pub use trust::TrustError;
pub(crate) use via::{VIA, Via, doubt, is_by_edge};

/// Goes with an answer that is the edge's own, since no origin could be asked for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unreachable;

/// Which of several origins an answer is from. A question that has it is for the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Giver(u64);

/// The name of the origin that an answer with a stream's feed is from.
#[derive(Debug, Clone)]
pub(crate) struct GivenBy(pub(crate) Arc<str>);

/// What a service of another house may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to [`Pages`], and of every response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The origin, near or far.
pub type Upstream = BoxCloneSyncService<Request<()>, Response<Body>, BoxError>;

/// What is not media: pages and the API. The peer's [`std::net::SocketAddr`] is among the request's
/// extensions.
pub type Pages = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// What stands unescaped in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path segment, escaped: the same for all who mean the same.
pub(crate) fn segment(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, SEGMENT)
}

/// Asks a service once it is ready.
pub(crate) fn ask<T: Send + 'static>(
    service: &BoxCloneSyncService<Request<T>, Response<Body>, BoxError>,
    request: Request<T>,
) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
    service.clone().oneshot(request).boxed()
}
