//! The thread that owns the journal: it accepts events, several with one sync of the disk, hands them to couriers, and
//! notes what they are done with.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::courier::Courier;
use super::event::{Event, EventId, EventKind, StreamName, now_ms};
use super::held::Held;
use super::journal::{Bounds, Committed, Draft, Folder, Journal, Live};
use super::metrics::{Drop, Metrics};
use super::seldom::Seldom;
use super::target::EndpointId;
use super::{Error, event};

/// Commands that wait for the disk; who tells more waits.
const MAX_WAITING: usize = 1024;

/// Commands that share a sync at most.
const MAX_BATCH: usize = 256;

/// Whom events go to; replaced as a whole.
pub(super) type Directory = Arc<Mutex<Arc<Vec<Arc<Courier>>>>>;

type Accepted = oneshot::Sender<Result<(), Error>>;
pub(super) type Answer = oneshot::Receiver<Result<(), Error>>;

enum Command {
    Tell(Held, Accepted),
    Done(u64, EndpointId),
    /// An endpoint is no longer configured.
    Forget(EndpointId),
    Bounds(Bounds),
    Close(oneshot::Sender<()>),
}

/// Reaches the thread. It ends when it is closed, or when the last of these is gone.
#[derive(Debug, Clone)]
pub(super) struct Outbox(mpsc::Sender<Command>);

impl Outbox {
    /// Starts the thread, and hands out what the journal holds.
    pub(super) fn start(
        journal: Journal<Folder>,
        directory: Directory,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let (sender, commands) = mpsc::channel(MAX_WAITING);
        let mut keeper =
            Keeper { journal, directory, metrics, full: Seldom::default(), failing: Seldom::default() };
        keeper.hand_out_old();
        std::thread::Builder::new().name("weir-hooks".to_owned()).spawn(move || keeper.run(commands))?;
        Ok(Self(sender))
    }

    /// Resolves when the event has its place in the order of all; what it gives resolves when the event is on disk. Who
    /// stops waiting does not know whether it will be.
    pub(super) async fn enter(&self, event: &Event, body: Vec<u8>) -> Result<Answer, Error> {
        let (kind, id, stream) = (event.kind(), event.id, event.stream.clone());
        let (accepted, answer) = oneshot::channel();
        self.0
            .send(Command::Tell(held(kind, id, stream, body), accepted))
            .await
            .map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    /// An endpoint is done with an event.
    pub(super) async fn done(&self, seq: u64, at: EndpointId) {
        // After the end nothing is noted, and the event is delivered again after the next start.
        let _ = self.0.send(Command::Done(seq, at)).await;
    }

    /// An endpoint is gone: what it has not had is dropped.
    pub(super) async fn forget(&self, endpoint: EndpointId) {
        let _ = self.0.send(Command::Forget(endpoint)).await;
    }

    pub(super) async fn set_bounds(&self, bounds: Bounds) {
        let _ = self.0.send(Command::Bounds(bounds)).await;
    }

    /// Resolves when all that was noted is on disk and the thread has ended.
    pub(super) async fn close(&self) {
        let (closed, answer) = oneshot::channel();
        if self.0.send(Command::Close(closed)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

fn held(kind: EventKind, id: EventId, stream: StreamName, body: Vec<u8>) -> Held {
    Held { seq: 0, kind, id, stream, accepted_ms: now_ms(), body: body.into() }
}

struct Keeper {
    journal: Journal<Folder>,
    directory: Directory,
    metrics: Metrics,
    full: Seldom,
    failing: Seldom,
}

/// What one sync is for.
#[derive(Default)]
struct Batch {
    drafts: Vec<Draft>,
    waiting: Vec<Accepted>,
    done: Vec<(u64, EndpointId)>,
    closed: Option<oneshot::Sender<()>>,
}

impl Keeper {
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let couriers = Arc::clone(&self.directory.lock());
            let mut batch = Batch::default();
            self.gather(first, &couriers, &mut batch);
            for _ in 1..MAX_BATCH {
                let Ok(next) = commands.try_recv() else { break };
                self.gather(next, &couriers, &mut batch);
            }
            let closed = batch.closed.take();
            self.commit(batch, &couriers);
            if let Some(closed) = closed {
                self.end();
                // Whoever closed it may open the folder again at once.
                drop(self);
                let _ = closed.send(());
                return;
            }
        }
        self.end();
    }

    fn gather(&mut self, command: Command, couriers: &[Arc<Courier>], batch: &mut Batch) {
        match command {
            Command::Tell(held, accepted) => {
                let listening = couriers.iter().filter(|courier| courier.target().listens_to(held.kind));
                let to: Vec<_> = listening.map(|courier| courier.id()).collect();
                // Nobody listens since a moment ago.
                if to.is_empty() {
                    let _ = accepted.send(Ok(()));
                    return;
                }
                batch.drafts.push(Draft { held, to });
                batch.waiting.push(accepted);
            }
            Command::Done(seq, at) => batch.done.push((seq, at)),
            Command::Forget(endpoint) => {
                let owed = self.journal.live().filter(|live| live.to.contains(&endpoint));
                let owed: Vec<_> = owed.map(|live| (live.held.seq, endpoint)).collect();
                self.metrics.dropped(Drop::Unconfigured, owed.len() as u64);
                batch.done.extend(owed);
            }
            Command::Bounds(bounds) => self.journal.set_bounds(bounds),
            Command::Close(closed) => batch.closed = Some(closed),
        }
    }

    fn commit(&mut self, batch: Batch, couriers: &[Arc<Courier>]) {
        match self.journal.commit(batch.drafts, &batch.done) {
            Ok(Committed { accepted, dropped }) => {
                self.drop_oldest(&dropped, couriers);
                for live in &accepted {
                    hand_out(live, couriers);
                }
                for waiting in batch.waiting {
                    let _ = waiting.send(Ok(()));
                }
            }
            Err(error) => {
                self.failed(&error);
                for waiting in batch.waiting {
                    let _ = waiting.send(Err(Error::Write(error.kind())));
                }
            }
        }
        if let Err(error) = self.journal.clean() {
            self.failed(&error);
        }
        let (live, files) = self.journal.bytes();
        self.metrics.held(live, files);
    }

    fn drop_oldest(&self, dropped: &[Live], couriers: &[Arc<Courier>]) {
        if dropped.is_empty() {
            return;
        }
        for live in dropped {
            for courier in couriers.iter().filter(|courier| live.to.contains(&courier.id())) {
                courier.remove(&live.held);
            }
        }
        self.metrics.dropped(Drop::Full, dropped.len() as u64);
        if let Some(left_out) = self.full.line() {
            tracing::error!(
                dropped = dropped.len(),
                left_out,
                "hooks: the journal is full; the oldest events are dropped"
            );
        }
    }

    fn failed(&self, error: &io::Error) {
        if let Some(left_out) = self.failing.line() {
            tracing::error!(%error, left_out, "hooks: the journal can't be written");
        }
    }

    /// Hands out what was not delivered before the start; endpoints that are gone since are done with it.
    fn hand_out_old(&mut self) {
        let couriers = Arc::clone(&self.directory.lock());
        let mut gone = Vec::new();
        for live in self.journal.live() {
            hand_out(live, &couriers);
            let unknown = |id: &&EndpointId| couriers.iter().all(|courier| courier.id() != **id);
            gone.extend(live.to.iter().filter(unknown).map(|id| (live.held.seq, *id)));
        }
        self.metrics.dropped(Drop::Unconfigured, gone.len() as u64);
        self.commit(Batch { done: gone, ..Batch::default() }, &couriers);
    }

    fn end(&mut self) {
        if let Err(error) = self.journal.sync() {
            self.failed(&error);
        }
    }
}

fn hand_out(live: &Live, couriers: &[Arc<Courier>]) {
    for courier in couriers.iter().filter(|courier| live.to.contains(&courier.id())) {
        courier.push(Arc::clone(&live.held));
    }
}

/// The bytes of an event, if it is not too long.
pub(super) fn body_of(event: &Event) -> Result<Vec<u8>, Error> {
    let body = serde_json::to_vec(event).map_err(|_| Error::TooLarge)?;
    if body.len() > event::MAX_EVENT_BYTES { Err(Error::TooLarge) } else { Ok(body) }
}
