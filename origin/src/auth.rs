//! Who may publish what: publish keys.

use std::fmt;

use arc_swap::ArcSwap;
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
    /// Whoever has a key.
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
    /// Who may publish: anybody (`open`), or whoever has a key (`keys`).
    pub mode: Mode,
    /// The keys, of mode `keys`.
    pub keys: Vec<Key>,
}

/// Why somebody may not publish. The words are for the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// It has no key.
    #[error("a publish key is needed: add ?key=… to the stream name")]
    NoKey,
    /// It has one, which does not open this stream. Whether it opens another is not told.
    #[error("the publish key is wrong")]
    WrongKey,
}

/// The publish keys in force. They can be replaced while streams are published: those go on.
#[derive(Debug)]
pub struct Auth(ArcSwap<Config>);

impl Auth {
    /// With these keys.
    pub fn new(config: Config) -> Self {
        Self(ArcSwap::from_pointee(config))
    }

    /// Replaces the keys; they hold from the next publish on.
    pub fn replace(&self, config: Config) {
        self.0.store(config.into());
    }

    /// Whether `stream` may be published with `key`.
    pub fn check(&self, stream: &StreamKey, key: Option<&str>) -> Result<(), Denied> {
        let config = self.0.load();
        if config.mode == Mode::Open {
            return Ok(());
        }
        let Some(key) = key else { return Err(Denied::NoKey) };
        // All keys are compared, each in a time that depends on its length only.
        let mut opens = Choice::from(0);
        for rule in &config.keys {
            let here =
                Choice::from(u8::from(matches(&rule.streams, stream.as_str()) && !rule.key.is_empty()));
            opens |= here & rule.key.as_bytes().ct_eq(key.as_bytes());
        }
        if bool::from(opens) { Ok(()) } else { Err(Denied::WrongKey) }
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any characters. Takes at most the product of
/// their lengths, both of which are short.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // There is always a first part.
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, name: &str) -> StreamKey {
        StreamKey::parse(app, name, &[]).unwrap()
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("live/a", "live/a", true),
            ("live/a", "live/ab", false),
            ("live/*", "live/a", true),
            ("live/*", "live/", true),
            ("live/*", "lives/a", false),
            ("*", "live/a", true),
            ("*/a", "live/a", true),
            ("*/a", "live/ba", false),
            ("live/*-cam-*", "live/x-cam-7", true),
            ("live/*-cam-*", "live/x-cam7", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*b*b", "ab", false),
            ("", "live/a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn keys_open_what_they_are_for() {
        let rule = |streams: &str, key: &str| Key { streams: streams.into(), key: key.into() };
        let keys = vec![rule("live/*", "one"), rule("live/vip", "two"), rule("empty/*", "")];
        let auth = Auth::new(Config { mode: Mode::Keys, keys });
        assert_eq!(auth.check(&key("live", "a"), Some("one")), Ok(()));
        assert_eq!(auth.check(&key("live", "vip"), Some("one")), Ok(()));
        assert_eq!(auth.check(&key("live", "vip"), Some("two")), Ok(()));
        assert_eq!(auth.check(&key("live", "a"), Some("two")), Err(Denied::WrongKey));
        assert_eq!(auth.check(&key("live", "a"), Some("onee")), Err(Denied::WrongKey));
        assert_eq!(auth.check(&key("other", "a"), Some("one")), Err(Denied::WrongKey));
        assert_eq!(auth.check(&key("empty", "a"), Some("")), Err(Denied::WrongKey));
        assert_eq!(auth.check(&key("live", "a"), None), Err(Denied::NoKey));
        auth.replace(Config::default());
        assert_eq!(auth.check(&key("live", "a"), None), Ok(()));
    }

    #[test]
    fn keys_stay_out_of_logs() {
        let config =
            Config { mode: Mode::Keys, keys: vec![Key { streams: "*".into(), key: "s3cret".into() }] };
        assert!(!format!("{:?} {:?}", config, Auth::new(config.clone())).contains("s3cret"));
    }
}
