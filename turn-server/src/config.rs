//! Configuration: the section `[turn]`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The longest realm: it is in each challenge. RFC 8489 §14.9 allows 763 bytes.
const MAX_REALM_BYTES: usize = 128;

/// The TURN and STUN server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// STUN and TURN over UDP and over TCP; no server without it.
    pub listen: Option<SocketAddr>,
    /// TURN over TLS; not without a certificate.
    pub tls_listen: Option<SocketAddr>,
    /// What credentials are made with.
    pub secret: Secret,
    /// What clients are told they log in to.
    pub realm: String,
    /// The address of this machine that peers reach; found out where empty.
    pub external_ip: Option<IpAddr>,
    /// Where peers reach what is relayed: the lowest and the highest port.
    pub relay_ports: [u16; 2],
    /// Allocations at once.
    pub max_allocations: usize,
    /// Allocations of one user at once.
    pub max_allocations_per_user: usize,
    /// Seconds after which an allocation ends, however often it is refreshed.
    pub max_lifetime_s: u64,
    /// Connections over TCP and TLS at once.
    pub max_connections: usize,
    /// Those of one address.
    pub max_connections_per_address: usize,
    /// Requests of one address (for IPv6, of its /64) that are answered in a second.
    pub requests_per_second: u32,
    /// Networks that may be relayed to, beside the public ones.
    pub allow_peers: Vec<IpNet>,
    /// What clients are told to find it by; its address where empty. TLS is told of only if there is a name.
    pub host: String,
    /// Where this process itself is a peer, which may be relayed to wherever that is.
    #[serde(skip)]
    pub own_peers: Vec<SocketAddr>,
}

impl Config {
    /// What is wrong with it, each with its key.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let [low, high] = self.relay_ports;
        // Of two there is an even one, which clients may ask for.
        if low == 0 || low >= high {
            let what = format!(
                "expected two ports, the lower one first, such as [49152, 65535]; it is [{low}, {high}]"
            );
            mistakes.push(("relay_ports", what));
        }
        if self.tls_listen.is_some() && self.listen.is_none() {
            mistakes.push(("tls_listen", "needs `turn.listen` beside it".to_owned()));
        }
        if self.listen.is_some() && self.secret.is_empty() {
            mistakes
                .push(("secret", "is needed: whoever gives credentials out makes them with it".to_owned()));
        }
        if self.realm.is_empty() || self.realm.len() > MAX_REALM_BYTES {
            mistakes.push(("realm", format!("expected 1 to {MAX_REALM_BYTES} bytes")));
        }
        let strange = |byte: u8| !byte.is_ascii_alphanumeric() && !b".-:[]".contains(&byte);
        if self.host.bytes().any(strange) {
            mistakes.push(("host", "expected a name such as \"turn.example.org\", or an address".to_owned()));
        }
        let at_least_one = [
            ("max_allocations", self.max_allocations == 0),
            ("max_allocations_per_user", self.max_allocations_per_user == 0),
            ("max_lifetime_s", self.max_lifetime_s == 0),
            ("max_connections", self.max_connections == 0),
            ("max_connections_per_address", self.max_connections_per_address == 0),
            ("requests_per_second", self.requests_per_second == 0),
        ];
        for (key, is_none) in at_least_one {
            if is_none {
                mistakes.push((key, "must be at least 1".to_owned()));
            }
        }
        mistakes
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            tls_listen: None,
            secret: Secret::default(),
            realm: "weir".to_owned(),
            external_ip: None,
            relay_ports: [49_152, 65_535],
            max_allocations: 1_000,
            max_allocations_per_user: 10,
            max_lifetime_s: 6 * 3_600,
            max_connections: 1_000,
            max_connections_per_address: 50,
            requests_per_second: 50,
            allow_peers: Vec::new(),
            host: String::new(),
            own_peers: Vec::new(),
        }
    }
}

/// A secret, which is in no log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "set" })
    }
}
