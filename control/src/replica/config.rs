//! What an operator can set of a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use control_api::Secret;
use serde::{Deserialize, Serialize};

use crate::{cache, registry};

/// How nodes are coordinated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where nodes reach the control plane by gRPC; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a node must show to join. Without it nothing beyond this machine is listened to.
    pub join_token: Option<Secret>,
    /// PEM file with the certificate that nodes are shown, and those that sign it. With it they are served by TLS alone.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub certificate_key: Option<PathBuf>,
    /// Milliseconds between two heartbeats of a node.
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which nobody new is sent to a node. After as long again it is gone.
    pub silence_ms: u64,
    /// Milliseconds that a stream waits for its publisher's return, to whichever origin, after it dropped.
    pub grace_ms: u64,
    /// What replicas agree on.
    pub registry: registry::Config,
    /// What replicas tell each other.
    pub cache: cache::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)),
            join_token: None,
            certificate: None,
            certificate_key: None,
            heartbeat_ms: 1_000,
            silence_ms: 3_000,
            grace_ms: 15_000,
            registry: registry::Config::default(),
            cache: cache::Config::default(),
        }
    }
}
