//! What an operator can set of the control plane.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{conferences, hooks, replica, schedule};

/// RTMP's registered port, which URLs need not name.
const RTMP_PORT: u16 = 1935;

/// What an operator can set of the control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Serve the pages; the API is always there.
    pub pages: bool,
    /// Where encoders reach this cluster, as the pages show it: `rtmp://live.example.com`. Without it
    /// the pages say their own host and `rtmp_port`.
    pub publish_url: Option<String>,
    /// File with the operator's token, which several replicas can have in common; by default one that is made, in the data
    /// folder.
    pub token_file: Option<PathBuf>,
    /// Seconds that the URLs hold which the API signs.
    pub grant_ttl_s: u64,
    /// Seconds that a grant holds which is asked for, at most: so long keys verify after another has followed them.
    pub max_grant_s: u64,
    /// The HTTP listener of a control plane that is a process of its own.
    pub http: HttpConfig,
    /// How nodes are coordinated.
    pub cluster: replica::Config,
    /// Servers that are told what happens, and asked who may publish and play.
    pub hooks: hooks::Config,
    /// Sessions of many who speak.
    pub conferences: conferences::Config,
    /// How viewers and publishers are spread over nodes.
    pub schedule: schedule::Config,
    /// The port that RTMP is listened on. Whoever composes the roles sets it; it is no key of the file.
    #[serde(skip, default = "rtmp_port")]
    pub rtmp_port: u16,
    /// Whether playing needs a grant. Whoever composes the roles sets it; it is no key of the file.
    #[serde(skip)]
    pub grants_to_play: bool,
}

/// The HTTP listener of a control plane that is a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)) }
    }
}

fn rtmp_port() -> u16 {
    RTMP_PORT
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pages: true,
            publish_url: None,
            token_file: None,
            grant_ttl_s: 3_600,
            max_grant_s: 86_400,
            http: HttpConfig::default(),
            cluster: replica::Config::default(),
            hooks: hooks::Config::default(),
            conferences: conferences::Config::default(),
            schedule: schedule::Config::default(),
            rtmp_port: RTMP_PORT,
            grants_to_play: false,
        }
    }
}
