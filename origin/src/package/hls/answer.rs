//! Answers to requests below `/{app}/{name}/`.
//!
//! How long caches may keep an answer follows RFC 8216bis appendix B, with one exception. An error that only time
//! heals (not there *yet*, no part *for now*) may not be kept at all: whoever asked first would otherwise deny the
//! object to everybody behind the same cache after it has come to be.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_api::accepts_gzip;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use media_core::fmp4::Fragment;
use media_core::frame::Kind;
use media_core::hls::playlist::Form;
use media_core::hls::{Config, Name, Object, Query, Reload, Window};
use tokio::time::{Instant, timeout_at};

use super::live::Live;
use super::metrics::{Asked, HlsMetrics};
use super::pieces::Pieces;
use super::playlists::Which;
use crate::http::{Body, problem};

/// Tells edges that it is the stream that is not here, and not a part of it: another origin may have it.
const ABSENT: HeaderName = HeaderName::from_static("x-weir-absent");
/// A request takes at most this many target durations (RFC 8216bis §6.2.5.2).
const PATIENCE: u32 = 3;
const MULTIVARIANT: &str = "index.m3u8";
const MEDIA: &str = "media.m3u8";
/// One year, which is what caches take for ever. The names are never given twice.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const PLAYLIST_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");

pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// What a path below the stream names.
enum Target<'a> {
    Multivariant,
    Media { rendition: &'a str },
    Object { rendition: &'a str, name: Name },
}

impl<'a> Target<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        match path.split_once('/') {
            None if path == MULTIVARIANT => Some(Self::Multivariant),
            Some((rendition, MEDIA)) => Some(Self::Media { rendition }),
            Some((rendition, name)) => Some(Self::Object { rendition, name: name.parse().ok()? }),
            None => None,
        }
    }
}

/// Answers a request; `lives` are the stream's packagers, newest first.
pub(super) async fn answer(
    config: &Config,
    metrics: &HlsMetrics,
    lives: &[Arc<Live>],
    request: Request<'_>,
) -> Response<Body> {
    let age = Age(config.target_duration());
    let Some(target) = Target::parse(request.path) else {
        metrics.asked(Asked::Unknown);
        return error(StatusCode::NOT_FOUND, "no such object", age.plain_error());
    };
    let deadline = Instant::now() + config.target_duration() * PATIENCE;
    let result = match target {
        Target::Multivariant => {
            metrics.asked(Asked::Multivariant);
            multivariant(lives, &request, age, deadline).await
        }
        Target::Media { rendition } => {
            // Before anything else: a bad query is bad whatever the stream does.
            let query = match Query::parse(request.query) {
                Ok(query) => query,
                Err(e) => {
                    metrics.asked(Asked::BlockingPlaylist);
                    return error(StatusCode::BAD_REQUEST, &e.to_string(), age.blocking_error());
                }
            };
            metrics.asked(if query.blocks() { Asked::BlockingPlaylist } else { Asked::Playlist });
            media(lives, rendition, query, &request, age, deadline).await
        }
        Target::Object { rendition, name } => {
            metrics.asked(match name {
                Name::Init { .. } => Asked::Init,
                Name::Segment { .. } => Asked::Segment,
                Name::Part { .. } => Asked::Part,
            });
            object(lives, rendition, name, age, deadline).await
        }
    };
    result.unwrap_or_else(|lost| {
        if lost == Lost::Elsewhere {
            return absent(age.blocking_error());
        }
        metrics.timeouts.inc();
        let reason = lives.first().and_then(|live| live.problem());
        let reason = reason.unwrap_or_else(|| "the stream does not go on for now".to_owned());
        problem(StatusCode::SERVICE_UNAVAILABLE, reason)
    })
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    NotInTime,
    /// Another origin has the stream.
    Elsewhere,
}

/// The stream that has playlists: what is left of one that another origin has are parts and segments.
fn here(lives: &[Arc<Live>]) -> Option<&Arc<Live>> {
    lives.first().filter(|live| !live.is_elsewhere())
}

/// Asks `look` for an answer, now and whenever the window changes.
async fn wait<T>(
    live: &Live,
    deadline: Instant,
    mut look: impl FnMut(&Window) -> Option<T>,
) -> Result<T, Lost> {
    let mut changes = live.changes();
    loop {
        changes.mark_unchanged();
        if let Some(answer) = live.with_window(&mut look) {
            return Ok(answer);
        }
        if live.is_elsewhere() {
            return Err(Lost::Elsewhere);
        }
        if live.problem().is_some() {
            return Err(Lost::NotInTime);
        }
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Lost::NotInTime),
        }
    }
}

async fn multivariant(
    lives: &[Arc<Live>],
    request: &Request<'_>,
    age: Age,
    deadline: Instant,
) -> Result<Response<Body>, Lost> {
    let Some(live) = here(lives) else { return Ok(absent(age.plain_error())) };
    let ready = wait(live, deadline, |w| match (w.is_ready(), w.ended()) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    });
    if !ready.await? {
        return Ok(absent(age.plain_error()));
    }
    Ok(playlist(live, Which::Multivariant, request.headers, age.plain()))
}

async fn media(
    lives: &[Arc<Live>],
    rendition: &str,
    query: Query,
    request: &Request<'_>,
    age: Age,
    deadline: Instant,
) -> Result<Response<Body>, Lost> {
    let (age_ok, age_error) = if query.blocks() {
        (age.blocking(), age.blocking_error())
    } else {
        (age.plain(), age.plain_error())
    };
    let Some(live) = here(lives) else { return Ok(absent(age_error)) };
    enum Ready {
        Rendition(usize),
        TooFarAhead,
        Absent,
    }
    let ready = wait(live, deadline, |w| {
        if w.renditions().is_empty() {
            // What there will be is not known yet; what is too far ahead is known all the same.
            return match (w.ended(), w.reload(&query)) {
                (true, _) => Some(Ready::Absent),
                (false, Reload::TooFarAhead) => Some(Ready::TooFarAhead),
                (false, _) => None,
            };
        }
        let Some(index) = w.renditions().iter().position(|r| r.name == rendition) else {
            return Some(Ready::Absent);
        };
        match w.reload(&query) {
            Reload::Ready => Some(Ready::Rendition(index)),
            Reload::TooFarAhead => Some(Ready::TooFarAhead),
            Reload::Wait => None,
        }
    });
    let rendition = match ready.await? {
        Ready::Rendition(index) => index,
        Ready::TooFarAhead => {
            return Ok(problem(StatusCode::BAD_REQUEST, "_HLS_msn or _HLS_part is too far ahead"));
        }
        Ready::Absent => return Ok(absent(age_error)),
    };
    let form = if query.skip { Form::Delta } else { Form::Full };
    Ok(playlist(live, Which::Media { rendition, form }, request.headers, age_ok))
}

async fn object(
    lives: &[Arc<Live>],
    rendition: &str,
    name: Name,
    age: Age,
    deadline: Instant,
) -> Result<Response<Body>, Lost> {
    if lives.is_empty() {
        return Ok(absent(age.plain_error()));
    }
    let find = |window: &Window| {
        let index = window.renditions().iter().position(|r| r.name == rendition)?;
        let kind = window.renditions().get(index).and_then(|r| r.kind());
        Some((window.object(index, name), kind))
    };
    for live in lives {
        let found = wait(live, deadline, |w| match find(w) {
            Some((Object::Hinted, _)) => None,
            other => Some(other),
        });
        let found = match found.await {
            Err(Lost::Elsewhere) => continue,
            found => found?,
        };
        if let Some((Object::Ready(pieces), kind)) = found {
            // Not while the window is locked: the first to ask has them put together.
            let pieces = pieces.iter().map(Fragment::bytes).collect();
            return Ok(media_object(pieces, kind));
        }
    }
    Ok(problem(StatusCode::NOT_FOUND, "no such object, or not any more, or not announced yet"))
}

fn media_object(pieces: Vec<Bytes>, kind: Option<Kind>) -> Response<Body> {
    let pieces = Pieces::new(pieces);
    let length = HeaderValue::from(pieces.len());
    let mut response = Response::new(pieces.map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    let media_type = if kind == Some(Kind::Audio) { "audio/mp4" } else { "video/mp4" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, IMMUTABLE);
    response
}

fn playlist(live: &Live, which: Which, headers: &HeaderMap, max_age: HeaderValue) -> Response<Body> {
    let gzip = accepts_gzip(headers);
    let text = live.playlist(which, gzip);
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(crate::http::full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAYLIST_TYPE);
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, max_age);
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn error(status: StatusCode, detail: &str, max_age: HeaderValue) -> Response<Body> {
    let mut response = problem(status, detail);
    response.headers_mut().insert(CACHE_CONTROL, max_age);
    response
}

fn absent(max_age: HeaderValue) -> Response<Body> {
    let mut response = error(StatusCode::NOT_FOUND, "no such stream is live", max_age);
    response.headers_mut().insert(ABSENT, HeaderValue::from_static("stream"));
    response
}

/// How long caches may keep playlists and errors, from the target duration.
#[derive(Clone, Copy)]
struct Age(Duration);

impl Age {
    fn plain(self) -> HeaderValue {
        // Whole seconds; half of one would be none, and a cache that may not collapse requests is no help.
        max_age((self.0 / 2).as_secs().max(1))
    }

    fn plain_error(self) -> HeaderValue {
        max_age(self.0.as_secs())
    }

    fn blocking(self) -> HeaderValue {
        max_age(self.0.as_secs() * 6)
    }

    fn blocking_error(self) -> HeaderValue {
        max_age(self.0.as_secs() * 4)
    }
}

fn max_age(seconds: u64) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={seconds}"))
        .unwrap_or_else(|_| HeaderValue::from_static("no-store"))
}
