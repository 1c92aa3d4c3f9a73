//! Who may publish what: publish keys and grants.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use control_api::grant::{Asked, Audience, Grants, Refused};
use control_api::pattern;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};

use media_core::hub::StreamKey;

/// Who may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Anybody.
    #[default]
    Open,
    /// Whoever has a key, or a grant.
    Keys,
}

/// A key and what it opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Streams that it opens, as `app/name`; `*` stands for any characters.
    pub streams: String,
    /// The key itself: what publishers add to the stream name as `?key=…`.
    pub key: String,
}

impl fmt::Debug for Key {
    /// Without the key: configurations get logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Publish keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may publish: anybody (`open`), or whoever has a key or a grant (`keys`).
    pub mode: Mode,
    /// The keys, of mode `keys`.
    pub keys: Vec<Key>,
}

/// Why somebody may not publish. The words are for the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// It has neither.
    #[error("a publish key or a grant is needed: add ?key=… or ?token=… to the stream name")]
    NoKey,
    /// It has one, which does not open this stream. Whether it opens another is not told.
    #[error("the publish key is wrong")]
    WrongKey,
    /// Its grant does not let it.
    #[error("{0}")]
    Grant(Refused),
}

impl Denied {
    /// Its name in metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NoKey | Self::WrongKey => "key",
            Self::Grant(refused) => refused.reason(),
        }
    }
}

/// What somebody shows who wants to publish. A grant comes before a key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass<'a> {
    /// `?key=…`
    pub key: Option<&'a str>,
    /// `?token=…`
    pub grant: Option<&'a str>,
}

/// The publish keys and grants in force. They can be replaced while streams are published: those go on.
#[derive(Debug)]
pub struct Auth {
    config: ArcSwap<Config>,
    grants: Arc<Grants>,
}

impl Auth {
    /// With these keys, and grants of those.
    pub fn new(config: Config, grants: Arc<Grants>) -> Self {
        Self { config: ArcSwap::from_pointee(config), grants }
    }

    /// Replaces the publish keys; they hold from the next publish on.
    pub fn replace(&self, config: Config) {
        self.config.store(config.into());
    }

    /// Whether `peer` may publish `stream`.
    pub fn check(&self, stream: &StreamKey, peer: IpAddr, pass: Pass<'_>) -> Result<(), Denied> {
        let config = self.config.load();
        if config.mode == Mode::Open {
            return Ok(());
        }
        if pass.grant.is_some() {
            let asked = Asked { audience: Audience::Publish, stream: stream.as_str(), peer };
            let verified = self.grants.verify(pass.grant, asked, SystemTime::now());
            return verified.map(|_| ()).map_err(Denied::Grant);
        }
        let Some(key) = pass.key else { return Err(Denied::NoKey) };
        // All keys are compared, each in a time that depends on its length only.
        let mut opens = Choice::from(0);
        for rule in &config.keys {
            let here = Choice::from(u8::from(
                pattern::matches(&rule.streams, stream.as_str()) && !rule.key.is_empty(),
            ));
            opens |= here & rule.key.as_bytes().ct_eq(key.as_bytes());
        }
        if bool::from(opens) { Ok(()) } else { Err(Denied::WrongKey) }
    }
}

#[cfg(test)]
mod tests {
    use control_api::grant::{self, Algorithm, Claims, KeySet, Signer};

    use super::*;

    fn key(app: &str, name: &str) -> StreamKey {
        StreamKey::parse(app, name, &[]).unwrap()
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn no_grants() -> Arc<Grants> {
        Arc::new(Grants::new(KeySet::new([]).unwrap()))
    }

    #[test]
    fn keys_open_what_they_are_for() {
        let rule = |streams: &str, key: &str| Key { streams: streams.into(), key: key.into() };
        let keys = vec![rule("live/*", "one"), rule("live/vip", "two"), rule("empty/*", "")];
        let auth = Auth::new(Config { mode: Mode::Keys, keys }, no_grants());
        let check = |stream: &StreamKey, key| auth.check(stream, PEER, Pass { key, grant: None });
        assert_eq!(check(&key("live", "a"), Some("one")), Ok(()));
        assert_eq!(check(&key("live", "vip"), Some("one")), Ok(()));
        assert_eq!(check(&key("live", "vip"), Some("two")), Ok(()));
        assert_eq!(check(&key("live", "a"), Some("two")), Err(Denied::WrongKey));
        assert_eq!(check(&key("live", "a"), Some("onee")), Err(Denied::WrongKey));
        assert_eq!(check(&key("other", "a"), Some("one")), Err(Denied::WrongKey));
        assert_eq!(check(&key("empty", "a"), Some("")), Err(Denied::WrongKey));
        assert_eq!(check(&key("live", "a"), None), Err(Denied::NoKey));
        auth.replace(Config::default());
        assert_eq!(check(&key("live", "a"), None), Ok(()));
    }

    #[test]
    fn grants_open_what_they_are_for_beside_keys() {
        let secret = grant::Key::new(Algorithm::Hs256, "0123456789abcdef0123456789abcdef").unwrap();
        let grants = Grants::new(KeySet::new([("k".to_owned(), secret.clone())]).unwrap());
        let keys = vec![Key { streams: "*".into(), key: "one".into() }];
        let auth = Auth::new(Config { mode: Mode::Keys, keys }, Arc::new(grants));
        let sign = |aud, exp| {
            let claims = Claims { exp, nbf: None, aud, stream: "live/a".into(), ip: None, sid: None };
            Signer::new("k", secret.clone()).sign(&claims).unwrap()
        };
        let check = |name, grant: &str, key| {
            auth.check(&StreamKey::parse("live", name, &[]).unwrap(), PEER, Pass { key, grant: Some(grant) })
        };
        let good = sign(Audience::Publish, u64::MAX);
        assert_eq!(check("a", &good, None), Ok(()));
        assert_eq!(check("b", &good, None), Err(Denied::Grant(Refused::Stream)));
        assert_eq!(
            check("b", &good, Some("one")),
            Err(Denied::Grant(Refused::Stream)),
            "a grant comes first"
        );
        assert_eq!(check("a", &sign(Audience::Play, u64::MAX), None), Err(Denied::Grant(Refused::Audience)));
        assert_eq!(check("a", &sign(Audience::Publish, 1), None), Err(Denied::Grant(Refused::Expired)));
        assert_eq!(check("a", "nonsense", None), Err(Denied::Grant(Refused::Malformed)));
    }

    #[test]
    fn keys_stay_out_of_logs() {
        let config =
            Config { mode: Mode::Keys, keys: vec![Key { streams: "*".into(), key: "s3cret".into() }] };
        assert!(!format!("{:?} {:?}", config, Auth::new(config.clone(), no_grants())).contains("s3cret"));
    }
}
