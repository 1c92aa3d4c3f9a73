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

impl Letter {
    /// No shard reads it any more.
    pub(super) fn unread(self) {
        if let Self::Arrival(arrival) = self {
            arrival.turned_away();
        }
    }
}

/// A shard's letters. Bounded by the connections there may be, and one for each group.
pub(super) struct Mailbox {
    /// `None` when the shard has ended.
    letters: Mutex<Option<Vec<Letter>>>,
    waker: mio::Waker,
    /// The shard waits for its waker: it looks at its letters by itself otherwise.
    asleep: AtomicBool,
    open: AtomicBool,
    clients: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            letters: Mutex::new(Some(Vec::new())),
            waker,
            asleep: AtomicBool::new(false),
            open: AtomicBool::new(true),
            clients: AtomicUsize::new(0),
        }
    }

    /// Leaves a letter and wakes the shard, unless it is awake. It comes back if the shard has ended.
    pub(super) fn post(&self, letter: Letter) -> Result<(), Letter> {
        let arrives = matches!(letter, Letter::Arrival(_));
        let mut slot = self.letters.lock();
        let Some(letters) = slot.as_mut() else { return Err(letter) };
        letters.push(letter);
        drop(slot);
        if arrives {
            self.clients.fetch_add(1, Ordering::Relaxed);
        }
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard can't be woken");
        }
        Ok(())
    }

    /// The shard is going to wait: whether it may, because there are no letters. Until [`Self::wakes`], the next letter
    /// wakes it.
    pub(super) fn falls_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        // Behind that: whoever leaves a letter after this look sees that the shard sleeps.
        self.letters.lock().as_ref().is_none_or(Vec::is_empty)
    }

    /// The shard is awake.
    pub(super) fn wakes(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Takes all letters; `into` is empty and keeps its allocation.
    pub(super) fn collect(&self, into: &mut Vec<Letter>) {
        if let Some(letters) = self.letters.lock().as_mut() {
            std::mem::swap(letters, into);
        }
    }

    /// The shard ends: it is told nothing any more, and whoever was on the way to it is turned away.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        let letters = self.letters.lock().take();
        letters.into_iter().flatten().for_each(Letter::unread);
    }

    /// Whether the shard still runs, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
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
            // Where the shard has ended, nobody is left to be told.
            drop(self.mailbox.post(Letter::News(self.group)));
        }
    }
}
