//! Those who watch the same ring with the same window.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Window;
use super::mailbox::{Bell, Mailbox};
use crate::fanout::{Follower, Outlet};

/// Viewers of one ring in a shard.
pub(super) struct Group {
    /// The ring and window that it is for.
    pub(super) key: Key,
    pub(super) follower: Follower,
    bell: Arc<Bell>,
    waker: Waker,
    /// Keys of clients who have been sent all before the follower's position.
    pub(super) riders: Vec<usize>,
    /// Keys of clients who wait for the ring, but not at that position.
    pub(super) waiting: Vec<usize>,
    /// All clients of the group, wherever they stand.
    pub(super) members: usize,
    /// No more comes.
    pub(super) ended: bool,
}

/// What makes a group.
#[derive(Clone)]
pub(super) struct Key {
    outlet: Arc<Outlet>,
    window: Window,
}

impl Key {
    pub(super) fn new(outlet: &Arc<Outlet>, window: Window) -> Self {
        Self { outlet: Arc::clone(outlet), window }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outlet, &other.outlet) && self.window == other.window
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.outlet).hash(state);
        self.window.hash(state);
    }
}

impl Group {
    /// An empty group that is called by `index`.
    pub(super) fn new(key: Key, mailbox: &Arc<Mailbox>, index: usize, now: Instant) -> Self {
        let bell = Bell::new(mailbox, index);
        let waker = Waker::from(Arc::clone(&bell));
        let mut group = Self {
            follower: key.outlet.follow(),
            key,
            bell,
            waker,
            riders: Vec::new(),
            waiting: Vec::new(),
            members: 0,
            ended: false,
        };
        // From here on it is told of news. There can be some already; whoever joins catches up with it.
        let window = group.key.window.at_rest();
        group.read(now, window, &mut Vec::new());
        group
    }

    /// Appends what is new to `out`, and has the bell rung when there is more, once a window. Whether some of it was
    /// lost.
    pub(super) fn read(&mut self, now: Instant, window: Duration, out: &mut Vec<bytes::Bytes>) -> bool {
        self.bell.reset();
        let every = (!window.is_zero()).then_some(window);
        let followed = self.follower.read(&self.waker, every, now, out);
        self.ended = followed.ended;
        followed.lost
    }
}
