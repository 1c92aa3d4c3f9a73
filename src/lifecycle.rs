//! Where the process is in its life, for everything that waits for the end or answers `/readyz`.

use std::sync::Arc;

use tokio::sync::watch;

/// Where the process is in its life; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not everything listens yet.
    Starting,
    /// Everything listens.
    Ready,
    /// As before, but whoever balances load is told to send nobody any more.
    Unready,
    /// Nothing new is taken in; what is under way ends.
    Draining,
}

/// The phase, shared by all that move it or wait for it.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle(Arc<watch::Sender<Phase>>);

impl Lifecycle {
    /// A process that starts.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Starting)))
    }

    /// Where it is now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Moves on to `phase`, unless it is already past.
    pub(crate) fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// Ends when the process begins to drain.
    pub(crate) async fn draining(&self) {
        self.reaches(Phase::Draining).await;
    }

    /// Ends when the process is in that phase, or past it.
    pub(crate) async fn reaches(&self, phase: Phase) {
        // The sender lives as long as this handle, so the wait can't fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward() {
        let life = Lifecycle::new();
        life.advance(Phase::Draining);
        life.advance(Phase::Ready);
        assert_eq!(life.phase(), Phase::Draining);
        life.draining().await;
    }
}
