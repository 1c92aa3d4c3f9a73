//! How other threads reach a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Wake;

use parking_lot::Mutex;

use super::{Arrival, Transport};

/// What a shard is told.
pub(super) enum Letter {
    /// Somebody comes.
    Arrival(Box<Arrival>),
    /// A group's ring has news.
    News(usize),
    /// Everybody has to go who came that way.
    Cut(Transport),
    /// Everybody has to go, and the shard, too.
    Stop,
}

/// A shard's letters. Bounded by the connections there may be, and one for each group.
pub(super) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waker: mio::Waker,
    clients: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self { letters: Mutex::default(), waker, clients: AtomicUsize::new(0) }
    }

    /// Leaves a letter and wakes the shard, unless somebody has done so already.
    pub(super) fn post(&self, letter: Letter) {
        if matches!(letter, Letter::Arrival(_)) {
            self.clients.fetch_add(1, Ordering::Relaxed);
        }
        let mut letters = self.letters.lock();
        let first = letters.is_empty();
        letters.push(letter);
        drop(letters);
        if first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a shard can't be woken");
        }
    }

    /// Takes all letters; `into` is empty and keeps its allocation.
    pub(super) fn collect(&self, into: &mut Vec<Letter>) {
        std::mem::swap(&mut *self.letters.lock(), into);
    }

    /// Clients that are here or on their way.
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// A client has left.
    pub(super) fn left(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the shard that a group's ring has news, once until it has looked.
pub(super) struct Bell {
    mailbox: Arc<Mailbox>,
    group: usize,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(mailbox: &Arc<Mailbox>, group: usize) -> Arc<Self> {
        Arc::new(Self { mailbox: Arc::clone(mailbox), group, rung: AtomicBool::new(false) })
    }

    /// The shard looks now.
    pub(super) fn reset(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.mailbox.post(Letter::News(self.group));
        }
    }
}
