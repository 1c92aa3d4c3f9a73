//! Errors as problem documents (RFC 9457).

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::{Body, full};

/// A problem document. Its type is `about:blank`: the status says what kind of problem it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The status' name.
    pub title: String,
    /// The status' number.
    pub status: u16,
    /// What is wrong with this request, for people.
    pub detail: String,
}

/// An error response. It may not be cached; who knows better sets `Cache-Control` anew.
pub fn problem(status: StatusCode, detail: impl Into<String>) -> Response<Body> {
    let problem = Problem {
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: detail.into(),
    };
    let mut response = Response::new(full(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
