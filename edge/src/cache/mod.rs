//! HLS objects: fetched from upstream once for all who ask, and kept for as long as they may be.
//!
//! A request becomes a [`Key`]; [`Cache::find`] looks without waiting, [`Cache::get_for`] waits for the one flight of that
//! key. Whole answers land in the [`store`](Store) (what never changes, in memory and then on disk) or among the
//! [`Playlists`]. The one who is to ask the upstream looks on disk first.

mod disk;
mod flight;
mod freshness;
mod key;
mod object;
mod playlists;
mod prefetch;
mod store;
mod strays;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

pub(crate) use flight::Reader;
pub(crate) use key::{Key, Kind};
pub(crate) use object::{Head, Object};
pub(crate) use strays::Full;

use crate::config::{CacheConfig, HlsConfig};
use crate::metrics::{DiskFault, Metrics};
use crate::negative::Absent;
use crate::upstream::{Body, BoxError, Unreachable, Upstream, VIA, ask};
use disk::Place;
use flight::{Flights, Pen, Seat, Step, Ticket};
use freshness::Keep;
use playlists::Playlists;
use prefetch::Prefetches;
use store::Store;
use strays::{Stray, Strays};

/// Pieces of a file: 1 KiB each of the largest by default. What is cut finer is nothing that a player can use.
const MAX_PIECES: usize = 65_536;

/// Files that are longer are handed out while they come; of others the whole is there a moment after their beginning,
/// and an upstream that fails in between is an error and no broken response.
const FLOWS_ABOVE: u64 = 64 * 1024;

/// Of the memory, what playlists may take: an eighth. They are small, and many.
const PLAYLISTS_SHARE: usize = 8;

/// How long a blocking reload waits for an answer that is not what it waits for: until it makes sense to ask again.
const STALE_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// None of the origins can be reached.
    #[error("no origin can be reached")]
    Unreachable,
    /// It failed, or what it said makes no sense.
    #[error("the upstream failed")]
    Upstream,
    /// It took too long.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// Its answer is larger than is passed on.
    #[error("the answer is too large")]
    TooLarge,
    /// Too many wait for other answers.
    #[error("too many requests are waiting")]
    Busy,
    /// Too much of what no playlist announced is asked for from one address.
    #[error("too many requests from this address wait for what no playlist announced")]
    Crowded,
}

/// For whom something is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Whom<'a> {
    /// The edges that asked before.
    pub(crate) via: Option<&'a HeaderValue>,
    /// Where a viewer is, if it is one's.
    pub(crate) address: Option<IpAddr>,
}

/// What somebody gets who waited.
pub(crate) enum Answer {
    /// All of it.
    Whole(Arc<Object>),
    /// All of it, from before; the upstream can't say better.
    Stale(Arc<Object>),
    /// Nothing: it was found absent a moment ago, which caches may remember for so many seconds more.
    Absent(u32),
    /// What comes, as it comes.
    Flowing(Arc<Head>, Reader),
}

/// HLS objects and where they come from. Clones are the same cache.
#[derive(Clone)]
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Upstream,
    max_object_bytes: usize,
    timeout: Duration,
    flights: Flights,
    strays: Arc<Strays>,
    playlists: Playlists,
    store: Store,
    absent: Absent,
    prefetches: Prefetches,
    metrics: Arc<Metrics>,
}

impl Cache {
    /// Absence is remembered for `absent_ttl`; playlists are of use for `grace` after they were fresh.
    pub(crate) fn new(
        hls: &HlsConfig,
        cache: &CacheConfig,
        (absent_ttl, grace): (Duration, Duration),
        upstream: Upstream,
        metrics: Arc<Metrics>,
    ) -> Self {
        let playlist_bytes = cache.memory_bytes / PLAYLISTS_SHARE;
        let object_bytes = cache.memory_bytes - playlist_bytes;
        let inner = Inner {
            upstream,
            max_object_bytes: hls.max_object_bytes,
            timeout: Duration::from_millis(hls.request_timeout_ms),
            flights: Flights::default(),
            strays: Arc::default(),
            playlists: Playlists::new(playlist_bytes, grace, Arc::clone(&metrics)),
            store: Store::new(object_bytes, place(cache, &metrics), Arc::clone(&metrics)),
            absent: Absent::new(absent_ttl),
            prefetches: Prefetches::default(),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is there and fresh.
    pub(crate) fn find(&self, key: &Key, now: Instant) -> Option<Arc<Object>> {
        let found = self.inner.look(key, now)?;
        self.inner.metrics.cache_hit(key.kind());
        found.used();
        Some(found)
    }

    /// A part, segment or init segment in memory, by the path of its key. Anything else that is asked for by that path
    /// would have another key, so whoever finds it needs none.
    pub(crate) fn find_media(&self, path: &str) -> Option<Arc<Object>> {
        let found = self.inner.store.get(path)?;
        self.inner.metrics.cache_hit(found.head.kind);
        found.used();
        Some(found)
    }

    /// The upstream's answer, for which one question is asked however many wait for it; with `whole`, not before
    /// all of it has come.
    #[cfg(test)]
    pub(crate) async fn get(&self, key: &Key, whole: bool) -> Result<Answer, Failure> {
        self.get_for(key, whole, Whom::default()).await
    }

    /// The same for somebody.
    pub(crate) async fn get_for(&self, key: &Key, whole: bool, whom: Whom<'_>) -> Result<Answer, Failure> {
        let mut answer = self.ask(key, whole, whom).await;
        if !key.kind().is_playlist() {
            return answer;
        }
        let playlists = &self.inner.playlists;
        if refused(&answer) == Some(StatusCode::BAD_REQUEST) {
            if !playlists.led_to(key, Instant::now()) {
                return answer;
            }
            // Whoever was told so much of the stream asks for what comes next: it has begun anew, with lower numbers.
            answer = self.ask(&key.plain(), whole, whom).await;
        }
        if !is_lost(&answer) {
            return answer;
        }
        let Some(object) = playlists.stale(key, Instant::now()) else { return answer };
        self.inner.metrics.cache_stale.inc();
        if key.kind() == Kind::Blocking {
            // Who asks so asks again at once.
            tokio::time::sleep(STALE_PAUSE).await;
        }
        Ok(Answer::Stale(object))
    }

    async fn ask(&self, key: &Key, whole: bool, whom: Whom<'_>) -> Result<Answer, Failure> {
        let inner = &self.inner;
        if let Some(max_age_s) = inner.absent.get(key, Instant::now().into_std()) {
            inner.metrics.absent_hits.inc();
            return Ok(Answer::Absent(max_age_s));
        }
        let look = || inner.look(key, Instant::now());
        let mut seat = match inner.flights.board(key, None, look, || inner.admit(key, whom)) {
            Ticket::Found(object) => {
                inner.metrics.cache_hit(key.kind());
                object.used();
                return Ok(Answer::Whole(object));
            }
            Ticket::Seat { seat, first } => {
                if first {
                    inner.metrics.cache_miss(key.kind());
                } else {
                    inner.metrics.coalesced.inc();
                }
                seat
            }
            Ticket::Refused(full) => {
                inner.metrics.no_flight(full);
                return Err(full.failure());
            }
        };
        loop {
            match seat.step(whole).await {
                Step::Write(pen) => self.write(&seat, pen, key, whom.via.cloned()),
                Step::Whole(object) => return Ok(Answer::Whole(object)),
                Step::Flowing(head) => return Ok(Answer::Flowing(head, seat.read())),
                Step::Failed(failure) => return Err(failure),
            }
        }
    }

    /// Asks the upstream while somebody waits in the flight.
    fn write(&self, seat: &Seat, pen: Pen, key: &Key, via: Option<HeaderValue>) {
        let (cache, key) = (self.clone(), key.clone());
        seat.launch(async move {
            if let Some(object) = cache.inner.load(&key).await {
                return pen.whole(object);
            }
            match cache.inner.fetch(&key, &pen, via).await {
                Ok(object) => {
                    let object = Arc::new(object);
                    cache.landed(&key, &object);
                    pen.whole(object);
                }
                Err(failure) => pen.fail(failure),
            }
        });
    }

    fn landed(&self, key: &Key, object: &Arc<Object>) {
        let (inner, now) = (&self.inner, Instant::now());
        if let Some(max_age_s) = object.head.absence {
            inner.absent.insert(key, max_age_s, now.into_std());
        }
        match object.keep() {
            Keep::No => {}
            Keep::For(_) | Keep::Always if key.kind().is_playlist() => {
                inner.playlists.insert(key, object, now);
            }
            // What may change is no object of a playlist's.
            Keep::For(_) => {}
            Keep::Always => inner.store.insert(key.path(), object),
        }
        if let (Some(_), Some(hint)) = (key.query().part, object.tail.hint) {
            self.fetch_ahead(key.folder(), key.beside(hint));
        }
    }

    fn fetch_ahead(&self, folder: &str, key: Key) {
        let inner = &self.inner;
        let look = || inner.look(&key, Instant::now());
        let ticket = inner.flights.board(&key, Some(&inner.metrics), look, || Ok(None));
        // Else players were faster.
        let Ticket::Seat { mut seat, first: true } = ticket else { return };
        let begun = inner.prefetches.begin(folder, |id| {
            let (cache, folder) = (self.clone(), folder.to_owned());
            let fetch = async move {
                while let Step::Write(pen) = seat.step(true).await {
                    cache.write(&seat, pen, &key, None);
                }
                cache.inner.prefetches.done(&folder, id);
            };
            tokio::spawn(fetch).abort_handle()
        });
        if !begun {
            inner.metrics.prefetch_refused.inc();
        }
    }
}

impl Inner {
    fn look(&self, key: &Key, now: Instant) -> Option<Arc<Object>> {
        if key.kind().is_playlist() { self.playlists.fresh(key, now) } else { self.store.get(key.path()) }
    }

    /// Whether one more may be in flight. Whoever asks as players are led to has what room there is.
    fn admit(&self, key: &Key, whom: Whom<'_>) -> Result<Option<Stray>, Full> {
        if !key.kind().is_playlist() || self.playlists.call_for(key) {
            return Ok(None);
        }
        self.strays.begin(key, whom.address).map(Some)
    }

    /// What is on disk.
    async fn load(&self, key: &Key) -> Option<Arc<Object>> {
        if key.kind().is_playlist() {
            return None;
        }
        let object = self.store.load(key.path()).await?;
        self.metrics.cache_disk_hit(key.kind());
        Some(object)
    }

    async fn fetch(&self, key: &Key, pen: &Pen, via: Option<HeaderValue>) -> Result<Object, Failure> {
        self.metrics.upstream_asked(key.kind());
        let mut request =
            Request::get(key.to_string()).body(()).map_err(|error| failure(key, &error.into()))?;
        if let Some(via) = via {
            request.headers_mut().insert(VIA, via);
        }
        let deadline = Instant::now() + self.timeout;
        let response = timeout_at(deadline, ask(&self.upstream, request)).await;
        let response = response.map_err(|_| Failure::Timeout)?.map_err(|error| failure(key, &error))?;
        let (parts, body) = response.into_parts();
        if parts.extensions.get::<Unreachable>().is_some() {
            // Said where the trouble began, once.
            return Err(Failure::Unreachable);
        }
        let head = Head::new(key.kind(), parts.status, parts.headers);
        // A blocking request takes its time before the first byte, a long file after it.
        let deadline = Instant::now() + self.timeout;
        let collected = timeout_at(deadline, self.collect(body, key, &head, pen)).await;
        let body = collected.map_err(|_| Failure::Timeout)??;
        Ok(head.whole(body, pen.ahead.clone()))
    }

    /// The whole body; a long one flows from its first bytes on.
    async fn collect(&self, mut body: Body, key: &Key, head: &Head, pen: &Pen) -> Result<Bytes, Failure> {
        let too_large = || {
            tracing::warn!(path = %key, limit = self.max_object_bytes, "file is larger than the limit");
            Failure::TooLarge
        };
        if head.declared.is_some_and(|len| len > self.max_object_bytes as u64) {
            return Err(too_large());
        }
        let may_flow = head.status == StatusCode::OK && !key.kind().is_playlist();
        let (mut pieces, mut len, mut flowing) = (Vec::new(), 0usize, false);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failure(key, &error))?;
            let Ok(piece) = frame.into_data() else { continue };
            if piece.is_empty() {
                continue;
            }
            len = len.saturating_add(piece.len());
            if len > self.max_object_bytes || pieces.len() == MAX_PIECES {
                return Err(too_large());
            }
            if head.declared.is_some_and(|declared| len as u64 > declared) {
                return Err(failure(key, &"more bytes than its Content-Length says".into()));
            }
            pieces.push(piece.clone());
            if flowing {
                pen.piece(piece);
            } else if may_flow && head.declared.unwrap_or(len as u64) > FLOWS_ABOVE {
                flowing = true;
                pen.flow(Arc::new(head.clone()), pieces.clone());
            }
        }
        if head.declared.is_some_and(|declared| len as u64 != declared) {
            return Err(failure(key, &"fewer bytes than its Content-Length says".into()));
        }
        // The pieces may be views of much larger buffers.
        let mut whole = BytesMut::with_capacity(len);
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        Ok(whole.freeze())
    }
}

/// Where on disk files are to be.
fn place(config: &CacheConfig, metrics: &Metrics) -> Option<Place> {
    if config.disk_bytes == 0 {
        return None;
    }
    let Some(folder) = config.folder.clone() else {
        metrics.disk_fault(DiskFault::Open);
        tracing::error!("cannot keep HLS files on disk: edge.cache.disk_bytes needs edge.cache.folder");
        return None;
    };
    Some(Place::new(folder, config.disk_bytes))
}

fn failure(key: &Key, error: &BoxError) -> Failure {
    tracing::warn!(path = %key, error, "upstream failed");
    Failure::Upstream
}

fn refused(answer: &Result<Answer, Failure>) -> Option<StatusCode> {
    match answer {
        Ok(Answer::Whole(object)) if object.head.status != StatusCode::OK => Some(object.head.status),
        Ok(_) | Err(_) => None,
    }
}

/// Whether the upstream can't be reached, or has lost the stream: one that ends says so in its playlists first. (It
/// answers 503 where a stream waits for its publisher; that is for players to know.)
fn is_lost(answer: &Result<Answer, Failure>) -> bool {
    match answer {
        Err(failure) => matches!(failure, Failure::Unreachable | Failure::Upstream | Failure::Timeout),
        Ok(Answer::Absent(_)) => true,
        Ok(_) => matches!(
            refused(answer),
            Some(StatusCode::NOT_FOUND | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
        ),
    }
}
