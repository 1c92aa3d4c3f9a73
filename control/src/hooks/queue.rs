//! What an endpoint has not had yet, and what it gets when: a lane for each stream, in which events go one after the
//! other, and a pause for the endpoint when it fails again and again.
//!
//! It is told the time, and asks nobody. [`Queue::take`] gives out what is due; each of these comes back to
//! [`Queue::settle`] once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use super::event::StreamName;
use super::held::Held;

/// Failures in a row, whatever they were about, after which it is the endpoint that is taken to have failed.
const FAILED: u32 = 3;

/// What the configuration says of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) max_concurrent: usize,
    pub(super) max_attempts: u32,
    pub(super) give_up_after: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The endpoint has it.
    Taken,
    /// The endpoint does not want it.
    Rejected,
    /// It may be tried again, in so long if the endpoint said so.
    Failed(Option<Duration>),
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The event is done with.
    Done,
    /// It will be tried again.
    Again,
    /// It won't.
    GivenUp,
    /// It was dropped while it was on its way, and who did that has counted it.
    Dropped,
}

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Deliver(Arc<Held>),
    /// Nothing before then, or before something changes.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Waiting {
    held: Arc<Held>,
    give_up_at: Instant,
}

/// Events of one stream.
#[derive(Debug)]
struct Lane {
    events: VecDeque<Waiting>,
    /// Attempts at the first one that failed.
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first may be sent.
    Ready,
    /// It is on its way. `dropped`: and nobody wants it any more.
    Busy { dropped: bool },
    /// It may be sent then.
    Paused(Instant),
}

/// What an endpoint has not had yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: HashMap<StreamName, Lane>,
    /// Lanes that are ready, by the number of their first event: the oldest is sent first.
    ready: BTreeMap<u64, StreamName>,
    /// Lanes that are paused.
    paused: BTreeMap<(Instant, u64), StreamName>,
    in_flight: usize,
    len: usize,
    failures: u32,
    /// When an endpoint that failed is asked again.
    not_before: Option<Instant>,
    /// When it wants to be asked again; what it took meanwhile changes nothing about that.
    told: Option<Instant>,
}

impl Queue {
    /// How many events it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Deliveries on their way.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Adds an event. Those of one stream come in their order.
    pub(super) fn push(&mut self, held: Arc<Held>, give_up_at: Instant) {
        self.len += 1;
        let (seq, stream) = (held.seq, held.stream.clone());
        let waiting = Waiting { held, give_up_at };
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.events.push_back(waiting);
            return;
        }
        self.ready.insert(seq, stream.clone());
        let lane = Lane { events: VecDeque::from([waiting]), failures: 0, state: State::Ready };
        self.lanes.insert(stream, lane);
    }

    /// What is to be done now.
    pub(super) fn take(&mut self, now: Instant, policy: &Policy) -> Next {
        // An endpoint that fails gets one event at a time, until it takes one.
        let room = if self.has_failed() { 1 } else { policy.max_concurrent };
        if self.in_flight >= room {
            return Next::Wait(None);
        }
        let rests = self.not_before.max(self.told);
        if let Some(at) = rests.filter(|at| *at > now) {
            return Next::Wait(Some(at));
        }
        while let Some(entry) = self.paused.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, seq), stream) = entry.remove_entry();
            if let Some(lane) = self.lanes.get_mut(&stream) {
                lane.state = State::Ready;
                self.ready.insert(seq, stream);
            }
        }
        while let Some((_, stream)) = self.ready.pop_first() {
            if let Some(lane) = self.lanes.get_mut(&stream)
                && let Some(first) = lane.events.front()
            {
                lane.state = State::Busy { dropped: false };
                self.in_flight += 1;
                return Next::Deliver(Arc::clone(&first.held));
            }
        }
        Next::Wait(self.paused.first_key_value().map(|((at, _), _)| *at))
    }

    /// How the delivery of an event that [`Self::take`] gave out went. `random` is any number.
    pub(super) fn settle(
        &mut self,
        held: &Held,
        attempt: Attempt,
        now: Instant,
        policy: &Policy,
        random: u64,
    ) -> Settled {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.note(attempt, now, random);
        let Some(lane) = self.lanes.get_mut(&held.stream) else { return Settled::Dropped };
        let dropped = lane.state == State::Busy { dropped: true };
        let give_up_at = lane.events.front().map_or(now, |first| first.give_up_at);
        let settled = match attempt {
            _ if dropped => Settled::Dropped,
            Attempt::Taken => Settled::Done,
            Attempt::Rejected => Settled::GivenUp,
            Attempt::Failed(_) => {
                lane.failures += 1;
                if lane.failures >= policy.max_attempts || now >= give_up_at {
                    Settled::GivenUp
                } else {
                    Settled::Again
                }
            }
        };
        if settled == Settled::Again {
            // No later than when it is given up, so that the last attempt is not left out.
            let at = (now + backoff::pause(lane.failures, random)).min(give_up_at);
            lane.state = State::Paused(at);
            self.paused.insert((at, held.seq), held.stream.clone());
            return settled;
        }
        lane.events.pop_front();
        // One that was dropped is no longer counted.
        self.len -= usize::from(!dropped);
        self.first_is_new(&held.stream);
        settled
    }

    /// Drops an event, which may be on its way.
    pub(super) fn remove(&mut self, held: &Held) {
        let Some(lane) = self.lanes.get_mut(&held.stream) else { return };
        let Some(place) = lane.events.iter().position(|waiting| waiting.held.seq == held.seq) else { return };
        match (place, lane.state) {
            (0, State::Busy { dropped: true }) => return,
            (0, State::Busy { .. }) => lane.state = State::Busy { dropped: true },
            (0, state) => {
                match state {
                    State::Paused(at) => drop(self.paused.remove(&(at, held.seq))),
                    _ => drop(self.ready.remove(&held.seq)),
                }
                lane.events.pop_front();
                self.first_is_new(&held.stream);
            }
            _ => drop(lane.events.remove(place)),
        }
        self.len -= 1;
    }

    /// Whether the endpoint itself is taken to have failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures >= FAILED
    }

    /// A lane has another first event, or none.
    fn first_is_new(&mut self, stream: &StreamName) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        match lane.events.front() {
            Some(first) => {
                lane.failures = 0;
                lane.state = State::Ready;
                self.ready.insert(first.held.seq, stream.clone());
            }
            None => drop(self.lanes.remove(stream)),
        }
    }

    /// What an attempt says of the endpoint.
    fn note(&mut self, attempt: Attempt, now: Instant, random: u64) {
        let Attempt::Failed(retry_after) = attempt else {
            if self.has_failed() {
                self.resume();
            }
            self.failures = 0;
            self.not_before = None;
            return;
        };
        // Those that were on their way when it was found to have failed are the same failure.
        if self.not_before.is_none_or(|at| at <= now) {
            self.failures = self.failures.saturating_add(1);
            if self.has_failed() {
                self.not_before = Some(now + backoff::pause(self.failures - FAILED + 1, random));
            }
        }
        if let Some(retry_after) = retry_after {
            self.told = self.told.max(Some(now + backoff::told(retry_after)));
        }
    }

    /// The endpoint is back: what waited for it waits no longer.
    fn resume(&mut self) {
        for ((_, seq), stream) in std::mem::take(&mut self.paused) {
            if let Some(lane) = self.lanes.get_mut(&stream) {
                lane.state = State::Ready;
                self.ready.insert(seq, stream);
            }
        }
    }
}

#[cfg(test)]
mod tests;
