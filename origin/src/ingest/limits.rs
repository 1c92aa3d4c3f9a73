//! How many connections there may be, in total and from one address.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

/// What a connection exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    Total,
    PerAddress,
}

impl Exceeded {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::PerAddress => "per_address",
        }
    }
}

/// The connections there are. Addresses without one are forgotten, so the map is no larger than the
/// limit in total.
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: AHashMap<IpAddr, usize>,
}

/// A connection's place among the allowed ones; dropping it makes room for another.
#[derive(Debug)]
pub struct Slot {
    limits: Arc<Limits>,
    address: IpAddr,
}

impl Limits {
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        total: usize,
        per_address: usize,
    ) -> Result<Slot, Exceeded> {
        let address = network(address);
        let mut counts = self.0.lock();
        counts.room(address, total, per_address)?;
        counts.total += 1;
        *counts.by_address.entry(address).or_default() += 1;
        Ok(Slot { limits: Arc::clone(self), address })
    }

    /// Whether one more would be too many by now; it takes no place.
    pub(super) fn look(&self, address: IpAddr, total: usize, per_address: usize) -> Result<(), Exceeded> {
        self.0.lock().room(network(address), total, per_address)
    }

    pub(super) fn connections(&self) -> usize {
        self.0.lock().total
    }
}

impl Counts {
    fn room(&self, address: IpAddr, total: usize, per_address: usize) -> Result<(), Exceeded> {
        if self.total >= total {
            return Err(Exceeded::Total);
        }
        if self.by_address.get(&address).copied().unwrap_or(0) >= per_address {
            return Err(Exceeded::PerAddress);
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.limits.0.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host can choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn slots_are_counted_and_given_back() {
        let limits = Arc::new(Limits::default());
        let enter = |address| limits.enter(ip(address), 3, 2);
        let a = enter("192.0.2.1").unwrap();
        let _b = enter("::ffff:192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").unwrap_err(), Exceeded::PerAddress);
        let c = enter("2001:db8::1").unwrap();
        assert_eq!(enter("192.0.2.2").unwrap_err(), Exceeded::Total);
        drop(a);
        let _d = enter("2001:db8::2").unwrap();
        drop(c);
        assert_eq!(limits.connections(), 2);
        let _e = enter("2001:db8::3").unwrap();
        assert_eq!(limits.0.lock().by_address.len(), 2);
        assert_eq!(limits.0.lock().by_address[&ip("2001:db8::")], 2);
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let limits = Arc::new(Limits::default());
        for n in 0..1000u16 {
            let address = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 1));
            drop(limits.enter(address, 10, 10).unwrap());
        }
        assert!(limits.0.lock().by_address.is_empty());
        assert_eq!(limits.connections(), 0);
    }
}
