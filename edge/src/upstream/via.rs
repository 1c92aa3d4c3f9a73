//! Loops of edges: each question says which edges it has come through, and none answers one that it has asked itself.
//!
//! Edges share questions, so a loop would not grow, but wait for itself: hence names, not only a count.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::Request;
use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use tower::ServiceExt;

use super::Upstream;

/// Names of the edges that a question has come through, oldest first.
pub(crate) const VIA: HeaderName = HeaderName::from_static("x-weir-via");

/// Edges that a question may come through: a shield and another one is what makes sense.
const MAX_HOPS: usize = 4;

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
        Self(format!("{:016x}", RandomState::new().build_hasher().finish()))
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
        if names(headers).any(|name| name == self.0) {
            return Err(Loop::Closed);
        }
        if names(headers).count() > MAX_HOPS { Err(Loop::TooLong) } else { Ok(()) }
    }

    /// What to say when this question is passed on.
    pub(crate) fn passed_on(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut all: Vec<&str> = names(headers).take(MAX_HOPS + 1).collect();
        all.push(&self.0);
        HeaderValue::try_from(all.join(",")).ok()
    }
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
}
