//! What the registry keeps of a node.

use control_api::rpc;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest name of a node, in bytes: it stands in log lines, metrics and URLs.
const MAX_NAME_BYTES: usize = 64;

/// Longest label, address or version.
const MAX_TEXT_BYTES: usize = 256;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes streams in.
    Origin,
    /// Serves viewers.
    Edge,
    /// Both, in one process.
    All,
}

impl Role {
    /// As it stands in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::All => "all",
        }
    }

    /// Whether streams are published there.
    pub fn is_origin(self) -> bool {
        self != Self::Edge
    }

    /// Whether viewers are served there.
    pub fn is_edge(self) -> bool {
        self != Self::Origin
    }
}

/// Where a node is reached, as base URLs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Viewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Viewers by TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// Publishers or players.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmp: Option<String>,
    /// Edges that pull streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Edges that pass publishers on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<String>,
}

/// A node that is there, or was a moment ago.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Random, of the process.
    pub(crate) instance: u64,
    pub(crate) version: String,
    pub(crate) addresses: Addresses,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) isp: Option<String>,
    pub(crate) weight: f32,
    pub(crate) capacity_bps: u64,
    pub(crate) max_connections: u32,
    /// The replica that hears it.
    pub(crate) replica: String,
    /// When it was heard last, if it is not heard any more: it has a few seconds to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) away_since_ms: Option<u64>,
    /// It says that it takes nobody new.
    #[serde(default)]
    pub(crate) draining: bool,
}

/// What is wrong with what a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadNode {
    /// No name.
    #[error("a node's name is 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' and '-'")]
    Name,
    /// No role.
    #[error("the role of the node is not known here")]
    Role,
    /// A text that is too long, or none.
    #[error("{0} is longer than {MAX_TEXT_BYTES} bytes, or no text")]
    Text(&'static str),
    /// Not a weight.
    #[error("the weight of a node is above 0 and at most 1000")]
    Weight,
    /// Nobody could reach it.
    #[error("{0} is missing")]
    Address(&'static str),
}

/// Whether that may be the name of a node.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

impl Record {
    /// What a node says of itself to a replica.
    pub(crate) fn of(node: &rpc::Node, replica: &str) -> Result<Self, BadNode> {
        if !is_name(&node.name) {
            return Err(BadNode::Name);
        }
        let role = match node.role() {
            rpc::Role::Origin => Role::Origin,
            rpc::Role::Edge => Role::Edge,
            rpc::Role::All => Role::All,
            rpc::Role::Unspecified => return Err(BadNode::Role),
        };
        let text = |what: &'static str, text: &str| {
            let good = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
            if good {
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
            } else {
                Err(BadNode::Text(what))
            }
        };
        let given = node.addresses.clone().unwrap_or_default();
        let addresses = Addresses {
            http: text("addresses.http", &given.http)?,
            https: text("addresses.https", &given.https)?,
            rtmp: text("addresses.rtmp", &given.rtmp)?,
            relay: text("addresses.relay", &given.relay)?,
            ingest: text("addresses.ingest", &given.ingest)?,
        };
        if role.is_edge() && addresses.http.is_none() && addresses.https.is_none() {
            return Err(BadNode::Address("addresses.http"));
        }
        if role.is_origin() && addresses.relay.is_none() {
            return Err(BadNode::Address("addresses.relay"));
        }
        let weight = if node.weight == 0.0 { 1.0 } else { node.weight };
        if !(weight > 0.0 && weight <= 1_000.0) {
            return Err(BadNode::Weight);
        }
        Ok(Self {
            name: node.name.clone(),
            role,
            instance: node.instance,
            version: text("version", &node.version)?.unwrap_or_default(),
            addresses,
            region: text("region", &node.region)?,
            isp: text("isp", &node.isp)?,
            weight,
            capacity_bps: node.capacity_bps,
            max_connections: node.max_connections,
            replica: replica.to_owned(),
            away_since_ms: None,
            draining: false,
        })
    }

    /// Its name in the registry.
    pub(crate) fn key(name: &str) -> String {
        format!("{}{name}", super::PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> rpc::Node {
        rpc::Node {
            name: "edge-1".into(),
            role: rpc::Role::Edge.into(),
            addresses: Some(rpc::Addresses { http: "http://10.0.0.3:8080".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn what_a_node_says_of_itself_is_checked() {
        let record = Record::of(&edge(), "r").unwrap();
        assert_eq!((record.weight, record.region.as_deref(), record.role), (1.0, None, Role::Edge));
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let refused = |change: fn(&mut rpc::Node)| {
            let mut node = edge();
            change(&mut node);
            Record::of(&node, "r").unwrap_err()
        };
        assert_eq!(refused(|node| node.name.clear()), BadNode::Name);
        assert_eq!(refused(|node| node.name = "a/b".into()), BadNode::Name);
        assert_eq!(refused(|node| node.name = "a".repeat(65)), BadNode::Name);
        assert_eq!(refused(|node| node.role = 17), BadNode::Role);
        assert_eq!(refused(|node| node.region = "a\nb".into()), BadNode::Text("region"));
        assert_eq!(refused(|node| node.isp = "x".repeat(257)), BadNode::Text("isp"));
        assert_eq!(refused(|node| node.weight = f32::NAN), BadNode::Weight);
        assert_eq!(refused(|node| node.weight = -1.0), BadNode::Weight);
        assert_eq!(refused(|node| node.addresses = None), BadNode::Address("addresses.http"));
        assert_eq!(refused(|node| node.role = rpc::Role::All.into()), BadNode::Address("addresses.relay"));
    }
}
