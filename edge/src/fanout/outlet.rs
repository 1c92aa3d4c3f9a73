//! A ring that is written by a feed and read by its viewers, in tasks or by followers for many at once.
//!
//! The ring and the cursors know nothing of tasks; what waits for them, and how it is woken, is here.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cursor::{Ahead, Allowance, Cursor, Skips, Start, Step};
use super::ring::{Entry, Limits, Over, Ring, Unit};

/// A shared ring.
pub(crate) struct Outlet {
    state: Mutex<State>,
}

struct State {
    ring: Ring,
    /// A place for each that waits, so that waiting allocates nothing.
    waiting: Vec<Option<Waiter>>,
    free: Vec<usize>,
    /// From when on the stream's windows are counted.
    began: Instant,
    /// When the first of those is to be told for whom it was too early when [`Outlet::tell`] last looked.
    due: Option<Instant>,
    /// Told when somebody comes, or wants units more or less often.
    hurry: Arc<Notify>,
}

/// Somebody who waits for units, or has been told of some and not come for them yet.
struct Waiter {
    waker: Option<Waker>,
    /// How far apart it wants to be told, if not of each unit; and when it is to be told next, at the earliest.
    every: Option<Duration>,
    from: Option<Instant>,
    /// The unit it wants next.
    next: u64,
}

/// When somebody next wants what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// As it comes.
    AtOnce,
    /// Not before then.
    At(Instant),
    /// Nobody does.
    Never,
}

impl Look {
    /// The first of them. Nothing is before [`Self::AtOnce`], so those behind one are left alone.
    pub(crate) fn first(looks: impl IntoIterator<Item = Self>) -> Self {
        let mut first = Self::Never;
        for look in looks {
            first = first.min(look);
            if first == Self::AtOnce {
                break;
            }
        }
        first
    }
}

impl Outlet {
    /// An empty ring. Windows are counted from `began`; `hurry` is told when somebody comes, or wants units more or less
    /// often.
    pub(crate) fn new(limits: Limits, began: Instant, hurry: Arc<Notify>) -> Self {
        let (waiting, free, due) = Default::default();
        Self { state: Mutex::new(State { ring: Ring::new(limits), waiting, free, began, due, hurry }) }
    }

    /// Appends a unit. Nobody is told yet.
    pub(crate) fn push(&self, unit: Unit, now: Instant) {
        self.state.lock().ring.push(unit, now);
    }

    /// What starting without a join point takes from here on.
    pub(crate) fn set_fallback(&self, version: u32, entry: Entry) {
        self.state.lock().ring.set_fallback(version, entry);
    }

    /// No more units come: viewers leave once they have sent what there is.
    pub(crate) fn end(&self) {
        self.state.lock().ring.end();
    }

    /// Puts into `wake` those for whom there are units and who want them by now, or whenever.
    pub(crate) fn tell(&self, now: Option<Instant>, wake: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        let State { ring, waiting, began, due, .. } = &mut *state;
        let (next, ended) = (ring.next(), ring.is_ended());
        *due = None;
        let behind = |waiter: &&mut Waiter| waiter.waker.is_some() && (waiter.next < next || ended);
        for waiter in waiting.iter_mut().flatten().filter(behind) {
            let early = waiter.from.filter(|from| !ended && now.is_some_and(|now| now < *from));
            if early.is_some() {
                *due = early.into_iter().chain(*due).min();
                continue;
            }
            wake.extend(waiter.waker.take());
            if let (Some(now), Some(every)) = (now, waiter.every) {
                waiter.from = Some(window_end(*began, every, now));
            }
        }
    }

    /// When [`Self::tell`] has somebody to tell of what it was too early for.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.state.lock().due
    }

    /// When somebody next looks for units.
    pub(crate) fn next_look(&self) -> Look {
        let state = self.state.lock();
        let look = |waiter: &Waiter| waiter.from.map_or(Look::AtOnce, Look::At);
        Look::first(state.waiting.iter().flatten().map(look))
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().ring.bytes()
    }

    /// A new viewer.
    pub(crate) fn enter(self: &Arc<Self>, start: Start, allowance: Allowance) -> Reader {
        let cursor = Cursor::new(&self.state.lock().ring, start, allowance);
        Reader { outlet: Arc::clone(self), slot: None, cursor }
    }

    /// Follows the ring from its end on.
    pub(crate) fn follow(self: &Arc<Self>) -> Follower {
        let state = self.state.lock();
        let (position, version) = (state.ring.next(), state.ring.version());
        drop(state);
        Follower { outlet: Arc::clone(self), slot: None, position, version }
    }
}

impl State {
    /// Notes who is to be told of the unit `next`: as it comes, or every so often from now on.
    fn wait(
        &mut self,
        slot: &mut Option<usize>,
        waker: &Waker,
        every: Option<Duration>,
        now: Instant,
        next: u64,
    ) {
        let slot = *slot.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.waiting.push(None);
                self.waiting.len() - 1
            })
        });
        let Some(place) = self.waiting.get_mut(slot) else { return };
        match place {
            // It is told at the time that was set when it was told last.
            Some(waiter) if waiter.every == every => {
                waiter.next = next;
                if !waiter.waker.as_ref().is_some_and(|before| before.will_wake(waker)) {
                    waiter.waker = Some(waker.clone());
                }
            }
            _ => {
                // Who is new waits for its first unit, which is not kept from it.
                let from = every.map(|every| match place {
                    Some(_) => window_end(self.began, every, now),
                    None => now,
                });
                *place = Some(Waiter { waker: Some(waker.clone()), every, from, next });
                self.hurry.notify_one();
            }
        }
    }

    fn leave(&mut self, slot: Option<usize>) {
        let Some(slot) = slot else { return };
        if let Some(place) = self.waiting.get_mut(slot) {
            *place = None;
        }
        self.free.push(slot);
    }
}

/// When the window is over that `now` is in. All of a stream are counted from one instant, whoever they are for: those of
/// the same length end together, and so do those whose lengths divide each other, so that one look at the upstream serves
/// them all.
fn window_end(began: Instant, every: Duration, now: Instant) -> Instant {
    let past = now.saturating_duration_since(began).as_nanos().checked_rem(every.as_nanos());
    let past = past.and_then(|past| u64::try_from(past).ok()).unwrap_or_default();
    now + every - Duration::from_nanos(past)
}

/// Reads every unit once, for many viewers.
pub(crate) struct Follower {
    outlet: Arc<Outlet>,
    slot: Option<usize>,
    position: u64,
    version: u32,
}

/// What a follower finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Followed {
    /// Units were gone before they were read. Nothing was read; what comes next is at the end.
    pub(crate) lost: bool,
    /// No more comes.
    pub(crate) ended: bool,
}

impl Follower {
    /// Appends to `out` the units since the last time, and has `waker` woken for the next, or `every` so often for all
    /// that there are by then.
    pub(crate) fn read(
        &mut self,
        waker: &Waker,
        every: Option<Duration>,
        now: Instant,
        out: &mut Vec<Bytes>,
    ) -> Followed {
        let mut state = self.outlet.state.lock();
        let lost = self.position < state.ring.first();
        if !lost {
            while let Some(unit) = state.ring.get(self.position) {
                out.push(unit.bytes.clone());
                self.version = unit.version;
                self.position += 1;
            }
        }
        if lost {
            (self.position, self.version) = (state.ring.next(), state.ring.version());
        }
        let ended = state.ring.is_ended();
        if !ended {
            state.wait(&mut self.slot, waker, every, now, self.position);
        }
        Followed { lost, ended }
    }

    /// The number of the unit that is read next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Of the track set that decodes what is before that unit.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.outlet.state.lock().leave(self.slot);
    }
}

/// A viewer's cursor and its place among those that wait.
pub(crate) struct Reader {
    outlet: Arc<Outlet>,
    /// Only of those who wait by themselves.
    slot: Option<usize>,
    cursor: Cursor,
}

impl Reader {
    /// The next bytes to send, or why there are none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Bytes, Over>> {
        let mut state = self.outlet.state.lock();
        match self.cursor.step(&state.ring, u64::MAX, now) {
            Step::Send(bytes) => Poll::Ready(Ok(bytes)),
            Step::Over(over) => Poll::Ready(Err(over)),
            Step::Wait => {
                let next = state.ring.next();
                state.wait(&mut self.slot, cx.waker(), None, now, next);
                Poll::Pending
            }
        }
    }

    /// What a viewer does next beside a follower that has read all before the unit `until`.
    pub(crate) fn step(&mut self, until: u64, now: Instant) -> Step {
        self.cursor.step(&self.outlet.state.lock().ring, until, now)
    }

    /// Appends to `out` the units that follow, as far as [`Self::step`] goes and as many as fill that many bytes. They are not
    /// done by that: [`Self::advance`] says when each is being sent.
    pub(crate) fn ahead(&self, until: u64, bytes: usize, out: &mut Vec<Ahead>) {
        self.cursor.ahead(&self.outlet.state.lock().ring, until, bytes, out);
    }

    /// The next unit, which [`Self::ahead`] found, is being sent.
    pub(crate) fn advance(&mut self, version: u32) {
        self.cursor.advance(version);
    }

    /// Whether the unit of that number comes next.
    pub(crate) fn is_at(&self, sequence: u64) -> bool {
        self.cursor.is_at(sequence)
    }

    /// A follower sent it all before the unit of that number.
    pub(crate) fn carry_to(&mut self, sequence: u64, version: u32) {
        self.cursor.carry_to(sequence, version);
    }

    /// The ring it reads.
    pub(crate) fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// Forgets what was not sent yet and starts anew, at the next keyframe.
    pub(crate) fn start_over(&mut self) {
        let state = self.outlet.state.lock();
        self.cursor.start_over(&state.ring);
    }

    /// How often it lost its place.
    pub(crate) fn skips(&self) -> Skips {
        self.cursor.skips()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.outlet.state.lock().leave(self.slot);
        }
    }
}
