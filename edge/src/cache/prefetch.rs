//! Parts that a playlist announces are asked for before a player does, so that they are here when they are asked for
//! (EXT-X-PRELOAD-HINT, RFC 8216bis §4.4.5.3). It is the flight that players join.
//!
//! What begins it is a blocking reload's answer, for which somebody waits: a stream that nobody watches with low
//! latency is never fetched ahead.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// Parts that are fetched ahead at once, over all streams. Each is a request that the upstream holds.
const MAX_AT_ONCE: usize = 1024;

/// Parts of one rendition: the next one, while the one before is coming. A third means that the oldest will not come,
/// as after a re-publish.
const MAX_PER_RENDITION: usize = 2;

/// What is being fetched ahead.
#[derive(Default)]
pub(super) struct Prefetches {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    count: usize,
    renditions: HashMap<String, VecDeque<(u64, AbortHandle)>>,
}

impl Prefetches {
    /// Begins a fetch for a rendition's folder, given its number, which [`Self::done`] takes. False if there are too
    /// many.
    pub(super) fn begin(&self, folder: &str, start: impl FnOnce(u64) -> AbortHandle) -> bool {
        let mut state = self.state.lock();
        let State { next_id, count, renditions } = &mut *state;
        let known = renditions.get_mut(folder);
        if let Some(rendition) = known
            && rendition.len() >= MAX_PER_RENDITION
            && let Some((_, useless)) = rendition.pop_front()
        {
            useless.abort();
            *count -= 1;
        }
        if *count >= MAX_AT_ONCE {
            return false;
        }
        *count += 1;
        *next_id += 1;
        // The task can't be done before this lock is released.
        renditions.entry(folder.to_owned()).or_default().push_back((*next_id, start(*next_id)));
        true
    }

    /// A fetch has ended.
    pub(super) fn done(&self, folder: &str, id: u64) {
        let mut state = self.state.lock();
        let State { count, renditions, .. } = &mut *state;
        let Some(rendition) = renditions.get_mut(folder) else { return };
        let before = rendition.len();
        rendition.retain(|(other, _)| *other != id);
        *count -= before - rendition.len();
        if rendition.is_empty() {
            renditions.remove(folder);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let state = self.state.lock();
        assert_eq!(state.count, state.renditions.values().map(VecDeque::len).sum::<usize>());
        state.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn their_number_is_bounded_and_the_oldest_of_a_rendition_goes_first() {
        let prefetches = Prefetches::default();
        let mut tasks = Vec::new();
        let mut begin = |folder: &str| {
            prefetches.begin(folder, |_| {
                tasks.push(tokio::spawn(std::future::pending::<()>()));
                tasks.last().unwrap().abort_handle()
            })
        };
        assert!((0..MAX_PER_RENDITION + 1).all(|_| begin("/live/a/v0")));
        for n in 0..MAX_AT_ONCE - MAX_PER_RENDITION {
            assert!(begin(&format!("/live/{n}/v1")));
        }
        assert!(!begin("/live/b/v0"));
        assert_eq!(prefetches.count(), MAX_AT_ONCE);
        assert!(tasks.remove(0).await.unwrap_err().is_cancelled());
        assert!(!tasks.iter().any(tokio::task::JoinHandle::is_finished));
        prefetches.done("/live/a/v0", 2);
        prefetches.done("/live/a/v0", 2);
        assert_eq!(prefetches.count(), MAX_AT_ONCE - 1);
        prefetches.done("/live/a/v0", 3);
        assert!(!prefetches.state.lock().renditions.contains_key("/live/a/v0"));
    }
}
