//! Who watches by HLS: clients that asked for a playlist of a stream lately.
//!
//! HLS has no sessions. Clients of an address are told apart by what their grant says, or by their user agent, which
//! they can make up: so there are only so many of one address. A keyed hash of that is kept for seconds, so this counts
//! and cannot be read back. Those who left are forgotten whoever asks next: somebody for a playlist, or the process for
//! its numbers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use media_core::hub::StreamKey;
use parking_lot::{Mutex, MutexGuard};

use crate::places::network;

/// Clients that are counted of one stream; further ones are not.
const MAX_PER_STREAM: usize = 100_000;

/// Clients that are counted over all streams (64 bytes each, and of their addresses no more).
const MAX_TOTAL: usize = 400_000;

/// How often those who left are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Somebody who asks for playlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    id: u64,
    /// Its address, or the /64 of that.
    network: u64,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It watches.
    Watching,
    /// It would be one more.
    New,
    /// It would be one more than there may be at its address.
    Crowded,
}

/// HLS clients by stream.
pub(crate) struct Audience {
    ttl: Duration,
    hasher: RandomState,
    state: Mutex<State>,
    /// Of the state, what is looked at without its lock: how many there are, and whether an address has its share.
    total: AtomicU64,
    crowded: AtomicBool,
    max_per_address: AtomicUsize,
}

#[derive(Default)]
struct State {
    streams: HashMap<StreamKey, HashMap<u64, Seen>>,
    total: usize,
    by_network: HashMap<u64, usize>,
    swept: Option<Instant>,
}

struct Seen {
    network: u64,
    at: Instant,
}

impl Audience {
    /// Clients count for `ttl` after a request, and so many of one address.
    pub(crate) fn new(ttl: Duration, max_per_address: usize) -> Self {
        let audience = Self {
            ttl,
            hasher: RandomState::new(),
            state: Mutex::default(),
            total: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
            max_per_address: AtomicUsize::new(0),
        };
        audience.limit(max_per_address);
        audience
    }

    /// From now on so many count of one address; 0 is no limit. Who counts already goes on to.
    pub(crate) fn limit(&self, max_per_address: usize) {
        let max = if max_per_address == 0 { usize::MAX } else { max_per_address };
        self.max_per_address.store(max, Ordering::Relaxed);
        self.note(&self.state.lock());
    }

    /// Who asks at that address: whose session its grant names, or else with that user agent.
    pub(crate) fn client(&self, address: IpAddr, session: Option<&str>, agent: &[u8]) -> Client {
        let id = match session {
            // Together: one grant at many addresses is as many viewers.
            Some(session) => self.hasher.hash_one((address, true, session)),
            None => self.hasher.hash_one((address, false, agent)),
        };
        Client { id, network: self.hasher.hash_one(network(address)) }
    }

    /// A client was given a playlist. It counts if it did, or while fewer than `max` do.
    pub(crate) fn seen(&self, key: &StreamKey, client: Client, max: u64, now: Instant) {
        let mut state = self.swept(now);
        if let Some(seen) = state.streams.get_mut(key).and_then(|clients| clients.get_mut(&client.id)) {
            seen.at = now;
            return;
        }
        let here = state.streams.get(key).map_or(0, HashMap::len);
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(MAX_TOTAL);
        if state.total < max && here < MAX_PER_STREAM && !self.is_crowded(&state, client) {
            let seen = Seen { network: client.network, at: now };
            state.streams.entry(key.clone()).or_default().insert(client.id, seen);
            *state.by_network.entry(client.network).or_default() += 1;
            state.total += 1;
            self.total.store(state.total as u64, Ordering::Relaxed);
            if self.is_crowded(&state, client) {
                self.crowded.store(true, Ordering::Relaxed);
            }
        }
    }

    /// What is known of one who asks for a playlist.
    pub(crate) fn know(&self, key: &StreamKey, client: Client, now: Instant) -> Known {
        let state = self.swept(now);
        let seen = state.streams.get(key).and_then(|clients| clients.get(&client.id));
        if seen.is_some_and(|seen| now.saturating_duration_since(seen.at) < self.ttl) {
            Known::Watching
        } else if self.is_crowded(&state, client) {
            Known::Crowded
        } else {
            Known::New
        }
    }

    fn is_crowded(&self, state: &State, client: Client) -> bool {
        let count = state.by_network.get(&client.network).copied().unwrap_or_default();
        count >= self.max_per_address.load(Ordering::Relaxed)
    }

    /// Clients of all streams as of the last change, and whether an address has as many as it may. Takes no lock: all
    /// who ask for playlists ask.
    pub(crate) fn glance(&self) -> (u64, bool) {
        (self.total.load(Ordering::Relaxed), self.crowded.load(Ordering::Relaxed))
    }

    /// Clients of one stream.
    pub(crate) fn of(&self, key: &StreamKey, now: Instant) -> u64 {
        let state = self.swept(now);
        let clients = state.streams.get(key).into_iter().flat_map(HashMap::values);
        count(clients.filter(|seen| now.saturating_duration_since(seen.at) < self.ttl))
    }

    /// Clients of all streams, as of the last sweep: whoever joins asks, and all who ask for playlists wait meanwhile.
    pub(crate) fn total(&self, now: Instant) -> u64 {
        u64::try_from(self.swept(now).total).unwrap_or(u64::MAX)
    }

    /// The state, swept if that is due.
    fn swept(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY) {
            state.sweep(self.ttl, now);
            self.note(&state);
        }
        state
    }

    /// For those who don't wait for the lock.
    fn note(&self, state: &State) {
        let max = self.max_per_address.load(Ordering::Relaxed);
        self.total.store(state.total as u64, Ordering::Relaxed);
        self.crowded.store(state.by_network.values().any(|count| *count >= max), Ordering::Relaxed);
    }
}

impl State {
    fn sweep(&mut self, ttl: Duration, now: Instant) {
        self.swept = Some(now);
        let Self { streams, total, by_network, .. } = self;
        by_network.clear();
        streams.retain(|_, clients| {
            clients.retain(|_, seen| now.saturating_duration_since(seen.at) < ttl);
            clients.values().for_each(|seen| *by_network.entry(seen.network).or_default() += 1);
            !clients.is_empty()
        });
        *total = streams.values().map(HashMap::len).sum();
    }
}

fn count(clients: impl Iterator) -> u64 {
    u64::try_from(clients.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn key(name: &str) -> StreamKey {
        StreamKey::parse("live", name, &[]).unwrap()
    }

    fn audience() -> Audience {
        Audience::new(Duration::from_secs(10), 0)
    }

    #[test]
    fn a_client_counts_once_and_for_its_time() {
        let audience = audience();
        let now = Instant::now();
        let seen = |name, agent: &[u8], at| {
            audience.seen(&key(name), audience.client(HOME, None, agent), u64::MAX, at);
        };
        seen("a", b"x", now);
        seen("a", b"x", now + Duration::from_secs(5));
        seen("a", b"y", now);
        seen("b", b"x", now);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(9)), 2);
        assert_eq!(audience.total(now + Duration::from_secs(9)), 3);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(14)), 1);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(15)), 0);
        assert_eq!(audience.total(now + Duration::from_secs(15)), 0);
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let audience = audience();
        let now = Instant::now();
        let client = audience.client(HOME, None, b"x");
        for n in 0..1000 {
            audience.seen(&key(&format!("s{n}")), client, u64::MAX, now);
        }
        audience.seen(&key("a"), client, u64::MAX, now + Duration::from_secs(11));
        let kept = || {
            let state = audience.state.lock();
            (state.streams.len(), state.total, state.by_network.len())
        };
        assert_eq!(kept(), (1, 1, 1));
        assert_eq!(audience.total(now + Duration::from_secs(21)), 0);
        assert_eq!(kept(), (0, 0, 0), "nobody asks for a playlist any more");
        assert_eq!(audience.glance(), (0, false));
    }

    #[test]
    fn user_agents_that_are_made_up_are_few_of_one_address() {
        let audience = audience();
        audience.limit(3);
        let now = Instant::now();
        let client = |n: u32, at| audience.client(at, None, &n.to_be_bytes());
        let seen = |client| audience.seen(&key("a"), client, u64::MAX, now);
        (0..2).for_each(|n| seen(client(n, HOME)));
        assert_eq!(audience.glance(), (2, false));
        (2..1000).for_each(|n| seen(client(n, HOME)));
        assert_eq!(audience.glance(), (3, true));
        let known = |client| audience.know(&key("a"), client, now);
        assert_eq!([2, 3].map(|n| known(client(n, HOME))), [Known::Watching, Known::Crowded]);
        let customer: [IpAddr; 2] = ["2001:db8:1:2::1", "2001:db8:1:2:3::"].map(|text| text.parse().unwrap());
        (0..3).for_each(|n| seen(client(n, customer[0])));
        assert_eq!(known(client(7, customer[1])), Known::Crowded, "all of a /64 are one");
        assert_eq!(known(client(7, "2001:db8:1:3::".parse().unwrap())), Known::New);
        audience.limit(4);
        assert!(!audience.glance().1);
        assert_eq!(known(client(3, HOME)), Known::New);
        audience.limit(1);
        assert!(audience.glance().1);
        assert_eq!(known(client(2, HOME)), Known::Watching);
        assert_eq!(audience.total(now + Duration::from_secs(10)), 0);
        assert_eq!(audience.know(&key("a"), client(2, HOME), now + Duration::from_secs(10)), Known::New);
    }

    #[test]
    fn a_session_is_one_viewer_whatever_it_calls_itself_and_another_at_each_address() {
        let audience = audience();
        let client = |address, session, agent: &[u8]| audience.client(address, session, agent);
        assert_eq!(client(HOME, Some("s"), b"x"), client(HOME, Some("s"), b"y"));
        let elsewhere = IpAddr::V4(Ipv4Addr::BROADCAST);
        let others =
            [client(HOME, Some("t"), b"x"), client(HOME, None, b"s"), client(elsewhere, Some("s"), b"x")];
        assert!(!others.contains(&client(HOME, Some("s"), b"x")));
    }

    #[test]
    fn of_many_who_come_at_once_no_more_count_than_there_is_room_for() {
        let audience = audience();
        let now = Instant::now();
        for n in 0..10u32 {
            audience.seen(&key("a"), audience.client(HOME, None, &n.to_be_bytes()), 4, now);
        }
        assert_eq!(audience.total(now), 4);
    }
}
