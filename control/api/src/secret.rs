//! A secret of the configuration: it can be shown to nobody by mistake.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A secret of the configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// This secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether that is it; an empty one is nothing's key. The time that this takes depends on the lengths only.
    pub fn is(&self, offered: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(offered))
    }

    /// Whether a request brings it: `Authorization: Bearer …` (RFC 6750 §2.1).
    pub fn is_borne_by(&self, headers: &http::HeaderMap) -> bool {
        let offered = headers.get(http::header::AUTHORIZATION).map_or(&[][..], http::HeaderValue::as_bytes);
        match offered.split_at_checked(BEARER.len()) {
            Some((scheme, offered)) => scheme.eq_ignore_ascii_case(BEARER) && self.is(offered),
            None => false,
        }
    }
}

const BEARER: &[u8] = b"Bearer ";

impl fmt::Debug for Secret {
    /// Without the secret: configurations get logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    #[test]
    fn it_opens_and_is_not_shown() {
        let secret = Secret::new("s3cret");
        assert!(secret.is(b"s3cret") && !secret.is(b"s3cre") && !secret.is(b""));
        assert!(!format!("{secret:?}").contains("s3cret"));
        let borne = |value: &str| {
            secret.is_borne_by(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]))
        };
        assert!(borne("Bearer s3cret") && borne("bearer s3cret"));
        for other in ["", "Bearer", "Bearer ", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer s3cret "] {
            assert!(!borne(other), "{other:?}");
        }
        assert!(!secret.is_borne_by(&HeaderMap::new()));
        let empty = HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer ".parse().unwrap())]);
        assert!(!Secret::new("").is(b"") && !Secret::new("").is_borne_by(&empty));
    }
}
