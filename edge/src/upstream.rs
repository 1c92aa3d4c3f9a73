//! Where the edge gets everything from: a service that answers like an origin.
//!
//! In one process it is the origin's own service, on many machines an HTTP client. The edge asks it
//! for `GET /relay/{app}/{name}` and for the files of HLS, and cannot tell which one it has.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use tower::util::BoxCloneSyncService;

/// What a service of another house may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to [`Pages`], and of every response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The origin, near or far.
pub type Upstream = BoxCloneSyncService<Request<()>, Response<Body>, BoxError>;

/// What is not media: pages and the API. The peer's [`std::net::SocketAddr`] is among the request's
/// extensions.
pub type Pages = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;
