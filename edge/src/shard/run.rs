//! A shard's thread: what happened, whom it concerns, and when there is nothing to do.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use ahash::RandomState;
use bytes::Bytes;
use mio::event::Event;
use mio::{Events, Poll, Token};
use slab::Slab;

use super::client::{Client, Place};
use super::group::{Group, Key};
use super::link::Io;
use super::mailbox::{Letter, Mailbox};
use super::uring::Uring;
use super::window::Pace;
use super::{Arrival, Leave, Patience, Transport};
use crate::fanout::{Ahead, Over};
use crate::metrics::Metrics;

/// The mailbox has letters. Clients have the numbers below.
const MAIL: Token = Token(usize::MAX);

/// Events taken at once; more wait in the kernel.
const EVENTS: usize = 1_024;

/// Read at once of what viewers send, which is little.
const READ_BYTES: usize = 2_048;

/// How long letters are waited for, where they come often, without being woken by each: a thousand small streams then wake
/// a shard no more often than a few that are large, and nobody is late by more than a fraction of a picture's time.
const DOZE: Duration = Duration::from_millis(4);

/// Letters come often while some were found at most so long after those before. Twice as long as [`DOZE`], by which a shard
/// that dozes is itself late: it finds some each time, and what it does with them takes time, too.
const OFTEN: Duration = Duration::from_millis(8);

/// The shortest and the longest time between two looks at who takes too long.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Starts a shard. Its mailbox is how it is reached; its thread ends when everybody was hung up on.
pub(super) fn start(
    index: usize,
    uring: bool,
    patience: Patience,
    metrics: Arc<Metrics>,
) -> io::Result<(Arc<Mailbox>, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let mailbox = Arc::new(Mailbox::new(mio::Waker::new(poll.registry(), MAIL)?));
    let now = Instant::now();
    let shard = Shard {
        poll,
        mailbox: Arc::clone(&mailbox),
        metrics,
        index,
        patience,
        clients: Slab::new(),
        groups: Slab::new(),
        group_of: HashMap::default(),
        news: Vec::new(),
        queue: VecDeque::new(),
        uring: None,
        outcomes: Vec::new(),
        gone: Vec::new(),
        pieces: Vec::new(),
        ahead: Vec::new(),
        buffer: [0; READ_BYTES],
        sent: 0,
        pace: Pace::new(now),
        swept: now,
    };
    let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run(uring))?;
    Ok((mailbox, thread))
}

pub(super) struct Shard {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) index: usize,
    patience: Patience,
    /// Boxed, so that room for twice as many is not room for twice their size.
    pub(super) clients: Slab<Box<Client>>,
    pub(super) groups: Slab<Group>,
    group_of: HashMap<Key, usize, RandomState>,
    /// Groups that have news; kept for its allocation.
    news: Vec<usize>,
    /// Clients who have something to do in their next turn: each once, or some more times if it is gone.
    pub(super) queue: VecDeque<usize>,
    pub(super) uring: Option<Uring>,
    /// What became of a flush by io_uring.
    pub(super) outcomes: Vec<Option<Io>>,
    /// Clients found gone in a flush.
    pub(super) gone: Vec<usize>,
    /// Empty; kept for their allocations.
    pub(super) pieces: Vec<Bytes>,
    pub(super) ahead: Vec<Ahead>,
    pub(super) buffer: [u8; READ_BYTES],
    /// Bytes that the metrics don't know of yet.
    pub(super) sent: u64,
    pub(super) pace: Pace,
    swept: Instant,
}

impl Shard {
    fn run(mut self, uring: bool) {
        if uring {
            let made = Uring::new().inspect_err(|error| {
                tracing::warn!(%error, shard = self.index, "no io_uring; viewers are sent to one by one");
            });
            self.uring = made.ok();
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut letters = Vec::new();
        let window = self.metrics.window(self.index);
        let (mut dozes, mut last_letters) = (false, None::<Instant>);
        loop {
            let timeout = self.rest(dozes);
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, shard = self.index, "sockets can't be waited for; the shard's viewers are hung up on");
                return;
            }
            self.mailbox.wakes();
            let began = Instant::now();
            for event in events.iter().filter(|event| event.token() != MAIL) {
                self.happened(event);
            }
            // Behind the events: those of a client that is gone must not meet another in its place.
            self.mailbox.collect(&mut letters);
            dozes = !letters.is_empty()
                && last_letters.is_some_and(|last| began.saturating_duration_since(last) <= OFTEN);
            last_letters = if letters.is_empty() { last_letters } else { Some(began) };
            for letter in letters.drain(..) {
                match letter {
                    Letter::Arrival(arrival) => self.admit(*arrival, began),
                    Letter::News(group) => self.news.push(group),
                    Letter::Cut(transport) => self.cut(transport),
                    Letter::Stop => return,
                }
            }
            self.flush_news();
            self.round();
            self.sweep(began);
            if self.sent > 0 {
                self.metrics.sent_bytes.inc_by(std::mem::take(&mut self.sent));
            }
            let now = Instant::now();
            self.pace.worked(now.saturating_duration_since(began), now);
            window.set(self.pace.window().as_secs_f64());
        }
    }

    /// How long to wait. Only who does not doze is woken by letters.
    fn rest(&self, dozes: bool) -> Option<Duration> {
        let timeout = self.timeout(Instant::now());
        if dozes {
            return Some(timeout.map_or(DOZE, |timeout| timeout.min(DOZE)));
        }
        let stays = timeout == Some(Duration::ZERO) || self.mailbox.falls_asleep();
        if stays { timeout } else { Some(Duration::ZERO) }
    }

    /// How long nothing is to be done by itself. The poll counts in milliseconds, and rounds up.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (!self.clients.is_empty()).then(|| self.swept + self.sweep_every());
        sweep.map(|at| at.saturating_duration_since(now))
    }

    fn sweep_every(&self) -> Duration {
        (self.patience.stall.min(self.patience.pause) / 4).clamp(SWEEPS.0, SWEEPS.1)
    }

    /// Sends all groups their news.
    fn flush_news(&mut self) {
        let mut news = std::mem::take(&mut self.news);
        for group in news.drain(..) {
            self.flush(group, Instant::now());
        }
        self.news = news;
    }

    /// A client's socket changed.
    fn happened(&mut self, event: &Event) {
        let Token(id) = event.token();
        let Some(client) = self.clients.get_mut(id) else { return };
        client.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        client.writable |= event.is_writable();
        let goes_on = client.writable && matches!(client.place, Place::Blocked(_));
        if goes_on || client.is_heard() {
            self.enqueue(id);
        }
    }

    fn admit(&mut self, arrival: Arrival, now: Instant) {
        let group =
            arrival.viewer.as_ref().map(|viewer| self.join(Key::new(viewer.outlet(), arrival.window), now));
        let id = self.clients.insert(Box::new(Client::new(arrival, group)));
        let registry = self.poll.registry();
        if let Some(client) = self.clients.get_mut(id)
            && let Err(error) = client.link.register(registry, Token(id))
        {
            tracing::warn!(%error, "a viewer's socket can't be watched");
            self.remove(id, Leave::Fault);
            return;
        }
        self.enqueue(id);
    }

    /// The group of that key, with one more member.
    fn join(&mut self, key: Key, now: Instant) -> usize {
        let index = match self.group_of.get(&key) {
            Some(index) => *index,
            None => {
                let entry = self.groups.vacant_entry();
                let index = entry.key();
                entry.insert(Group::new(key.clone(), &self.mailbox, index, now));
                self.group_of.insert(key, index);
                index
            }
        };
        if let Some(group) = self.groups.get_mut(index) {
            group.members += 1;
        }
        index
    }

    /// A member, who is in none of its lists, leaves a group. Without members it vanishes.
    pub(super) fn leave_group(&mut self, index: usize) {
        let Some(group) = self.groups.get_mut(index) else { return };
        group.members -= 1;
        if group.members == 0 {
            let group = self.groups.remove(index);
            self.group_of.remove(&group.key);
        }
    }

    /// Looks for those who take too long, and hears again who had said enough.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < self.sweep_every() {
            return;
        }
        self.swept = now;
        let (mut late, mut ended, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        for (id, client) in &mut self.clients {
            client.may_say_more();
            client.stays();
            let waited = |since: Instant| now.saturating_duration_since(since);
            match client.place {
                Place::Blocked(since) if waited(since) > self.patience.stall => {
                    client.dropped(Over::Stalled);
                    late.push(id);
                }
                Place::Leaving(until) if now > until => late.push(id),
                Place::Waiting(_)
                    if client.paused_since.is_some_and(|at| waited(at) > self.patience.pause) =>
                {
                    ended.push((id, Over::Paused));
                }
                _ if client.is_expired(now) => ended.push((id, Over::Expired)),
                _ if client.is_heard() => heard.push(id),
                _ => {}
            }
        }
        late.into_iter().for_each(|id| self.remove(id, Leave::Done));
        heard.into_iter().for_each(|id| self.enqueue(id));
        for (id, over) in ended {
            self.detach(id);
            self.guarded(id, |shard| {
                if let Some(client) = shard.clients.get_mut(id) {
                    client.dropped(over);
                    client.end(over);
                }
                shard.enqueue(id);
                Ok(())
            });
        }
    }

    /// A client is gone.
    pub(super) fn remove(&mut self, id: usize, why: Leave) {
        self.detach(id);
        let Some(client) = self.clients.try_remove(id) else { return };
        self.mailbox.left();
        let group = client.group;
        // What hangs on it can fail like its protocol. The group stays until the viewer that counts on it is gone.
        if catch_unwind(AssertUnwindSafe(|| client.leave(why))).is_err() {
            self.metrics.faults.inc();
        }
        if let Some(index) = group {
            self.leave_group(index);
        }
    }

    fn cut(&mut self, transport: Transport) {
        let all = self.clients.iter().filter(|(_, client)| client.transport == transport).map(|(id, _)| id);
        all.collect::<Vec<_>>().into_iter().for_each(|id| self.remove(id, Leave::Cut));
    }
}

impl Drop for Shard {
    /// However it ends: nobody is let in any more, and whoever is here is hung up on.
    fn drop(&mut self) {
        self.mailbox.close();
        for client in self.clients.drain() {
            // One whose end fails must not keep the others.
            let _ = catch_unwind(AssertUnwindSafe(|| client.leave(Leave::Cut)));
        }
    }
}
