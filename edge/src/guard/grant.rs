//! Where requests carry grants: before the path, in a header, in the query.
//!
//! `/~{grant}/{app}/{name}/…` is the form for HLS: what a playlist names is relative to it, so that every request for
//! a child playlist, segment or part shows the grant again, though all viewers get the same bytes. It is taken off
//! before the path is looked at.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;

/// What a path begins with that begins with a grant: one mark, which some clients escape (RFC 3986 §6.2.2.2). No app
/// begins so.
const MARKS: [&str; 3] = ["/~", "/%7E", "/%7e"];

/// The query parameter.
const PARAM: &str = "token";

/// The grant before a path, and the path.
pub(crate) fn split(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = MARKS.iter().find_map(|mark| path.strip_prefix(mark)) else { return (None, path) };
    match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some((grant, path)) => (Some(grant), path),
        None => (Some(rest), ""),
    }
}

/// A grant as a request shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// Before the path, or in the header: players show it again with each request.
    Kept(&'a str),
    /// In the query, which what a playlist names does not inherit.
    Query(Cow<'a, str>),
}

impl<'a> Shown<'a> {
    /// The first of: before the path, `Authorization: Bearer …` (RFC 6750 §2.1), `?token=…`.
    pub(crate) fn find(before: Option<&'a str>, headers: &'a HeaderMap, uri: &'a Uri) -> Option<Self> {
        let header = || {
            let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
            let (scheme, grant) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(grant.trim())
        };
        let query = || {
            let value = uri.query()?.split('&').find_map(value)?;
            percent_decode_str(value).decode_utf8().ok()
        };
        before.or_else(header).map(Self::Kept).or_else(|| query().map(Self::Query))
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Kept(grant) => grant,
            Self::Query(grant) => grant,
        }
    }

    /// Where the same file is with the grant before the path, if it is not there or in a header already.
    pub(crate) fn kept_at(&self, path: &str, uri: &Uri) -> Option<String> {
        let Self::Query(grant) = self else { return None };
        let mut to = format!("/~{grant}{path}");
        let others = uri.query().unwrap_or_default().split('&').filter(|pair| value(pair).is_none());
        for (i, pair) in others.filter(|pair| !pair.is_empty()).enumerate() {
            to.push(if i == 0 { '?' } else { '&' });
            to.push_str(pair);
        }
        Some(to)
    }
}

/// Of the parameter, if `pair` is that.
fn value(pair: &str) -> Option<&str> {
    pair.strip_prefix(PARAM)?.strip_prefix('=')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_path_is_parted_from_its_grant() {
        assert_eq!(split("/live/a.flv"), (None, "/live/a.flv"));
        assert_eq!(split("/~a.b.c/live/a.flv"), (Some("a.b.c"), "/live/a.flv"));
        assert_eq!(split("/%7Ea.b.c/live/a.flv"), (Some("a.b.c"), "/live/a.flv"));
        assert_eq!(split("/%7ea/x"), (Some("a"), "/x"));
        assert_eq!(split("/~a//x"), (Some("a"), "//x"));
        assert_eq!(split("/~/live/a.flv"), (Some(""), "/live/a.flv"));
        assert_eq!(split("/~a/~b/live/a.flv"), (Some("a"), "/~b/live/a.flv"));
        assert_eq!(split("/~"), (Some(""), ""));
        assert_eq!(split(""), (None, ""));
    }

    fn find(before: Option<&str>, header: Option<&'static str>, uri: &str) -> Option<String> {
        let header = header.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
        let headers = header.into_iter().collect();
        Shown::find(before, &headers, &uri.parse().unwrap()).map(|shown| shown.text().to_owned())
    }

    #[test]
    fn a_grant_is_found_wherever_it_is() {
        assert_eq!(find(None, None, "/live/a.flv?x=1&token=a.b&token=c").as_deref(), Some("a.b"));
        assert_eq!(find(None, None, "/live/a.flv?token=a%2Eb").as_deref(), Some("a.b"));
        assert_eq!(find(None, Some("Bearer  a.b "), "/live/a.flv?token=c").as_deref(), Some("a.b"));
        assert_eq!(find(None, Some("bearer a"), "/").as_deref(), Some("a"));
        assert_eq!(find(Some("p"), Some("Bearer a"), "/?token=c").as_deref(), Some("p"));
        for uri in ["/live/a.flv", "/live/a.flv?tokens=a", "/live/a.flv?token", "/live/a.flv?token=%ff"] {
            assert_eq!(find(None, Some("Basic YTpi"), uri), None, "{uri}");
        }
    }

    #[test]
    fn a_playlist_asked_for_by_query_is_where_its_children_inherit_the_grant() {
        let at = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            Shown::find(None, &HeaderMap::new(), &uri).unwrap().kept_at("/live/a/index.m3u8", &uri)
        };
        assert_eq!(at("/?token=a.b").as_deref(), Some("/~a.b/live/a/index.m3u8"));
        assert_eq!(
            at("/?x=1&token=a.b&&_HLS_msn=2").as_deref(),
            Some("/~a.b/live/a/index.m3u8?x=1&_HLS_msn=2")
        );
        assert_eq!(Shown::Kept("a").kept_at("/", &Uri::from_static("/")), None);
    }
}
