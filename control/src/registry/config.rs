//! Where a replica finds the registry.

use std::path::PathBuf;
use std::sync::Arc;

use control_api::Secret;
use serde::{Deserialize, Serialize};

use super::{Etcd, Memory, Registry};

/// Where a replica finds the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What keeps it.
    pub engine: Engine,
    /// The members of the etcd cluster: `http://host:2379`, or `https://` for all of them.
    pub endpoints: Vec<String>,
    /// What all names in etcd begin with, so that several clusters can share one.
    pub prefix: String,
    /// Whom etcd knows this replica as, if it asks.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<Secret>,
    /// The certificates (PEM) that etcd's are checked by, instead of those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: "weir/".to_owned(),
            user: None,
            password: None,
            ca_file: None,
        }
    }
}

/// What keeps the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The replica itself, which then is the only one.
    #[default]
    Memory,
    /// etcd.
    Etcd,
}

/// Why a configuration can't be used. It names the key.
#[derive(Debug, thiserror::Error)]
#[error("registry.{key}: {what}")]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// The registry of a configuration. It is not spoken to yet: etcd may be down when a replica starts, and whoever asks then
/// is told so.
pub fn connect(config: &Config) -> Result<Arc<dyn Registry>, ConfigError> {
    Ok(match config.engine {
        Engine::Memory => Arc::new(Memory::new()),
        Engine::Etcd => Arc::new(Etcd::new(config)?),
    })
}
