//! A pull as the configuration has it.

use control_api::Secret;
use serde::{Deserialize, Serialize};

/// How RTP comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Over the connection of RTSP: nothing is lost, and firewalls let it through.
    #[default]
    Tcp,
    /// In datagrams of its own. Those that come in another order than they were sent are lost.
    Udp,
}

/// A stream that is fetched from where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullConfig {
    /// What it is called here: `app/name`.
    pub stream: String,
    /// Where it is: `rtsp://…` or `srt://…`, with whatever opens it.
    pub url: Secret,
    /// How RTP comes, of RTSP.
    #[serde(default)]
    pub transport: Transport,
    /// Whether it is fetched only while somebody watches.
    #[serde(default)]
    pub on_demand: bool,
}
