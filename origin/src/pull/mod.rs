//! Pulls: streams that this origin fetches from where they are, instead of being sent them, always or while somebody
//! watches. What comes is published as if its source had come itself: under a lease, with epochs, grace, kicks and drains.

mod config;
mod demand;
mod metrics;
mod puller;
mod rtsp;
mod source;
mod srt;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ahash::{AHashMap, AHashSet};
use control_api::RemoteInfo;
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use config::{PullConfig, Transport};
pub(crate) use demand::Demands;

use crate::Origin;
use crate::remote::{Board, Reach, WishError, stream};
use demand::Demand;
use metrics::Metrics;
use puller::Puller;
use source::Source;

/// Whether a pull can be made of these: its stream's name, and its URL.
pub fn check(pull: &PullConfig) -> Result<(), WishError> {
    Wish::new(pull, Reach::Anywhere).map(drop)
}

/// The pulls of an origin. Clones are the same.
#[derive(Clone)]
pub struct Pulls(Arc<Inner>);

struct Inner {
    origin: Origin,
    metrics: Metrics,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    configured: Vec<Wish>,
    ordered: Vec<Wish>,
    running: AHashMap<StreamKey, Running>,
}

/// A pull as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    key: StreamKey,
    source: Source,
    on_demand: bool,
    reach: Reach,
}

impl Wish {
    fn new(pull: &PullConfig, reach: Reach) -> Result<Self, WishError> {
        let source = Source::parse(pull.url.reveal(), pull.transport)?;
        Ok(Self { key: stream(&pull.stream)?, source, on_demand: pull.on_demand, reach })
    }
}

/// A pull that runs. Dropping it ends it.
struct Running {
    wish: Wish,
    puller: Arc<Puller>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(demand) = &self.puller.demand {
            self.puller.origin.demands().remove(&self.puller.key, demand);
        }
    }
}

impl Pulls {
    /// Those of `origin`'s configuration, which run from now on. Puts their metrics (`weir_origin_pull…`) into `metrics`.
    /// Call it within a tokio runtime.
    pub fn start(origin: Origin, metrics: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let configured = origin.config().pulls.clone();
        let (metrics, runtime) = (Metrics::register(metrics)?, Handle::current());
        let pulls = Self(Arc::new(Inner { origin, metrics, runtime, state: Mutex::default() }));
        pulls.configure(&configured);
        Ok(pulls)
    }

    /// Replaces the configured ones; those that are as before go on. One that cannot be is left out.
    pub fn configure(&self, pulls: &[PullConfig]) {
        let wishes = wishes(pulls, &Reach::Anywhere);
        let mut state = self.0.state.lock();
        state.configured = wishes;
        self.0.settle(&mut state);
    }

    /// Replaces those that the API has ordered; those that are as before go on. They may not call everybody.
    pub fn order(&self, pulls: &[PullConfig]) {
        let allowed = self.0.origin.config().remote.allow_networks.clone();
        let wishes = wishes(pulls, &Reach::Guarded(allowed.into()));
        let mut state = self.0.state.lock();
        state.ordered = wishes;
        self.0.settle(&mut state);
    }

    /// How they do, ordered by app and name.
    pub fn list(&self) -> Vec<RemoteInfo> {
        let state = self.0.state.lock();
        let mut list: Vec<RemoteInfo> = state
            .running
            .values()
            .map(|Running { wish, puller, .. }| RemoteInfo {
                id: None,
                app: wish.key.app().to_owned(),
                name: wish.key.name().to_owned(),
                url: wish.source.shown().to_string(),
                on_demand: wish.on_demand,
                configured: wish.reach == Reach::Anywhere,
                node: None,
                standing: puller.board.standing(),
            })
            .collect();
        list.sort_by(|a, b| (&a.app, &a.name).cmp(&(&b.app, &b.name)));
        list
    }
}

fn wishes(pulls: &[PullConfig], reach: &Reach) -> Vec<Wish> {
    let wish = |pull: &PullConfig| match Wish::new(pull, reach.clone()) {
        Ok(wish) => Some(wish),
        Err(error) => {
            tracing::error!(stream = pull.stream, %error, "a pull is left out");
            None
        }
    };
    pulls.iter().filter_map(wish).collect()
}

impl Inner {
    /// Ends what is not wanted, or not so, and begins what is. Of two of one stream the configured one holds, and the first.
    fn settle(&self, state: &mut State) {
        let max = self.origin.config().remote.max_pulls;
        let mut seen = AHashSet::new();
        let mut wanted: Vec<Wish> = Vec::new();
        for wish in state.configured.iter().chain(&state.ordered) {
            if !seen.insert(wish.key.clone()) {
                continue;
            }
            if wanted.len() == max {
                self.metrics.left_out.inc();
                tracing::error!(stream = %wish.key, max, "a pull is left out: `origin.remote.max_pulls`");
                continue;
            }
            wanted.push(wish.clone());
        }
        let ended: Vec<StreamKey> = state
            .running
            .iter()
            .filter(|(_, running)| !wanted.contains(&running.wish))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            let Some(running) = state.running.remove(&key) else { continue };
            tracing::info!(stream = %key, "a pull is not wanted any more");
            // What the API orders no more may be another origin's by now: viewers wait for that one as for a publisher.
            let is_over = !seen.contains(&key) && running.wish.reach == Reach::Anywhere;
            let puller = Arc::clone(&running.puller);
            drop(running);
            if is_over {
                // Nobody waits for its return.
                self.runtime.spawn(async move { puller.expire().await });
            }
        }
        for wish in wanted {
            if !state.running.contains_key(&wish.key) {
                let key = wish.key.clone();
                state.running.insert(key, self.begin(wish));
            }
        }
    }

    fn begin(&self, wish: Wish) -> Running {
        let board = Arc::new(Board::new(self.metrics.pulls.clone()));
        let demand = wish.on_demand.then(|| Arc::new(Demand::new(Arc::clone(&board))));
        if let Some(demand) = &demand {
            self.origin.demands().insert(wish.key.clone(), Arc::clone(demand));
        }
        let puller = Arc::new(Puller {
            origin: self.origin.clone(),
            key: wish.key.clone(),
            source: wish.source.clone(),
            reach: wish.reach.clone(),
            config: self.origin.config().remote.clone(),
            board,
            demand,
            metrics: self.metrics.clone(),
            epoch: AtomicU64::new(0),
        });
        let task = self.runtime.spawn(Arc::clone(&puller).run()).abort_handle();
        Running { wish, puller, task }
    }
}
