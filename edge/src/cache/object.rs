//! An answer of the upstream, as it is kept and handed out: byte for byte what came.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, AGE, ALT_SVC, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, HeaderMap, HeaderName,
    HeaderValue, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use media_core::hls::playlist::Tail;
use tokio::time::Instant;

use super::freshness::{self, Keep};
use super::key::Kind;
use crate::metrics::Metrics;

/// What belongs to the upstream's connection, client or clock, not to the file.
const NOT_PASSED_ON: [HeaderName; 10] =
    [AGE, ALT_SVC, CONNECTION, CONTENT_LENGTH, DATE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// What an object takes beside its bytes: its name, headers (twice: as they came, and as most get them) and places in
/// tables.
const OVERHEAD_BYTES: usize = 3072;

/// What an answer says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// As passed on; Content-Length only if the upstream gave it.
    pub(crate) headers: HeaderMap,
    /// The body's length, if the upstream gave it.
    pub(crate) declared: Option<u64>,
    keep: Keep,
    /// For how many seconds caches may remember that there is no such file.
    pub(crate) absence: Option<u32>,
    /// When it was made, as far as caches on the way told.
    born: Instant,
    pub(crate) kind: Kind,
    /// A playlist.
    text: bool,
}

impl Head {
    pub(crate) fn new(kind: Kind, status: StatusCode, mut headers: HeaderMap) -> Self {
        let declared = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        let (keep, absence) = (freshness::keep(status, &headers), freshness::absence(status, &headers));
        let now = Instant::now();
        let born = now.checked_sub(freshness::age(&headers)).unwrap_or(now);
        for name in &NOT_PASSED_ON {
            headers.remove(name);
        }
        let text = kind.is_playlist() && status == StatusCode::OK && !headers.contains_key(CONTENT_ENCODING);
        if text {
            // Each viewer has the coding that he takes.
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        } else if status == StatusCode::OK && !kind.is_playlist() {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if let Some(len) = declared {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        }
        Self { status, headers, declared, keep, absence, born, kind, text }
    }

    /// Of a file that was kept for ever, and is so old.
    pub(super) fn restored(kind: Kind, headers: HeaderMap, age: Duration) -> Self {
        let now = Instant::now();
        Self {
            status: StatusCode::OK,
            declared: None,
            headers,
            keep: Keep::Always,
            absence: None,
            born: now.checked_sub(age).unwrap_or(now),
            kind,
            text: false,
        }
    }

    /// Milliseconds since it was made.
    pub(super) fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The whole answer.
    pub(crate) fn whole(mut self, body: Bytes, ahead: Option<Arc<Ahead>>) -> Object {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let tail = match std::str::from_utf8(&body) {
            Ok(text) if self.text => Tail::read(text),
            _ => Tail::default(),
        };
        Object {
            head: self,
            body,
            tail,
            arrived: Instant::now(),
            gzip: OnceLock::new(),
            ready: OnceLock::new(),
            ahead,
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) head: Head,
    /// In one piece, and no more memory than it has bytes.
    pub(crate) body: Bytes,
    /// Of a media playlist: how far the stream is.
    pub(crate) tail: Tail,
    pub(super) arrived: Instant,
    gzip: OnceLock<Bytes>,
    ready: OnceLock<HeaderMap>,
    ahead: Option<Arc<Ahead>>,
}

impl Object {
    /// For how long it may answer requests; `None` if for ever.
    pub(crate) fn keep(&self) -> Keep {
        self.head.keep
    }

    /// Since when it is no longer fresh; `None` while it is.
    pub(crate) fn stale_for(&self, now: Instant) -> Option<Duration> {
        match self.head.keep {
            Keep::Always => None,
            Keep::No => Some(now.saturating_duration_since(self.arrived)),
            Keep::For(time) => now.saturating_duration_since(self.arrived).checked_sub(time),
        }
    }

    /// Seconds since it was made.
    pub(crate) fn age_s(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.head.born).as_secs()
    }

    /// What it is charged in memory.
    pub(crate) fn cost(&self) -> usize {
        // Text is kept compressed, too: to less than half.
        let compressed = if self.head.text { self.body.len() / 2 } else { 0 };
        self.body.len() + compressed + OVERHEAD_BYTES
    }

    /// The text compressed, which happens once; `None` for what is not text.
    pub(crate) fn gzip(&self) -> Option<Bytes> {
        self.head.text.then(|| self.gzip.get_or_init(|| compress(&self.body)).clone())
    }

    /// Its headers, put together for those who find it in memory, which happens once.
    pub(crate) fn ready(&self, complete: impl FnOnce(&mut HeaderMap)) -> &HeaderMap {
        self.ready.get_or_init(|| {
            let mut headers = self.head.headers.clone();
            complete(&mut headers);
            headers
        })
    }

    /// Somebody has it.
    pub(crate) fn used(&self) {
        if let Some(ahead) = &self.ahead {
            ahead.used();
        }
    }
}

fn compress(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::default());
    // Writing to a Vec can't fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}

/// Of what was fetched ahead: whether anybody came for it.
#[derive(Debug)]
pub(crate) struct Ahead {
    used: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Ahead {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { used: AtomicBool::new(false), metrics })
    }

    pub(crate) fn used(&self) {
        // Almost always it was: then this is only read.
        if !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed) {
            self.metrics.prefetch_used.inc();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if !*self.used.get_mut() {
            self.metrics.prefetch_wasted.inc();
        }
    }
}
