//! The origin as a service: what edges, and caches in front of it, ask it for.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use control_api::RESERVED_APPS;
use control_api::trace::TRACEPARENT;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use media_core::hub::StreamKey;
use media_core::relay::Place;
use percent_encoding::percent_decode_str;

use super::{Body, BoxError, empty, problem};
use crate::Origin;

/// First path segment of relays.
const RELAY: &str = "relay";
/// The query by which an edge asks a stream's publisher for a keyframe.
const KEYFRAME: &str = "keyframe";

/// Answers `GET` and `HEAD` for
/// - `/relay/{app}/{name}?keyframe`: asks the stream's publisher for a keyframe, which some can be asked for.
/// - `/relay/{app}/{name}`: the stream's feed ([`media_core::relay`]), endless until the stream ends; with
///   `?after={epoch}-{sequence}` from the frame behind that one on, if it is kept; `traceparent` names the span in
///   which it was published, where there are spans;
/// - `/{app}/{name}/…`: the playlists, parts and segments of HLS.
///
/// Everything else, and every error, is a problem document.
#[derive(Debug, Clone)]
pub struct Service(Origin);

impl Service {
    pub(crate) fn new(origin: Origin) -> Self {
        Self(origin)
    }
}

impl tower::Service<Request<()>> for Service {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let origin = self.0.clone();
        Box::pin(async move {
            let result: Result<_, Infallible> = Ok(answer(&origin, &request).await);
            result.map_err(Into::into)
        })
    }
}

async fn answer(origin: &Origin, request: &Request<()>) -> Response<Body> {
    let is_head = *request.method() == Method::HEAD;
    if !is_head && *request.method() != Method::GET {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    let mut segments = path.strip_prefix('/').unwrap_or(path).splitn(3, '/');
    let (first, second, rest) = (segments.next(), segments.next(), segments.next());
    let mut response = match (first, second, rest) {
        (Some(RELAY), Some(app), Some(name)) if request.uri().query() == Some(KEYFRAME) => {
            key(app, name).map_or_else(|response| *response, |key| want_keyframe(origin, &key))
        }
        (Some(RELAY), Some(app), Some(name)) => {
            match (key(app, name), Place::of_query(request.uri().query())) {
                (Ok(key), Ok(after)) => match origin.summon(&key).await {
                    Ok(()) => relay(origin, &key, after, is_head),
                    Err(absent) => problem(StatusCode::SERVICE_UNAVAILABLE, absent.to_string()),
                },
                (Err(response), _) => *response,
                (_, Err(error)) => problem(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
        (Some(app), Some(name), Some(rest)) if app != RELAY => match key(app, name) {
            Ok(key) => match origin.summon(&key).await {
                Ok(()) => origin.hls().handle(&key, rest, request.uri().query(), request.headers()).await,
                Err(absent) => problem(StatusCode::SERVICE_UNAVAILABLE, absent.to_string()),
            },
            Err(response) => *response,
        },
        _ => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    if is_head {
        *response.body_mut() = empty();
    }
    response
}

/// The stream that two path segments name.
fn key(app: &str, name: &str) -> Result<StreamKey, Box<Response<Body>>> {
    let decode = |segment| percent_decode_str(segment).decode_utf8();
    let refuse = |detail: String| Box::new(problem(StatusCode::BAD_REQUEST, detail));
    let (Ok(app), Ok(name)) = (decode(app), decode(name)) else {
        return Err(refuse("the path is not UTF-8".to_owned()));
    };
    StreamKey::parse(&app, &name, RESERVED_APPS).map_err(|error| refuse(error.to_string()))
}

/// Somebody who watches at an edge can't go on without a keyframe.
fn want_keyframe(origin: &Origin, key: &StreamKey) -> Response<Body> {
    let Some(stream) = origin.registry().stream(key) else {
        return problem(StatusCode::NOT_FOUND, "no such stream is live");
    };
    stream.want_keyframe();
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn relay(origin: &Origin, key: &StreamKey, after: Option<Place>, is_head: bool) -> Response<Body> {
    let body = if is_head {
        origin.registry().stream(key).map(|_| empty())
    } else {
        origin.relay().body(origin.registry(), key, after)
    };
    let Some(body) = body else { return problem(StatusCode::NOT_FOUND, "no such stream is live") };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(trace) = origin.trace(key).and_then(|trace| trace.header()) {
        headers.insert(TRACEPARENT, trace);
    }
    response
}

#[cfg(test)]
mod tests;
