//! Loops of edges: each question says which edges it has come through, and none answers one that it has asked itself.
//!
//! Edges share questions, so a loop would not grow, but wait for itself: hence names, not only a count.
//!
//! Only who has `edge.http.relay_key` is believed to be an edge. What others say is passed on as *hearsay*, which is not
//! counted and not copied but for what has the form of a name: all that it can do is to name an edge that it comes to, and
//! that refuses it then. Those who share a question share its way, so a viewer who knew such a name could have the question
//! refused for others, too; but names are random, and told to nobody but upstreams.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::Request;
use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use tower::ServiceExt;

use super::Upstream;

/// Names of the edges that a question has come through, oldest first.
pub(crate) const VIA: HeaderName = HeaderName::from_static("x-weir-via");

/// Edges that a question may come through: a shield and another one is what makes sense.
const MAX_HOPS: usize = 4;

/// Names of hearsay that are passed on, the newest: in a loop of more edges, none of which has a key, they wait for each
/// other.
const MAX_HEARSAY: usize = 8;

/// What stands before a name of hearsay. No edge that is believed has it in its name.
const HEARSAY: char = '~';

/// Digits of a name.
const NAME_LEN: usize = 16;

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Loop {
    #[error("this edge is among its own upstreams: look at `edge.upstream.origins` of the edges")]
    Closed,
    #[error("more than {MAX_HOPS} edges one behind the other: look at `edge.upstream.origins` of the edges")]
    TooLong,
}

/// This edge's name, made anew with each start.
#[derive(Debug)]
pub(crate) struct Via(String);

impl Via {
    pub(crate) fn new() -> Self {
        // Each `RandomState` is keyed anew.
        Self(format!("{:0NAME_LEN$x}", RandomState::new().build_hasher().finish()))
    }

    /// The same upstream, whose questions say where they begin.
    pub(crate) fn named(&self, upstream: Upstream) -> Upstream {
        let name = HeaderValue::try_from(&self.0).ok();
        Upstream::new(upstream.map_request(move |mut request: Request<()>| {
            if let (Entry::Vacant(via), Some(name)) = (request.headers_mut().entry(VIA), &name) {
                via.insert(name.clone());
            }
            request
        }))
    }

    /// Whether a question may be answered.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Loop> {
        if names(headers).any(|name| name.trim_start_matches(HEARSAY) == self.0) {
            return Err(Loop::Closed);
        }
        let hops = names(headers).filter(|name| !name.starts_with(HEARSAY)).count();
        if hops > MAX_HOPS { Err(Loop::TooLong) } else { Ok(()) }
    }

    /// What to say when this question is passed on.
    pub(crate) fn passed_on(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut all: Vec<&str> = names(headers).take(MAX_HEARSAY + MAX_HOPS + 1).collect();
        all.push(&self.0);
        HeaderValue::try_from(all.join(",")).ok()
    }
}

/// Makes hearsay of what somebody says who is not believed.
pub(crate) fn doubt(headers: &mut HeaderMap) {
    if !headers.contains_key(VIA) {
        return;
    }
    let said = names(headers).map(|name| name.trim_start_matches(HEARSAY));
    let mut said: Vec<&str> = said.filter(|name| is_name(name)).collect();
    let hearsay = said.split_off(said.len().saturating_sub(MAX_HEARSAY));
    let hearsay: Vec<String> = hearsay.iter().map(|name| format!("{HEARSAY}{name}")).collect();
    headers.remove(VIA);
    if let (false, Ok(hearsay)) = (hearsay.is_empty(), HeaderValue::try_from(hearsay.join(","))) {
        headers.insert(VIA, hearsay);
    }
}

/// Whether another edge asks, as far as is believed.
pub(crate) fn is_by_edge(headers: &HeaderMap) -> bool {
    names(headers).any(|name| !name.starts_with(HEARSAY))
}

fn is_name(text: &str) -> bool {
    text.len() == NAME_LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(via: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(VIA, via)])
    }

    #[test]
    fn an_edge_knows_its_own_questions_and_a_row_has_an_end() {
        let edges: Vec<Via> = (0..6).map(|_| Via::new()).collect();
        let mut headers = HeaderMap::new();
        for (hops, edge) in edges.iter().enumerate() {
            let expected = if hops > MAX_HOPS { Err(Loop::TooLong) } else { Ok(()) };
            assert_eq!(edge.check(&headers), expected, "{hops}");
            headers = behind(edge.passed_on(&headers).unwrap());
            assert_eq!(edge.check(&headers), Err(Loop::Closed));
        }
        assert_eq!(edges[0].check(&headers), Err(Loop::Closed));
        // Anybody may say anything.
        assert_eq!(edges[0].check(&behind(HeaderValue::from_static(", ,\t"))), Ok(()));
        assert_eq!(edges[0].check(&behind(HeaderValue::from_bytes(b"\xff").unwrap())), Ok(()));
    }
    #[test]
    fn what_a_stranger_says_can_only_close_a_loop() {
        let (edge, next) = (Via::new(), Via::new());
        // A question of an edge without a key, which another one without a key passes on.
        let mut headers = behind(HeaderValue::try_from(&edge.0).unwrap());
        for _ in 0..2 {
            doubt(&mut headers);
            assert!(!is_by_edge(&headers), "nobody is believed");
            assert_eq!((edge.check(&headers), next.check(&headers)), (Err(Loop::Closed), Ok(())));
        }
        let mut headers = behind(next.passed_on(&headers).unwrap());
        assert!(is_by_edge(&headers));
        assert_eq!(edge.check(&headers), Err(Loop::Closed));
        doubt(&mut headers);
        assert_eq!((edge.check(&headers), next.check(&headers)), (Err(Loop::Closed), Err(Loop::Closed)));

        // Made-up names are not counted, only the newest are kept, and what is none is gone.
        let made_up: Vec<String> = (0..1_000).map(|n| format!("{n:016x}")).collect();
        let mut headers = behind(HeaderValue::try_from(made_up.join(",")).unwrap());
        doubt(&mut headers);
        assert_eq!(headers[VIA].len(), MAX_HEARSAY * (NAME_LEN + 2) - 1);
        let mut headers = behind(edge.passed_on(&headers).unwrap());
        assert_eq!((next.check(&headers), edge.check(&headers)), (Ok(()), Err(Loop::Closed)));
        headers.append(VIA, HeaderValue::from_static("a,b,c"));
        assert_eq!(next.check(&headers), Ok(()));
        headers.append(VIA, HeaderValue::from_static("d"));
        assert_eq!(next.check(&headers), Err(Loop::TooLong));
        for none in ["", "a", "0123456789abcdeg", "0123456789ABCDEF", "0123456789abcdef0", "~", "a b"] {
            let mut headers = behind(HeaderValue::from_static(none));
            doubt(&mut headers);
            assert!(headers.is_empty(), "{none}");
        }
    }
}
