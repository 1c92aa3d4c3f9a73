//! A replica of the control plane: what it knows of the cluster, and the services that nodes call.
//!
//! Replicas do not talk to each other: what they agree on is in the registry, what they tell each other in the cache.

mod cluster;
mod config;
pub(crate) mod follow;
pub(crate) mod happenings;
pub(crate) mod lease;
mod metrics;
mod server;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use control_api::trace::Tracer;
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;

use crate::cache::Cache;
use crate::conferences::Conferences;
use crate::hooks::{self, Hooks};
use crate::keys::Keys;
use crate::nodes::{self, Nodes, Passes, Patience};
use crate::registry::Registry;
use crate::remotes::Remotes;
use crate::streams::{self, Streams};
use crate::token::Token;
use crate::{Config as ControlConfig, grants};
pub use config::Config;
pub use server::{ServeError, Tls};

/// Milliseconds since 1970.
pub type Clock = fn() -> u64;

/// A replica. Clones are the same; when the last one is dropped, it ends.
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

struct Inner {
    name: String,
    nodes: Nodes,
    streams: Streams,
    keys: Keys,
    remotes: Remotes,
    conferences: Conferences,
    passes: Arc<Passes>,
    hooks: Option<Hooks>,
    operator: Option<Token>,
    clock: Clock,
    started: Instant,
    tracer: OnceLock<Tracer>,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// What a replica stands on.
#[derive(Debug)]
pub struct Parts {
    /// Its name, which no other replica has.
    pub name: String,
    /// What replicas agree on.
    pub registry: Arc<dyn Registry>,
    /// What they tell each other.
    pub cache: Arc<dyn Cache>,
    /// What time it is.
    pub clock: Clock,
    /// Whom it asks and tells.
    pub hooks: Option<Hooks>,
    /// Who may have grants signed by gRPC.
    pub operator: Option<Token>,
}

impl Replica {
    /// Begins to follow the registry. Call it within a tokio runtime.
    pub fn start(config: &ControlConfig, parts: Parts) -> Self {
        let Parts { name, registry, cache, clock, hooks, operator } = parts;
        let all = config;
        let (config, schedule) = (&config.cluster, &config.schedule);
        let (lease, registry_is_up) = lease::keep(Arc::clone(&registry));
        let patience = Patience {
            heartbeat: Duration::from_millis(config.heartbeat_ms),
            silence: Duration::from_millis(config.silence_ms),
        };
        let place = nodes::Place {
            registry: Arc::clone(&registry),
            cache: Arc::clone(&cache),
            lease,
            registry_is_up,
            replica: name.clone(),
            clock,
        };
        let nodes = Nodes::new(place, patience, schedule);
        nodes.set_policy(happenings::policy(&all.hooks));
        let grace = Duration::from_millis(config.grace_ms);
        let streams = Streams::new(Arc::clone(&registry), nodes.clone(), grace, clock);
        let remotes = Remotes::new(Arc::clone(&registry), nodes.clone(), streams.clone());
        let conferences =
            Conferences::new(Arc::clone(&registry), (nodes.clone(), streams.clone()), all, clock);
        let keys = Keys::new(registry, nodes.clone(), all, clock);
        let join = config.join_token.as_ref().map(|token| token.reveal().to_owned());
        let passes = Arc::new(Passes::new(join));
        let mut tasks = JoinSet::new();
        for follower in nodes.followers() {
            tasks.spawn(follower);
        }
        tasks.spawn(nodes.clone().share(Arc::clone(&cache)));
        tasks.spawn(streams.clone().follow());
        tasks.spawn(streams.clone().look_for_due());
        tasks.spawn(remotes.clone().follow());
        tasks.spawn(remotes.clone().look_after());
        tasks.spawn(conferences.clone().follow());
        tasks.spawn(conferences.clone().follow_streams());
        tasks.spawn(conferences.clone().look_after());
        tasks.spawn(conferences.clone().listen(cache));
        tasks.spawn(keys.clone().follow());
        tasks.spawn(keys.clone().look_after());
        if let Some(hooks) = &hooks {
            tasks.spawn(happenings::tell_of_streams(hooks.clone(), streams.news()));
        }
        Self(Arc::new(Inner {
            name,
            nodes,
            streams,
            keys,
            remotes,
            conferences,
            passes,
            hooks,
            operator,
            clock,
            started: Instant::now(),
            tracer: OnceLock::new(),
            _tasks: tasks,
        }))
    }

    /// What it decides is traced from now on. To be called before it serves; later calls change nothing.
    pub fn trace_by(&self, tracer: Tracer) {
        // Whoever is first stays.
        let _ = self.0.tracer.set(tracer);
    }

    pub(crate) fn tracer(&self) -> &Tracer {
        self.0.tracer.get().unwrap_or(&Tracer::OFF)
    }

    fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub(crate) fn remotes(&self) -> &Remotes {
        &self.0.remotes
    }

    pub(crate) fn conferences(&self) -> &Conferences {
        &self.0.conferences
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    fn node_service(&self) -> nodes::Service {
        let inner = &self.0;
        nodes::Service::new(
            inner.nodes.clone(),
            Arc::clone(&inner.passes),
            inner.clock,
            inner.name.clone(),
            inner.conferences.clone(),
        )
    }

    fn stream_service(&self) -> streams::Service {
        let inner = &self.0;
        streams::Service::new(
            inner.streams.clone(),
            Arc::clone(&inner.passes),
            inner.clock,
            inner.hooks.clone(),
            self.tracer().clone(),
            inner.conferences.clone(),
        )
    }

    fn grant_service(&self) -> grants::Service {
        let inner = &self.0;
        grants::Service {
            keys: inner.keys.clone(),
            streams: inner.streams.clone(),
            passes: Arc::clone(&inner.passes),
            operator: inner.operator.clone(),
            hooks: inner.hooks.clone(),
            clock: inner.clock,
        }
    }

    /// Nodes are sent to other replicas, and nothing is decided here any more.
    pub fn close(&self) {
        self.nodes().close();
        self.streams().close();
        self.conferences().close();
    }

    /// Tells hooks what can be told within that time; the rest is told after the next start.
    pub async fn shutdown(&self, within: Duration) {
        self.close();
        if let Some(hooks) = &self.0.hooks {
            self.streams().all_news_taken(within).await;
            hooks.shutdown(within).await;
        }
    }

    /// Takes over other hooks.
    ///
    /// # Errors
    ///
    /// When they are wrong; then all stays as it was.
    pub async fn reload(&self, config: &hooks::Config) -> Result<(), hooks::Error> {
        if let Some(hooks) = &self.0.hooks {
            hooks.reload(config).await?;
            self.nodes().set_policy(happenings::policy(config));
        }
        Ok(())
    }
}

/// What stands behind "Bearer " (RFC 6750 §2.1).
pub(crate) fn bearer(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}
