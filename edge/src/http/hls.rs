//! HLS: from a request to the cache's object, and from the object to a response.
//!
//! A request is reduced to what distinguishes answers before anything is asked; a malformed directive is refused here.
//! Conditions (RFC 9110 §13), ranges (§14) and codings (§12.5.3) are answered from the object.
//!
//! How long caches may keep an error follows the origin (RFC 8216bis appendix B, but for errors that only time heals,
//! which they may not keep at all): what it said of an absence is said again from memory.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use control_api::accepts_gzip;
use futures_util::stream;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG,
    HeaderMap, HeaderValue, IF_NONE_MATCH, RANGE,
};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use media_core::hub::StreamKey;
use tokio::time::Instant;

use super::handler::expose;
use super::problem::{full, problem};
use super::range::{Part, part};
use super::route::HlsFile;
use crate::audience::Audience;
use crate::cache::{Answer, Cache, Failure, Key, Object, Whom};
use crate::config::{CacheConfig, GuardConfig, HlsConfig};
use crate::metrics::Metrics;
use crate::upstream::{Body, BoxError, Upstream, is_by_edge};

/// Seconds that a malformed question may be remembered. It stays malformed: this is an origin's answer to it, four
/// target durations, for the usual 2 s.
const MALFORMED_MAX_AGE_S: u32 = 8;

/// What Age mostly says, made once, and never freed: then nobody counts who uses it.
static AGES: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let texts = (0..=120u64).map(|age_s| &*age_s.to_string().leak());
    texts.map(HeaderValue::from_static).collect()
});

/// Serves HLS files.
pub(crate) struct Hls {
    cache: Cache,
    audience: Audience,
}

impl Hls {
    /// Absence is remembered for `absent_ttl`; playlists are of use for `grace` while the upstream can't be reached.
    pub(crate) fn new(
        hls: &HlsConfig,
        guard: &GuardConfig,
        cache: &CacheConfig,
        times: (Duration, Duration),
        upstream: Upstream,
        metrics: Arc<Metrics>,
    ) -> Self {
        let ttl = Duration::from_millis(hls.viewer_ttl_ms);
        let audience = Audience::new(ttl, guard.max_hls_viewers_per_address);
        let cache = Cache::new(hls, cache, times, upstream, metrics);
        Self { cache, audience }
    }

    /// Takes over what can change at run time.
    pub(crate) fn reload(&self, guard: &GuardConfig) {
        self.audience.limit(guard.max_hls_viewers_per_address);
    }

    /// Who watches.
    pub(super) fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Clients of a stream.
    pub(crate) fn viewers(&self, key: &StreamKey) -> u64 {
        self.audience.of(key, Instant::now().into_std())
    }

    /// Streams that have clients.
    pub(crate) fn watched(&self) -> Vec<StreamKey> {
        self.audience.streams(Instant::now().into_std())
    }

    /// Clients of all streams.
    pub(crate) fn all_viewers(&self) -> u64 {
        self.audience.total(Instant::now().into_std())
    }

    /// `via` is the way of the question, should it be passed on.
    pub(super) async fn serve<B>(
        &self,
        file: &HlsFile,
        request: &Request<B>,
        address: IpAddr,
        via: Option<&HeaderValue>,
    ) -> Response<Body> {
        let key = match Key::new(&file.path, request.uri().query().unwrap_or_default()) {
            Ok(key) => key,
            Err(bad) => return error(StatusCode::BAD_REQUEST, &bad.to_string(), MALFORMED_MAX_AGE_S),
        };
        let now = Instant::now();
        match self.cache.find(&key, now) {
            Some(object) => from_cache(&object, request, now),
            None => self.wait(&key, request, address, via).await,
        }
    }

    /// A part or segment in memory, by the path that it is kept by, for a request without conditions.
    pub(super) fn at_once<B>(&self, path: &str, request: &Request<B>) -> Option<Response<Body>> {
        let asked = request.headers();
        if asked.contains_key(RANGE) || asked.contains_key(IF_NONE_MATCH) {
            return None;
        }
        let object = self.cache.find_media(path)?;
        let headers = headers(&object, Some(Instant::now()));
        Some(answer(StatusCode::OK, headers, object.body.clone(), request))
    }

    async fn wait<B>(
        &self,
        key: &Key,
        request: &Request<B>,
        address: IpAddr,
        via: Option<&HeaderValue>,
    ) -> Response<Body> {
        // Other edges ask for many.
        let whom = Whom { via, address: (!is_by_edge(request.headers())).then_some(address) };
        // A range is cut out of the whole.
        match self.cache.get_for(key, request.headers().contains_key(RANGE), whom).await {
            Ok(Answer::Whole(object)) if object.age_s(Instant::now()) == 0 => respond(&object, request, None),
            Ok(Answer::Whole(object) | Answer::Stale(object)) => from_cache(&object, request, Instant::now()),
            Ok(Answer::Absent(max_age_s)) => error(StatusCode::NOT_FOUND, "there is no such file", max_age_s),
            Ok(Answer::Flowing(head, reader)) => {
                let pieces = stream::unfold(reader, |mut reader| async move {
                    let piece = reader.next().await?;
                    Some((piece.map(Frame::data).map_err(BoxError::from), reader))
                });
                let body = match *request.method() {
                    Method::HEAD => full(Bytes::new()),
                    _ => StreamBody::new(pieces).boxed_unsync(),
                };
                let mut response = Response::new(body);
                *response.headers_mut() = head.headers.clone();
                response
            }
            Err(Failure::Upstream | Failure::TooLarge) => {
                problem(StatusCode::BAD_GATEWAY, "the stream's origin gave no usable answer")
            }
            Err(Failure::Timeout) => {
                problem(StatusCode::GATEWAY_TIMEOUT, "the stream's origin did not answer in time")
            }
            Err(Failure::Unreachable) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the stream's origin can't be reached at the moment")
            }
            Err(failure @ Failure::Busy) => problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string()),
            Err(failure @ Failure::Crowded) => problem(StatusCode::TOO_MANY_REQUESTS, &failure.to_string()),
        }
    }
}

/// What was kept says how old it is (RFC 9111 §5.1).
fn from_cache<B>(object: &Object, request: &Request<B>, now: Instant) -> Response<Body> {
    respond(object, request, Some(now))
}

/// An object's headers, with its age `now`. They are put together once, with places for what responses have for
/// themselves: a table that grows costs more than one that is copied.
fn headers(object: &Object, now: Option<Instant>) -> HeaderMap {
    let complete = |headers: &mut HeaderMap| {
        expose(headers);
        headers.insert(AGE, HeaderValue::from_static("0"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    };
    let mut headers = object.ready(complete).clone();
    match now {
        Some(now) => headers.insert(AGE, age(object, now)),
        None => headers.remove(AGE),
    };
    headers
}

fn age(object: &Object, now: Instant) -> HeaderValue {
    let age_s = object.age_s(now);
    let made = usize::try_from(age_s).ok().and_then(|age_s| AGES.get(age_s));
    made.cloned().unwrap_or_else(|| HeaderValue::from(age_s))
}

fn respond<B>(object: &Object, request: &Request<B>, now: Option<Instant>) -> Response<Body> {
    let (asked, status) = (request.headers(), object.head.status);
    let mut headers = headers(object, now);
    if status != StatusCode::OK {
        return answer(status, headers, object.body.clone(), request);
    }
    let has_range = asked.contains_key(RANGE) && request.method() == Method::GET;
    // Brotli would save a tenth of the one or two kilobytes that a playlist has with gzip.
    let compressed = if !has_range && accepts_gzip(asked) { object.gzip() } else { None };
    if compressed.is_some() {
        weaken_etag(&mut headers);
    }
    if is_current(asked, headers.get(ETAG)) {
        headers.remove(CONTENT_LENGTH);
        return answer(StatusCode::NOT_MODIFIED, headers, Bytes::new(), request);
    }
    if let Some(compressed) = compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(compressed.len()));
        return answer(status, headers, compressed, request);
    }
    if !has_range {
        return answer(status, headers, object.body.clone(), request);
    }
    let len = object.body.len();
    match part(asked, headers.get(ETAG).map(HeaderValue::as_bytes), len) {
        Part::Whole => answer(status, headers, object.body.clone(), request),
        Part::Bytes(range) => {
            let said = format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1));
            insert(&mut headers, CONTENT_RANGE, &said);
            headers.insert(CONTENT_LENGTH, HeaderValue::from(range.len()));
            answer(StatusCode::PARTIAL_CONTENT, headers, object.body.slice(range), request)
        }
        Part::Unsatisfiable => {
            let mut response =
                problem(StatusCode::RANGE_NOT_SATISFIABLE, "the file does not have these bytes");
            insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{len}"));
            response
        }
    }
}

fn answer<B>(status: StatusCode, headers: HeaderMap, body: Bytes, request: &Request<B>) -> Response<Body> {
    let body = if request.method() == Method::HEAD { Bytes::new() } else { body };
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Compressed, it is the same, but not byte for byte (RFC 9110 §8.8.3.3).
fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).filter(|etag| !etag.starts_with("W/"));
    if let Some(weak) = strong.map(|etag| format!("W/{etag}")) {
        insert(headers, ETAG, &weak);
    }
}

/// Whether the client has this already (If-None-Match, compared weakly, §13.1.2).
fn is_current(asked: &HeaderMap, etag: Option<&HeaderValue>) -> bool {
    let opaque = |etag: &str| etag.trim().trim_start_matches("W/").to_owned();
    let Some(etag) = etag.and_then(|etag| etag.to_str().ok()).map(opaque) else { return false };
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|known| known.trim() == "*" || opaque(known) == etag)
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A problem that caches may remember for so many seconds.
fn error(status: StatusCode, detail: &str, max_age_s: u32) -> Response<Body> {
    let mut response = problem(status, detail);
    if max_age_s > 0 {
        insert(response.headers_mut(), CACHE_CONTROL, &format!("public, max-age={max_age_s}"));
    }
    response
}
