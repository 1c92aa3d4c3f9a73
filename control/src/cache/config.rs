//! Where a replica finds the cache.

use std::path::PathBuf;
use std::sync::Arc;

use control_api::Secret;
use serde::{Deserialize, Serialize};

use super::{Cache, Memory, Redis};

/// Where a replica finds the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What keeps it.
    pub engine: Engine,
    /// The server, or some of a cluster's: `redis://user:password@host:6379`, or `rediss://` with TLS. Secret, because of
    /// the passwords.
    pub urls: Vec<Secret>,
    /// Whether that is a Redis Cluster.
    pub cluster: bool,
    /// What all names in Redis begin with, so that several clusters can share one.
    pub prefix: String,
    /// The certificates (PEM) that Redis' are checked by, instead of those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            urls: vec![Secret::new("redis://127.0.0.1:6379")],
            cluster: false,
            prefix: "weir/".to_owned(),
            ca_file: None,
        }
    }
}

/// What keeps the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The replica itself: others don't see what it keeps.
    #[default]
    Memory,
    /// Redis, or what speaks its protocol.
    Redis,
}

/// Why a configuration can't be used. It names the key, and quotes no URL.
#[derive(Debug, thiserror::Error)]
#[error("cache.{key}: {what}")]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// The cache of a configuration. It is not spoken to yet: Redis may be down when a replica starts, and whoever asks then is
/// told so.
pub fn connect(config: &Config) -> Result<Arc<dyn Cache>, ConfigError> {
    Ok(match config.engine {
        Engine::Memory => Arc::new(Memory::new()),
        Engine::Redis => Arc::new(Redis::new(config)?),
    })
}
