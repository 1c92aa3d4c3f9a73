//! A shard's viewers: those of one broadcast read it together.

use std::sync::Arc;
use std::time::Instant;

use super::Shard;
use crate::broadcast::{Broadcast, News};
use crate::shard::seat::Task;
use crate::shard::viewing::Remedy;

/// Who watches one broadcast here.
pub(super) struct Group {
    broadcast: Arc<Broadcast>,
    members: Vec<u64>,
    /// The number of what none of them has.
    pub(super) next: u64,
}

impl Shard {
    /// A viewer is connected: it gets the newest keyframe and what follows, up to where its group is.
    pub(super) fn join(&mut self, now: Instant, number: u64) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        let Task::View(viewing) = &mut seat.task else { return };
        let address = Arc::as_ptr(&viewing.broadcast) as usize;
        let group = self.groups.entry(address).or_insert_with(|| {
            self.mailbox.watch(address, true);
            let broadcast = Arc::clone(&viewing.broadcast);
            Group { next: broadcast.next(), broadcast, members: Vec::new() }
        });
        if group.members.contains(&number) {
            return;
        }
        group.members.push(number);
        viewing.begin(now, group.next);
        self.touch(number);
        // What came since the group read, and whether it is over.
        self.news(now, address);
    }

    /// Sends all that is new to those who watch it.
    pub(super) fn news(&mut self, now: Instant, address: usize) {
        let Some(group) = self.groups.get_mut(&address) else { return };
        let mut samples = std::mem::take(&mut self.samples);
        samples.clear();
        let members = group.members.clone();
        match group.broadcast.read(self.index, group.next, &mut samples) {
            News::Until(next) => {
                group.next = next;
                for number in members {
                    let Some(seat) = self.seats.get_mut(&number) else { continue };
                    let Task::View(viewing) = &mut seat.task else { continue };
                    viewing.follow(&samples, seat.peer.as_mut());
                    self.touch(number);
                }
            }
            News::Lost => {
                group.next = group.broadcast.next();
                let next = group.next;
                for number in members {
                    let Some(seat) = self.seats.get_mut(&number) else { continue };
                    let Task::View(viewing) = &mut seat.task else { continue };
                    viewing.begin(now, next);
                    self.common.metrics.restarts.with_label_values(&["late"]).inc();
                    self.touch(number);
                }
            }
            News::Over(why) => members.into_iter().for_each(|number| self.say_goodbye(number, why)),
        }
        samples.clear();
        self.samples = samples;
    }

    /// A viewer can't decode: it gets the newest keyframe again, or waits for the next if its line takes no more.
    pub(super) fn restart(&mut self, now: Instant, number: u64) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        let Task::View(viewing) = &mut seat.task else { return };
        let Some(group) = self.groups.get(&(Arc::as_ptr(&viewing.broadcast) as usize)) else { return };
        let restarts = &self.common.metrics.restarts;
        match viewing.remedy(now) {
            Remedy::CatchUp => {
                restarts.with_label_values(&["asked"]).inc();
                viewing.help(now, group.next);
            }
            Remedy::Skip => {
                restarts.with_label_values(&["skipped"]).inc();
                viewing.skip();
                group.broadcast.want_keyframe();
            }
            Remedy::Nothing => return,
        }
        self.touch(number);
    }

    /// A viewer is over.
    pub(super) fn leave(&mut self, number: u64, address: usize) {
        let Some(group) = self.groups.get_mut(&address) else { return };
        group.members.retain(|member| *member != number);
        if group.members.is_empty() {
            self.groups.remove(&address);
            self.mailbox.watch(address, false);
        }
    }
}
