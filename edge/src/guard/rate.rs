//! How often addresses ask: the generic cell rate algorithm (ITU-T I.371 §A.2), one time an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Addresses that are known at once, in each of [`SHARDS`] (64 bytes each, 16 MiB in all). When there are more, those
/// that have been quiet are forgotten, and if all are busy a newcomer is let through and counted.
const MAX_ADDRESSES: usize = 16_384;

/// So that threads don't wait for each other.
const SHARDS: usize = 16;

/// Seconds' worth of requests that may come at once: a player begins with a handful.
const BURST_S: u32 = 2;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// It is in time.
    Within,
    /// It is too early.
    Above,
    /// It is in time as far as is known: there is no room to remember it.
    Unknown,
}

/// When each address is even with its rate.
pub(super) struct Rates {
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, Instant, RandomState>>; SHARDS],
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }

    /// One more request of `address` (of IPv6: of its /64), at that rate.
    pub(super) fn ask(&self, address: IpAddr, per_second: u32, now: Instant) -> Rate {
        let Some(step) = Duration::from_secs(1).checked_div(per_second) else { return Rate::Within };
        // Modulo the number of shards.
        let index = usize::try_from(self.hasher.hash_one(address) % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.shards.get(index) else { return Rate::Unknown };
        let mut even = shard.lock();
        if even.len() >= MAX_ADDRESSES && !even.contains_key(&address) {
            even.retain(|_, at| *at > now);
            if even.len() >= MAX_ADDRESSES {
                return Rate::Unknown;
            }
        }
        let at = even.entry(address).or_insert(now);
        let next = (*at).max(now) + step;
        if next > now + step * per_second * BURST_S {
            return Rate::Above;
        }
        *at = next;
        Rate::Within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_burst_is_let_through_and_then_only_the_rate() {
        let (rates, now) = (Rates::new(), Instant::now());
        let asked =
            |address, at, times| (0..times).filter(|_| rates.ask(address, 10, at) == Rate::Within).count();
        assert_eq!(asked(v4(1), now, 100), 20);
        assert_eq!(asked(v4(2), now, 5), 5, "another address");
        assert_eq!(asked(v4(1), now + Duration::from_millis(100), 100), 1);
        assert_eq!(asked(v4(1), now + Duration::from_millis(600), 100), 5);
        assert_eq!(asked(v4(1), now + Duration::from_secs(60), 100), 20);
        assert_eq!(rates.ask(v4(1), 0, now), Rate::Within, "no limit");
        assert_eq!(asked(v4(3), now + Duration::from_secs(60), 1), 1);
    }

    #[test]
    fn only_so_many_addresses_are_known() {
        let (rates, now) = (Rates::new(), Instant::now());
        let limit = u32::try_from(MAX_ADDRESSES * SHARDS).unwrap();
        let unknown = (0..limit + limit / 4).filter(|n| rates.ask(v4(*n), 1, now) == Rate::Unknown).count();
        assert!(unknown >= limit as usize / 4);
        let known = || rates.shards.iter().map(|shard| shard.lock().len()).sum::<usize>();
        assert!(known() <= limit as usize);
        // Who has been quiet is forgotten.
        let later = now + Duration::from_secs(1);
        assert!((0..limit / 2).all(|n| rates.ask(v4(limit * 2 + n), 1, later) == Rate::Within));
    }
}
