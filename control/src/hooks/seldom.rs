//! Log lines that others could cause as often as they like: one a minute, which says how many it stands for.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// From one line to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether there is to be a line now; how many were left out since the last one.
    pub(super) fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_lines_at_once_are_one_and_the_next_says_so() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.line_at(now), Some(0));
        for _ in 0..1_000 {
            assert_eq!(seldom.line_at(now + Duration::from_secs(59)), None);
        }
        assert_eq!(seldom.line_at(now + PAUSE), Some(1_000));
        assert_eq!(seldom.line_at(now + 3 * PAUSE), Some(0));
    }
}
