//! How grants are configured, for origins and edges alike.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Algorithm;

/// Who may play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Play {
    /// Anybody.
    #[default]
    Open,
    /// Whoever has a grant.
    Required,
}

/// Who may play, and whose grants hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may play: anybody (`open`), or whoever has a grant (`required`).
    pub play: Play,
    /// Keys that grants are signed with.
    pub keys: Vec<KeyConfig>,
}

/// A key that grants are signed with. It stands in the configuration itself, or in a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name in the header of grants.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The file that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl fmt::Debug for KeyConfig {
    /// Without the key: configurations get logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KeyConfig");
        shown.field("kid", &self.kid).field("algorithm", &self.algorithm).field("file", &self.file);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_out_of_logs() {
        let secret = Some("s3cret".to_owned());
        let key = KeyConfig { kid: "a".into(), algorithm: Algorithm::Hs256, secret, file: None };
        assert!(!format!("{:?}", Config { play: Play::Required, keys: vec![key] }).contains("s3cret"));
    }
}
