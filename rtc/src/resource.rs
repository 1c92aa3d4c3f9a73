//! What WHIP (RFC 9725) and WHEP have in common over HTTP: an offer is posted, its session is a resource that can be told
//! of candidates and deleted. Errors are problem documents (RFC 9457).

mod sdp_fragment;

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE,
    ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Limited};

use crate::ice_servers::IceServer;
use crate::offer::{MAX_BYTES, Refused};
use crate::server::{Accepted, Restarted, Server};
use sdp_fragment::Fragment;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The type of offers and answers.
pub const SDP: &str = "application/sdp";
/// The type of what a session is told of candidates (RFC 8840).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The type of problem documents.
const PROBLEM: &str = "application/problem+json";
/// `Accept-Post` (RFC 9725 §4.2).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ENDPOINT_METHODS: &str = "OPTIONS, POST";
const SESSION_METHODS: &str = "OPTIONS, PATCH, DELETE";

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Where it asks from.
    pub address: IpAddr,
    /// Whether it may publish or watch, as far as is known without an offer.
    pub may: bool,
}

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
    asker: Asker,
    session: Option<&str>,
    request: Request<Option<Bytes>>,
    accept: impl FnOnce(String) -> F,
) -> Response<Bytes>
where
    F: Future<Output = Result<Welcome, Response<Bytes>>>,
{
    let (head, body) = request.into_parts();
    match (&head.method, session) {
        (&Method::OPTIONS, session) => {
            let mut response = options(session.is_some());
            // Not for a browser's own question before it asks (§4.6): that shows no grant either.
            let asks = !head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
            if asks && session.is_none() && asker.may {
                link(server, asker.address, response.headers_mut());
            }
            response
        }
        (&Method::POST, None) => {
            if !is_of_type(&head.headers, SDP) {
                return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an offer has the type application/sdp");
            }
            let offer = match text(body) {
                Ok(offer) => offer,
                Err(response) => return *response,
            };
            match accept(offer).await {
                Ok(welcome) => created(server, welcome, asker.address),
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

/// Tells of STUN and TURN servers (RFC 9725 §4.6).
fn link(server: &Server, client: IpAddr, headers: &mut HeaderMap) {
    for link in server.ice_servers(client).iter().filter_map(IceServer::link) {
        headers.append(LINK, link);
    }
}

fn options(of_session: bool) -> Response<Bytes> {
    let methods = if of_session { SESSION_METHODS } else { ENDPOINT_METHODS };
    let mut response = empty(StatusCode::NO_CONTENT);
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

fn created(
    server: &Server,
    Welcome { accepted, endpoint, warning }: Welcome,
    client: IpAddr,
) -> Response<Bytes> {
    let Accepted { session, answer } = accepted;
    let location = HeaderValue::from_str(&format!("{endpoint}/{session}"));
    let etag = server.fragment(&session).ok().and_then(|ufrag| HeaderValue::from_str(&etag(&ufrag)).ok());
    let (Ok(location), Some(etag)) = (location, etag) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the session's address can't be written");
    };
    let mut response = Response::new(Bytes::from(answer));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(LOCATION, location);
    headers.insert(ETAG, etag);
    link(server, client, headers);
    let warning = warning.and_then(|text| HeaderValue::from_str(&format!("199 - \"{text}\"")).ok());
    if let Some(warning) = warning {
        headers.insert(http::header::WARNING, warning);
    }
    response
}

/// The tag of a session's ICE credentials (RFC 9725 §4.3.1).
fn etag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

fn patch(server: &Server, session: &str, headers: &HeaderMap, body: Option<Bytes>) -> Response<Bytes> {
    if !is_of_type(headers, FRAGMENT) {
        let detail = "what a session is told has the type application/trickle-ice-sdpfrag";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
    }
    let current = match server.fragment(session) {
        Ok(current) => current,
        Err(refused) => return refusal(&refused),
    };
    let Some(tag) = headers.get(IF_MATCH) else {
        let detail =
            "say by If-Match which ICE credentials this is for: the ETag, or * for others (a restart)";
        return problem(StatusCode::PRECONDITION_REQUIRED, detail);
    };
    let restarts = tag == "*";
    if !restarts && tag.as_bytes() != etag(&current).as_bytes() {
        return problem(StatusCode::PRECONDITION_FAILED, "the session has other ICE credentials");
    }
    let text = match text(body) {
        Ok(text) => text,
        Err(response) => return *response,
    };
    let Fragment { credentials, candidates } = match Fragment::parse(&text) {
        Ok(fragment) => fragment,
        Err(refused) => return refusal(&refused),
    };
    let restarted = match credentials {
        Some(theirs) if restarts => Some(server.restart_ice(session, theirs)),
        None if restarts => {
            return problem(StatusCode::BAD_REQUEST, "a restart of ICE has a=ice-ufrag and a=ice-pwd");
        }
        _ => None,
    };
    let answer = restarted.transpose().and_then(|restarted| {
        server.trickle(session, &candidates)?;
        Ok(restarted)
    });
    match answer {
        Ok(Some(restarted)) => restart(&restarted),
        Ok(None) => empty(StatusCode::NO_CONTENT),
        Err(refused) => refusal(&refused),
    }
}

/// What a client is told that restarted ICE (RFC 9725 §4.3.3).
fn restart(restarted: &Restarted) -> Response<Bytes> {
    let Ok(etag) = HeaderValue::from_str(&etag(&restarted.credentials.ufrag)) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the session's tag can't be written");
    };
    let mut response = Response::new(Bytes::from(sdp_fragment::of(restarted)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ETAG, etag);
    response
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
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
