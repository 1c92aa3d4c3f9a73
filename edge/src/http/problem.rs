//! What clients are told when they don't get what they asked for: problem details (RFC 9457).

use bytes::Bytes;
use control_api::grant::Refused;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::feed::Refusal;
use crate::guard::Denial;
use crate::upstream::Body;

/// Methods that media answer to.
pub(super) const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// A body that is there at once.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A problem document.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(full(document.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, ALLOWED);
    }
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Of a stream that can't be watched.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    problem(refused_with(refusal), &refusal.to_string())
}

/// The status that says so.
pub(crate) fn refused_with(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Absent => StatusCode::NOT_FOUND,
        Refusal::Unavailable => StatusCode::BAD_GATEWAY,
        Refusal::Full | Refusal::Away => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The status that says so.
pub(crate) fn denied_with(denial: Denial) -> StatusCode {
    match denial {
        Denial::Grant(refused) if !refused.is_forbidden() => StatusCode::UNAUTHORIZED,
        Denial::Grant(_) | Denial::Address | Denial::Referer | Denial::Origin | Denial::Doorkeeper => {
            StatusCode::FORBIDDEN
        }
        Denial::Rate | Denial::Crowded => StatusCode::TOO_MANY_REQUESTS,
        Denial::Viewers | Denial::Stream | Denial::Egress => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Of somebody who is not served, and how to be (RFC 6750 §3).
pub(super) fn denied(denial: Denial) -> Response<Body> {
    let status = denied_with(denial);
    let (how, challenge) = match denial {
        Denial::Grant(Refused::Missing) => {
            (": before the path (/~…/), as ?token=… or as \"Authorization: Bearer …\"", "Bearer")
        }
        _ => ("", "Bearer error=\"invalid_token\""),
    };
    let mut response = problem(status, &format!("{denial}{how}"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The same file is elsewhere, for this request.
pub(super) fn moved(to: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::try_from(to) else {
        return problem(StatusCode::BAD_REQUEST, "the query has a character that is not text");
    };
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
