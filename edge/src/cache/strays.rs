//! Playlists that wait though no playlist made anybody ask for them.
//!
//! Players ask for what the newest playlist says comes next (RFC 8216bis §6.2.5.2), and so share a few questions of each
//! rendition. Other questions that an origin lets wait are as many as there are numbers: of parts, and, while a stream
//! has no segment yet, of segments and names of renditions. Each has a flight of its own. Some are honest (of players
//! who come from another edge, or while this one knows nothing yet), so they have room; but not all the room there is.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Failure;
use super::flight::MAX_FLIGHTS;
use super::key::Key;
use crate::places::network;

/// In flight at once, over all streams: what players are led to ask has the other half.
const MAX_TOTAL: usize = MAX_FLIGHTS / 2;

/// Of one stream. It has some renditions with a handful of questions each.
const MAX_PER_STREAM: usize = 1_024;

/// Begun by one address, of IPv6 by one /64. Where an edge knows nothing yet, that many streams and renditions can be
/// asked for at once by those who share one.
const MAX_PER_ADDRESS: usize = 512;

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The share of an address.
    Address,
    /// That of a stream.
    Stream,
    /// That of all such questions.
    Strays,
    /// All there is for what is in flight.
    Flights,
}

impl Full {
    pub(crate) const ALL: [Self; 4] = [Self::Address, Self::Stream, Self::Strays, Self::Flights];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Stream => "stream",
            Self::Strays => "unannounced",
            Self::Flights => "flights",
        }
    }

    /// What whoever asks is told.
    pub(super) fn failure(self) -> Failure {
        if self == Self::Address { Failure::Crowded } else { Failure::Busy }
    }
}

/// How many there are, and whose.
#[derive(Default)]
pub(super) struct Strays {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: usize,
    by_stream: HashMap<String, usize>,
    by_network: HashMap<IpAddr, usize>,
}

/// A question's place among them, until it is dropped.
pub(crate) struct Stray {
    strays: Arc<Strays>,
    stream: String,
    network: Option<IpAddr>,
}

impl Strays {
    /// A place for a question that is begun by somebody at that address, if it is no edge's.
    pub(super) fn begin(self: &Arc<Self>, key: &Key, address: Option<IpAddr>) -> Result<Stray, Full> {
        let network = address.map(network);
        let mut state = self.state.lock();
        if let Some(full) = state.full(key.stream(), network) {
            return Err(full);
        }
        state.total += 1;
        *state.by_stream.entry(key.stream().to_owned()).or_default() += 1;
        if let Some(network) = network {
            *state.by_network.entry(network).or_default() += 1;
        }
        Ok(Stray { strays: Arc::clone(self), stream: key.stream().to_owned(), network })
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        (state.total, state.by_stream.len(), state.by_network.len())
    }
}

impl State {
    fn full(&self, stream: &str, network: Option<IpAddr>) -> Option<Full> {
        let of_network = network.and_then(|network| self.by_network.get(&network));
        let of_stream = self.by_stream.get(stream);
        let is_full = |count: Option<&usize>, max| count.is_some_and(|count| *count >= max);
        // Who has had its share is told so, whoever else has, too.
        if is_full(of_network, MAX_PER_ADDRESS) {
            Some(Full::Address)
        } else if is_full(of_stream, MAX_PER_STREAM) {
            Some(Full::Stream)
        } else {
            (self.total >= MAX_TOTAL).then_some(Full::Strays)
        }
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let mut state = self.strays.state.lock();
        state.total -= 1;
        less(&mut state.by_stream, self.stream.as_str());
        if let Some(network) = &self.network {
            less(&mut state.by_network, network);
        }
    }
}

/// One less of that; it is forgotten with the last.
fn less<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
