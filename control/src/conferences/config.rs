//! What an operator can set of conferences.

use serde::{Deserialize, Serialize};

/// What an operator can set of conferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many there may be at once: origins are told of all of them.
    pub max_conferences: usize,
    /// How many follow the events of conferences at this replica at once; each is a connection.
    pub max_followers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_conferences: 500, max_followers: 20_000 }
    }
}
