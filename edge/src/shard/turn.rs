//! Turns: clients who are not at the live edge go on, and those who say something are heard, a bounded part at once.
//! Between two rounds of turns flushes are looked for, so that whoever catches up delays nobody who rides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Leave;
use super::client::{Live, Place, Stop};
use super::run::Shard;

/// Turns in a round.
const ROUND_TURNS: usize = 64;

/// Bytes written in a round, after which no further turn begins: what a flush waits for them is a fraction of a
/// millisecond.
const ROUND_BYTES: u64 = 512 * 1024;

/// How long a client that was told goodbye may take to hang up.
const FAREWELL: Duration = Duration::from_secs(2);

impl Shard {
    /// A client has something to do in its next turn.
    pub(super) fn enqueue(&mut self, id: usize) {
        if let Some(client) = self.clients.get_mut(id)
            && !client.queued
        {
            client.queued = true;
            self.queue.push_back(id);
        }
    }

    /// Some of those who are queued have their turn.
    pub(super) fn round(&mut self) {
        let enough = self.sent + ROUND_BYTES;
        for _ in 0..self.queue.len().min(ROUND_TURNS) {
            let Some(id) = self.queue.pop_front() else { return };
            self.guarded(id, |shard| shard.turn(id, Instant::now()));
            if self.sent >= enough {
                return;
            }
        }
    }

    /// Does something for one client, who alone bears the consequences.
    pub(super) fn guarded(&mut self, id: usize, act: impl FnOnce(&mut Self) -> Result<(), Leave>) {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.remove(id, why),
            Err(_) => {
                tracing::error!(shard = self.index, "a viewer is hung up on: its protocol panicked");
                self.metrics.faults.inc();
                self.remove(id, Leave::Fault);
            }
        }
    }

    fn turn(&mut self, id: usize, now: Instant) -> Result<(), Leave> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        client.queued = false;
        let heard = client.listen(&mut self.buffer, now)?;
        match client.place {
            Place::Riding(_) | Place::Waiting(_) if heard => {
                self.detach(id);
                self.pump(id, now)?;
            }
            Place::Queued => self.pump(id, now)?,
            Place::Blocked(_) if client.writable => self.pump(id, now)?,
            _ => {}
        }
        if self.clients.get(id).is_some_and(|client| client.place == Place::Queued || client.is_heard()) {
            self.enqueue(id);
        }
        Ok(())
    }

    /// Writes to a client that is in no list.
    fn pump(&mut self, id: usize, now: Instant) -> Result<(), Leave> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let group = client.group.and_then(|index| self.groups.get_mut(index));
        let live = group.as_ref().map_or(Live { until: u64::MAX, ended: false }, |group| Live {
            until: group.follower.position(),
            ended: group.ended,
        });
        let before = client.bytes;
        let stop = client.pump(now, live, &mut self.ahead);
        self.ahead.clear();
        self.sent += client.bytes - before;
        if before == 0 && client.bytes > 0 {
            client.begun();
        }
        match (stop?, group) {
            (Stop::Full { moved }, _) => {
                client.writable = false;
                client.place = match client.place {
                    Place::Blocked(since) if !moved => Place::Blocked(since),
                    _ => Place::Blocked(now),
                };
            }
            (Stop::Turn, _) => client.place = Place::Queued,
            (Stop::Riding, Some(group)) => {
                group.riders.push(id);
                client.place = Place::Riding(group.riders.len() - 1);
            }
            (Stop::Waiting, Some(group)) => {
                group.waiting.push(id);
                client.place = Place::Waiting(group.waiting.len() - 1);
            }
            // Who waits for a ring is in a group.
            (Stop::Riding | Stop::Waiting, None) => return Err(Leave::Fault),
            (Stop::Done, _) => client.farewell(now + FAREWELL),
        }
        if client.viewer.is_none()
            && let Some(index) = client.group.take()
        {
            self.leave_group(index);
        }
        Ok(())
    }

    /// Takes a client out of its group's lists.
    pub(super) fn detach(&mut self, id: usize) {
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
}
