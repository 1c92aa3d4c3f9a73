//! One client: its socket, what is on its way to it, and what it says.

use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::link::{Io, Link};
use super::{Arrival, Guest, Leave, Protocol, Transport, Wish};
use crate::fanout::{Ahead, GATHER, Over, Step};
use crate::feed::Viewer;

/// Bytes that one client is sent before others have their turn: what a newcomer is sent of the past must not stall
/// those who are at the live edge.
const TURN_BYTES: usize = 64 * 1024;

/// Reads of one client before others have their turn.
const TURN_READS: usize = 8;

/// Bytes that a client may say between two sweeps: viewers have little to say. The rest stays in the kernel until the
/// next one, so a client that floods costs no more than that. Nor is it hung up on for that while it is told goodbye: a
/// socket that is closed with something unread is reset, and what was on its way to the client is lost.
const HEARD_BYTES: usize = 64 * 1024;

/// Where a client stands in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// With those of its group who have all there is, at that index.
    Riding(usize),
    /// With those of its group who wait for something else than room in their socket, at that index.
    Waiting(usize),
    /// Its socket is full, since then.
    Blocked(Instant),
    /// It goes on in its next turn.
    Queued,
    /// All is said; it has until then to hang up.
    Leaving(Instant),
}

/// Why a client's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its socket takes no more. Whether it took anything.
    Full { moved: bool },
    /// It has had its share.
    Turn,
    /// It has all that its group has.
    Riding,
    /// It waits for its ring, or for the client.
    Waiting,
    /// All is said.
    Done,
}

/// How far a client's group is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    /// The group has been sent all before that unit: who has, too, rides.
    pub(super) until: u64,
    /// No more comes.
    pub(super) ended: bool,
}

/// A client of a shard.
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) transport: Transport,
    /// What is left of what is being sent.
    pub(super) sending: Bytes,
    /// Until no more of the stream is for it.
    pub(super) viewer: Option<Viewer>,
    protocol: Box<dyn Protocol>,
    pub(super) group: Option<usize>,
    pub(super) place: Place,
    /// It is in the shard's queue.
    pub(super) queued: bool,
    /// Its socket may have room again.
    pub(super) writable: bool,
    /// It may have sent something that was not read yet.
    pub(super) readable: bool,
    /// Bytes that may still be heard of it until the next sweep.
    hearing: usize,
    /// What its last words made the protocol answer.
    reply: Option<Bytes>,
    /// What is being sent answers the client, who is not listened to until it was sent.
    replying: bool,
    pub(super) paused_since: Option<Instant>,
    over: Option<Over>,
    until: Option<Instant>,
    /// Written to its socket.
    pub(super) bytes: u64,
    guard: Box<dyn Guest>,
}

impl Client {
    pub(super) fn new(arrival: Arrival, group: Option<usize>) -> Self {
        let Arrival { link, transport, head, viewer, protocol, window: _, until, guard } = arrival;
        Self {
            link,
            transport,
            sending: head,
            viewer,
            protocol,
            group,
            place: Place::Queued,
            queued: false,
            writable: true,
            readable: true,
            hearing: HEARD_BYTES,
            reply: None,
            replying: false,
            paused_since: None,
            over: None,
            until,
            bytes: 0,
            guard,
        }
    }

    /// Something was written to it for the first time.
    pub(super) fn begun(&mut self) {
        self.guard.begun();
    }

    /// Lets whoever is to know say that it is still there.
    pub(super) fn stays(&mut self) {
        self.guard.so_far(self.bytes);
    }

    /// Hangs up.
    pub(super) fn leave(self, why: Leave) {
        let Self { link, viewer, protocol, over, bytes, guard, .. } = self;
        drop((link, viewer, protocol));
        guard.left(bytes, over.map_or(why, Leave::Over));
    }

    /// Whether it is to be read from. What its last words made the protocol answer goes first, so a client that asks
    /// and doesn't listen holds no more than that.
    pub(super) fn is_heard(&self) -> bool {
        self.readable && self.hearing > 0 && self.reply.is_none() && !self.replying
    }

    /// Some time has passed.
    pub(super) fn may_say_more(&mut self) {
        self.hearing = HEARD_BYTES;
    }

    /// Reads a part of what it says. Whether the protocol has heard something.
    pub(super) fn listen(&mut self, buffer: &mut [u8], now: Instant) -> Result<bool, Leave> {
        let leaving = matches!(self.place, Place::Leaving(_));
        let mut heard = false;
        for _ in 0..TURN_READS {
            if !self.is_heard() {
                break;
            }
            match self.link.read(buffer) {
                Io::Done(len) => {
                    self.hearing = self.hearing.saturating_sub(len);
                    if !leaving {
                        self.protocol.input(now, buffer.get(..len).unwrap_or_default());
                        self.reply = self.protocol.output();
                        heard = true;
                    }
                }
                Io::Later => self.readable = false,
                Io::Gone => return Err(Leave::Gone),
            }
        }
        Ok(heard)
    }

    /// Writes what there is for it, up to its share. `ahead` is for its allocation.
    pub(super) fn pump(&mut self, now: Instant, live: Live, ahead: &mut Vec<Ahead>) -> Result<Stop, Leave> {
        let began = self.bytes;
        let mut share = TURN_BYTES;
        let mut follows = false;
        // Before it is told so: a picture that comes behind the answer is for it.
        if self.protocol.wish() == Wish::Resume
            && let Some(viewer) = &mut self.viewer
        {
            viewer.start_over();
        }
        loop {
            if !self.sending.is_empty() {
                let asked = self.gather(live.until, share, follows, ahead);
                match self.write(share, ahead) {
                    Io::Done(len) if len < asked => return Ok(Stop::Full { moved: true }),
                    Io::Done(len) => share = share.saturating_sub(len),
                    Io::Later => return Ok(Stop::Full { moved: self.bytes > began }),
                    Io::Gone => return Err(Leave::Gone),
                }
                if share == 0 {
                    return Ok(Stop::Turn);
                }
                follows = false;
                continue;
            }
            if let Some(reply) = self.reply.take() {
                (self.sending, self.replying) = (reply, true);
                continue;
            }
            if let Some(output) = self.protocol.output() {
                self.sending = output;
                continue;
            }
            self.replying = false;
            let wish = self.protocol.wish();
            let Some(viewer) = self.viewer.as_mut().filter(|_| wish != Wish::Leave) else {
                return Ok(Stop::Done);
            };
            if wish != Wish::Pause {
                self.paused_since = None;
            }
            let step = match wish {
                Wish::Pause if live.ended => Step::Over(Over::Ended),
                Wish::Pause => {
                    self.paused_since.get_or_insert(now);
                    return Ok(Stop::Waiting);
                }
                Wish::Play | Wish::Resume | Wish::Leave => viewer.step(live.until, now),
            };
            match step {
                Step::Send(bytes) => (self.sending, follows) = (bytes, true),
                Step::Over(over) => self.end(over),
                Step::Wait if viewer.is_at(live.until) => return Ok(Stop::Riding),
                Step::Wait => return Ok(Stop::Waiting),
            }
        }
    }

    /// No more of the stream is for it: it gives up its seat, and the protocol says goodbye.
    pub(super) fn end(&mut self, over: Over) {
        self.over = Some(over);
        self.viewer = None;
        self.protocol.end(over);
    }

    /// Whether it watches and may no longer.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.viewer.is_some() && self.until.is_some_and(|until| now >= until)
    }

    /// It is dropped for a reason that its ring doesn't know.
    pub(super) fn dropped(&mut self, over: Over) {
        if let Some(viewer) = &self.viewer {
            viewer.dropped(over);
            self.over = Some(over);
        }
    }

    /// All is said. What it still sends is read over until it hangs up or its time is over, so that it gets what was sent.
    pub(super) fn farewell(&mut self, until: Instant) {
        self.viewer = None;
        self.link.finish();
        self.readable = true;
        self.hearing = HEARD_BYTES;
        self.place = Place::Leaving(until);
    }

    /// Finds what of the ring follows what is being sent, if something does. How many bytes are then to be written.
    fn gather(&self, until: u64, share: usize, follows: bool, ahead: &mut Vec<Ahead>) -> usize {
        ahead.clear();
        if let Some(viewer) = self.viewer.as_ref().filter(|_| follows && self.sending.len() < share) {
            viewer.ahead(until, share - self.sending.len(), ahead);
        }
        let units: usize = ahead.iter().map(|unit| unit.bytes.len()).sum();
        share.min(self.sending.len() + units)
    }

    /// Writes once: what is being sent and what follows it in the ring, no more than its share.
    fn write(&mut self, share: usize, ahead: &mut Vec<Ahead>) -> Io {
        let mut slices = [IoSlice::new(&[]); GATHER + 1];
        let mut room = share;
        let pieces = std::iter::once(&self.sending).chain(ahead.iter().map(|unit| &unit.bytes));
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            let piece = piece.get(..room).unwrap_or(piece);
            room -= piece.len();
            *slice = IoSlice::new(piece);
        }
        let io = match slices.get(..=ahead.len()).unwrap_or(&slices) {
            [one] => self.link.write(one),
            many => self.link.write_vectored(many),
        };
        if let Io::Done(len) = io {
            self.wrote(len, ahead);
        }
        io
    }

    /// That much was taken of what was being sent and of what follows it.
    fn wrote(&mut self, len: usize, ahead: &mut Vec<Ahead>) {
        self.bytes += len as u64;
        let first = len.min(self.sending.len());
        self.sending.advance(first);
        let mut rest = len - first;
        for mut unit in ahead.drain(..) {
            if rest == 0 {
                break;
            }
            if let Some(viewer) = &mut self.viewer {
                viewer.advance(unit.version);
            }
            let here = rest.min(unit.bytes.len());
            unit.bytes.advance(here);
            rest -= here;
            self.sending = unit.bytes;
        }
    }
}
