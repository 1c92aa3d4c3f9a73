//! A ring that is written by a feed and read by the tasks of its viewers.
//!
//! The ring and the cursors know nothing of tasks; what waits for them, and how it is woken, is here.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cursor::{Cursor, Start, Step};
use super::ring::{Entry, Limits, Over, Ring, Unit};

/// A shared ring.
pub(crate) struct Outlet {
    state: Mutex<State>,
}

struct State {
    ring: Ring,
    /// A place for each viewer, so that waiting allocates nothing.
    waiting: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Outlet {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State { ring: Ring::new(limits), waiting: Vec::new(), free: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    /// Appends a unit. Whom to wake is put into `wake`, so that it is done without the lock.
    pub(crate) fn push(&self, unit: Unit, now: Instant, wake: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.ring.push(unit, now);
        wake.extend(state.waiting.iter_mut().filter_map(Option::take));
    }

    /// What starting without a join point takes from here on.
    pub(crate) fn set_fallback(&self, version: u32, entry: Entry) {
        self.state.lock().ring.set_fallback(version, entry);
    }

    /// No more units come: viewers leave once they have sent what there is.
    pub(crate) fn end(&self, wake: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.ring.end();
        wake.extend(state.waiting.iter_mut().filter_map(Option::take));
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().ring.bytes()
    }

    /// A new viewer.
    pub(crate) fn enter(self: &Arc<Self>, start: Start, max_skips: u32) -> Reader {
        let mut state = self.state.lock();
        let slot = state.free.pop().unwrap_or_else(|| {
            state.waiting.push(None);
            state.waiting.len() - 1
        });
        let cursor = Cursor::new(&state.ring, start, max_skips);
        drop(state);
        Reader { outlet: Arc::clone(self), slot, cursor }
    }
}

/// A viewer's cursor and its place among those that wait.
pub(crate) struct Reader {
    outlet: Arc<Outlet>,
    slot: usize,
    cursor: Cursor,
}

impl Reader {
    /// The next bytes to send, or why there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Bytes, Over>> {
        let mut state = self.outlet.state.lock();
        match self.cursor.step(&state.ring, now) {
            Step::Send(bytes) => Poll::Ready(Ok(bytes)),
            Step::Over(over) => Poll::Ready(Err(over)),
            Step::Wait => {
                if let Some(place) = state.waiting.get_mut(self.slot) {
                    match place {
                        Some(waker) => waker.clone_from(cx.waker()),
                        None => *place = Some(cx.waker().clone()),
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Forgets what was not sent yet and starts anew, at the next keyframe.
    pub(crate) fn start_over(&mut self) {
        let state = self.outlet.state.lock();
        self.cursor.start_over(&state.ring);
    }

    /// How often it lost its place.
    pub(crate) fn skips(&self) -> u64 {
        self.cursor.skips()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.outlet.state.lock();
        if let Some(place) = state.waiting.get_mut(self.slot) {
            *place = None;
        }
        state.free.push(self.slot);
    }
}
