//! The origins that an edge asks, as the control plane names them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an origin is asked that is not named any more. Replicas that have just begun name those that have joined again
/// so far; another may have the stream, and be about to.
const KEPT: Duration = Duration::from_secs(30);

/// Those that are named, and those that were a moment ago.
#[derive(Debug, Default)]
pub(super) struct Named(BTreeMap<String, Option<Instant>>);

impl Named {
    /// These are named from now on. All that are to be asked, if that are others than before.
    pub(super) fn take(&mut self, urls: Vec<String>, now: Instant) -> Option<Vec<String>> {
        for (url, since) in &mut self.0 {
            if !urls.contains(url) {
                since.get_or_insert(now);
            }
        }
        let mut others = false;
        for url in urls {
            others |= self.0.insert(url, None).is_none();
        }
        others.then(|| self.all())
    }

    /// Forgets those that were not named for long. All that are to be asked, if that are others than before.
    pub(super) fn forget(&mut self, now: Instant) -> Option<Vec<String>> {
        let is_old =
            |since: &Option<Instant>| since.is_some_and(|at| now.saturating_duration_since(at) >= KEPT);
        // With none that is named, those of before may be back before others are.
        if self.0.values().all(Option::is_some) {
            return None;
        }
        let before = self.0.len();
        self.0.retain(|_, since| !is_old(since));
        (self.0.len() != before).then(|| self.all())
    }

    fn all(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_is_not_named_is_asked_for_a_while() {
        let (mut named, now) = (Named::default(), Instant::now());
        let urls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(named.take(urls(&[]), now), None);
        assert_eq!(named.take(urls(&["a", "b"]), now), Some(urls(&["a", "b"])));
        assert_eq!(named.take(urls(&["b"]), now), None);
        assert_eq!(named.forget(now + KEPT / 2), None);
        assert_eq!(named.take(urls(&["b", "c"]), now + KEPT / 2), Some(urls(&["a", "b", "c"])));
        assert_eq!(named.forget(now + KEPT), Some(urls(&["b", "c"])));
        // It is named again in time.
        assert_eq!(named.take(urls(&["c"]), now), None);
        assert_eq!(named.take(urls(&["b", "c"]), now), None);
        assert_eq!(named.forget(now + KEPT), None);
        // Nobody is: the control plane has forgotten all of them.
        assert_eq!(named.take(urls(&[]), now), None);
        assert_eq!(named.forget(now + 2 * KEPT), None);
        assert_eq!(named.take(urls(&["d"]), now + 2 * KEPT), Some(urls(&["b", "c", "d"])));
        assert_eq!(named.forget(now + 2 * KEPT), Some(urls(&["d"])));
    }
}
