//! What a viewer sees.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines of trouble that are kept of each.
const MAX_TROUBLES: usize = 20;

/// By what somebody watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// HTTP-FLV.
    Flv,
    /// RTMP.
    Rtmp,
    /// LL-HLS.
    Hls,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// A frame, or a part of HLS.
    Frame,
    /// A timestamp that goes back within a stream.
    Backwards,
    /// A part that was announced and can't be had, or was passed over.
    MissingPart,
    /// An edge that can't be connected to, or does not let the viewer in.
    Refused,
    /// An answer in the middle of a stream that says that it can't be had at the moment.
    Unavailable,
    /// A stream that came to its regular end.
    Ended,
    /// A connection that was closed between two frames or answers: go elsewhere.
    Closed,
    /// An answer that broke off between two frames, without its last chunk.
    Cut,
    /// A connection that broke off in the middle of a frame or an answer.
    Truncated,
    /// One by which nothing came any more.
    Stalled,
}

const COUNTS: usize = 10;

/// How often each was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; COUNTS]);

impl Counts {
    /// How often.
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Streams that somebody lost, however.
    pub fn disconnected(&self) -> u64 {
        [Count::Ended, Count::Closed, Count::Cut, Count::Truncated, Count::Stalled]
            .map(|count| self.of(count))
            .iter()
            .sum()
    }

    /// Whatever a viewer could call a failure.
    pub fn failures(&self) -> u64 {
        use Count::{Backwards, MissingPart, Refused, Unavailable};
        let others = [Backwards, MissingPart, Refused, Unavailable];
        self.disconnected() + others.map(|count| self.of(count)).iter().sum::<u64>()
    }

    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(one, other)| *one += other);
        self
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use Count::{
            Backwards, Closed, Cut, Ended, Frame, MissingPart, Refused, Stalled, Truncated, Unavailable,
        };
        write!(f, "{} frames", self.of(Frame))?;
        let others = [
            (Backwards, "backwards"),
            (MissingPart, "parts missing"),
            (Refused, "refused"),
            (Unavailable, "unavailable"),
            (Ended, "ended"),
            (Closed, "closed"),
            (Cut, "cut"),
            (Truncated, "truncated"),
            (Stalled, "stalled"),
        ];
        others.iter().try_for_each(|(count, name)| write!(f, ", {} {name}", self.of(*count)))
    }
}

/// A viewer, and what it has seen.
pub(super) struct Seen {
    pub(super) how: How,
    index: usize,
    state: Mutex<State>,
}

struct State {
    counts: Counts,
    node: String,
    marked: Instant,
    /// When the connection was made by which it watches.
    connected: Option<Instant>,
    last: Option<Instant>,
    longest: Duration,
    elsewhere: Option<Duration>,
    configuration: Option<Vec<u8>>,
    other_configurations: usize,
    troubles: Vec<(Instant, String)>,
    ended: bool,
}

impl Seen {
    pub(super) fn new(how: How, index: usize) -> Self {
        let state = Mutex::new(State {
            counts: Counts::default(),
            node: String::new(),
            marked: Instant::now(),
            connected: None,
            last: None,
            longest: Duration::ZERO,
            elsewhere: None,
            configuration: None,
            other_configurations: 0,
            troubles: Vec::new(),
            ended: false,
        });
        Self { how, index, state }
    }

    /// It plays from that edge from now on.
    pub(super) fn connected(&self, node: &str) {
        let mut state = self.state.lock();
        node.clone_into(&mut state.node);
        state.connected = Some(Instant::now());
    }

    /// Something new to show.
    pub(super) fn frame(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.counts.0[Count::Frame as usize] += 1;
        if let Some(last) = state.last {
            // What was before the mark is not counted.
            let since = now - last.max(state.marked);
            state.longest = state.longest.max(since);
        }
        if state.elsewhere.is_none() && state.connected > Some(state.marked) {
            state.elsewhere = Some(now - state.marked);
        }
        state.last = Some(now);
    }

    /// A decoder configuration of pictures.
    pub(super) fn configuration(&self, body: &[u8]) {
        let mut state = self.state.lock();
        if state.configuration.as_deref().is_some_and(|before| before != body) {
            state.other_configurations += 1;
        }
        state.configuration = Some(body.to_vec());
    }

    /// Something that should not be, or only when something has died.
    pub(super) fn trouble(&self, count: Count, what: &str) {
        let mut state = self.state.lock();
        state.counts.0[count as usize] += 1;
        if state.troubles.len() < MAX_TROUBLES {
            let now = Instant::now();
            let since = now - state.marked;
            let line =
                format!("{since:.1?} {:?} {} at {}: {count:?}: {what}", self.how, self.index, state.node);
            state.troubles.push((now, line));
        }
    }

    /// Its task is over, which it is only by a panic.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    pub(super) fn mark(&self) {
        let mut state = self.state.lock();
        state.marked = Instant::now();
        (state.counts, state.longest, state.elsewhere) = (Counts::default(), Duration::ZERO, None);
        state.troubles.clear();
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    pub(super) fn last(&self) -> Option<Instant> {
        self.state.lock().last
    }

    pub(super) fn longest_gap(&self) -> Duration {
        let state = self.state.lock();
        state.last.map_or(Duration::ZERO, |last| state.longest.max(last.max(state.marked).elapsed()))
    }

    pub(super) fn elsewhere_after(&self) -> Option<Duration> {
        self.state.lock().elsewhere
    }

    pub(super) fn is_at(&self, node: &str) -> bool {
        self.state.lock().node == node
    }

    pub(super) fn other_configurations(&self) -> usize {
        self.state.lock().other_configurations
    }

    pub(super) fn troubles(&self) -> Vec<(Instant, String)> {
        self.state.lock().troubles.clone()
    }
}
