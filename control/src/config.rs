//! What an operator can set of the control plane.

use serde::{Deserialize, Serialize};

/// RTMP's registered port, which URLs need not name.
const RTMP_PORT: u16 = 1935;

/// What an operator can set of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Serve the pages; the API is always there.
    pub pages: bool,
    /// Where encoders reach this cluster, as the pages show it: `rtmp://live.example.com`. Without it
    /// the pages say their own host and `rtmp_port`.
    pub publish_url: Option<String>,
    /// The port that RTMP is listened on. Whoever composes the roles sets it; it is no key of the file.
    #[serde(skip, default = "rtmp_port")]
    pub rtmp_port: u16,
}

fn rtmp_port() -> u16 {
    RTMP_PORT
}

impl Default for Config {
    fn default() -> Self {
        Self { pages: true, publish_url: None, rtmp_port: RTMP_PORT }
    }
}
