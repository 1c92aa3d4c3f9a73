//! Rules that a configuration states: from where, from which pages, and how much.

use std::net::IpAddr;

use control_api::Network;
use control_api::grant::Play;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue, ORIGIN, REFERER, VARY};
use http::{HeaderMap, Uri};

use super::forwarded::is_among;
use crate::config::GuardConfig;

/// The rules in force.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) play: Play,
    /// Pages that may read media; `None` is all.
    origins: Option<Vec<String>>,
    /// Hosts whose pages may show media; none is all.
    referers: Vec<String>,
    empty_referer: bool,
    allow: Vec<Network>,
    deny: Vec<Network>,
    pub(super) proxies: Vec<Network>,
    pub(super) requests_per_second: u32,
    pub(super) max_viewers: u64,
    pub(super) max_egress_mbps: u64,
}

impl Rules {
    pub(super) fn new(config: &GuardConfig, play: Play) -> Self {
        let lower = |list: &[String]| list.iter().map(|text| text.to_ascii_lowercase()).collect::<Vec<_>>();
        let all = config.cors_origins.iter().any(|origin| origin == "*");
        Self {
            play,
            origins: (!all).then(|| lower(&config.cors_origins)),
            referers: lower(&config.referers),
            empty_referer: config.empty_referer,
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            proxies: config.trusted_proxies.clone(),
            requests_per_second: config.max_requests_per_second_per_address,
            max_viewers: config.max_viewers,
            max_egress_mbps: config.max_egress_mbps,
        }
    }

    /// Whether anybody at that address is served. What is denied is, also if it is allowed.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        !is_among(&self.deny, address) && (self.allow.is_empty() || is_among(&self.allow, address))
    }

    /// Whether a page of that origin (RFC 6454 §6.2) may read media.
    fn shares_with(&self, origin: &HeaderValue) -> bool {
        let Some(origins) = &self.origins else { return true };
        origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }

    /// Whether a page may open a WebSocket, which browsers leave to the server to decide (RFC 6455 §10.2).
    pub(super) fn lets_connect(&self, headers: &HeaderMap) -> bool {
        headers.get(ORIGIN).is_none_or(|origin| self.shares_with(origin))
    }

    /// Says to browsers whose pages may read a response (Fetch §3.3).
    pub(super) fn share(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.origins.is_none() {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        match origin.filter(|origin| self.shares_with(origin)) {
            Some(origin) => headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
            None => headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN),
        };
    }

    /// Whether a page that shows media is of a host that may. A WebSocket names its page as origin only.
    pub(super) fn lets_show(&self, headers: &HeaderMap) -> bool {
        if self.referers.is_empty() {
            return true;
        }
        let Some(page) = headers.get(REFERER).or_else(|| headers.get(ORIGIN)) else {
            return self.empty_referer;
        };
        if page.is_empty() {
            return self.empty_referer;
        }
        let page = page.to_str().ok().and_then(|page| page.parse::<Uri>().ok());
        let host = page.as_ref().and_then(Uri::host);
        host.is_some_and(|host| self.referers.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(change: impl FnOnce(&mut GuardConfig)) -> Rules {
        let mut config = GuardConfig::default();
        change(&mut config);
        Rules::new(&config, Play::Open)
    }

    fn networks(list: &[&str]) -> Vec<Network> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_denied_is_not_allowed() {
        let allows = |rules: &Rules, address: &str| rules.allows(address.parse().unwrap());
        assert!(allows(&rules(|_| ()), "192.0.2.1"));
        let denied = rules(|c| c.deny = networks(&["192.0.2.0/24", "2001:db8::/32"]));
        assert!(!allows(&denied, "192.0.2.1") && !allows(&denied, "::ffff:192.0.2.1"));
        assert!(!allows(&denied, "2001:db8::1") && allows(&denied, "198.51.100.1"));
        let both = rules(|c| {
            c.allow = networks(&["192.0.2.0/24"]);
            c.deny = networks(&["192.0.2.7"]);
        });
        assert!(allows(&both, "192.0.2.1") && !allows(&both, "192.0.2.7") && !allows(&both, "198.51.100.1"));
    }

    fn shared(rules: &Rules, origin: Option<&'static str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        rules.share(origin.map(HeaderValue::from_static).as_ref(), &mut headers);
        assert_eq!(headers.contains_key(VARY), rules.origins.is_some());
        headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_exact_origins_may_read() {
        assert_eq!(shared(&rules(|_| ()), None).as_deref(), Some("*"));
        assert_eq!(shared(&rules(|_| ()), Some("https://any.example")).as_deref(), Some("*"));
        let listed = rules(|c| c.cors_origins = vec!["https://Good.example".into(), "http://a:8080".into()]);
        for origin in ["https://good.example", "http://a:8080"] {
            assert_eq!(shared(&listed, Some(origin)).as_deref(), Some(origin));
        }
        for origin in [
            "https://good.example.evil.example",
            "http://good.example",
            "https://good.example:444",
            "https://evilgood.example",
            "http://a",
            "null",
            "",
        ] {
            assert_eq!(shared(&listed, Some(origin)), None, "{origin}");
            let headers = [(ORIGIN, HeaderValue::from_static(origin))].into_iter().collect();
            assert!(!listed.lets_connect(&headers));
        }
        assert_eq!(shared(&listed, None), None);
        assert!(listed.lets_connect(&HeaderMap::new()), "players are no pages");
    }

    #[test]
    fn only_pages_of_exact_hosts_may_show() {
        let shows = |rules: &Rules, name, page: &'static str| {
            rules.lets_show(&[(name, HeaderValue::from_static(page))].into_iter().collect())
        };
        assert!(shows(&rules(|_| ()), REFERER, "https://any.example/"));
        let listed = rules(|c| c.referers = vec!["good.example".into()]);
        for page in ["https://good.example/watch?x=1", "http://GOOD.example:8080/", "https://good.example"] {
            assert!(shows(&listed, REFERER, page), "{page}");
        }
        assert!(shows(&listed, ORIGIN, "https://good.example"));
        for page in [
            "https://evil.example/good.example",
            "https://good.example.evil.example/",
            "https://good.example@evil.example/",
            "https://www.good.example/",
            "good",
            "/good.example",
            "https://good.example\\.evil.example/",
            "about:blank",
        ] {
            assert!(!shows(&listed, REFERER, page), "{page}");
        }
        assert!(!shows(&listed, ORIGIN, "null"));
        assert!(listed.lets_show(&HeaderMap::new()) && shows(&listed, REFERER, ""));
        let strict = rules(|c| {
            c.referers = vec!["good.example".into()];
            c.empty_referer = false;
        });
        assert!(!strict.lets_show(&HeaderMap::new()) && !shows(&strict, REFERER, ""));
    }
}
