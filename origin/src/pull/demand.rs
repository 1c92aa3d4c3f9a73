//! On-demand pulls: who asks for such a stream begins it, and waits for it.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use control_api::RemoteState;
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::Origin;
use crate::remote::Board;

/// How often it is looked whether anybody still watches.
const LOOK: Duration = Duration::from_millis(500);

/// The on-demand pulls of an origin: as many as it may have pulls.
#[derive(Debug, Default)]
pub(crate) struct Demands(Mutex<AHashMap<StreamKey, Arc<Demand>>>);

/// Whether somebody wants a stream.
#[derive(Debug)]
pub(crate) struct Demand {
    /// When it was asked for the last time.
    asked: watch::Sender<Option<Instant>>,
    board: Arc<Board>,
}

/// Why a stream that is pulled on demand is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Absent {
    #[error("the source of the stream cannot be reached at the moment")]
    Failed,
    #[error("the source of the stream has not answered yet")]
    Late,
}

impl Demands {
    pub(super) fn insert(&self, key: StreamKey, demand: Arc<Demand>) {
        self.0.lock().insert(key, demand);
    }

    pub(super) fn remove(&self, key: &StreamKey, demand: &Arc<Demand>) {
        let mut demands = self.0.lock();
        // Another may have taken its place.
        if demands.get(key).is_some_and(|there| Arc::ptr_eq(there, demand)) {
            demands.remove(key);
        }
    }

    fn get(&self, key: &StreamKey) -> Option<Arc<Demand>> {
        self.0.lock().get(key).cloned()
    }
}

impl Demand {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { asked: watch::Sender::new(None), board }
    }

    fn ask(&self) {
        self.asked.send_replace(Some(Instant::now()));
    }

    /// Resolves when somebody asks.
    pub(super) async fn wanted(&self) {
        // Fails where this is gone, which who waits here holds.
        let _ = self.asked.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves when nobody has watched, or asked, for so long.
    pub(super) async fn unwanted(&self, origin: &Origin, key: &StreamKey, linger: Duration) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if origin.relay().is_read(key) {
                self.ask();
                continue;
            }
            let is_over = self.asked.send_if_modified(|asked| {
                let is_over = asked.is_none_or(|asked| asked.elapsed() >= linger);
                if is_over {
                    *asked = None;
                }
                is_over
            });
            if is_over {
                return;
            }
        }
    }
}

impl Origin {
    /// If the stream is pulled on demand, this is somebody who wants it: waits until it is there, or cannot be had, or for
    /// as long as is configured.
    pub(crate) async fn summon(&self, key: &StreamKey) -> Result<(), Absent> {
        let Some(demand) = self.demands().get(key) else { return Ok(()) };
        let mut changes = demand.board.changes();
        demand.ask();
        let wait = Duration::from_millis(self.config().remote.on_demand_wait_ms);
        let there = changes.wait_for(|standing| {
            standing.state == RemoteState::Waiting || self.registry().stream(key).is_some()
        });
        let outcome = timeout(wait, there).await;
        if self.registry().stream(key).is_some() {
            return Ok(());
        }
        Err(if outcome.is_ok() { Absent::Failed } else { Absent::Late })
    }
}
