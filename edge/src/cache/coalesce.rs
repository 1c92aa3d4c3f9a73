//! One flight a key: those who ask for the same thing at the same time wait for the same answer.
//!
//! A flight is a task of its own, so that it does not die with whoever began it; it is cancelled when
//! the last who waits for it has left. Nothing is kept once it has landed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Keys in flight at once. Each has somebody who waits for it; far beyond what an origin's blocking
/// requests take.
const MAX_FLIGHTS: usize = 16_384;

/// Who is in the air.
pub(crate) struct Flights<K: Eq + Hash, V> {
    table: Arc<Table<K, V>>,
}

struct Table<K: Eq + Hash, V> {
    flights: Mutex<HashMap<K, Aloft<K, V>>>,
    next_id: AtomicU64,
}

/// A flight's number, and the flight while somebody waits for it.
type Aloft<K, V> = (u64, Weak<Flight<K, V>>);

struct Flight<K: Eq + Hash, V> {
    id: u64,
    key: K,
    table: Arc<Table<K, V>>,
    landed: watch::Receiver<Option<V>>,
    task: AbortHandle,
}

/// What somebody who asks is to do.
pub(crate) enum Ticket<K: Eq + Hash, V> {
    /// Wait: it is the one whose question is asked.
    First(Seat<K, V>),
    /// Wait for the answer to somebody else's question.
    Shared(Seat<K, V>),
    /// Come back later: too much is in flight.
    Refused,
}

/// A place in a flight.
pub(crate) struct Seat<K: Eq + Hash, V> {
    flight: Arc<Flight<K, V>>,
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        let table = Table { flights: Mutex::default(), next_id: AtomicU64::new(0) };
        Self { table: Arc::new(table) }
    }

    /// A place in the flight of `key`, which `fetch` begins if there is none.
    pub(crate) fn board<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Ticket<K, V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.table.flights.lock();
        if let Some(flight) = flights.get(&key).and_then(|(_, flight)| flight.upgrade()) {
            return Ticket::Shared(Seat { flight });
        }
        if flights.len() >= MAX_FLIGHTS {
            return Ticket::Refused;
        }
        let id = self.table.next_id.fetch_add(1, Ordering::Relaxed);
        let (land, landed) = watch::channel(None);
        let fetch = fetch();
        let (table, task_key) = (Arc::clone(&self.table), key.clone());
        let task = tokio::spawn(async move {
            let answer = fetch.await;
            // Who asks from now on asks anew.
            table.remove(&task_key, id);
            land.send_replace(Some(answer));
        });
        let table = Arc::clone(&self.table);
        let flight = Flight { id, key: key.clone(), table, landed, task: task.abort_handle() };
        let flight = Arc::new(flight);
        flights.insert(key, (id, Arc::downgrade(&flight)));
        Ticket::First(Seat { flight })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.flights.lock().len()
    }
}

impl<K: Eq + Hash, V: Clone> Seat<K, V> {
    /// The answer; `None` if fetching panicked.
    pub(crate) async fn answer(self) -> Option<V> {
        let mut landed = self.flight.landed.clone();
        let answer = landed.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    fn remove(&self, key: &K, id: u64) {
        let mut flights = self.flights.lock();
        if flights.get(key).is_some_and(|(current, _)| *current == id) {
            flights.remove(key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        self.task.abort();
        self.table.remove(&self.key, self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn seat<K: Eq + Hash, V>(ticket: Ticket<K, V>) -> Seat<K, V> {
        match ticket {
            Ticket::First(seat) | Ticket::Shared(seat) => seat,
            Ticket::Refused => panic!("refused"),
        }
    }

    #[tokio::test]
    async fn a_thousand_who_ask_the_same_are_one_fetch() {
        let flights = Flights::<&str, u32>::new();
        let fetches = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let seats: Vec<_> = (0..1000)
            .map(|_| {
                let (fetches, gate) = (Arc::clone(&fetches), Arc::clone(&gate));
                seat(flights.board("a", || async move {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    gate.notified().await;
                    7
                }))
            })
            .collect();
        gate.notify_one();
        for seat in seats {
            assert_eq!(seat.answer().await, Some(7));
        }
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        assert_eq!(flights.len(), 0, "nothing is kept");
    }

    #[tokio::test]
    async fn a_flight_goes_on_without_its_first_passenger_and_ends_with_its_last() {
        let flights = Flights::<&str, u32>::new();
        let (gate, held) = tokio::sync::oneshot::channel::<u32>();
        let first = seat(flights.board("a", || async move { held.await.unwrap_or(0) }));
        let second = seat(flights.board("a", || async { 1 }));
        drop(first);
        gate.send(5).unwrap();
        assert_eq!(second.answer().await, Some(5));

        let (mut gate, held) = tokio::sync::oneshot::channel::<u32>();
        let only = seat(flights.board("b", || async move { held.await.unwrap_or(0) }));
        drop(only);
        gate.closed().await;
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_fetch_that_panics_leaves_nobody_waiting() {
        let flights = Flights::<&str, u32>::new();
        let waiting = seat(flights.board("a", || async { panic!("boom") }));
        assert_eq!(waiting.answer().await, None);
        assert_eq!(flights.len(), 0);
        let again = seat(flights.board("a", || async { 2 }));
        assert_eq!(again.answer().await, Some(2));
    }
}
