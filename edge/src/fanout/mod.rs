//! One stream to all its viewers: tags are grouped into flushes, each is encoded once per wire format
//! that somebody uses, and viewers are cursors into the rings of those units.

mod cursor;
mod flush;
mod format;
mod headers;
mod outlet;
mod ring;
mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::relay::{Mark, Tag};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use cursor::{Ahead, GATHER, Skips, Start, Step};
pub(crate) use format::{Format, RTMP_MESSAGE_STREAM};
pub(crate) use outlet::{Follower, Outlet, Reader};
pub(crate) use ring::Over;

use crate::config::FanoutConfig;
use cursor::Allowance;
use flush::{Flush, Flusher, Role};
use headers::Headers;
use outlet::Look;
use ring::{Entry, Frames, Limits, MAX_POINT_AGE_MS, Unit, media_ms};
use transport::Transport;

/// The longest time between two flushes to a viewer, and that a stream is not read because nobody wants it: what waits
/// longer is felt as latency, and saves little more.
pub(crate) const MAX_WINDOW: Duration = Duration::from_millis(350);

/// The fan-out of one stream. What is pushed is in its rings, and [`Fanout::tell`] tells viewers of it.
pub(crate) struct Fanout {
    limits: Limits,
    allowance: Allowance,
    /// From when on windows are counted.
    began: Instant,
    /// Told when somebody comes, or wants units more or less often.
    hurry: Arc<Notify>,
    /// Whom news wake; kept for its allocation. Locked before `state`.
    wake: Mutex<Vec<Waker>>,
    state: Mutex<State>,
}

struct State {
    flusher: Flusher,
    /// The flushes since the newest join point, and when they came: what a ring begins with when its format is first
    /// used. The newest alone where there is no such point.
    gop: Vec<Past>,
    gop_bytes: usize,
    headers: Arc<Headers>,
    /// While somebody watches MPEG-TS.
    transport: Option<Transport>,
    outlets: [Option<Arc<Outlet>>; Format::ALL.len()],
    ended: bool,
}

/// A flush that was published.
struct Past {
    flush: Flush,
    at: Instant,
    /// What the transport that is at work made of it, if one is: rings share it.
    packets: Bytes,
}

impl Fanout {
    pub(crate) fn new(config: &FanoutConfig, now: Instant) -> Self {
        Self {
            limits: Limits { bytes: config.ring_bytes, age: Duration::from_millis(config.ring_ms) },
            allowance: Allowance {
                skips: config.max_skips_per_minute,
                lag: Duration::from_millis(config.max_lag_ms),
            },
            began: now,
            hurry: Arc::default(),
            wake: Mutex::new(Vec::new()),
            state: Mutex::new(State {
                flusher: Flusher::new(Duration::from_millis(config.audio_delay_ms)),
                gop: Vec::new(),
                gop_bytes: 0,
                headers: Arc::new(Headers::default()),
                transport: None,
                outlets: [const { None }; Format::ALL.len()],
                ended: false,
            }),
        }
    }

    /// Takes what is known of the next tag.
    pub(crate) fn mark(&self, mark: Mark, now: Instant) {
        self.with_flusher(now, |flusher, emit| flusher.mark(mark, emit));
    }

    /// Takes the next tag.
    pub(crate) fn push(&self, tag: Tag, now: Instant) {
        self.with_flusher(now, |flusher, emit| flusher.push(tag, now, emit));
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        let due = state.outlets.iter().flatten().filter_map(|outlet| outlet.due());
        due.chain(state.flusher.deadline()).min()
    }

    /// Flushes what has waited long enough, and tells those who want it by now.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        self.with_flusher(now, |flusher, emit| flusher.handle_timeout(now, emit));
        self.tell(now);
    }

    /// Flushes whatever waits: nothing more comes for a while.
    pub(crate) fn flush(&self, now: Instant) {
        self.with_flusher(now, |flusher, emit| flusher.flush(emit));
    }

    /// Tells of what is new those who want it by now.
    pub(crate) fn tell(&self, now: Instant) {
        self.wake(|outlet, wake| outlet.tell(Some(now), wake));
    }

    /// Tells everybody of what is new: nothing more comes for a while.
    pub(crate) fn tell_all(&self, now: Instant) {
        self.flush(now);
        self.wake(|outlet, wake| outlet.tell(None, wake));
    }

    /// Until when nobody wants what is new, if that is not yet.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        let longest = now + MAX_WINDOW;
        match Look::first(self.state.lock().outlets.iter().flatten().map(|outlet| outlet.next_look())) {
            Look::AtOnce => None,
            Look::At(at) => Some(at.min(longest)).filter(|at| *at > now),
            Look::Never => Some(longest),
        }
    }

    /// Resolves when somebody wants units who was not known of, or wants them more or less often.
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// The stream is over: viewers leave once they have sent what there is.
    pub(crate) fn end(&self, now: Instant) {
        self.flush(now);
        let mut state = self.state.lock();
        state.ended = true;
        state.outlets.iter().flatten().for_each(|outlet| outlet.end());
        drop(state);
        self.wake(|outlet, wake| outlet.tell(None, wake));
    }

    /// A new viewer.
    pub(crate) fn enter(&self, format: Format, start: Start) -> Reader {
        let mut state = self.state.lock();
        let outlet = state.outlet(format, || Outlet::new(self.limits, self.began, Arc::clone(&self.hurry)));
        drop(state);
        outlet.enter(start, self.allowance)
    }

    fn with_flusher(&self, now: Instant, act: impl FnOnce(&mut Flusher, &mut dyn FnMut(Flush))) {
        let mut state = self.state.lock();
        let State { flusher, gop, gop_bytes, headers, transport, outlets, .. } = &mut *state;
        act(flusher, &mut |flush| {
            let packets = transport.as_mut().map(|transport| transport.flush(&flush)).unwrap_or_default();
            let tables = || transport.as_ref().map(Transport::tables).unwrap_or_default();
            for (format, place) in Format::ALL.into_iter().zip(outlets.iter_mut()) {
                if let Some(outlet) = place {
                    // An edge whose connection broke comes back for what it missed.
                    if Arc::strong_count(outlet) == 1 && format != Format::Relay {
                        // Nobody uses the format any more, and nobody can come in: that takes our lock.
                        *place = None;
                        continue;
                    }
                    publish(outlet, format, (&flush, &packets), tables, now);
                }
            }
            let is_used = |format: Format| outlets.get(format.index()).is_some_and(Option::is_some);
            if !Format::ALL.into_iter().any(|format| format.is_ts() && is_used(format)) {
                *transport = None;
            }
            // As in the rings, a GOP that is too long cannot be joined at its start.
            let goes_on = !matches!(flush.role, Role::Point(_))
                && *gop_bytes + flush.bytes() <= self.limits.bytes
                && gop.first().is_some_and(|Past { flush: first, .. }| {
                    let age_ms = media_ms(first.timestamp_ms(), flush.timestamp_ms());
                    let joinable = flush.role == Role::Headers || age_ms <= MAX_POINT_AGE_MS;
                    matches!(first.role, Role::Point(_)) && joinable
                });
            if !goes_on {
                gop.clear();
                *gop_bytes = 0;
            }
            *headers = Arc::clone(&flush.headers);
            *gop_bytes += flush.bytes();
            gop.push(Past { flush, at: now, packets });
        });
    }

    /// Wakes whom `of` finds, without the locks of what they want.
    fn wake(&self, of: impl Fn(&Outlet, &mut Vec<Waker>)) {
        let mut wake = self.wake.lock();
        self.state.lock().outlets.iter().flatten().for_each(|outlet| of(outlet, &mut wake));
        for waker in wake.drain(..) {
            waker.wake();
        }
    }
}

impl State {
    fn outlet(&mut self, format: Format, fresh: impl FnOnce() -> Outlet) -> Arc<Outlet> {
        if let Some(Some(outlet)) = self.outlets.get(format.index()) {
            return Arc::clone(outlet);
        }
        let outlet = Arc::new(fresh());
        let known = self.gop.last().and_then(|past| past.flush.mark).filter(|_| format == Format::Relay);
        if format.is_ts() && self.transport.is_none() {
            self.begin_transport();
        }
        let tables = || self.transport.as_ref().map(Transport::tables).unwrap_or_default();
        outlet.set_fallback(self.headers.version(), fallback(format, &self.headers, 0, known, tables));
        for Past { flush, at, packets } in &self.gop {
            publish(&outlet, format, (flush, packets), tables, *at);
        }
        if self.ended {
            outlet.end();
        }
        if let Some(place) = self.outlets.get_mut(format.index()) {
            *place = Some(Arc::clone(&outlet));
        }
        outlet
    }

    /// Writes MPEG-TS from now on, and what is kept of the past.
    fn begin_transport(&mut self) {
        let first = self.gop.first().map_or(&self.headers, |past| &past.flush.headers);
        let mut transport = Transport::new(first);
        for past in &mut self.gop {
            past.packets = transport.flush(&past.flush);
        }
        self.transport = Some(transport);
    }
}

fn publish(
    outlet: &Outlet,
    format: Format,
    (flush, packets): (&Flush, &Bytes),
    tables: impl FnOnce() -> Bytes,
    now: Instant,
) {
    if flush.role == Role::Headers {
        let known = flush.mark.filter(|_| format == Format::Relay);
        let entry = fallback(format, &flush.headers, flush.timestamp_ms(), known, tables);
        outlet.set_fallback(flush.headers.version(), entry);
    }
    let unit = Unit {
        bytes: format.flush(flush, packets),
        timestamp_ms: flush.timestamp_ms(),
        version: flush.headers.version(),
        entry: match flush.role {
            Role::Point(mark) => Some(entry(format, &flush.headers, flush.timestamp_ms(), mark)),
            Role::Headers | Role::Media => None,
        },
        media: flush.role != Role::Headers,
        frames: frames(format, flush),
    };
    outlet.push(unit, now);
}

/// What one is sent who starts where no flush does.
fn fallback(
    format: Format,
    headers: &Headers,
    start_ms: u32,
    mark: Option<Mark>,
    tables: impl FnOnce() -> Bytes,
) -> Entry {
    if format.is_ts() {
        let tables = format.framed(tables());
        return Entry { head: tables.clone(), resumption: tables };
    }
    entry(format, headers, start_ms, mark)
}

fn frames(format: Format, flush: &Flush) -> Option<Frames> {
    let mark = flush.mark.filter(|_| format == Format::Relay && flush.role != Role::Headers)?;
    Some(Frames { mark, last: flush.tags.last()?.sequence, headers: Arc::clone(&flush.headers) })
}

fn entry(format: Format, headers: &Headers, start_ms: u32, mark: Option<Mark>) -> Entry {
    Entry {
        head: format.head(headers, start_ms, mark),
        resumption: format.resumption(headers, start_ms, mark),
    }
}
