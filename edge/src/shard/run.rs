//! A shard's thread: what happened, whom it concerns, and what each is sent.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use ahash::RandomState;
use bytes::{Bytes, BytesMut};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::client::{Client, Io, Place};
use super::group::{Group, Key};
use super::mailbox::{Letter, Mailbox};
use super::window::Pace;
use super::{Arrival, Patience, Transport, Wish};
use crate::fanout::{Over, Step};
use crate::metrics::Metrics;

/// The mailbox has letters. Clients have the numbers below.
const MAIL: Token = Token(usize::MAX);

/// Events taken at once; more wait in the kernel.
const EVENTS: usize = 1_024;

/// Read at once of what viewers send, which is little. Nothing more is read before what it makes the protocol answer
/// was written, so a client that asks and doesn't listen holds no more than that.
const READ_BYTES: usize = 2_048;

/// Reads of one client before others have their turn.
const READS: usize = 8;

/// Bytes that one client is sent before others have their turn: what a newcomer is sent of the past must not stall
/// those who are at the live edge.
const ROUND_BYTES: usize = 256 * 1024;

/// Clients who are sent more in one round, for the same reason.
const ROUND_CLIENTS: usize = 64;

/// How long a client that was told goodbye may take to hang up.
const FAREWELL: Duration = Duration::from_secs(2);

/// The shortest and the longest time between two looks at who takes too long.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Starts a shard. Its mailbox is how it is reached.
pub(super) fn start(index: usize, patience: Patience, metrics: Arc<Metrics>) -> io::Result<Arc<Mailbox>> {
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
        due: BinaryHeap::new(),
        queued: Vec::new(),
        unread: Vec::new(),
        pieces: Vec::new(),
        buffer: [0; READ_BYTES],
        sent: 0,
        pace: Pace::new(now),
        swept: now,
    };
    thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run())?;
    Ok(mailbox)
}

struct Shard {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
    index: usize,
    patience: Patience,
    clients: Slab<Client>,
    groups: Slab<Group>,
    group_of: HashMap<Key, usize, RandomState>,
    /// Groups that have news, and when those are sent.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Clients who go on in the next round.
    queued: Vec<usize>,
    /// Clients of whom there may be more to read.
    unread: Vec<usize>,
    /// What a flush sends; kept for its allocation.
    pieces: Vec<Bytes>,
    buffer: [u8; READ_BYTES],
    /// Bytes that the metrics don't know of yet.
    sent: u64,
    pace: Pace,
    swept: Instant,
}

impl Shard {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut letters = Vec::new();
        let window = self.metrics.window(self.index);
        loop {
            let timeout = self.timeout(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, shard = self.index, "poll failed");
                return;
            }
            let began = Instant::now();
            for event in &events {
                if event.token() == MAIL {
                    continue;
                }
                let id = event.token().0;
                if event.is_readable() || event.is_read_closed() {
                    self.listen(id, began);
                }
                if event.is_writable()
                    && self.clients.get(id).is_some_and(|c| matches!(c.place, Place::Blocked(_)))
                {
                    self.pump(id, began);
                }
            }
            // Behind the events: those of a client that is gone must not meet another in its place.
            self.mailbox.collect(&mut letters);
            for letter in letters.drain(..) {
                match letter {
                    Letter::Arrival(arrival) => self.admit(*arrival, began),
                    Letter::News(group) => self.news(group, began),
                    Letter::Cut(transport) => self.cut(transport),
                    Letter::Stop => return,
                }
            }
            self.flush_due(Instant::now());
            self.next_round();
            self.sweep(began);
            if self.sent > 0 {
                self.metrics.sent_bytes.inc_by(std::mem::take(&mut self.sent));
            }
            let now = Instant::now();
            self.pace.worked(now.saturating_duration_since(began), now);
            window.set(self.pace.window().as_secs_f64());
        }
    }

    /// How long nothing is to be done by itself.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.queued.is_empty() || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        let sweep = (!self.clients.is_empty()).then(|| self.swept + self.sweep_every());
        // The poll counts in milliseconds and rounds down.
        let until = |at: Instant| match at.saturating_duration_since(now) {
            Duration::ZERO => Duration::ZERO,
            wait => wait + Duration::from_micros(999),
        };
        due.into_iter().chain(sweep).min().map(until)
    }

    fn sweep_every(&self) -> Duration {
        (self.patience.stall.min(self.patience.pause) / 4).clamp(SWEEPS.0, SWEEPS.1)
    }

    fn admit(&mut self, arrival: Arrival, now: Instant) {
        let Arrival { socket, transport, head, viewer, protocol, window, guard } = arrival;
        let group = viewer.as_ref().map(|viewer| self.join(Key::new(viewer.outlet(), window), now));
        let id = self.clients.insert(Client {
            socket: mio::net::TcpStream::from_std(socket),
            transport,
            sending: head,
            viewer,
            protocol,
            group,
            place: Place::Queued,
            reply: None,
            replying: false,
            readable: true,
            paused_since: None,
            over: false,
            _guard: guard,
        });
        let Some(client) = self.clients.get_mut(id) else { return };
        let registry = self.poll.registry();
        if let Err(error) =
            registry.register(&mut client.socket, Token(id), Interest::READABLE | Interest::WRITABLE)
        {
            tracing::warn!(%error, "a viewer's socket can't be watched");
            self.remove(id);
            return;
        }
        self.pump(id, now);
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

    /// A group's ring has more. It is sent when the last flush is long enough ago.
    fn news(&mut self, index: usize, now: Instant) {
        let Some(group) = self.groups.get(index) else { return };
        let at = group.last_flush + self.pace.of(group.key.window());
        self.due.push(Reverse((at.max(now), index)));
    }

    fn flush_due(&mut self, now: Instant) {
        while let Some(Reverse((at, index))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            self.flush(index, now);
        }
    }

    /// Sends a group what is new.
    fn flush(&mut self, index: usize, now: Instant) {
        let Some(group) = self.groups.get_mut(index) else { return };
        let (before, old_version) = (group.follower.position(), group.follower.version());
        let lost = group.read(&mut self.pieces);
        group.last_flush = now;
        let (position, version, ended) = (group.follower.position(), group.follower.version(), group.ended);
        let mut go_on = std::mem::take(&mut group.waiting);
        if !lost {
            self.send(index, position, version, now);
        }
        if lost || ended {
            let (position, version) = if lost { (before, old_version) } else { (position, version) };
            let Some(group) = self.groups.get_mut(index) else { return };
            let riders = std::mem::take(&mut group.riders);
            for id in &riders {
                if let Some(viewer) = self.clients.get_mut(*id).and_then(|client| client.viewer.as_mut()) {
                    viewer.carry_to(position, version);
                }
            }
            go_on.extend(riders);
        }
        self.pieces.clear();
        for id in &go_on {
            if let Some(client) = self.clients.get_mut(*id) {
                client.place = Place::Queued;
            }
        }
        for id in go_on {
            self.pump(id, now);
        }
    }

    /// Writes what was read of a group's ring to all who have had everything before.
    fn send(&mut self, index: usize, position: u64, version: u32, now: Instant) {
        let bytes = match self.pieces.as_slice() {
            [] => return,
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
                many.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        };
        let Some(group) = self.groups.get_mut(index) else { return };
        let mut riders = std::mem::take(&mut group.riders);
        let mut gone = Vec::new();
        let mut at = 0;
        while let Some(id) = riders.get(at).copied() {
            let Some(client) = self.clients.get_mut(id) else {
                riders.swap_remove(at);
                continue;
            };
            let left = match client.write(&bytes) {
                Io::Done(len) => {
                    self.sent += len as u64;
                    if len == bytes.len() {
                        at += 1;
                        continue;
                    }
                    Some(bytes.slice(len..))
                }
                Io::Later => Some(bytes.clone()),
                Io::Gone => None,
            };
            // It rides no longer; the last one takes its place.
            client.place = Place::Queued;
            match left {
                Some(left) => {
                    client.sending = left;
                    client.place = Place::Blocked(now);
                    if let Some(viewer) = &mut client.viewer {
                        viewer.carry_to(position, version);
                    }
                }
                None => gone.push(id),
            }
            riders.swap_remove(at);
            if let Some(moved) = riders.get(at).and_then(|id| self.clients.get_mut(*id)) {
                moved.place = Place::Riding(at);
            }
        }
        if let Some(group) = self.groups.get_mut(index) {
            group.riders = riders;
        }
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// Those who go on in this round.
    fn next_round(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        for id in unread {
            self.listen(id, Instant::now());
        }
        let round: Vec<usize> = self.queued.drain(..self.queued.len().min(ROUND_CLIENTS)).collect();
        for id in round {
            if self.clients.get(id).is_some_and(|client| client.place == Place::Queued) {
                self.pump(id, Instant::now());
            }
        }
    }

    /// Writes to a client that is in no list, until nothing is left or nothing more can be written.
    fn pump(&mut self, id: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let group = client.group.and_then(|index| self.groups.get_mut(index));
        let (until, ended) = group.as_ref().map_or((u64::MAX, false), |g| (g.follower.position(), g.ended));
        let mut blocked_since = match client.place {
            Place::Blocked(since) => since,
            Place::Leaving(_) => return,
            _ => now,
        };
        let mut budget = ROUND_BYTES;
        let place = loop {
            if !client.sending.is_empty() {
                match client.write_on() {
                    Io::Done(len) => {
                        self.sent += len as u64;
                        blocked_since = now;
                        budget = budget.saturating_sub(len);
                    }
                    Io::Later => break Place::Blocked(blocked_since),
                    Io::Gone => return self.remove(id),
                }
                if budget == 0 {
                    self.queued.push(id);
                    break Place::Queued;
                }
                continue;
            }
            if let Some(reply) = client.reply.take() {
                (client.sending, client.replying) = (reply, true);
                continue;
            }
            if let Some(output) = client.protocol.output() {
                client.sending = output;
                continue;
            }
            if std::mem::take(&mut client.replying) && client.readable {
                self.unread.push(id);
            }
            let wish = client.protocol.wish();
            let viewer = match &mut client.viewer {
                Some(viewer) if !client.over && wish != Wish::Leave => viewer,
                _ => {
                    // What it still sends is read over until it hangs up, so that it gets what was sent.
                    let _ = client.socket.shutdown(Shutdown::Write);
                    client.readable = true;
                    self.unread.push(id);
                    break Place::Leaving(now + FAREWELL);
                }
            };
            if wish != Wish::Pause {
                client.paused_since = None;
            }
            let step = match wish {
                Wish::Pause if ended => Step::Over(Over::Ended),
                Wish::Pause => {
                    client.paused_since.get_or_insert(now);
                    Step::Wait
                }
                Wish::Resume => {
                    viewer.start_over();
                    continue;
                }
                Wish::Play | Wish::Leave => viewer.step(until, now),
            };
            match step {
                Step::Send(bytes) => client.sending = bytes,
                Step::Over(over) => {
                    client.over = true;
                    client.protocol.end(over);
                }
                Step::Wait => {
                    let Some(group) = group else { return self.remove(id) };
                    let (rides, list) = if wish == Wish::Play && viewer.is_at(until) {
                        (true, &mut group.riders)
                    } else {
                        (false, &mut group.waiting)
                    };
                    list.push(id);
                    let at = list.len() - 1;
                    break if rides { Place::Riding(at) } else { Place::Waiting(at) };
                }
            }
        };
        client.place = place;
    }

    /// Takes a client out of its group's lists.
    fn detach(&mut self, id: usize) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(group) = client.group.and_then(|index| self.groups.get_mut(index)) else { return };
        let (list, at) = match client.place {
            Place::Riding(at) => {
                if let Some(viewer) = &mut client.viewer {
                    viewer.carry_to(group.follower.position(), group.follower.version());
                }
                (&mut group.riders, at)
            }
            Place::Waiting(at) => (&mut group.waiting, at),
            Place::Blocked(_) | Place::Queued | Place::Leaving(_) => return,
        };
        client.place = Place::Queued;
        list.swap_remove(at);
        let Some(moved) = list.get(at).copied() else { return };
        if let Some(moved) = self.clients.get_mut(moved) {
            moved.place = match moved.place {
                Place::Riding(_) => Place::Riding(at),
                _ => Place::Waiting(at),
            };
        }
    }

    /// Reads what a client says.
    fn listen(&mut self, id: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.readable = true;
        if client.replying || client.reply.is_some() {
            return;
        }
        let mut heard = false;
        let mut reads = 0;
        while client.reply.is_none() {
            if reads == READS {
                self.unread.push(id);
                break;
            }
            reads += 1;
            match client.read(&mut self.buffer) {
                Io::Done(len) if !matches!(client.place, Place::Leaving(_)) => {
                    client.protocol.input(now, self.buffer.get(..len).unwrap_or_default());
                    client.reply = client.protocol.output();
                    heard = true;
                }
                Io::Done(_) => {}
                Io::Later => {
                    client.readable = false;
                    break;
                }
                Io::Gone => return self.remove(id),
            }
        }
        if heard && matches!(client.place, Place::Riding(_) | Place::Waiting(_)) {
            self.detach(id);
            self.pump(id, now);
        }
    }

    /// Looks for those who take too long.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < self.sweep_every() {
            return;
        }
        self.swept = now;
        let mut late = Vec::new();
        for (id, client) in &mut self.clients {
            let paused =
                client.paused_since.is_some_and(|at| now.saturating_duration_since(at) > self.patience.pause);
            match client.place {
                Place::Blocked(since) if now.saturating_duration_since(since) > self.patience.stall => {
                    if let Some(viewer) = &client.viewer {
                        viewer.dropped(Over::Stalled);
                    }
                    late.push((id, true));
                }
                Place::Leaving(until) if now > until => late.push((id, true)),
                Place::Waiting(_) if paused => {
                    client.over = true;
                    client.protocol.end(Over::Paused);
                    if let Some(viewer) = &client.viewer {
                        viewer.dropped(Over::Paused);
                    }
                    late.push((id, false));
                }
                _ => {}
            }
        }
        for (id, gone) in late {
            if gone {
                self.remove(id);
            } else {
                self.detach(id);
                self.pump(id, now);
            }
        }
    }

    /// A client is gone.
    fn remove(&mut self, id: usize) {
        self.detach(id);
        let Some(client) = self.clients.try_remove(id) else { return };
        self.mailbox.left();
        let Some(index) = client.group else { return };
        drop(client);
        let Some(group) = self.groups.get_mut(index) else { return };
        group.members -= 1;
        if group.members == 0 {
            let group = self.groups.remove(index);
            self.group_of.remove(&group.key);
        }
    }

    fn cut(&mut self, transport: Transport) {
        let all = self.clients.iter().filter(|(_, client)| client.transport == transport).map(|(id, _)| id);
        all.collect::<Vec<_>>().into_iter().for_each(|id| self.remove(id));
    }
}
