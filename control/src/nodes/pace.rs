//! How fast a node is listened to.

use std::time::Duration;

use tokio::time::Instant;

/// How many times as often as expected heartbeats are taken: one that is drained, or ends, says so at once.
const TIMES: u32 = 4;

/// Heartbeats that may come together.
const BURST: u32 = 10;

/// Of one call. What comes faster waits where it is, which is the node's own connection.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    /// When the next heartbeat would come, if they came evenly.
    due: Instant,
}

impl Pace {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        Self { every: heartbeat / TIMES, due: now }
    }

    /// From when on the next one is listened to.
    pub(super) fn opens(&self) -> Instant {
        self.due.checked_sub(self.every * BURST).unwrap_or(self.due)
    }

    /// One was taken. Whether it was one too many.
    pub(super) fn took(&mut self, now: Instant) -> bool {
        self.due = self.due.max(now) + self.every;
        self.opens() > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(1);

    /// How many of those that come `apart` are too many, in ten seconds.
    fn too_many(apart: Duration) -> usize {
        let began = Instant::now();
        let mut pace = Pace::new(HEARTBEAT, began);
        let (mut now, mut count) = (began, 0);
        while now < began + 10 * HEARTBEAT {
            now = now.max(pace.opens());
            count += usize::from(pace.took(now));
            now += apart;
        }
        count
    }

    #[test]
    fn a_node_is_listened_to_four_times_as_fast_as_expected_and_no_faster() {
        assert_eq!(too_many(HEARTBEAT), 0);
        assert_eq!(too_many(HEARTBEAT / 4), 0);
        assert!(too_many(HEARTBEAT / 10) > 30);
        let mut pace = Pace::new(HEARTBEAT, Instant::now());
        let now = Instant::now();
        assert_eq!((0..2 * BURST).filter(|_| pace.took(now)).count(), 10, "a burst is none too many");
    }
}
