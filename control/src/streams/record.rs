//! What the registry keeps of a stream: the lease of whoever publishes it.

use control_api::rpc;
use serde::{Deserialize, Serialize};

use crate::nodes::Caller;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// A publisher is sending.
    Live,
    /// Its publisher dropped then, and may come back, to any origin.
    Dropped(u64),
    /// It ended then. The record stays for a while, for its epoch.
    Ended(u64),
}

/// The lease of a stream, or what is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) app: String,
    pub(crate) name: String,
    /// Higher than all that the stream had before.
    pub(crate) epoch: u64,
    /// What its origin proposed for it, which is all that the origin knows of it until it is answered.
    #[serde(default)]
    pub(crate) proposed: u64,
    pub(crate) state: State,
    /// The origin that has it, and which process of it.
    pub(crate) node: String,
    pub(crate) instance: u64,
    /// When its first publisher began.
    pub(crate) started_at_ms: u64,
    pub(crate) protocol: String,
    pub(crate) remote_addr: String,
    /// A backup publishes it, and gives way to a publisher that is none.
    #[serde(default)]
    pub(crate) backup: bool,
    /// Origins whose backups wait, or publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) standbys: Vec<Standby>,
}

/// An origin that has a backup publisher of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standby {
    pub(crate) node: String,
    pub(crate) instance: u64,
}

impl Record {
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }

    /// Whether that process publishes it, or did last.
    pub(crate) fn is_of(&self, caller: &Caller) -> bool {
        (&self.node, self.instance) == (&caller.name, caller.instance)
    }

    /// Where that process is among those whose backups wait.
    pub(crate) fn standby(&self, caller: &Caller) -> Option<usize> {
        self.standbys.iter().position(|one| (&one.node, one.instance) == (&caller.name, caller.instance))
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether viewers are served: it has not ended.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    pub(crate) fn location(&self, relay: Option<String>) -> rpc::Location {
        let state = match self.state {
            State::Live => rpc::State::Live,
            State::Dropped(_) => rpc::State::Dropped,
            State::Ended(_) => rpc::State::Absent,
        };
        rpc::Location {
            key: Some(rpc::StreamKey { app: self.app.clone(), name: self.name.clone() }),
            state: state.into(),
            epoch: self.epoch,
            node: self.node.clone(),
            relay: relay.unwrap_or_default(),
        }
    }
}
