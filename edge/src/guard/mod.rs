//! Who is served, and how much: decided before anything is asked upstream.

mod egress;
mod forwarded;
mod grant;
mod log;
mod rate;
mod record;
mod rules;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ahash::RandomState;
use arc_swap::ArcSwap;
use control_api::grant::{self as grants, Asked, Claims, Grants, Play, Refused};
use http::{HeaderMap, HeaderValue, Request};
use media_core::hub::StreamKey;
use media_core::rtmp::server;
use srt::stream_id::StreamId;

pub(crate) use egress::MEASURE_EVERY;
pub(crate) use forwarded::Asker;
pub(crate) use grant::{Shown, split};
pub(crate) use record::{Record, Standing, Who};

use crate::audience::{Audience, Client, Full, Room};
use crate::config::{AccessLogConfig, GuardConfig};
use crate::metrics::Metrics;
use crate::sessions::Hold;
use egress::Egress;
use log::{Log, To};
use rate::{Rate, Rates};
use rules::Rules;

/// Who may play, and whose grants hold.
#[derive(Debug, Clone)]
pub struct Access {
    /// Anybody, or whoever has a grant.
    pub play: Play,
    /// The keys in force. Whoever else has them can replace them.
    pub grants: Arc<Grants>,
}

/// Why somebody is not served. The words are for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// Its grant does not let it.
    #[error("{0}")]
    Grant(#[from] Refused),
    /// It is at an address that is not served.
    #[error("this address is not served")]
    Address,
    /// It asks too often.
    #[error("too many requests from this address")]
    Rate,
    /// Its page is of a host that may not show media.
    #[error("this page may not show the stream")]
    Referer,
    /// Its page may not open a WebSocket.
    #[error("pages of this origin may not open a WebSocket here")]
    Origin,
    /// There are as many viewers as there may be.
    #[error("there are too many viewers")]
    Viewers,
    /// There are as many of the stream as there may be.
    #[error("there are too many viewers of this stream")]
    Stream,
    /// There are as many viewers by HLS as there may be at its address.
    #[error("there are too many viewers at this address")]
    Crowded,
    /// As much is sent as may be.
    #[error("there is no bandwidth left for another viewer")]
    Egress,
    /// Whoever is asked about viewers does not want this one. What it said is told instead.
    #[error("this viewer is not let in")]
    Doorkeeper,
}

impl Denial {
    /// All that are no matter of grants.
    pub(crate) const OTHERS: [Self; 9] = [
        Self::Address,
        Self::Rate,
        Self::Referer,
        Self::Origin,
        Self::Viewers,
        Self::Stream,
        Self::Crowded,
        Self::Egress,
        Self::Doorkeeper,
    ];

    /// Its name in metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Grant(refused) => refused.reason(),
            Self::Address => "address_denied",
            Self::Rate => "rate",
            Self::Referer => "referer",
            Self::Origin => "origin",
            Self::Viewers => "viewers",
            Self::Stream => "viewers_of_stream",
            Self::Crowded => "viewers_of_address",
            Self::Egress => "egress",
            Self::Doorkeeper => "hook",
        }
    }
}

impl From<Full> for Denial {
    fn from(full: Full) -> Self {
        match full {
            Full::Address => Self::Crowded,
            Full::Stream => Self::Stream,
            Full::All => Self::Viewers,
        }
    }
}

/// Decides about viewers.
pub(crate) struct Guard {
    rules: ArcSwap<Rules>,
    grants: Arc<Grants>,
    rates: Rates,
    egress: Egress,
    /// Viewers by FLV, WebSocket and RTMP.
    seats: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    log: Option<Arc<Log>>,
    /// How often viewers that stay are logged.
    log_every: Option<Duration>,
    /// Of sessions that no grant names.
    hasher: RandomState,
    sessions: AtomicU64,
}

/// A viewer's place among all. Dropping it gives it back.
pub(crate) struct Seat {
    taken: Arc<AtomicU64>,
    session: Option<Hold>,
}

impl Seat {
    /// Whose it is.
    pub(crate) fn of(mut self, session: Hold) -> Self {
        self.session = Some(session);
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guard {
    /// Fails where the access log can't be opened.
    pub(crate) fn new(
        config: &GuardConfig,
        log: &AccessLogConfig,
        access: Access,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let log_every = (log.interval_s > 0).then(|| Duration::from_secs(log.interval_s));
        let log = To::parse(&log.path).map(|to| Log::start(to, &metrics)).transpose()?.map(Arc::new);
        Ok(Self {
            rules: ArcSwap::from_pointee(Rules::new(config, access.play)),
            grants: access.grants,
            rates: Rates::new(),
            egress: Egress::default(),
            seats: Arc::default(),
            metrics,
            log,
            log_every,
            hasher: RandomState::new(),
            sessions: AtomicU64::new(0),
        })
    }

    /// Whether requests are logged.
    pub(crate) fn keeps_log(&self) -> bool {
        self.log.is_some()
    }

    /// The record of an HTTP request, if there is a log.
    pub(crate) fn record<B>(&self, who: impl FnOnce() -> Who, request: &Request<B>) -> Option<Record> {
        self.log.as_ref().map(|log| Record::http(log, self.log_every, who(), request))
    }

    /// The record of an RTMP player, if there is a log.
    pub(crate) fn record_rtmp(&self, peer: SocketAddr, asked: &server::Request) -> Option<Record> {
        let log = self.log.as_ref()?;
        let standing = Standing { stalled: Arc::default(), drain: None };
        let who = Who { peer, tls: false, standing };
        let stream = format!("{}/{}", asked.app, asked.name);
        Some(Record::player(log, self.log_every, who, ("rtmp", &stream), Some(&asked.connect.flash_ver)))
    }

    /// The record of an SRT player, if there is a log.
    pub(crate) fn record_srt(&self, peer: SocketAddr, asked: &StreamId) -> Option<Record> {
        let log = self.log.as_ref()?;
        let standing = Standing { stalled: Arc::default(), drain: None };
        let who = Who { peer, tls: false, standing };
        Some(Record::player(
            log,
            self.log_every,
            who,
            ("srt", &format!("{}/{}", asked.app, asked.name)),
            None,
        ))
    }

    /// A number for the session of a viewer: by HLS, all requests of the same agent at one address are one.
    pub(crate) fn session(&self, peer: IpAddr, agent: &[u8], stream: &str, hls: bool) -> u64 {
        let number = if hls { 0 } else { self.sessions.fetch_add(1, Ordering::Relaxed) + 1 };
        self.hasher.hash_one((peer, agent, stream, number))
    }

    /// Opens the access log again, which was moved away.
    pub(crate) fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// The process ends: however many leave at once, each is logged.
    pub(crate) fn ends(&self) {
        if let Some(log) = &self.log {
            log.ends();
        }
    }

    /// Resolves when whoever is logged has left.
    pub(crate) async fn all_left(&self) {
        if let Some(log) = &self.log {
            log.all_left().await;
        }
    }

    /// Resolves when what was logged before is written.
    pub(crate) async fn flush_log(&self) {
        if let Some(log) = &self.log {
            log.flush().await;
        }
    }

    /// Takes over what can change at run time, for whoever comes from now on.
    pub(crate) fn reload(&self, config: &GuardConfig, play: Play) {
        self.rules.store(Rules::new(config, play).into());
    }

    /// Looks at how much is sent. To be called every [`MEASURE_EVERY`].
    pub(crate) fn measure(&self) {
        self.egress.measure(self.metrics.sent_bytes.get(), Instant::now());
        self.metrics.egress.set(i64::try_from(self.egress.bits_per_second() / 8).unwrap_or(i64::MAX));
    }

    fn deny(&self, denial: Denial) -> Denial {
        self.metrics.denied(denial);
        denial
    }

    /// Whether a proxy is at that address that says for whom it asks.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        forwarded::is_among(&self.rules.load().proxies, address)
    }

    /// Who asks on a connection.
    pub(crate) fn asker(&self, peer: SocketAddr, headers: &HeaderMap) -> Asker {
        forwarded::asker(&self.rules.load().proxies, peer, headers)
    }

    /// Whether anybody at that address is served.
    pub(crate) fn may_connect(&self, address: IpAddr) -> Result<(), Denial> {
        if self.rules.load().allows(address) { Ok(()) } else { Err(self.deny(Denial::Address)) }
    }

    /// Whether an address (of IPv6: a /64) may ask once more.
    pub(crate) fn may_ask(&self, network: IpAddr) -> Result<(), Denial> {
        let per_second = self.rules.load().requests_per_second;
        match self.rates.ask(network, per_second, Instant::now()) {
            Rate::Within => Ok(()),
            Rate::Above => Err(self.deny(Denial::Rate)),
            Rate::Unknown => {
                self.metrics.rates_unknown.inc();
                Ok(())
            }
        }
    }

    /// Whether the page that a request came from may show media, by WebSocket if it `connects`.
    pub(crate) fn may_show(&self, headers: &HeaderMap, connects: bool) -> Result<(), Denial> {
        let rules = self.rules.load();
        if !rules.lets_show(headers) {
            return Err(self.deny(Denial::Referer));
        }
        if connects && !rules.lets_connect(headers) {
            return Err(self.deny(Denial::Origin));
        }
        Ok(())
    }

    /// Says to browsers whose pages may read a response to a request of that origin.
    pub(crate) fn share(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        self.rules.load().share(origin, headers);
    }

    /// Whether grants are looked at.
    pub(crate) fn asks_for_grants(&self) -> bool {
        self.rules.load().play == Play::Required
    }

    /// Whether `peer` may watch the stream with the grant that it shows: what that says, if one is needed.
    pub(crate) fn may_play(
        &self,
        key: &StreamKey,
        grant: Option<&str>,
        peer: IpAddr,
    ) -> Result<Option<Arc<Claims>>, Denial> {
        if !self.asks_for_grants() {
            return Ok(None);
        }
        let asked = Asked { audience: grants::Audience::Play, stream: key.as_str(), peer };
        let verified = self.grants.verify(grant, asked, SystemTime::now());
        verified.map(Some).map_err(|refused| self.deny(refused.into()))
    }

    /// Until when somebody may watch who begins now with that grant.
    pub(crate) fn until(claims: &Claims) -> Option<Instant> {
        Instant::now().checked_add(claims.holds_for(SystemTime::now()))
    }

    /// Whether somebody is given a playlist: who watches is, and others while there is room. `room` is how many may watch
    /// the stream by HLS. `true`: it watches already.
    pub(crate) fn may_watch(
        &self,
        audience: &Audience,
        key: &StreamKey,
        client: Client,
        room: impl FnOnce() -> u64,
    ) -> Result<bool, Denial> {
        let now = now();
        // Also while it is given nothing: a stream that stalls is not one that is over.
        if audience.seen(key, client, now) {
            return Ok(true);
        }
        let full = audience.full(key, client, self.room_for_hls(room()), now);
        let denial = full.map(Denial::from).or_else(|| self.lacks_bandwidth());
        denial.map_or(Ok(false), |denial| Err(self.deny(denial)))
    }

    /// Somebody was given a playlist, and counts from now on.
    pub(crate) fn watches(
        &self,
        audience: &Audience,
        key: &StreamKey,
        client: (Client, Option<Hold>),
        room: impl FnOnce() -> u64,
    ) {
        let now = now();
        if !audience.seen(key, client.0, now) {
            audience.join(key, client, self.room_for_hls(room()), now);
        }
    }

    /// Somebody was turned away by whoever is asked about viewers.
    pub(crate) fn turned_away(&self) -> Denial {
        self.deny(Denial::Doorkeeper)
    }

    fn room_for_hls(&self, stream: u64) -> Room {
        let seats = self.seats.load(Ordering::Relaxed);
        Room { stream, all: self.rules.load().max_viewers.saturating_sub(seats) }
    }

    /// A place for one who begins to watch by FLV, WebSocket or RTMP.
    pub(crate) fn seat(&self, hls: u64) -> Result<Seat, Denial> {
        // Taken first: of two who come at once, one may be the last.
        let taken = self.seats.fetch_add(1, Ordering::Relaxed) + 1;
        let seat = Seat { taken: Arc::clone(&self.seats), session: None };
        let full = taken.saturating_add(hls) > self.rules.load().max_viewers;
        let denial = full.then_some(Denial::Viewers).or_else(|| self.lacks_bandwidth());
        denial.map_or(Ok(seat), |denial| Err(self.deny(denial)))
    }

    fn lacks_bandwidth(&self) -> Option<Denial> {
        let limit = self.rules.load().max_egress_mbps.saturating_mul(1_000_000);
        (limit > 0 && self.egress.bits_per_second() > limit).then_some(Denial::Egress)
    }
}

/// The time, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use control_api::grant::KeySet;

    use super::*;

    fn guard(change: impl FnOnce(&mut GuardConfig)) -> Guard {
        let mut config = GuardConfig::default();
        change(&mut config);
        let access = Access { play: Play::Open, grants: Arc::new(Grants::new(KeySet::new([]).unwrap())) };
        Guard::new(&config, &AccessLogConfig::default(), access, Arc::new(Metrics::new())).unwrap()
    }

    /// Whether one by that name is given a playlist, where so many watch by HLS: `0`, `1`, …
    fn may_watch(guard: &Guard, watching: usize, name: &str) -> Result<bool, Denial> {
        let audience = Audience::new(Duration::from_secs(10), 0);
        let key = StreamKey::parse("live", "a", &[]).unwrap();
        let client = |name: &str| audience.client(IpAddr::from([127, 0, 0, 1]), None, name.as_bytes());
        for n in 0..watching {
            let room = Room { stream: u64::MAX, all: u64::MAX };
            audience.join(&key, (client(&n.to_string()), None), room, Instant::now());
        }
        guard.may_watch(&audience, &key, client(name), || 2)
    }

    #[test]
    fn no_more_watch_than_may() {
        let guard = guard(|c| c.max_viewers = 3);
        let first = guard.seat(1).ok();
        assert!(may_watch(&guard, 1, "new").is_ok());
        let second = guard.seat(1).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(guard.seat(1).err(), Some(Denial::Viewers));
        assert_eq!(may_watch(&guard, 1, "new"), Err(Denial::Viewers));
        assert!(may_watch(&guard, 1, "0").is_ok(), "who watches");
        assert!(may_watch(&guard, 0, "new").is_ok(), "who is refused takes no place");
        assert_eq!(may_watch(&guard, 2, "new"), Err(Denial::Stream));
        assert!(may_watch(&guard, 3, "2").is_ok(), "who watches");
        drop(first);
        assert!(guard.seat(1).is_ok());
    }

    #[test]
    fn nobody_is_let_in_while_too_much_is_sent() {
        let guard = guard(|c| c.max_egress_mbps = 10);
        let mut now = Instant::now();
        let mut bytes = 0;
        let mut second = |sent| {
            bytes += sent;
            now += Duration::from_secs(1);
            guard.egress.measure(bytes, now);
        };
        second(0);
        assert!(guard.seat(0).is_ok());
        (0..30).for_each(|_| second(1_300_000));
        assert_eq!(guard.seat(0).err(), Some(Denial::Egress));
        assert_eq!(may_watch(&guard, 1, "new"), Err(Denial::Egress));
        assert!(may_watch(&guard, 1, "0").is_ok(), "who watches");
        (0..30).for_each(|_| second(1_200_000));
        assert!(guard.seat(0).is_ok());
    }
}
