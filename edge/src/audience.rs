//! Who watches by HLS: clients that asked for a playlist of a stream lately.
//!
//! HLS has no sessions. Clients are told apart by a keyed hash of address and user agent, kept for
//! seconds, so this counts and cannot be read back. Those who left are forgotten whoever asks next: somebody for a
//! playlist, or the process for its numbers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ahash::RandomState;
use media_core::hub::StreamKey;
use parking_lot::{Mutex, MutexGuard};

/// Clients that are counted of one stream; further ones are not.
const MAX_PER_STREAM: usize = 100_000;

/// Clients that are counted over all streams (48 bytes each).
const MAX_TOTAL: usize = 400_000;

/// How often those who left are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// HLS clients by stream.
pub(crate) struct Audience {
    ttl: Duration,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: HashMap<StreamKey, HashMap<u64, Instant>>,
    total: usize,
    swept: Option<Instant>,
}

impl Audience {
    /// Clients count for `ttl` after a request.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, hasher: RandomState::new(), state: Mutex::default() }
    }

    /// A client asked for a playlist.
    pub(crate) fn seen(&self, key: &StreamKey, address: IpAddr, agent: &[u8], now: Instant) {
        let client = self.hasher.hash_one((address, agent));
        let mut state = self.swept(now);
        let State { streams, total, .. } = &mut *state;
        if let Some(at) = streams.get_mut(key).and_then(|clients| clients.get_mut(&client)) {
            *at = now;
            return;
        }
        let here = streams.get(key).map_or(0, HashMap::len);
        if *total < MAX_TOTAL && here < MAX_PER_STREAM {
            streams.entry(key.clone()).or_default().insert(client, now);
            *total += 1;
        }
    }

    /// Clients of one stream.
    pub(crate) fn of(&self, key: &StreamKey, now: Instant) -> u64 {
        let state = self.swept(now);
        let clients = state.streams.get(key).into_iter().flat_map(HashMap::values);
        count(clients.filter(|at| now.saturating_duration_since(**at) < self.ttl))
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
        }
        state
    }
}

impl State {
    fn sweep(&mut self, ttl: Duration, now: Instant) {
        self.swept = Some(now);
        self.streams.retain(|_, clients| {
            clients.retain(|_, at| now.saturating_duration_since(*at) < ttl);
            !clients.is_empty()
        });
        self.total = self.streams.values().map(HashMap::len).sum();
    }
}

fn count(clients: impl Iterator) -> u64 {
    u64::try_from(clients.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(name: &str) -> StreamKey {
        StreamKey::parse("live", name, &[]).unwrap()
    }

    #[test]
    fn a_client_counts_once_and_for_its_time() {
        let audience = Audience::new(Duration::from_secs(10));
        let now = Instant::now();
        let home = IpAddr::from(Ipv4Addr::LOCALHOST);
        audience.seen(&key("a"), home, b"x", now);
        audience.seen(&key("a"), home, b"x", now + Duration::from_secs(5));
        audience.seen(&key("a"), home, b"y", now);
        audience.seen(&key("b"), home, b"x", now);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(9)), 2);
        assert_eq!(audience.total(now + Duration::from_secs(9)), 3);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(14)), 1);
        assert_eq!(audience.of(&key("a"), now + Duration::from_secs(15)), 0);
        assert_eq!(audience.total(now + Duration::from_secs(15)), 0);
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let audience = Audience::new(Duration::from_secs(10));
        let now = Instant::now();
        for n in 0..1000 {
            audience.seen(&key(&format!("s{n}")), IpAddr::from(Ipv4Addr::LOCALHOST), b"x", now);
        }
        audience.seen(&key("a"), IpAddr::from(Ipv4Addr::LOCALHOST), b"x", now + Duration::from_secs(11));
        let kept = || {
            let state = audience.state.lock();
            (state.streams.len(), state.total)
        };
        assert_eq!(kept(), (1, 1));
        assert_eq!(audience.total(now + Duration::from_secs(21)), 0);
        assert_eq!(kept(), (0, 0), "nobody asks for a playlist any more");
    }
}
