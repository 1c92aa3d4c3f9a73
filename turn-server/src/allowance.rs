//! How often an address is answered: a server that answers whoever asks is what floods are reflected by.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;

/// Requests are counted for so long, and then anew.
const PERIOD: Duration = Duration::from_secs(1);

/// Addresses that are told apart in a period. What more come share what is left of all answers.
const MAX_ADDRESSES: usize = 16_384;

/// Answers to all addresses together in a period, so that made-up ones get no more out of the machine than that: about 1 MB.
const MAX_ANSWERS: u32 = 10_000;

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Allowance {
    each: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    all: u32,
    of_each: AHashMap<IpAddr, u32>,
}

impl Allowance {
    /// So many a second of an address.
    pub(crate) fn new(each: u32) -> Self {
        let state = State { since: Instant::now(), all: 0, of_each: AHashMap::new() };
        Self { each, state: Mutex::new(state) }
    }

    /// Whether one more request of an address is answered.
    pub(crate) fn take(&self, from: IpAddr, now: Instant) -> bool {
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.since) >= PERIOD {
            state.since = now;
            state.all = 0;
            state.of_each.clear();
        }
        if state.all >= MAX_ANSWERS {
            return false;
        }
        let network = network(from);
        if state.of_each.len() >= MAX_ADDRESSES && !state.of_each.contains_key(&network) {
            state.all += 1;
            return true;
        }
        let own = state.of_each.entry(network).or_default();
        if *own >= self.each {
            return false;
        }
        *own += 1;
        state.all += 1;
        true
    }
}

/// Who has one address of IPv6 has 2⁶⁴ of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_answered_so_often_a_second() {
        let (allowance, now) = (Allowance::new(2), Instant::now());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(allowance.take(ip("192.0.2.1"), now) && allowance.take(ip("192.0.2.1"), now));
        assert!(!allowance.take(ip("192.0.2.1"), now) && allowance.take(ip("192.0.2.2"), now));
        assert!(allowance.take(ip("2001:db8::1"), now) && allowance.take(ip("2001:db8::2"), now));
        assert!(!allowance.take(ip("2001:db8::3"), now), "the same network");
        assert!(allowance.take(ip("192.0.2.1"), now + PERIOD));
    }

    #[test]
    fn made_up_addresses_have_a_bound_together() {
        let (allowance, now) = (Allowance::new(5), Instant::now());
        let answered = (0..100_000_u32).filter(|n| allowance.take(IpAddr::V4((*n).into()), now)).count();
        assert_eq!(answered, MAX_ANSWERS as usize);
        assert!(allowance.state.lock().of_each.len() <= MAX_ADDRESSES);
    }
}
