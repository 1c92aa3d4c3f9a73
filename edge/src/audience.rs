//! Who watches by HLS: clients that asked for a playlist of a stream lately.
//!
//! HLS has no sessions. Clients of an address are told apart by what their grant says, or by their user agent, which
//! they can make up: so there are only so many of one address. A keyed hash of that is kept for seconds. Those who left are forgotten whoever asks next: somebody for a playlist, or the process for
//! its numbers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::{HashMap, RandomState};
use media_core::hub::StreamKey;
use parking_lot::{Mutex, MutexGuard};

use crate::places::network;
use crate::sessions::Hold;

/// Clients over all streams: further ones are refused, whatever `edge.guard.max_viewers` is. With its session each takes some
/// 250 bytes, and half a KiB more for its query where somebody is asked or told of viewers; of addresses there are fewer.
const MAX_TOTAL: u64 = 400_000;

/// How often those who left are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Somebody who asks for playlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    id: u64,
    /// Its address, or the /64 of that.
    network: u64,
}

/// How many may watch by HLS, beside those who watch otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// A stream.
    pub(crate) stream: u64,
    /// All streams together.
    pub(crate) all: u64,
}

/// Where there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// At an address.
    Address,
    /// Of a stream.
    Stream,
    /// Of all streams together.
    All,
}

/// HLS clients by stream.
pub(crate) struct Audience {
    ttl: Duration,
    hasher: RandomState,
    state: Mutex<State>,
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
    /// Ends with it.
    _session: Option<Hold>,
}

impl Audience {
    /// Clients count for `ttl` after a request, and so many of one address.
    pub(crate) fn new(ttl: Duration, max_per_address: usize) -> Self {
        let (hasher, state) = (RandomState::new(), Mutex::default());
        let audience = Self { ttl, hasher, state, max_per_address: AtomicUsize::new(0) };
        audience.limit(max_per_address);
        audience
    }

    /// From now on so many count of one address; 0 is no limit. Who counts already goes on to.
    pub(crate) fn limit(&self, max_per_address: usize) {
        let max = if max_per_address == 0 { usize::MAX } else { max_per_address };
        self.max_per_address.store(max, Ordering::Relaxed);
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

    /// A client asks for a playlist of the stream, or was given one. Whether it counts, which it goes on to.
    pub(crate) fn seen(&self, key: &StreamKey, client: Client, now: Instant) -> bool {
        let mut state = self.swept(now);
        let Some(seen) = state.streams.get_mut(key).and_then(|clients| clients.get_mut(&client.id)) else {
            return false;
        };
        seen.at = now;
        true
    }

    /// Whether one who does not count would be one too many.
    pub(crate) fn full(&self, key: &StreamKey, client: Client, room: Room, now: Instant) -> Option<Full> {
        self.swept(now).full(key, client, room, self.max_per_address.load(Ordering::Relaxed))
    }

    /// One who did not count was given a playlist. It counts from now on, unless it would be one too many.
    pub(crate) fn join(&self, key: &StreamKey, client: (Client, Option<Hold>), room: Room, now: Instant) {
        let (client, session) = client;
        let mut state = self.swept(now);
        if state.full(key, client, room, self.max_per_address.load(Ordering::Relaxed)).is_some() {
            return;
        }
        let seen = Seen { network: client.network, at: now, _session: session };
        let before = state.streams.entry(key.clone()).or_default().insert(client.id, seen);
        if before.is_none() {
            *state.by_network.entry(client.network).or_default() += 1;
            state.total += 1;
        }
        // Its session ends behind the lock, as in a sweep.
        drop(state);
    }

    /// Clients of one stream, as of the last sweep.
    pub(crate) fn of(&self, key: &StreamKey, now: Instant) -> u64 {
        self.swept(now).of(key)
    }

    /// Streams that have clients, as of the last sweep.
    pub(crate) fn streams(&self, now: Instant) -> Vec<StreamKey> {
        self.swept(now).streams.keys().cloned().collect()
    }

    /// Clients of all streams, as of the last sweep.
    pub(crate) fn total(&self, now: Instant) -> u64 {
        self.swept(now).total as u64
    }

    /// The state, swept if that is due.
    fn swept(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_EVERY) {
            return state;
        }
        let left = state.sweep(self.ttl, now);
        drop(state);
        // Others are told of the end of each session: nobody waits for the lock meanwhile.
        drop(left);
        self.state.lock()
    }
}

impl State {
    fn of(&self, key: &StreamKey) -> u64 {
        self.streams.get(key).map_or(0, |clients| clients.len() as u64)
    }

    fn full(&self, key: &StreamKey, client: Client, room: Room, max_per_address: usize) -> Option<Full> {
        let here = self.by_network.get(&client.network).copied().unwrap_or_default();
        if here >= max_per_address {
            Some(Full::Address)
        } else if self.of(key) >= room.stream {
            Some(Full::Stream)
        } else {
            (self.total as u64 >= room.all.min(MAX_TOTAL)).then_some(Full::All)
        }
    }

    /// Forgets those who left, and returns them.
    fn sweep(&mut self, ttl: Duration, now: Instant) -> Vec<Seen> {
        self.swept = Some(now);
        let mut left = Vec::new();
        self.streams.retain(|_, clients| {
            let gone = clients.extract_if(|_, seen| now.saturating_duration_since(seen.at) >= ttl);
            left.extend(gone.map(|(_, seen)| seen));
            !clients.is_empty()
        });
        for seen in &left {
            self.total -= 1;
            less(&mut self.by_network, seen.network);
        }
        left
    }
}

/// One less at that address, which is forgotten with the last.
fn less(by_network: &mut HashMap<u64, usize>, network: u64) {
    if let Some(count) = by_network.get_mut(&network) {
        *count -= 1;
        if *count == 0 {
            by_network.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use async_trait::async_trait;
    use prometheus::IntCounter;

    use super::*;
    use crate::sessions::{Arriving, Doorkeeper, Session, Sessions, TurnedAway};

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    const AMPLE: Room = Room { stream: u64::MAX, all: u64::MAX };

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
        let at = |s| now + Duration::from_secs(s);
        let client = |agent: &[u8]| audience.client(HOME, None, agent);
        let join = |name, agent: &[u8], at| audience.join(&key(name), (client(agent), None), AMPLE, at);
        join("a", b"x", now);
        join("a", b"x", at(5));
        join("a", b"y", now);
        join("b", b"x", now);
        assert_eq!(audience.of(&key("a"), at(9)), 2);
        assert_eq!(audience.total(at(9)), 3);
        assert_eq!(audience.of(&key("a"), at(14)), 1);
        assert!(audience.seen(&key("a"), client(b"x"), at(14)), "whatever it is given");
        assert!(!audience.seen(&key("a"), client(b"y"), at(14)));
        assert_eq!(audience.of(&key("a"), at(23)), 1);
        assert_eq!(audience.of(&key("a"), at(24)), 0);
        assert_eq!(audience.total(at(24)), 0);
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let audience = audience();
        let now = Instant::now();
        let client = audience.client(HOME, None, b"x");
        for n in 0..1000 {
            audience.join(&key(&format!("s{n}")), (client, None), AMPLE, now);
        }
        let kept = || {
            let state = audience.state.lock();
            (state.streams.len(), state.total, state.by_network.get(&client.network).copied())
        };
        assert_eq!(kept(), (1000, 1000, Some(1000)));
        assert!(audience.seen(&key("s7"), client, now + Duration::from_secs(9)));
        audience.join(&key("a"), (client, None), AMPLE, now + Duration::from_secs(11));
        assert_eq!(kept(), (2, 2, Some(2)));
        assert_eq!(audience.total(now + Duration::from_secs(21)), 0);
        assert_eq!(kept(), (0, 0, None), "nobody asks for a playlist any more");
    }

    /// Notes whether the audience can be asked while it hears who has left.
    #[derive(Clone)]
    struct Listens(Arc<Audience>, Arc<Mutex<Vec<bool>>>);

    impl std::fmt::Debug for Listens {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Listens")
        }
    }

    #[async_trait]
    impl Doorkeeper for Listens {
        fn attends(&self) -> bool {
            true
        }

        async fn may_enter(&self, _: &Session) -> Result<(), TurnedAway> {
            Ok(())
        }

        fn has_left(&self, _: &Session) -> bool {
            self.1.lock().push(self.0.state.try_lock().is_some());
            true
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_what_is_told_of_those_who_left() {
        let audience = Arc::new(audience());
        let sessions = Arc::new(Sessions::new(IntCounter::new("untold", "untold").unwrap()));
        let listens = Listens(Arc::clone(&audience), Arc::default());
        sessions.set_doorkeeper(Arc::new(listens.clone()));
        let (now, key) = (Instant::now(), key("a"));
        let client = audience.client(HOME, None, b"x");
        for _ in 0..2 {
            let arriving = Arriving { key: &key, protocol: "hls", address: HOME, name: None, query: None };
            let session = sessions.enter(arriving).await.unwrap();
            audience.join(&key, (client, Some(session)), AMPLE, now);
        }
        assert_eq!(*listens.1.lock(), [true], "the second session took the place of the first");
        assert_eq!(audience.total(now + Duration::from_secs(10)), 0);
        assert_eq!(*listens.1.lock(), [true, true]);
    }

    #[test]
    fn user_agents_that_are_made_up_are_few_of_one_address() {
        let audience = audience();
        audience.limit(3);
        let now = Instant::now();
        let client = |n: u32, at| audience.client(at, None, &n.to_be_bytes());
        let join = |client| audience.join(&key("a"), (client, None), AMPLE, now);
        let full = |client| audience.full(&key("a"), client, AMPLE, now);
        (0..2).for_each(|n| join(client(n, HOME)));
        assert_eq!(full(client(2, HOME)), None);
        (2..1000).for_each(|n| join(client(n, HOME)));
        assert_eq!(audience.of(&key("a"), now), 3);
        assert_eq!(full(client(3, HOME)), Some(Full::Address));
        let customer: [IpAddr; 2] = ["2001:db8:1:2::1", "2001:db8:1:2:3::"].map(|text| text.parse().unwrap());
        (0..3).for_each(|n| join(client(n, customer[0])));
        assert_eq!(full(client(7, customer[1])), Some(Full::Address), "all of a /64 are one");
        assert_eq!(full(client(7, "2001:db8:1:3::".parse().unwrap())), None);
        audience.limit(4);
        assert_eq!(full(client(3, HOME)), None);
        audience.limit(1);
        assert!(audience.seen(&key("a"), client(2, HOME), now), "who watches goes on to");
        assert_eq!(audience.total(now + Duration::from_secs(10)), 0);
        assert_eq!(audience.full(&key("a"), client(2, HOME), AMPLE, now + Duration::from_secs(10)), None);
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
        let client = |n: u32| audience.client(HOME, None, &n.to_be_bytes());
        let room = Room { stream: 4, all: 6 };
        for name in ["a", "b"] {
            (0..10).for_each(|n| audience.join(&key(name), (client(n), None), room, now));
        }
        assert_eq!((audience.of(&key("a"), now), audience.total(now)), (4, 6));
        assert_eq!(audience.full(&key("a"), client(7), room, now), Some(Full::Stream));
        assert_eq!(audience.full(&key("b"), client(7), room, now), Some(Full::All));
    }

    #[test]
    fn who_cannot_be_counted_is_refused() {
        let audience = audience();
        let now = Instant::now();
        let client = |agent: &[u8]| audience.client(HOME, None, agent);
        audience.join(&key("a"), (client(b"x"), None), AMPLE, now);
        // As many others.
        audience.state.lock().total += usize::try_from(MAX_TOTAL).unwrap() - 1;
        assert_eq!(audience.full(&key("b"), client(b"y"), AMPLE, now), Some(Full::All));
        audience.join(&key("b"), (client(b"y"), None), AMPLE, now);
        assert_eq!(audience.total(now), MAX_TOTAL);
        assert!(audience.seen(&key("a"), client(b"x"), now), "who watches");
    }
}
