//! Pushes: streams that this origin sends on to somebody else's listener, while they are live here.

mod metrics;
mod pusher;

use std::sync::Arc;

use ahash::AHashSet;
use control_api::{RemoteInfo, Secret};
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::Origin;
use crate::remote::srt::{SCHEME as SRT, Target};
use crate::remote::{Board, Reach, WishError, stream};
use metrics::Metrics;
use pusher::Pusher;

/// A stream that is sent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushConfig {
    /// Which one: `app/name`.
    pub stream: String,
    /// Where to: `srt://host:port?streamid=…&passphrase=…&latency=…`.
    pub url: Secret,
}

/// Whether a push can be made of these: its stream's name, and its URL.
pub fn check(push: &PushConfig) -> Result<(), WishError> {
    Wish::new(push, Reach::Anywhere).map(drop)
}

/// The pushes of an origin. Clones are the same.
#[derive(Clone)]
pub struct Pushes(Arc<Inner>);

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
    running: Vec<Running>,
}

/// A push as it is wanted. A stream may go to several places.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    key: StreamKey,
    target: Target,
    reach: Reach,
}

impl Wish {
    fn new(push: &PushConfig, reach: Reach) -> Result<Self, WishError> {
        let url = push.url.reveal();
        let is_srt = url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(SRT));
        if !is_srt {
            return Err(WishError::Url("it must begin with srt://".to_owned()));
        }
        Ok(Self { key: stream(&push.stream)?, target: Target::parse(url)?, reach })
    }
}

/// A push that runs. Dropping it ends it.
struct Running {
    wish: Wish,
    board: Arc<Board>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pushes {
    /// Those of `origin`'s configuration, which run from now on. Puts their metrics (`weir_origin_push…`) into `metrics`.
    /// Call it within a tokio runtime.
    pub fn start(origin: Origin, metrics: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let configured = origin.config().pushes.clone();
        let (metrics, runtime) = (Metrics::register(metrics)?, Handle::current());
        let pushes = Self(Arc::new(Inner { origin, metrics, runtime, state: Mutex::default() }));
        pushes.configure(&configured);
        Ok(pushes)
    }

    /// Replaces the configured ones; those that are as before go on. One that cannot be is left out.
    pub fn configure(&self, pushes: &[PushConfig]) {
        let wishes = wishes(pushes, &Reach::Anywhere);
        let mut state = self.0.state.lock();
        state.configured = wishes;
        self.0.settle(&mut state);
    }

    /// Replaces those that the API has ordered; those that are as before go on. They may not call everybody.
    pub fn order(&self, pushes: &[PushConfig]) {
        let allowed = self.0.origin.config().remote.allow_networks.clone();
        let wishes = wishes(pushes, &Reach::Guarded(allowed.into()));
        let mut state = self.0.state.lock();
        state.ordered = wishes;
        self.0.settle(&mut state);
    }

    /// How they do, ordered by app, name and place.
    pub fn list(&self) -> Vec<RemoteInfo> {
        let state = self.0.state.lock();
        let shown = |Running { wish, board, .. }: &Running| RemoteInfo {
            id: None,
            app: wish.key.app().to_owned(),
            name: wish.key.name().to_owned(),
            url: wish.target.shown.to_string(),
            on_demand: false,
            configured: wish.reach == Reach::Anywhere,
            node: None,
            standing: board.standing(),
        };
        let mut list: Vec<RemoteInfo> = state.running.iter().map(shown).collect();
        list.sort_by(|a, b| (&a.app, &a.name, &a.url).cmp(&(&b.app, &b.name, &b.url)));
        list
    }
}

fn wishes(pushes: &[PushConfig], reach: &Reach) -> Vec<Wish> {
    let wish = |push: &PushConfig| match Wish::new(push, reach.clone()) {
        Ok(wish) => Some(wish),
        Err(error) => {
            tracing::error!(stream = push.stream, %error, "a push is left out");
            None
        }
    };
    pushes.iter().filter_map(wish).collect()
}

impl Inner {
    /// Ends what is not wanted, and begins what is. Of two to the same place the configured one holds, and the first.
    fn settle(&self, state: &mut State) {
        let max = self.origin.config().remote.max_pushes;
        let mut seen = AHashSet::new();
        let mut wanted: Vec<Wish> = Vec::new();
        for wish in state.configured.iter().chain(&state.ordered) {
            if !seen.insert((wish.key.clone(), wish.target.place())) {
                continue;
            }
            if wanted.len() == max {
                self.metrics.left_out.inc();
                tracing::error!(stream = %wish.key, max, "a push is left out: `origin.remote.max_pushes`");
                continue;
            }
            wanted.push(wish.clone());
        }
        state.running.retain(|running| wanted.contains(&running.wish));
        for wish in wanted {
            if !state.running.iter().any(|running| running.wish == wish) {
                state.running.push(self.begin(wish));
            }
        }
    }

    fn begin(&self, wish: Wish) -> Running {
        let board = Arc::new(Board::new(self.metrics.pushes.clone()));
        let pusher = Pusher {
            origin: self.origin.clone(),
            key: wish.key.clone(),
            target: wish.target.clone(),
            reach: wish.reach.clone(),
            board: Arc::clone(&board),
            metrics: self.metrics.clone(),
        };
        let task = self.runtime.spawn(Arc::new(pusher).run()).abort_handle();
        Running { wish, board, task }
    }
}

#[cfg(test)]
mod tests {
    use control_api::RemoteState;

    use super::*;
    use crate::Config;
    use crate::testing::origin;

    fn push(stream: &str, url: &str) -> PushConfig {
        PushConfig { stream: stream.to_owned(), url: Secret::new(url) }
    }

    #[tokio::test]
    async fn a_stream_goes_to_each_place_once() {
        let pushes = Pushes::start(origin(Config::default()), &prometheus::Registry::new()).unwrap();
        let all = [
            push("live/a", "srt://192.0.2.1:9000?streamid=x"),
            push("live/a", "srt://192.0.2.1:9000?streamid=x"),
            push("live/a", "srt://192.0.2.1:9000?streamid=y"),
            push("live/b", "rtmp://192.0.2.1/x"),
        ];
        pushes.configure(&all);
        pushes.order(&all);
        let list = pushes.list();
        assert_eq!(list.len(), 2);
        assert!(list.iter().all(|push| push.configured && push.standing.state == RemoteState::Idle));
        assert!(list.iter().all(|push| push.url == "srt://192.0.2.1:9000?…"), "{list:?}");
        pushes.configure(&[]);
        assert!(pushes.list().iter().all(|push| !push.configured));
        pushes.order(&[]);
        assert_eq!(pushes.list(), []);
    }
}
