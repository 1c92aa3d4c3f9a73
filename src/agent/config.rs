//! What an operator can set of a node in a cluster.

use control_api::Secret;
use serde::{Deserialize, Serialize};

/// A node's place in a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Replicas of the control plane, such as `http://10.0.0.5:8090`. Without one the process is a cluster of its own.
    pub(crate) control: Vec<String>,
    /// What lets nodes join, as `control.cluster.join_token` says.
    pub(crate) join_token: Option<Secret>,
    /// Its name in the cluster, by default that of the machine with the port of its HTTP listener.
    pub(crate) name: Option<String>,
    /// Where it is; viewers are sent to nodes near them.
    pub(crate) region: Option<String>,
    /// Whose line it has.
    pub(crate) isp: Option<String>,
    /// How much of the streams it gets beside others.
    pub(crate) weight: f32,
    /// What its line carries, in Mbit/s; 0: not known.
    pub(crate) capacity_mbps: u64,
    /// Where others reach it.
    pub(crate) advertise: Advertise,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            control: Vec::new(),
            join_token: None,
            name: None,
            region: None,
            isp: None,
            weight: 1.0,
            capacity_mbps: 0,
            advertise: Advertise::default(),
        }
    }
}

/// Where others reach a node, as base URLs. By default the addresses that it listens on, at the address by which it reaches
/// the control plane where it listens on all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Advertise {
    /// Viewers.
    pub(crate) http: Option<String>,
    /// Viewers by TLS.
    pub(crate) https: Option<String>,
    /// Publishers and players.
    pub(crate) rtmp: Option<String>,
    /// Edges that pull streams.
    pub(crate) relay: Option<String>,
    /// Edges that pass publishers on.
    pub(crate) ingest: Option<String>,
}
