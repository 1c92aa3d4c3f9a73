//! What an operator can set of hooks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use control_api::Secret;
use http::Uri;
use http::uri::Scheme;
use serde::{Deserialize, Serialize};

use super::address::Allowed;
use super::connect::{bare_host, port};
use super::event::EventKind;
use super::sign::LEAST_SECRET_BYTES;

/// Endpoints at most: each event's record names those that have not had it.
const MAX_ENDPOINTS: usize = 64;

/// Of a delivery at most: it holds one of the endpoint's slots for so long.
const MAX_TIMEOUT_MS: u64 = 60_000;

/// Of a question at most: a publisher or a viewer waits for it.
const MAX_ADMISSION_TIMEOUT_MS: u64 = 10_000;

/// A month; what nobody took until then, nobody misses.
const MAX_GIVE_UP_AFTER_S: u64 = 31 * 86_400;

/// Deliveries to an endpoint at once at most.
const MAX_CONCURRENT: usize = 256;

/// Questions at once at most: each is a connection to every endpoint that is asked.
const MAX_ADMISSIONS: usize = 4096;

/// Several of the longest events.
const LEAST_SEGMENT_BYTES: u64 = 64 * 1024;

/// A segment is read as a whole at the start.
const MAX_SEGMENT_BYTES: u64 = 256 << 20;

/// What an operator can set of hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who is told, and who is asked.
    pub endpoints: Vec<Endpoint>,
    /// Hosts (`hooks.internal`, `hooks.internal:8080`), addresses and networks that endpoints may lead to although they
    /// are private.
    pub allow_private: Vec<String>,
    /// How often an event is tried at an endpoint at most.
    pub max_attempts: u32,
    /// How many seconds after it was accepted an event is tried at most.
    pub give_up_after_s: u64,
    /// Deliveries to one endpoint at once. Those about one stream always go one after the other.
    pub max_concurrent: usize,
    /// Publishers and players that wait for an answer at once; what is more is decided by the endpoints' `on_error`.
    pub max_admissions: usize,
    /// Bytes of undelivered events that are kept; beyond it the oldest are dropped. They are held in memory as well.
    pub journal_bytes: u64,
    /// Bytes of one file of the journal.
    pub segment_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            allow_private: Vec::new(),
            max_attempts: 500,
            give_up_after_s: 86_400,
            max_concurrent: 8,
            max_admissions: 256,
            journal_bytes: 64 << 20,
            segment_bytes: 4 << 20,
        }
    }
}

/// One of the operator's servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where events are POSTed to: `https://example.com/hooks`. It is also what an endpoint is known by: events that wait
    /// for one whose URL is changed are dropped.
    pub url: String,
    /// Signs what is sent; 16 bytes at least.
    pub secret: Secret,
    /// What it listens to.
    #[serde(default = "all_events")]
    pub events: Vec<EventKind>,
    /// For a delivery as a whole.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// For an answer to `on_publish` and `on_play` as a whole.
    #[serde(default = "admission_timeout_ms")]
    pub admission_timeout_ms: u64,
    /// What is decided where there is no answer to `on_publish` or `on_play`.
    #[serde(default)]
    pub on_error: OnError,
}

impl Endpoint {
    /// An endpoint with defaults.
    pub fn new(url: impl Into<String>, secret: Secret) -> Self {
        Self {
            url: url.into(),
            secret,
            events: all_events(),
            timeout_ms: timeout_ms(),
            admission_timeout_ms: admission_timeout_ms(),
            on_error: OnError::default(),
        }
    }
}

fn all_events() -> Vec<EventKind> {
    EventKind::ALL.to_vec()
}

fn timeout_ms() -> u64 {
    3_000
}

fn admission_timeout_ms() -> u64 {
    1_000
}

/// What is decided where an endpoint gives no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It may publish or play: hooks then only refuse while they work.
    Allow,
    /// It may not: nobody gets in by making the hook fail.
    #[default]
    Refuse,
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key, from the hooks' own part of the configuration on: `endpoints.0.url`.
    pub key: String,
    /// What is wrong with it, without its value.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl Config {
    /// All that no type can say.
    pub fn check(&self) -> Vec<Wrong> {
        let mut found = Vec::new();
        let mut say = |key: String, what: String| found.push(Wrong { key, what });
        let allowed = Allowed::parse(&self.allow_private).unwrap_or_else(|(i, wrong)| {
            say(format!("allow_private.{i}"), wrong.to_string());
            Allowed::default()
        });
        if self.endpoints.len() > MAX_ENDPOINTS {
            say("endpoints".into(), format!("more than {MAX_ENDPOINTS}"));
        }
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            for (key, what) in endpoint.check(&allowed) {
                say(format!("endpoints.{i}.{key}"), what);
            }
            if self.endpoints.iter().take(i).any(|other| other.url == endpoint.url) {
                say(format!("endpoints.{i}.url"), "another endpoint has it".into());
            }
        }
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                say(key.to_owned(), format!("expected {least} to {most}"));
            }
        };
        within("max_attempts", self.max_attempts.into(), 1, u32::MAX.into());
        within("give_up_after_s", self.give_up_after_s, 1, MAX_GIVE_UP_AFTER_S);
        within("max_concurrent", self.max_concurrent as u64, 1, MAX_CONCURRENT as u64);
        within("max_admissions", self.max_admissions as u64, 1, MAX_ADMISSIONS as u64);
        within("segment_bytes", self.segment_bytes, LEAST_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        within("journal_bytes", self.journal_bytes, self.segment_bytes, i64::MAX.unsigned_abs());
        found
    }
}

impl Endpoint {
    fn check(&self, allowed: &Allowed) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        match parse_url(&self.url) {
            None => found.push((
                "url",
                "expected a URL such as https://example.com/hooks, without a user or a password".to_owned(),
            )),
            Some(uri) => {
                let host = bare_host(&uri);
                if let Ok(address) = host.parse::<IpAddr>()
                    && !allowed.permits(host, SocketAddr::new(address, port(&uri)))
                {
                    found.push(("url", format!("{address} is private; allow_private can allow it")));
                }
            }
        }
        if self.secret.reveal().len() < LEAST_SECRET_BYTES {
            found.push(("secret", format!("expected {LEAST_SECRET_BYTES} bytes at least")));
        }
        if self.events.is_empty() {
            found.push(("events", "expected one at least; without the key it is all".to_owned()));
        }
        for (key, value, most) in [
            ("timeout_ms", self.timeout_ms, MAX_TIMEOUT_MS),
            ("admission_timeout_ms", self.admission_timeout_ms, MAX_ADMISSION_TIMEOUT_MS),
        ] {
            if !(1..=most).contains(&value) {
                found.push((key, format!("expected 1 to {most}")));
            }
        }
        found
    }
}

/// An endpoint's URL, if it can be one.
pub(super) fn parse_url(url: &str) -> Option<Uri> {
    let uri = url.parse::<Uri>().ok()?;
    let is_web = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    let authority = uri.authority()?;
    // A password in a URL is in everybody's logs.
    let named = !authority.as_str().contains('@') && !authority.host().is_empty();
    (is_web && named && authority.port_u16() != Some(0)).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new("https://example.com/hooks", Secret::new("0123456789abcdef"))
    }

    fn wrong(change: impl Fn(&mut Config)) -> Vec<String> {
        let mut config = Config { endpoints: vec![endpoint()], ..Config::default() };
        change(&mut config);
        config.check().into_iter().map(|wrong| wrong.key).collect()
    }

    #[test]
    fn the_defaults_are_right() {
        assert!(Config::default().check().is_empty());
        assert_eq!(wrong(|_| {}), [""; 0]);
        let json = r#"{"url": "https://example.com/hooks", "secret": "0123456789abcdef"}"#;
        assert_eq!(serde_json::from_str::<Endpoint>(json).unwrap(), endpoint());
        assert_eq!(endpoint().on_error, OnError::Refuse);
    }

    #[test]
    fn unknown_keys_and_events_are_errors() {
        assert!(serde_json::from_str::<Config>(r#"{"endpoint": []}"#).is_err());
        for json in [
            r#"{"url": "https://a/", "secret": "0123456789abcdef", "on_eror": "allow"}"#,
            r#"{"url": "https://a/", "secret": "0123456789abcdef", "events": ["on_nothing"]}"#,
            r#"{"url": "https://a/"}"#,
        ] {
            assert!(serde_json::from_str::<Endpoint>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn urls_that_cannot_be_endpoints_are_named() {
        for bad in [
            "",
            "example.com",
            "/hooks",
            "ftp://example.com/",
            "https://",
            "https://user:pw@example.com/",
            "http://a:0/",
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://10.1.2.3/",
            "http://169.254.169.254/latest",
        ] {
            assert_eq!(wrong(|c| c.endpoints[0].url = bad.into()), ["endpoints.0.url"], "{bad}");
        }
        for good in ["http://example.com", "https://example.com:8443/a?b=c", "http://1.1.1.1/"] {
            assert_eq!(wrong(|c| c.endpoints[0].url = good.into()), [""; 0], "{good}");
        }
        assert_eq!(wrong(|c| c.endpoints.push(endpoint())), ["endpoints.1.url"]);
        let local = |c: &mut Config| {
            c.endpoints[0].url = "http://127.0.0.1:8080/".into();
            c.allow_private = vec!["127.0.0.1".into()];
        };
        assert_eq!(wrong(local), [""; 0]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(wrong(|c| c.endpoints[0].secret = Secret::new("short")), ["endpoints.0.secret"]);
        assert_eq!(wrong(|c| c.endpoints[0].events.clear()), ["endpoints.0.events"]);
        assert_eq!(wrong(|c| c.endpoints[0].timeout_ms = 0), ["endpoints.0.timeout_ms"]);
        assert_eq!(
            wrong(|c| c.endpoints[0].admission_timeout_ms = 10_001),
            ["endpoints.0.admission_timeout_ms"]
        );
        assert_eq!(wrong(|c| c.allow_private = vec!["a".into(), "*".into()]), ["allow_private.1"]);
        assert_eq!(wrong(|c| c.max_attempts = 0), ["max_attempts"]);
        assert_eq!(wrong(|c| c.give_up_after_s = 0), ["give_up_after_s"]);
        assert_eq!(wrong(|c| c.max_concurrent = 0), ["max_concurrent"]);
        assert_eq!(wrong(|c| c.max_admissions = 0), ["max_admissions"]);
        assert_eq!(wrong(|c| c.segment_bytes = 100), ["segment_bytes"]);
        assert_eq!(wrong(|c| c.journal_bytes = 100), ["journal_bytes"]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let mut config = Config { endpoints: vec![endpoint()], ..Config::default() };
        config.endpoints[0].secret = Secret::new("short");
        let said = config.check()[0].to_string();
        assert_eq!(said, "endpoints.0.secret: expected 16 bytes at least");
        assert!(!format!("{config:?}").contains("short"));
    }
}
