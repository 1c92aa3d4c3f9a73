//! One flight a key: those who ask for the same thing at the same time wait for the same answer.
//!
//! A flight is written by a task of its own, so that it does not die with whoever began it; it is cancelled when the
//! last who waits for it has left. When its writer fails before the first byte, whoever waits and wakes first becomes
//! the writer of the same flight: there is never a second one. Large files are read while they are written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Failure;
use super::key::Key;
use super::object::{Ahead, Head, Object};
use super::strays::{Full, Stray};
use crate::metrics::Metrics;

/// Keys in flight at once. Each has somebody who waits for it; far beyond what an origin's blocking requests take.
pub(super) const MAX_FLIGHTS: usize = 16_384;

/// Writers of one flight, one after the other. The upstream has tried what else there is before it fails, so a
/// second try is for what broke just then (a kept-alive connection that the other end had closed).
const MAX_WRITERS: u32 = 2;

/// Who is in the air.
#[derive(Default)]
pub(crate) struct Flights {
    table: Arc<Table>,
}

#[derive(Default)]
struct Table {
    /// A flight's number, and the flight while somebody waits for it.
    flights: Mutex<HashMap<Key, (u64, Weak<Flight>)>>,
    next_id: AtomicU64,
}

struct Flight {
    id: u64,
    key: Key,
    table: Arc<Table>,
    state: watch::Sender<State>,
    writer: Mutex<Option<AbortHandle>>,
    ahead: Option<Arc<Ahead>>,
    /// Its place, if nobody was led to ask.
    _stray: Option<Stray>,
}

#[derive(Default)]
struct State {
    writers: u32,
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    /// Whoever waits may become the writer.
    #[default]
    Vacant,
    /// A writer is at work, and nothing has come.
    Asked,
    /// What has come so far.
    Flowing { head: Arc<Head>, pieces: Vec<Bytes>, broken: Option<Failure> },
    /// All of it.
    Whole(Arc<Object>),
    /// There is no answer.
    Failed(Failure),
}

/// What somebody who asks is to do.
pub(crate) enum Ticket<T> {
    /// Nothing: it has come meanwhile.
    Found(T),
    /// Wait.
    Seat {
        seat: Seat,
        /// It is the one whose question is asked.
        first: bool,
    },
    /// Come back later: too much is in flight.
    Refused(Full),
}

/// A place in a flight.
pub(crate) struct Seat {
    flight: Arc<Flight>,
    state: watch::Receiver<State>,
}

/// What somebody who waits is to do next.
pub(crate) enum Step {
    /// Write.
    Write(Pen),
    /// Hand it out.
    Whole(Arc<Object>),
    /// Hand it out as it comes.
    Flowing(Arc<Head>),
    /// Say so.
    Failed(Failure),
}

/// The right to write a flight. Whoever drops it before the end has failed.
pub(crate) struct Pen {
    key: Key,
    id: u64,
    table: Arc<Table>,
    state: watch::Sender<State>,
    pub(crate) ahead: Option<Arc<Ahead>>,
    done: bool,
}

impl Flights {
    /// A place in the flight of `key`, or what `look` finds once it is sure that there is no such flight. A writer
    /// shows what it has before its flight ends, so what is asked for twice is fetched once. With `ahead` nobody has
    /// asked, and it is counted there whether somebody will. A new flight is let off by `admit`.
    pub(crate) fn board<T>(
        &self,
        key: &Key,
        ahead: Option<&Arc<Metrics>>,
        look: impl FnOnce() -> Option<T>,
        admit: impl FnOnce() -> Result<Option<Stray>, Full>,
    ) -> Ticket<T> {
        let mut flights = self.table.flights.lock();
        if let Some(flight) = flights.get(key).and_then(|(_, flight)| flight.upgrade()) {
            if let (None, Some(fetched)) = (ahead, &flight.ahead) {
                fetched.used();
            }
            return Ticket::Seat { seat: Seat::new(flight), first: false };
        }
        if let Some(found) = look() {
            return Ticket::Found(found);
        }
        if flights.len() >= MAX_FLIGHTS {
            return Ticket::Refused(Full::Flights);
        }
        let stray = match admit() {
            Ok(stray) => stray,
            Err(full) => return Ticket::Refused(full),
        };
        let id = self.table.next_id.fetch_add(1, Ordering::Relaxed);
        let flight = Arc::new(Flight {
            id,
            key: key.clone(),
            table: Arc::clone(&self.table),
            state: watch::Sender::default(),
            writer: Mutex::default(),
            ahead: ahead.map(|metrics| Ahead::new(Arc::clone(metrics))),
            _stray: stray,
        });
        flights.insert(key.clone(), (id, Arc::downgrade(&flight)));
        Ticket::Seat { seat: Seat::new(flight), first: true }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.flights.lock().len()
    }
}

impl Seat {
    fn new(flight: Arc<Flight>) -> Self {
        let state = flight.state.subscribe();
        Self { flight, state }
    }

    /// Waits until there is something to do; with `whole`, not before all has come.
    pub(crate) async fn step(&mut self, whole: bool) -> Step {
        loop {
            let vacant = match &self.state.borrow_and_update().stage {
                Stage::Whole(object) => return Step::Whole(Arc::clone(object)),
                Stage::Failed(failure) => return Step::Failed(*failure),
                Stage::Flowing { broken: Some(failure), .. } => return Step::Failed(*failure),
                Stage::Flowing { head, .. } if !whole => return Step::Flowing(Arc::clone(head)),
                Stage::Flowing { .. } | Stage::Asked => false,
                Stage::Vacant => true,
            };
            if vacant && let Some(pen) = self.claim() {
                return Step::Write(pen);
            }
            // The flight keeps the other end.
            if self.state.changed().await.is_err() {
                return Step::Failed(Failure::Upstream);
            }
        }
    }

    /// The writer's place, if nobody was faster.
    fn claim(&self) -> Option<Pen> {
        let flight = &self.flight;
        let claimed = flight.state.send_if_modified(|state| {
            let vacant = matches!(state.stage, Stage::Vacant);
            if vacant {
                state.stage = Stage::Asked;
                state.writers += 1;
            }
            vacant
        });
        claimed.then(|| Pen {
            key: flight.key.clone(),
            id: flight.id,
            table: Arc::clone(&flight.table),
            state: flight.state.clone(),
            ahead: flight.ahead.clone(),
            done: false,
        })
    }

    /// Lets a writer write while somebody waits.
    pub(crate) fn launch(&self, writer: impl Future<Output = ()> + Send + 'static) {
        *self.flight.writer.lock() = Some(tokio::spawn(writer).abort_handle());
    }

    /// Reads what comes from its beginning.
    pub(crate) fn read(self) -> Reader {
        Reader { seat: self, next: 0, sent: 0 }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.get_mut().take() {
            writer.abort();
        }
        self.table.remove(&self.key, self.id);
    }
}

/// Reads a file while it is written.
pub(crate) struct Reader {
    seat: Seat,
    next: usize,
    sent: usize,
}

impl Reader {
    /// The next piece; `None` at the end. What breaks off is an error, never a regular end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let piece = match &self.seat.state.borrow_and_update().stage {
                Stage::Whole(object) => {
                    let rest = object.body.slice(self.sent.min(object.body.len())..);
                    if rest.is_empty() {
                        return None;
                    }
                    Some(rest)
                }
                Stage::Flowing { pieces, broken, .. } => match (pieces.get(self.next), broken) {
                    (Some(piece), _) => Some(piece.clone()),
                    (None, Some(failure)) => return Some(Err(*failure)),
                    (None, None) => None,
                },
                Stage::Failed(failure) => return Some(Err(*failure)),
                Stage::Vacant | Stage::Asked => None,
            };
            if let Some(piece) = piece {
                self.next += 1;
                self.sent += piece.len();
                return Some(Ok(piece));
            }
            if self.seat.state.changed().await.is_err() {
                return Some(Err(Failure::Upstream));
            }
        }
    }
}

impl Pen {
    /// The file begins to flow.
    pub(crate) fn flow(&self, head: Arc<Head>, pieces: Vec<Bytes>) {
        self.state.send_modify(|state| state.stage = Stage::Flowing { head, pieces, broken: None });
    }

    /// One more piece of a file that flows.
    pub(crate) fn piece(&self, piece: Bytes) {
        self.state.send_if_modified(|state| match &mut state.stage {
            Stage::Flowing { pieces, .. } => {
                pieces.push(piece);
                true
            }
            _ => false,
        });
    }

    /// All has come. Whoever asks from now on must find it elsewhere.
    pub(crate) fn whole(mut self, object: Arc<Object>) {
        self.end(Stage::Whole(object));
    }

    /// It can't be had. Before the first byte, somebody else may try.
    pub(crate) fn fail(mut self, failure: Failure) {
        self.failed(failure);
    }

    fn failed(&mut self, failure: Failure) {
        let mut again = false;
        self.state.send_if_modified(|state| {
            again = matches!(failure, Failure::Unreachable | Failure::Upstream)
                && state.writers < MAX_WRITERS
                && matches!(state.stage, Stage::Asked);
            if again {
                state.stage = Stage::Vacant;
            }
            again
        });
        self.done = true;
        if !again {
            self.end(Stage::Failed(failure));
        }
    }

    fn end(&mut self, stage: Stage) {
        self.done = true;
        self.table.remove(&self.key, self.id);
        self.state.send_modify(|state| match (&mut state.stage, stage) {
            // Who reads gets what came before it broke.
            (Stage::Flowing { broken, .. }, Stage::Failed(failure)) => *broken = Some(failure),
            (now, stage) => *now = stage,
        });
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        if !self.done {
            self.failed(Failure::Upstream);
        }
    }
}

impl Table {
    fn remove(&self, key: &Key, id: u64) {
        let mut flights = self.flights.lock();
        if flights.get(key).is_some_and(|(current, _)| *current == id) {
            flights.remove(key);
        }
    }
}
