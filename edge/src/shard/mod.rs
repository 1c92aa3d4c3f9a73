//! Viewers on sockets of their own, a thread a core.
//!
//! A viewer whose request is answered moves here with its socket, whatever its protocol, and no task of its own is
//! left behind. A *shard* is a thread with a poll and its viewers; a *group* is those of them who watch the same ring
//! with the same [`Window`], and follows that ring once for all of them: one wake, one lock and one list of bytes a
//! flush, then one write for each viewer. Who can't take a flush at once goes on by a cursor of its own, in *turns*:
//! bounded parts of the time between two flushes.

mod client;
mod flush;
mod group;
mod link;
mod mailbox;
mod run;
mod sealed;
mod turn;
mod uring;
mod window;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::FanoutBackend;
use crate::fanout::{Outlet, Over};
use crate::feed::Viewer;
use crate::metrics::Metrics;
pub(crate) use link::Link;
use mailbox::{Letter, Mailbox};
use uring::Uring;
pub(crate) use window::Latency;
pub use window::Window;

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// With one that takes nothing.
    pub(crate) stall: Duration,
    /// With one that wants nothing. While it does not, nothing is written, so a line that died would not be noticed.
    pub(crate) pause: Duration,
}

/// A protocol's side of a viewer's connection. A panic in it ends that connection only.
pub(crate) trait Protocol: Send {
    /// Takes what the client sent.
    fn input(&mut self, now: Instant, bytes: &[u8]);
    /// What is to be sent next, between two flushes.
    fn output(&mut self) -> Option<Bytes>;
    /// Says goodbye, because no more of the stream comes.
    fn end(&mut self, over: Over);
    /// What the client wants.
    fn wish(&mut self) -> Wish;
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The stream.
    Play,
    /// Nothing, until it says so.
    Pause,
    /// The stream again, from where it is now.
    Resume,
    /// To leave, once what there is for it was sent.
    Leave,
}

/// Who is to know when a client has left: its place among the connections, its line in a log.
pub(crate) trait Guest: Send {
    /// The first bytes were written to it.
    fn begun(&mut self) {}
    /// The client is still there, every second or so. The shard has written that many bytes to it.
    fn so_far(&mut self, _bytes: u64) {}
    /// The client has left and its socket is closed. The shard had written that many bytes to it.
    fn left(self: Box<Self>, bytes: u64, why: Leave);
}

/// Why a client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It hung up, or its line broke.
    Gone,
    /// All that was to be said to it was said: it wanted no more, or was let in only to be told why not.
    Done,
    /// No more of the stream came for it.
    Over(Over),
    /// The server hung up: it ends, or no shard was left.
    Cut,
    /// A fault in the server.
    Fault,
}

/// Which listener a client came by: each drains for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Rtmp,
}

/// Somebody who moves to a shard.
pub(crate) struct Arrival {
    pub(crate) link: Link,
    pub(crate) transport: Transport,
    /// What is sent before all else.
    pub(crate) head: Bytes,
    /// Who is no viewer is only told what the protocol has to say.
    pub(crate) viewer: Option<Viewer>,
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) window: Window,
    /// It may watch no longer from then on, or from a second later.
    pub(crate) until: Option<Instant>,
    pub(crate) guard: Box<dyn Guest>,
}

impl Arrival {
    /// Nobody takes it in.
    fn turned_away(self) {
        let Self { link, viewer, protocol, guard, .. } = self;
        drop((link, viewer, protocol));
        guard.left(0, Leave::Cut);
    }
}

/// How many clients more than another a shard may have, so that all viewers of a small stream are in one: each flush
/// then wakes one thread, not all.
const SLACK: usize = 64;

/// All shards. Dropping them hangs up on everybody.
pub(crate) struct Shards {
    mailboxes: Vec<Arc<Mailbox>>,
    /// `None` once they were told to end.
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
    /// Spreads streams over shards.
    hasher: RandomState,
}

impl Shards {
    /// Starts `count` threads.
    pub(crate) fn start(
        count: usize,
        backend: FanoutBackend,
        patience: Patience,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let uring = by_uring(backend)?;
        let mut shards = Self {
            mailboxes: Vec::with_capacity(count),
            threads: Mutex::new(Some(Vec::with_capacity(count))),
            hasher: RandomState::new(),
        };
        for index in 0..count {
            let (mailbox, thread) = run::start(index, uring, patience, Arc::clone(metrics))?;
            shards.mailboxes.push(mailbox);
            shards.threads.get_mut().get_or_insert_default().push(thread);
        }
        Ok(shards)
    }

    /// Lets somebody in.
    pub(crate) fn admit(&self, arrival: Arrival) {
        let stream = arrival.viewer.as_ref().map(|viewer| Arc::as_ptr(viewer.outlet()));
        let mut letter = Letter::Arrival(Box::new(arrival));
        while let Some(mailbox) = self.choose(stream) {
            match mailbox.post(letter) {
                Ok(()) => return,
                Err(back) => letter = back,
            }
        }
        if self.threads.lock().is_some() {
            tracing::error!(
                "a viewer is turned away: no thread is left that sends to viewers; restart the process"
            );
        }
        letter.unread();
    }

    /// The stream's own shard, or where the fewest are if that has many more.
    fn choose(&self, stream: Option<*const Outlet>) -> Option<&Mailbox> {
        let open = || self.mailboxes.iter().filter(|mailbox| mailbox.is_open());
        let emptiest = open().min_by_key(|mailbox| mailbox.clients())?;
        let Some(stream) = stream else { return Some(emptiest) };
        let index = self.hasher.hash_one(stream) % open().count().max(1) as u64;
        let own = open().nth(usize::try_from(index).ok()?);
        let own = own.filter(|own| own.clients() <= emptiest.clients() + SLACK);
        Some(own.unwrap_or(emptiest))
    }

    /// Hangs up on everybody who came that way.
    pub(crate) fn cut(&self, transport: Transport) {
        self.tell(|| Letter::Cut(transport));
    }

    /// Hangs up on everybody and lets nobody in any more. Resolves when all have left.
    pub(crate) async fn end(&self) {
        let threads = self.threads.lock().take();
        self.tell(|| Letter::Stop);
        let join = move || {
            // One that panicked has hung up, too.
            threads.into_iter().flatten().for_each(|thread| drop(thread.join()));
        };
        // Fails where the runtime ends.
        let _ = tokio::task::spawn_blocking(join).await;
    }

    /// Tells all who still listen; the others have nobody left.
    fn tell(&self, letter: impl Fn() -> Letter) {
        self.mailboxes.iter().for_each(|mailbox| drop(mailbox.post(letter())));
    }
}

/// Whether flushes go out by io_uring.
fn by_uring(backend: FanoutBackend) -> io::Result<bool> {
    match backend {
        FanoutBackend::Send => Ok(false),
        FanoutBackend::Auto => Ok(Uring::new().is_ok()),
        FanoutBackend::IoUring => match Uring::new() {
            Ok(_) => Ok(true),
            Err(error) => {
                let what = format!(
                    "the kernel does not let this process use io_uring ({error}); allow it, or set edge.fanout.backend \
                     to \"auto\" or \"send\""
                );
                Err(io::Error::new(error.kind(), what))
            }
        },
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.tell(|| Letter::Stop);
    }
}
