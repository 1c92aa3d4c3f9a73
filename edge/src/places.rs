//! Who has how many connections of a listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// A listener's places. No more addresses than connections.
pub(crate) struct Places {
    max: usize,
    max_per_address: usize,
    /// Counts those that are taken.
    gauge: IntGauge,
    metrics: Arc<Metrics>,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// As many as that, and for one address (of IPv6: a /64) as many as that.
    pub(crate) fn new(
        max: usize,
        max_per_address: usize,
        gauge: IntGauge,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (taken, freed) = Default::default();
        Arc::new(Self { max, max_per_address, gauge, metrics, taken, freed })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().total
    }

    /// Resolves when nobody has a place.
    pub(crate) async fn all_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.taken.lock().total == 0 {
                return;
            }
            freed.await;
        }
    }

    /// A place for somebody at that address, if there is one. An address that is `shared` by many has no limit of its
    /// own.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, shared: bool) -> Option<Place> {
        let address = network(address);
        let mut taken = self.taken.lock();
        if taken.total >= self.max {
            self.metrics.refused_total.inc();
            return None;
        }
        let count = taken.by_address.get(&address).copied().unwrap_or_default();
        if !shared && count >= self.max_per_address {
            self.metrics.refused_address.inc();
            return None;
        }
        taken.by_address.insert(address, count + 1);
        taken.total += 1;
        self.gauge.inc();
        Some(Place { places: Arc::clone(self), address })
    }
}

/// Whom an address stands for: of IPv6, a customer has at least a /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        if taken.total == 0 {
            self.places.freed.notify_waiters();
        }
        self.places.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_customer_of_ipv6_counts_as_one() {
        let network = |text: &str| super::network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::1"), "::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
