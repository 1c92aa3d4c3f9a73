//! One pull: calls its source, publishes what comes, and calls again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use control_api::RemoteState;
use media_core::hub::{Epoch, StreamKey};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::demand::Demand;
use super::metrics::Metrics;
use super::source::{Item, Opened, Source};
use crate::ingest::publishing::Publishing;
use crate::opening::Opening;
use crate::remote::{Board, Config, Reach, Trouble};
use crate::{Line, Origin, Publisher};

/// Items taken in a row, before others have their turn.
const AT_ONCE: u32 = 64;

/// One pull.
pub(super) struct Puller {
    pub(super) origin: Origin,
    pub(super) key: StreamKey,
    pub(super) source: Source,
    pub(super) reach: Reach,
    pub(super) config: Config,
    pub(super) board: Arc<Board>,
    pub(super) demand: Option<Arc<Demand>>,
    pub(super) metrics: Metrics,
    /// Under which epoch it published the last time; 0: never.
    pub(super) epoch: AtomicU64,
}

/// Aborts a task when it is dropped.
struct Aborting(AbortHandle);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Puller {
    /// Never ends but with the process.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let Some(demand) = &self.demand else { return self.follow().await };
            demand.wanted().await;
            let linger = Duration::from_millis(self.config.on_demand_linger_ms);
            tokio::select! {
                () = self.follow() => return,
                () = demand.unwanted(&self.origin, &self.key, linger) => {}
            }
            tracing::info!(stream = %self.key, "nobody watches; its pull ends");
            self.board.enter(RemoteState::Idle);
            // Nobody waits for its return.
            self.expire().await;
        }
    }

    /// Ends the stream, if this pull published it last and nobody does now.
    pub(super) async fn expire(&self) {
        // What was aborted lets go of the stream when its task runs the next time.
        for _ in 0..100 {
            match self.epoch.load(Ordering::Acquire) {
                0 => return,
                epoch if self.origin.registry().expire(&self.key, Epoch(epoch)) => return,
                epoch if self.published() != Some(epoch) => return,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// The epoch under which the stream is published.
    fn published(&self) -> Option<u64> {
        self.origin.registry().stream(&self.key).map(|stream| stream.snapshot().tracks.epoch.0)
    }

    /// Calls until this process ends.
    async fn follow(self: &Arc<Self>) {
        let mut retry = self.config.retry();
        loop {
            let began = Instant::now();
            self.board.enter(RemoteState::Connecting);
            let puller = Arc::clone(self);
            // What comes is a stranger's, and its reader another's: a panic of that is the end of this attempt.
            let task = tokio::spawn(async move { puller.attempt().await });
            let _aborting = Aborting(task.abort_handle());
            let trouble = task.await.unwrap_or(Trouble::Panicked);
            if trouble.is_the_end() {
                self.board.enter(RemoteState::Idle);
                return;
            }
            let wait = retry.wait(began.elapsed(), &trouble);
            self.metrics.failures.with_label_values(&[trouble.reason()]).inc();
            tracing::warn!(stream = %self.key, url = %self.source.shown(), again_in_ms = wait.as_millis(),
                "pull: {trouble}");
            self.board.failed(trouble.to_string(), wait);
            sleep(wait).await;
        }
    }

    /// One call, until it is over.
    async fn attempt(&self) -> Trouble {
        let silent = |time: Duration| Trouble::Silent(time.as_secs().max(1));
        let (connect, idle) = (self.config.connect_timeout(), self.config.idle_timeout());
        let mut opened = match timeout(connect, self.source.open(&self.reach)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(trouble)) => return trouble,
            Err(_) => return silent(connect),
        };
        let line = Line::default();
        let mut publishing = match self.publish(&opened, line.clone()).await {
            Ok(publishing) => publishing,
            Err(trouble) => return trouble,
        };
        self.board.enter(RemoteState::Live);
        self.board.note(opened.note());
        tracing::info!(stream = %self.key, url = %self.source.shown(), note = opened.note(), "pulling");
        let lost = self.metrics.lost.with_label_values(&[self.source.protocol()]);
        let (mut counted, mut in_a_row) = (0, 0);
        let mut patience = (Instant::now() + connect, connect);
        let trouble = loop {
            let item = tokio::select! {
                biased;
                revoked = publishing.revoked() => break Trouble::Revoked(revoked),
                item = timeout_at(patience.0, opened.next()) => item,
            };
            lost.inc_by(opened.lost().saturating_sub(std::mem::replace(&mut counted, opened.lost())));
            let done = match item {
                Ok(Ok(Item::Frame(frame))) => {
                    patience = (Instant::now() + idle, idle);
                    publishing.frame(frame)
                }
                Ok(Ok(Item::Tracks(tracks))) => publishing.tracks(tracks),
                Ok(Ok(Item::Line(info))) => {
                    line.set(info);
                    self.board.line(info);
                    Ok(())
                }
                Ok(Err(trouble)) => break trouble,
                Err(_) if publishing.any_frame() => break silent(patience.1),
                Err(_) => break Trouble::Useless("no frame came that can be decoded".to_owned()),
            };
            if let Err(revoked) = done {
                break Trouble::Revoked(revoked);
            }
            in_a_row += 1;
            if in_a_row == AT_ONCE {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        };
        drop(publishing);
        trouble
    }

    /// Under the same conditions as whoever publishes: the lease of the stream, a place, no drain.
    async fn publish(&self, opened: &Opened, line: Line) -> Result<Publishing, Trouble> {
        let protocol = self.source.protocol();
        let opening = Opening::new(self.origin.tracer(), protocol, self.key.app(), self.key.name());
        let publisher = Publisher {
            protocol,
            remote_addr: opened
                .peer()
                .map_or_else(|| self.source.shown().to_string(), |peer| peer.to_string()),
            backup: false,
            query: String::new(),
            trace: opening.context(),
            line: matches!(opened, Opened::Srt(_)).then_some(line),
        };
        match self.origin.admit(&self.key, publisher).await {
            Ok(publication) => {
                self.epoch.store(publication.epoch().0, Ordering::Release);
                Ok(Publishing::new(publication, opening))
            }
            Err(error) => {
                opening.refused(&error.to_string());
                Err(error.into())
            }
        }
    }
}
