//! A replica of the control plane: what it knows of the cluster, and the services that nodes call.
//!
//! Replicas do not talk to each other: what they agree on is in the registry, what they tell each other in the cache.

mod cluster;
mod config;
pub(crate) mod follow;
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
use crate::keys::Keys;
use crate::nodes::{self, Nodes, Passes, Patience};
use crate::registry::Registry;
use crate::streams::{self, Streams};
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
    passes: Arc<Passes>,
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

impl Replica {
    /// Begins to follow the registry. Call it within a tokio runtime.
    pub fn start(
        config: &crate::Config,
        name: String,
        registry: Arc<dyn Registry>,
        cache: Arc<dyn Cache>,
        clock: Clock,
    ) -> Self {
        let longest = Duration::from_secs(config.max_grant_s.max(config.grant_ttl_s));
        let (config, schedule) = (&config.cluster, &config.schedule);
        let lease = lease::keep(Arc::clone(&registry));
        let patience = Patience {
            heartbeat: Duration::from_millis(config.heartbeat_ms),
            silence: Duration::from_millis(config.silence_ms),
        };
        let nodes = Nodes::new(Arc::clone(&registry), lease, name.clone(), patience, schedule, clock);
        let grace = Duration::from_millis(config.grace_ms);
        let streams = Streams::new(Arc::clone(&registry), nodes.clone(), grace, clock);
        let keys = Keys::new(registry, nodes.clone(), longest, clock);
        let join = config.join_token.as_ref().map(|token| token.reveal().to_owned());
        let passes = Arc::new(Passes::new(join));
        let mut tasks = JoinSet::new();
        for follower in nodes.followers() {
            tasks.spawn(follower);
        }
        tasks.spawn(nodes.clone().share(cache));
        tasks.spawn(streams.clone().follow());
        tasks.spawn(streams.clone().look_for_due());
        tasks.spawn(keys.clone().follow());
        tasks.spawn(keys.clone().look_after());
        Self(Arc::new(Inner {
            name,
            nodes,
            streams,
            keys,
            passes,
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

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    fn node_service(&self) -> nodes::Service {
        let inner = &self.0;
        nodes::Service::new(inner.nodes.clone(), Arc::clone(&inner.passes), inner.clock, inner.name.clone())
    }

    fn stream_service(&self) -> streams::Service {
        let inner = &self.0;
        streams::Service::new(
            inner.streams.clone(),
            Arc::clone(&inner.passes),
            inner.clock,
            self.tracer().clone(),
        )
    }
}

/// What stands behind "Bearer " (RFC 6750 §2.1).
pub(crate) fn bearer(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}
