//! What the packager of a stream and the requests for it share.

use bytes::Bytes;
use control_api::HlsState;
use media_core::hls::{Event, Position, Window};
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics::HlsMetrics;
use super::playlists::{Playlists, Which};

/// A stream's window and the playlists that were rendered of it.
#[derive(Debug)]
pub(super) struct Live {
    key: StreamKey,
    state: Mutex<State>,
    /// Tells those who wait that the window changed.
    position: watch::Sender<Position>,
    metrics: HlsMetrics,
}

#[derive(Debug)]
struct State {
    window: Window,
    playlists: Playlists,
    problem: Option<String>,
    /// Another origin has the stream.
    elsewhere: bool,
}

impl Live {
    pub(super) fn new(key: StreamKey, window: Window, metrics: HlsMetrics) -> Self {
        let position = watch::Sender::new(window.position());
        let state = State { window, playlists: Playlists::default(), problem: None, elsewhere: false };
        Self { key, state: Mutex::new(state), position, metrics }
    }

    pub(super) fn key(&self) -> &StreamKey {
        &self.key
    }

    pub(super) fn state(&self) -> HlsState {
        let state = self.state.lock();
        HlsState { ready: state.window.is_ready(), problem: state.problem.clone() }
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// Takes what the segmenter made and lets those go who waited for it.
    pub(super) fn apply(&self, events: impl Iterator<Item = Event>, problem: Option<String>) {
        let position = {
            let mut state = self.state.lock();
            state.problem = problem;
            let (mut changed, hurried) = (false, state.window.hurried());
            for event in events {
                if matches!(event, Event::Part { .. }) {
                    self.metrics.parts.inc();
                }
                state.window.apply(event);
                changed = true;
            }
            if !changed {
                return;
            }
            let now_hurried = state.window.hurried();
            self.metrics.hurried.inc_by(now_hurried - hurried);
            if hurried == 0 && now_hurried > 0 {
                tracing::warn!(stream = %self.key, max_bytes = state.window.config().max_bytes,
                    "HLS keeps less than the window and what is behind it: the stream's media are more than max_bytes");
            }
            state.playlists.clear();
            state.window.position()
        };
        self.position.send_replace(position);
    }

    /// The stream goes on at another origin. Those who wait for what comes are told.
    pub(super) fn leave(&self) {
        self.state.lock().elsewhere = true;
        self.position.send_modify(|_| {});
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        self.state.lock().elsewhere
    }

    /// The packager lost frames.
    pub(super) fn lagged(&self) {
        self.metrics.restarts.inc();
    }

    /// Completes at the next change of the window after this call.
    pub(super) fn changes(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Looks into the window.
    pub(super) fn with_window<T>(&self, look: impl FnOnce(&Window) -> T) -> T {
        look(&self.state.lock().window)
    }

    /// A playlist as it is now, rendered if nobody asked for it since the window changed.
    pub(super) fn playlist(&self, which: Which, gzip: bool) -> Bytes {
        let state = &mut *self.state.lock();
        state.playlists.get(which, gzip, &state.window, &self.metrics)
    }
}
