//! Where a pull or a push says how it does.

use std::time::Duration;

use control_api::{LineInfo, RemoteState, Standing};
use prometheus::{IntGaugeVec, Opts};
use tokio::sync::watch;

use crate::origin::unix_ms;

/// How one pull or push does; whoever wants may wait for it to change. Dropping it takes it out of the metrics.
#[derive(Debug)]
pub(crate) struct Board {
    standing: watch::Sender<Standing>,
    gauges: IntGaugeVec,
}

/// How many there are in each state.
pub(crate) fn gauges(name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &["state"])?;
    for state in RemoteState::ALL {
        gauges.with_label_values(&[state.name()]).set(0);
    }
    Ok(gauges)
}

impl Board {
    pub(crate) fn new(gauges: IntGaugeVec) -> Self {
        let standing = Standing { since_ms: unix_ms(), ..Standing::default() };
        gauges.with_label_values(&[standing.state.name()]).inc();
        Self { standing: watch::Sender::new(standing), gauges }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// It is in that state from now on. Why it failed the last time is known until it is live.
    pub(crate) fn enter(&self, state: RemoteState) {
        self.change(|before| Standing {
            state,
            since_ms: unix_ms(),
            why: before.why.take().filter(|_| state == RemoteState::Connecting),
            note: before.note.take().filter(|_| state == RemoteState::Live),
            ..Standing::default()
        });
    }

    /// It failed, and is tried again after so long.
    pub(crate) fn failed(&self, why: String, again: Duration) {
        let now = unix_ms();
        let wait = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
        self.change(|_| Standing {
            state: RemoteState::Waiting,
            since_ms: now,
            why: Some(why),
            retry_at_ms: Some(now.saturating_add(wait)),
            ..Standing::default()
        });
    }

    /// Something is left out of it.
    pub(crate) fn note(&self, note: Option<String>) {
        self.standing.send_modify(|standing| standing.note = note);
    }

    pub(crate) fn line(&self, line: LineInfo) {
        self.standing.send_modify(|standing| standing.line = Some(line));
    }

    fn change(&self, change: impl FnOnce(&mut Standing) -> Standing) {
        self.standing.send_modify(|standing| {
            self.gauges.with_label_values(&[standing.state.name()]).dec();
            *standing = change(standing);
            self.gauges.with_label_values(&[standing.state.name()]).inc();
        });
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.gauges.with_label_values(&[self.standing.borrow().state.name()]).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_in_one_state_and_in_none_when_it_is_gone() {
        let gauges = gauges("weir_test", "Test.").unwrap();
        let of = |state: RemoteState| gauges.with_label_values(&[state.name()]).get();
        let board = Board::new(gauges.clone());
        board.enter(RemoteState::Connecting);
        board.failed("no".to_owned(), Duration::from_secs(5));
        let waiting = board.standing();
        assert_eq!(waiting.retry_at_ms, Some(waiting.since_ms + 5_000));
        board.enter(RemoteState::Connecting);
        assert_eq!(board.standing().why.as_deref(), Some("no"));
        board.enter(RemoteState::Live);
        assert_eq!(board.standing().why, None);
        assert_eq!(RemoteState::ALL.map(of), [0, 0, 1, 0]);
        drop(board);
        assert_eq!(RemoteState::ALL.map(of), [0; 4]);
    }
}
