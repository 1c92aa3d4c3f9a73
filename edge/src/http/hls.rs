//! HLS: requests pass to the upstream, many equal ones as one.
//!
//! A request is reduced to what distinguishes answers — the path in one spelling, the `_HLS_*`
//! directives in one order, whether gzip is accepted — before anything is asked; a malformed directive
//! is refused here.
//!
//! How long caches may keep an error follows the origin (RFC 8216bis appendix B, but for errors that only time heals,
//! which they may not keep at all): what it said of an absence is said again from memory.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use control_api::accepts_gzip;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use media_core::hls::Query;
use media_core::hub::StreamKey;

use super::problem::{full, problem};
use super::route::HlsFile;
use crate::audience::Audience;
use crate::cache::coalesce::{Flights, Ticket};
use crate::config::HlsConfig;
use crate::metrics::Metrics;
use crate::negative::Absent;
use crate::upstream::{Body, BoxError, Upstream, ask};

/// What belongs to the upstream's connection or client, not to the file.
const NOT_PASSED_ON: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Pieces of a file: 1 KiB each of the largest by default. What is cut finer is nothing that a player can use.
const MAX_PIECES: usize = 65_536;

/// Seconds that a malformed question may be remembered. It stays malformed: this is an origin's answer to it, four
/// target durations, for the usual 2 s.
const MALFORMED_MAX_AGE_S: u32 = 8;

/// A file as the upstream answered.
#[derive(Debug)]
struct File {
    status: StatusCode,
    /// As passed on.
    headers: HeaderMap,
    /// Shared with whoever made them, and with all who ask.
    pieces: Vec<Bytes>,
}

impl File {
    /// There is no such file, which caches may remember for so many seconds, and so may the edge: but not of a part
    /// that is not announced *yet*.
    fn absence(&self) -> Option<u32> {
        if self.status != StatusCode::NOT_FOUND {
            return None;
        }
        let values = self.headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let mut max_age_s = 0;
        for rule in values.flat_map(|value| value.split(',')).map(str::trim) {
            if rule == "no-store" {
                return None;
            }
            if let Some(seconds) = rule.strip_prefix("max-age=") {
                max_age_s = seconds.parse().unwrap_or_default();
            }
        }
        Some(max_age_s)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Upstream,
    Timeout,
    TooLarge,
}

type Answer = Result<Arc<File>, Failure>;

/// What distinguishes answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    path_and_query: String,
    gzip: bool,
}

/// Serves HLS files.
pub(crate) struct Hls {
    config: HlsConfig,
    upstream: Upstream,
    metrics: Arc<Metrics>,
    flights: Flights<Key, Answer>,
    absent: Arc<Absent>,
    audience: Audience,
}

impl Hls {
    /// Absence is remembered for `absent_ttl`.
    pub(crate) fn new(
        config: HlsConfig,
        absent_ttl: Duration,
        upstream: Upstream,
        metrics: Arc<Metrics>,
    ) -> Self {
        let audience = Audience::new(Duration::from_millis(config.viewer_ttl_ms));
        let absent = Arc::new(Absent::new(absent_ttl));
        Self { config, upstream, metrics, flights: Flights::new(), absent, audience }
    }

    /// Clients of a stream.
    pub(crate) fn viewers(&self, key: &StreamKey) -> u64 {
        self.audience.of(key, now())
    }

    /// Clients of all streams.
    pub(crate) fn all_viewers(&self) -> u64 {
        self.audience.total(now())
    }

    pub(super) async fn serve<B>(
        &self,
        file: &HlsFile,
        request: &Request<B>,
        peer: SocketAddr,
    ) -> Response<Body> {
        // Media doesn't get smaller, and playlists alone take directives. Brotli would save a tenth of the one or two
        // kilobytes that a playlist has with gzip.
        let mut key = Key { path_and_query: file.path.clone(), gzip: false };
        if file.playlist {
            let query = match Query::parse(request.uri().query().unwrap_or_default()) {
                Ok(query) => query,
                Err(bad) => return error(StatusCode::BAD_REQUEST, &bad.to_string(), MALFORMED_MAX_AGE_S),
            };
            if query != Query::default() {
                key.path_and_query = format!("{}?{query}", file.path);
            }
            key.gzip = accepts_gzip(request.headers());
        }
        if let Some(max_age_s) = self.absent.get(&key.path_and_query, now()) {
            self.metrics.absent_hits.inc();
            return error(StatusCode::NOT_FOUND, "there is no such file", max_age_s);
        }
        let seat = match self.flights.board(key.clone(), || self.fetch(key)) {
            Ticket::First(seat) => seat,
            Ticket::Shared(seat) => {
                self.metrics.coalesced.inc();
                seat
            }
            Ticket::Refused => {
                return problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting");
            }
        };
        let answer = seat.answer().await.unwrap_or(Err(Failure::Upstream));
        if file.playlist && answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK) {
            let agent = request.headers().get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
            self.audience.seen(&file.key, peer.ip(), agent, now());
        }
        respond(answer, request.method() == Method::HEAD)
    }

    fn fetch(&self, key: Key) -> impl Future<Output = Answer> + Send + use<> {
        self.metrics.upstream_hls.inc();
        let upstream = self.upstream.clone();
        let limit = self.config.max_object_bytes;
        let timeout = Duration::from_millis(self.config.request_timeout_ms);
        let absent = Arc::clone(&self.absent);
        async move {
            let answer = tokio::time::timeout(timeout, fetch(upstream, &key, limit)).await;
            let answer = answer.unwrap_or(Err(Failure::Timeout));
            if let Some(max_age_s) = answer.as_ref().ok().and_then(|file| file.absence()) {
                absent.insert(&key.path_and_query, max_age_s, now());
            }
            answer
        }
    }
}

async fn fetch(upstream: Upstream, key: &Key, limit: usize) -> Answer {
    let mut request = Request::get(&key.path_and_query);
    if key.gzip {
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let request = request.body(()).map_err(|error| failure(key, &BoxError::from(error)))?;
    let response = ask(&upstream, request).await.map_err(|error| failure(key, &error))?;
    let (head, body) = response.into_parts();
    let (pieces, len) = collect(body, key, limit).await?;
    let mut headers = head.headers;
    for name in &NOT_PASSED_ON {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    Ok(Arc::new(File { status: head.status, headers, pieces }))
}

/// A body's pieces as they come, and their length.
async fn collect(mut body: Body, key: &Key, limit: usize) -> Result<(Vec<Bytes>, usize), Failure> {
    let (mut pieces, mut len) = (Vec::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(key, &error))?;
        let Ok(piece) = frame.into_data() else { continue };
        if piece.is_empty() {
            continue;
        }
        len = len.saturating_add(piece.len());
        if len > limit || pieces.len() == MAX_PIECES {
            tracing::warn!(path = key.path_and_query, limit, "file is larger than the limit");
            return Err(Failure::TooLarge);
        }
        pieces.push(piece);
    }
    Ok((pieces, len))
}

fn failure(key: &Key, error: &BoxError) -> Failure {
    tracing::warn!(path = key.path_and_query, error, "upstream failed");
    Failure::Upstream
}

fn respond(answer: Answer, head_only: bool) -> Response<Body> {
    let file = match answer {
        Ok(file) => file,
        Err(Failure::Upstream | Failure::TooLarge) => {
            return problem(StatusCode::BAD_GATEWAY, "the stream's origin gave no usable answer");
        }
        Err(Failure::Timeout) => {
            return problem(StatusCode::GATEWAY_TIMEOUT, "the stream's origin did not answer in time");
        }
    };
    let (status, headers) = (file.status, file.headers.clone());
    let body = if head_only { full(Bytes::new()) } else { Pieces { file, next: 0 }.boxed_unsync() };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A problem that caches may remember for so many seconds.
fn error(status: StatusCode, detail: &str, max_age_s: u32) -> Response<Body> {
    let mut response = problem(status, detail);
    if max_age_s > 0
        && let Ok(rule) = HeaderValue::try_from(format!("public, max-age={max_age_s}"))
    {
        response.headers_mut().insert(CACHE_CONTROL, rule);
    }
    response
}

/// A file as a body: its pieces, none copied.
struct Pieces {
    file: Arc<File>,
    next: usize,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = self.file.pieces.get(self.next).cloned();
        self.next += usize::from(piece.is_some());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.file.pieces.len()
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_that_may_end_at_any_moment_is_not_remembered() {
        let file = |status, rule: &'static str| {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(rule))]);
            File { status, headers, pieces: Vec::new() }
        };
        assert_eq!(file(StatusCode::NOT_FOUND, "public, max-age=2").absence(), Some(2));
        assert_eq!(file(StatusCode::NOT_FOUND, "public").absence(), Some(0));
        assert_eq!(file(StatusCode::NOT_FOUND, "max-age=-1").absence(), Some(0));
        assert_eq!(file(StatusCode::NOT_FOUND, "max-age=2, no-store").absence(), None);
        assert_eq!(file(StatusCode::OK, "public, max-age=2").absence(), None);
    }

    /// A body of these pieces.
    fn body(pieces: &[Bytes]) -> Body {
        let frames = pieces.iter().cloned().map(|piece| Ok(Frame::data(piece))).collect::<Vec<_>>();
        http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn a_file_is_handed_out_in_the_pieces_that_came() {
        let pieces = [Bytes::from(vec![1; 100]), Bytes::new(), Bytes::from(vec![2; 50])];
        let key = Key { path_and_query: "/live/a/v0/1-1.m4s".to_owned(), gzip: false };
        assert_eq!(collect(body(&pieces), &key, 149).await, Err(Failure::TooLarge));
        assert_eq!(
            collect(body(&vec![Bytes::from("x"); MAX_PIECES + 1]), &key, 1 << 20).await,
            Err(Failure::TooLarge)
        );
        let (pieces_of, len) = collect(body(&pieces), &key, 150).await.unwrap();
        assert_eq!(len, 150);
        let file = File { status: StatusCode::OK, headers: HeaderMap::new(), pieces: pieces_of };
        let file = Arc::new(file);
        for _ in 0..2 {
            let mut body = respond(Ok(Arc::clone(&file)), false).into_body();
            for piece in [&pieces[0], &pieces[2]] {
                assert!(!body.is_end_stream());
                let handed = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!((handed.as_ptr(), handed.len()), (piece.as_ptr(), piece.len()), "not a copy");
            }
            assert!(body.is_end_stream() && body.frame().await.is_none());
        }
    }
}
