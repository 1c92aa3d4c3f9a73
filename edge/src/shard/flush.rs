//! A flush: what is new in a ring goes to all who ride it, in one write each.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::Leave;
use super::client::Place;
use super::link::Io;
use super::run::Shard;

/// Riders for whom io_uring is used: for fewer it saves nothing.
const BY_URING: usize = 4;

impl Shard {
    /// Sends a group what is new.
    pub(super) fn flush(&mut self, index: usize, now: Instant) {
        let Some(group) = self.groups.get_mut(index) else { return };
        let window = self.pace.of(group.key.window());
        let (before, old_version) = (group.follower.position(), group.follower.version());
        // Of this group alone: nobody else's flush can begin before they are gone.
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        let lost = group.read(now, window, &mut pieces);
        let (position, version, ended) = (group.follower.position(), group.follower.version(), group.ended);
        let mut go_on = std::mem::take(&mut group.waiting);
        if !lost && !group.riders.is_empty() {
            let bytes = whole(&pieces);
            self.send(index, &bytes, (position, version), now);
        }
        pieces.clear();
        self.pieces = pieces;
        if lost || ended {
            let (position, version) = if lost { (before, old_version) } else { (position, version) };
            let riders = self.groups.get_mut(index).map(|group| std::mem::take(&mut group.riders));
            for id in riders.into_iter().flatten() {
                if let Some(viewer) = self.clients.get_mut(id).and_then(|client| client.viewer.as_mut()) {
                    viewer.carry_to(position, version);
                }
                go_on.push(id);
            }
        }
        for id in &go_on {
            if let Some(client) = self.clients.get_mut(*id) {
                client.place = Place::Queued;
            }
            self.enqueue(*id);
        }
        // Nobody waits now, and the next flush will want the allocation.
        go_on.clear();
        if let Some(group) = self.groups.get_mut(index) {
            group.waiting = go_on;
        }
    }

    /// Writes what was read of a group's ring, up to the unit and track set given, to all who have had everything
    /// before.
    fn send(&mut self, index: usize, bytes: &Bytes, (position, version): (u64, u32), now: Instant) {
        if bytes.is_empty() {
            return;
        }
        let Some(group) = self.groups.get_mut(index) else { return };
        let mut riders = std::mem::take(&mut group.riders);
        self.outcomes.clear();
        if let Some(uring) = self.uring.as_mut().filter(|_| riders.len() >= BY_URING) {
            let sockets = riders.iter().map(|id| self.clients.get(*id).and_then(|client| client.link.bare()));
            uring.send(bytes, sockets, &mut self.outcomes);
        }
        let mut at = 0;
        while let Some(id) = riders.get(at).copied() {
            let Some(client) = self.clients.get_mut(id) else {
                self.stands_down(&mut riders, at);
                continue;
            };
            let io = match self.outcomes.get(at) {
                Some(Some(io)) => *io,
                Some(None) | None => client.link.write(bytes),
            };
            if let Io::Done(len) = io {
                self.sent += len as u64;
                client.bytes += len as u64;
                if len == bytes.len() {
                    at += 1;
                    continue;
                }
            }
            client.place = match io {
                Io::Gone => {
                    self.gone.push(id);
                    Place::Queued
                }
                Io::Done(_) | Io::Later => {
                    client.sending = match io {
                        Io::Done(len) => bytes.slice(len..),
                        _ => bytes.clone(),
                    };
                    client.writable = false;
                    if let Some(viewer) = &mut client.viewer {
                        viewer.carry_to(position, version);
                    }
                    Place::Blocked(now)
                }
            };
            self.stands_down(&mut riders, at);
        }
        if let Some(group) = self.groups.get_mut(index) {
            group.riders = riders;
        }
        while let Some(id) = self.gone.pop() {
            self.remove(id, Leave::Gone);
        }
    }

    /// One of those who ride does so no longer; the last one takes its place.
    fn stands_down(&mut self, riders: &mut Vec<usize>, at: usize) {
        riders.swap_remove(at);
        if at < self.outcomes.len() {
            self.outcomes.swap_remove(at);
        }
        if let Some(moved) = riders.get(at).and_then(|id| self.clients.get_mut(*id)) {
            moved.place = Place::Riding(at);
        }
    }
}

/// All pieces as one: one write of one place is cheaper than one of many, and it is put together once for all.
fn whole(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => {
            let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|piece| all.extend_from_slice(piece));
            all.freeze()
        }
    }
}
