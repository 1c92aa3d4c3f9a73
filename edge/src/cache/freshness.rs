//! How long an answer may be kept (RFC 9111 §4.2, RFC 5861 §4): as its Cache-Control says, and never an error.

use std::time::Duration;

use http::StatusCode;
use http::header::{AGE, CACHE_CONTROL, HeaderMap};

/// How long an answer is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// For those who wait for it.
    No,
    /// For so long.
    For(Duration),
    /// For ever: its name never means anything else.
    Always,
}

/// What Cache-Control says, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rules {
    forbidden: bool,
    immutable: bool,
    max_age_s: u32,
}

impl Rules {
    fn read(headers: &HeaderMap) -> Self {
        let mut rules = Self::default();
        let mut shared_s = None;
        let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for rule in values.flat_map(|value| value.split(',')).map(str::trim) {
            let (name, value) = rule.split_once('=').unwrap_or((rule, ""));
            match name.to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" | "private" => rules.forbidden = true,
                "immutable" => rules.immutable = true,
                // What is no number allows nothing.
                "max-age" => rules.max_age_s = value.parse().unwrap_or_default(),
                "s-maxage" => shared_s = Some(value.parse().unwrap_or_default()),
                _ => {}
            }
        }
        rules.max_age_s = shared_s.unwrap_or(rules.max_age_s);
        rules
    }
}

/// How long an answer may be kept, from when it came.
pub(crate) fn keep(status: StatusCode, headers: &HeaderMap) -> Keep {
    let rules = Rules::read(headers);
    if status != StatusCode::OK || rules.forbidden {
        return Keep::No;
    }
    if rules.immutable {
        return Keep::Always;
    }
    let left = Duration::from_secs(rules.max_age_s.into()).saturating_sub(age(headers));
    if left.is_zero() { Keep::No } else { Keep::For(left) }
}

/// For how many seconds caches may remember that there is no such file; `None` if not at all, since it may come to
/// be at any moment.
pub(crate) fn absence(status: StatusCode, headers: &HeaderMap) -> Option<u32> {
    let rules = Rules::read(headers);
    (status == StatusCode::NOT_FOUND && !rules.forbidden).then_some(rules.max_age_s)
}

/// How old an answer was when it came.
pub(crate) fn age(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|value| value.to_str().ok()).and_then(|age| age.parse::<u32>().ok());
    Duration::from_secs(age.unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn headers(rule: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(rule))])
    }

    #[test]
    fn only_what_is_whole_and_allowed_is_kept() {
        let kept = |status, rule| keep(status, &headers(rule));
        let seconds = |s| Keep::For(Duration::from_secs(s));
        assert_eq!(kept(StatusCode::OK, "public, max-age=31536000, immutable"), Keep::Always);
        assert_eq!(kept(StatusCode::OK, "public, max-age=12"), seconds(12));
        assert_eq!(kept(StatusCode::OK, "max-age=12, S-MaxAge=3"), seconds(3));
        for rule in
            ["", "public", "max-age=0", "max-age=x", "max-age=9, no-store", "private, max-age=9", "no-cache"]
        {
            assert_eq!(kept(StatusCode::OK, rule), Keep::No, "{rule}");
        }
        for status in [503, 502, 500, 404, 400, 206, 301] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kept(status, "public, max-age=60, immutable"), Keep::No, "{status}");
        }
    }

    #[test]
    fn what_was_old_when_it_came_is_kept_for_what_is_left() {
        let mut aged = headers("max-age=12");
        aged.insert(AGE, HeaderValue::from_static("5"));
        assert_eq!(keep(StatusCode::OK, &aged), Keep::For(Duration::from_secs(7)));
        aged.insert(AGE, HeaderValue::from_static("12"));
        assert_eq!(keep(StatusCode::OK, &aged), Keep::No);
    }

    #[test]
    fn an_absence_that_may_end_at_any_moment_is_not_remembered() {
        let absent = |status, rule| absence(status, &headers(rule));
        assert_eq!(absent(StatusCode::NOT_FOUND, "public, max-age=2"), Some(2));
        assert_eq!(absent(StatusCode::NOT_FOUND, "public"), Some(0));
        assert_eq!(absent(StatusCode::NOT_FOUND, "max-age=-1"), Some(0));
        assert_eq!(absent(StatusCode::NOT_FOUND, "max-age=2, no-store"), None);
        assert_eq!(absent(StatusCode::OK, "public, max-age=2"), None);
        assert_eq!(absent(StatusCode::SERVICE_UNAVAILABLE, "public, max-age=2"), None);
    }
}
