//! What WHIP (RFC 9725) and WHEP have in common over HTTP: an offer is posted, its session is a resource that can be told
//! of candidates and deleted. Errors are problem documents (RFC 9457).

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Limited};

use crate::offer::{MAX_BYTES, Refused};
use crate::server::{Accepted, Server};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The type of offers and answers.
pub const SDP: &str = "application/sdp";
/// The type of what a session is told of candidates (RFC 8840).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The type of problem documents.
const PROBLEM: &str = "application/problem+json";
/// Candidates in one.
const MAX_CANDIDATES: usize = 32;
/// `Accept-Post` (RFC 9725 §4.2).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ENDPOINT_METHODS: &str = "OPTIONS, POST";
const SESSION_METHODS: &str = "OPTIONS, PATCH, DELETE";

/// An answer, with what else its client should know.
#[derive(Debug)]
pub struct Welcome {
    /// The session.
    pub accepted: Accepted,
    /// Where it is, without a slash at its end: the session's name comes behind.
    pub endpoint: String,
    /// What of the stream is left out, for people.
    pub warning: Option<String>,
}

/// A request's body; `None` for one that is too long for anything here, or that broke off.
pub fn read(body: UnsyncBoxBody<Bytes, BoxError>) -> BoxFuture<'static, Option<Bytes>> {
    Limited::new(body, MAX_BYTES).collect().map(|whole| whole.ok().map(Collected::to_bytes)).boxed()
}

/// Answers a request for an endpoint, or for a session of it, whose body was [`read`]. `accept` decides about an offer and
/// answers it.
pub async fn serve<F>(
    server: &Server,
    session: Option<&str>,
    request: Request<Option<Bytes>>,
    accept: impl FnOnce(String) -> F,
) -> Response<Bytes>
where
    F: Future<Output = Result<Welcome, Response<Bytes>>>,
{
    let (head, body) = request.into_parts();
    match (&head.method, session) {
        (&Method::OPTIONS, session) => options(session.is_some()),
        (&Method::POST, None) => {
            if !is_of_type(&head.headers, SDP) {
                return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an offer has the type application/sdp");
            }
            let offer = match text(body) {
                Ok(offer) => offer,
                Err(response) => return *response,
            };
            match accept(offer).await {
                Ok(welcome) => created(server, welcome),
                Err(response) => response,
            }
        }
        (&Method::DELETE, Some(session)) => match server.close(session) {
            Ok(()) => Response::new(Bytes::new()),
            Err(refused) => refusal(&refused),
        },
        (&Method::PATCH, Some(session)) => patch(server, session, &head.headers, body),
        (_, session) => {
            let methods = if session.is_some() { SESSION_METHODS } else { ENDPOINT_METHODS };
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, &format!("what is answered here: {methods}"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            response
        }
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A problem document.
pub fn problem(status: StatusCode, detail: &str) -> Response<Bytes> {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(Bytes::from(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why an offer or a session was refused.
pub fn refusal(refused: &Refused) -> Response<Bytes> {
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem(status, &refused.to_string())
}

/// What pages of other sites may do and read (RFC 9725 §4.2), beside whose they may be.
pub fn share(headers: &mut HeaderMap) {
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("location, link, etag, warning, accept-post"),
    );
}

fn options(of_session: bool) -> Response<Bytes> {
    let methods = if of_session { SESSION_METHODS } else { ENDPOINT_METHODS };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, if-match"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

fn created(server: &Server, Welcome { accepted, endpoint, warning }: Welcome) -> Response<Bytes> {
    let Accepted { session, answer } = accepted;
    let location = HeaderValue::from_str(&format!("{endpoint}/{session}"));
    let (Ok(location), Ok(etag)) = (location, HeaderValue::from_str(&etag(&session))) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the session's address can't be written");
    };
    let mut response = Response::new(Bytes::from(answer));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(LOCATION, location);
    headers.insert(ETAG, etag);
    for url in &server.config().ice_servers {
        // One that is no URL at all is left out: clients do without.
        if let Ok(link) = HeaderValue::from_str(&format!("<{url}>; rel=\"ice-server\"")) {
            headers.append(LINK, link);
        }
    }
    let warning = warning.and_then(|text| HeaderValue::from_str(&format!("199 - \"{text}\"")).ok());
    if let Some(warning) = warning {
        headers.insert(http::header::WARNING, warning);
    }
    response
}

/// The tag of a session's ICE credentials (RFC 9725 §4.3.1): they never change.
fn etag(session: &str) -> String {
    format!("\"{}\"", session.get(..8).unwrap_or(session))
}

fn patch(server: &Server, session: &str, headers: &HeaderMap, body: Option<Bytes>) -> Response<Bytes> {
    if !is_of_type(headers, FRAGMENT) {
        let detail = "what a session is told has the type application/trickle-ice-sdpfrag";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
    }
    if !server.knows(session) {
        return refusal(&Refused::Unknown);
    }
    let matches =
        headers.get(IF_MATCH).is_none_or(|tag| tag == "*" || tag.as_bytes() == etag(session).as_bytes());
    if !matches {
        // A client that restarts ICE matches any tag (§4.3.3).
        return problem(StatusCode::PRECONDITION_FAILED, "the session has other ICE credentials");
    }
    if headers.get(IF_MATCH).is_some_and(|tag| tag == "*") {
        return problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "ICE can't be restarted here: begin another session",
        );
    }
    let fragment = match text(body) {
        Ok(fragment) => fragment,
        Err(response) => return *response,
    };
    let candidates: Vec<&str> = fragment
        .lines()
        .filter_map(|line| line.strip_prefix("a=").filter(|line| line.starts_with("candidate:")))
        .collect();
    if candidates.len() > MAX_CANDIDATES {
        let found = candidates.len();
        return refusal(&Refused::TooLarge { what: "candidates", found, most: MAX_CANDIDATES });
    }
    match server.trickle(session, &candidates) {
        Ok(()) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refused) => refusal(&refused),
    }
}

fn is_of_type(headers: &HeaderMap, expected: &str) -> bool {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    found.split(';').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(expected))
}

/// A body as text.
fn text(body: Option<Bytes>) -> Result<String, Box<Response<Bytes>>> {
    let Some(body) = body else {
        let detail = format!("the body has more than {MAX_BYTES} bytes, or broke off");
        return Err(Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail)));
    };
    String::from_utf8(body.to_vec())
        .map_err(|_| Box::new(problem(StatusCode::BAD_REQUEST, "the body is not UTF-8")))
}
