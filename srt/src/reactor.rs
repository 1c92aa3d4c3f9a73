//! Waits for all sockets in one thread, and wakes the tasks that want them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::raw::{self, Event, Failed, Id, event};

/// Events taken at once.
const EVENTS: usize = 256;

/// How long the thread waits at most, in milliseconds. libsrt wakes it for what happens.
const WAIT_MS: i64 = 1_000;

/// How long it waits when waiting fails, which would repeat at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What a socket is ready for. Each has a task that reads and one that writes, or the same.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    read: Notify,
    write: Notify,
}

struct Reactor {
    epoll: i32,
    /// The sockets that are waited for: as many as there are.
    sockets: Mutex<HashMap<Id, Arc<Readiness>>>,
    over: Mutex<bool>,
    ends: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

static REACTOR: OnceLock<Result<Reactor, Failed>> = OnceLock::new();

fn reactor() -> Result<&'static Reactor, Failed> {
    let reactor = REACTOR.get_or_init(|| {
        let epoll = raw::epoll()?;
        // The thread waits for the cell to be set.
        let thread = std::thread::Builder::new().name("srt-reactor".to_owned()).spawn(run);
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread waits for SRT sockets");
        }
        Ok(Reactor {
            epoll,
            sockets: Mutex::default(),
            over: Mutex::new(false),
            ends: Condvar::new(),
            thread: Mutex::new(thread.ok()),
        })
    });
    reactor.as_ref().map_err(Clone::clone)
}

fn run() {
    let Ok(reactor) = REACTOR.wait() else { return };
    let mut events = [Event::default(); EVENTS];
    loop {
        let happened = match raw::epoll_wait(reactor.epoll, &mut events, WAIT_MS) {
            Ok(happened) => happened,
            Err(error) => {
                let mut over = reactor.over.lock();
                if !*over {
                    tracing::error!(%error, "SRT sockets cannot be waited for");
                    reactor.ends.wait_for(&mut over, PAUSE);
                }
                if *over {
                    return;
                }
                continue;
            }
        };
        for Event { id, events } in events.iter().take(happened) {
            let readiness = reactor.sockets.lock().get(id).map(Arc::clone);
            let Some(readiness) = readiness else { continue };
            if events & (event::IN | event::ERR) != 0 {
                readiness.read.notify_one();
            }
            if events & (event::OUT | event::ERR) != 0 {
                readiness.write.notify_one();
            }
        }
    }
}

/// Ends SRT in this process, for good: all connections close, and no thread of libsrt's is left that would meet the end of
/// the program. It waits for them.
pub fn end() {
    let Some(Ok(reactor)) = REACTOR.get() else { return };
    *reactor.over.lock() = true;
    reactor.ends.notify_all();
    raw::epoll_release(reactor.epoll);
    if let Some(thread) = reactor.thread.lock().take() {
        // A panic of it was reported when it happened.
        let _ = thread.join();
    }
    raw::cleanup();
}

/// A socket that tasks wait for. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: Id,
    readiness: Arc<Readiness>,
}

impl Socket {
    /// Waits for that socket from now on.
    pub(crate) fn new(id: Id) -> Result<Self, Failed> {
        let socket = Self { id, readiness: Arc::default() };
        let reactor = reactor()?;
        reactor.sockets.lock().insert(id, Arc::clone(&socket.readiness));
        raw::epoll_add(reactor.epoll, id, event::IN | event::OUT | event::ERR | event::EDGE)?;
        Ok(socket)
    }

    /// Calls `act` when there may be something to read, until it does not fail for lack of it.
    pub(crate) async fn reading<T>(&self, act: impl FnMut(Id) -> Result<T, Failed>) -> Result<T, Failed> {
        self.when(&self.readiness.read, act).await
    }

    /// The same for room to write.
    pub(crate) async fn writing<T>(&self, act: impl FnMut(Id) -> Result<T, Failed>) -> Result<T, Failed> {
        self.when(&self.readiness.write, act).await
    }

    /// Resolves when it has become ready to write, or failed.
    pub(crate) async fn written(&self) {
        self.readiness.write.notified().await;
    }

    async fn when<T>(
        &self,
        ready: &Notify,
        mut act: impl FnMut(Id) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        loop {
            match act(self.id) {
                // What happens between the two leaves a permit.
                Err(failed) if failed.would_block() => ready.notified().await,
                done => return done,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Ok(reactor) = reactor() {
            raw::epoll_remove(reactor.epoll, self.id);
            reactor.sockets.lock().remove(&self.id);
        }
        crate::closing::close(self.id);
    }
}
