//! Between the clock and the network: what is due but not yet sent.
//!
//! Overflow policy: when the network cannot keep up, the pictures that wait are dropped and so are all
//! that follow until the next keyframe; sound goes on until it alone overflows. While there is no
//! connection everything is dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What waits at most: some seconds of a stream of 10 Mbit/s.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What waits at most: viewers are never further behind than this because of us.
const MAX_SPAN_MS: u32 = 3_000;
/// Messages that wait at most, whatever their size: sound of a few minutes.
const MAX_MESSAGES: usize = 8_192;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sequence header or `onMetaData`.
    Header(Body),
    /// A picture.
    Video { keyframe: bool },
    /// Sound.
    Audio,
}

/// What sort of RTMP message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Audio,
    Video,
    Data,
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) kind: Kind,
    pub(crate) timestamp_ms: u32,
    pub(crate) body: Bytes,
}

/// What went through a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Bytes of media that were handed to the connection.
    pub(crate) bytes: u64,
    /// Pictures, or sound frames where there are none, that were handed to the connection.
    pub(crate) frames: u64,
    /// Frames that were dropped.
    pub(crate) dropped: u64,
    /// Time of the newest message that was handed to the connection.
    pub(crate) timestamp_ms: u32,
}

/// The queue. One task puts in, one takes out.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Due>,
    waiting_bytes: usize,
    headers: Vec<Due>,
    has_video: bool,
    connected: bool,
    /// Pictures are dropped until the next keyframe.
    skipping: bool,
    closed: bool,
    counts: Counts,
}

impl Queue {
    /// From here on `headers` describe what follows; a new connection begins with them.
    pub(crate) fn describe(&self, headers: Vec<Due>, has_video: bool) {
        let mut state = self.state.lock();
        state.has_video = has_video;
        if state.connected {
            for header in &headers {
                state.push(header.clone());
            }
        }
        state.headers = headers;
        drop(state);
        self.changed.notify_one();
    }

    /// Takes a frame that is due.
    pub(crate) fn push(&self, due: Due) {
        let mut state = self.state.lock();
        let keep = match due.kind {
            _ if !state.connected => false,
            Kind::Video { keyframe } => {
                state.skipping &= !keyframe;
                !state.skipping
            }
            Kind::Audio | Kind::Header(_) => true,
        };
        if !keep {
            state.counts.dropped += 1;
            return;
        }
        state.push(due);
        state.make_room();
        drop(state);
        self.changed.notify_one();
    }

    /// A connection was made: it gets the headers, then what is due from now on, pictures from the next
    /// keyframe.
    pub(crate) fn connect(&self) {
        let mut state = self.state.lock();
        state.connected = true;
        state.skipping = true;
        for header in state.headers.clone() {
            state.push(header);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The connection is gone, and what waited for it.
    pub(crate) fn disconnect(&self) {
        let mut state = self.state.lock();
        state.connected = false;
        state.drop_where(|_| true);
    }

    /// Nothing more will come: [`Queue::next`] ends when what waits is sent.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next message to send; `None` when the queue was closed and is empty.
    pub(crate) async fn next(&self) -> Option<Due> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(due) = state.waiting.pop_front() {
                    state.waiting_bytes -= due.body.len();
                    state.count(&due);
                    return Some(due);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// What went through so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts
    }
}

impl State {
    fn push(&mut self, due: Due) {
        self.waiting_bytes += due.body.len();
        self.waiting.push_back(due);
    }

    fn count(&mut self, due: &Due) {
        let counted = match due.kind {
            Kind::Video { .. } => true,
            Kind::Audio => !self.has_video,
            Kind::Header(_) => return,
        };
        self.counts.frames += u64::from(counted);
        self.counts.bytes += due.body.len() as u64;
        self.counts.timestamp_ms = due.timestamp_ms;
    }

    fn overflows(&self) -> bool {
        let mut media = self.waiting.iter().filter(|due| !matches!(due.kind, Kind::Header(_)));
        let span_ms = match (media.next(), media.next_back()) {
            (Some(first), Some(last)) => last.timestamp_ms.saturating_sub(first.timestamp_ms),
            _ => 0,
        };
        // A single message may be as large as it likes: it cannot be sent in pieces.
        self.waiting.len() > 1
            && (self.waiting_bytes > MAX_BYTES || span_ms > MAX_SPAN_MS || self.waiting.len() > MAX_MESSAGES)
    }

    fn make_room(&mut self) {
        if !self.overflows() {
            return;
        }
        if self.drop_where(|kind| matches!(kind, Kind::Video { .. })) > 0 {
            self.skipping = true;
        }
        if self.overflows() {
            self.drop_where(|kind| *kind == Kind::Audio);
        }
        if self.overflows() {
            // Only headers are left, more than any file needs; the newest say all.
            self.drop_where(|_| true);
            for header in self.headers.clone() {
                self.push(header);
            }
        }
    }

    fn drop_where(&mut self, which: impl Fn(&Kind) -> bool) -> u64 {
        let before = self.waiting.len();
        let headers =
            self.waiting.iter().filter(|d| matches!(d.kind, Kind::Header(_)) && which(&d.kind)).count();
        self.waiting.retain(|due| !which(&due.kind));
        self.waiting_bytes = self.waiting.iter().map(|due| due.body.len()).sum();
        let dropped = (before - self.waiting.len() - headers) as u64;
        self.counts.dropped += dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(kind: Kind, timestamp_ms: u32, bytes: usize) -> Due {
        Due { kind, timestamp_ms, body: Bytes::from(vec![0; bytes]) }
    }

    const KEY: Kind = Kind::Video { keyframe: true };
    const INTER: Kind = Kind::Video { keyframe: false };
    const HEADER: Kind = Kind::Header(Body::Video);

    fn connected() -> Queue {
        let queue = Queue::default();
        queue.describe(vec![due(HEADER, 0, 10)], true);
        queue.connect();
        queue
    }

    async fn rest(queue: &Queue) -> Vec<(Kind, u32)> {
        queue.close();
        let mut out = Vec::new();
        while let Some(due) = queue.next().await {
            out.push((due.kind, due.timestamp_ms));
        }
        out
    }

    #[tokio::test]
    async fn a_connection_begins_with_headers_and_a_keyframe() {
        let queue = connected();
        queue.push(due(INTER, 0, 1));
        queue.push(due(Kind::Audio, 10, 1));
        queue.push(due(KEY, 40, 1));
        queue.push(due(INTER, 80, 1));
        assert_eq!(rest(&queue).await, [(HEADER, 0), (Kind::Audio, 10), (KEY, 40), (INTER, 80)]);
        assert_eq!(queue.counts().dropped, 1);
        assert_eq!(queue.counts().frames, 2);
    }

    #[tokio::test]
    async fn pictures_are_dropped_to_the_next_keyframe_when_too_many_bytes_wait() {
        let queue = connected();
        queue.push(due(KEY, 0, 1000));
        queue.push(due(Kind::Audio, 0, 100));
        queue.push(due(INTER, 40, MAX_BYTES));
        queue.push(due(INTER, 80, 1));
        queue.push(due(Kind::Audio, 90, 100));
        queue.push(due(KEY, 120, 1000));
        let expected = [(HEADER, 0), (Kind::Audio, 0), (Kind::Audio, 90), (KEY, 120)];
        assert_eq!(rest(&queue).await, expected);
        assert_eq!(queue.counts().dropped, 3);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_time() {
        let queue = connected();
        for n in 0..150 {
            queue.push(due(if n % 25 == 0 { KEY } else { INTER }, n * 40, 1));
        }
        let left = rest(&queue).await;
        let first = left.iter().find(|(kind, _)| matches!(kind, Kind::Video { .. })).unwrap();
        assert_eq!(*first, (KEY, 4_000), "skipped to the keyframe after three seconds");
        assert_eq!(queue.counts().dropped, 100);
    }

    #[tokio::test]
    async fn sound_alone_is_bounded_too() {
        let queue = connected();
        for n in 0..100_000 {
            queue.push(due(Kind::Audio, n * 21, 300));
        }
        assert!(queue.state.lock().waiting.len() <= MAX_MESSAGES);
        let left = rest(&queue).await;
        assert!(left.last().unwrap().1 - left[1].1 <= MAX_SPAN_MS);
    }

    #[tokio::test]
    async fn headers_alone_are_bounded() {
        let queue = connected();
        for n in 0..20_000 {
            queue.describe(vec![due(HEADER, n, 16 * 1024)], true);
            queue.push(due(KEY, n, 10));
        }
        assert!(queue.state.lock().waiting_bytes <= MAX_BYTES + 32 * 1024);
    }

    #[tokio::test]
    async fn without_a_connection_nothing_waits() {
        let queue = connected();
        queue.push(due(KEY, 0, 1));
        queue.disconnect();
        queue.push(due(KEY, 40, 1));
        queue.connect();
        queue.push(due(KEY, 80, 1));
        assert_eq!(rest(&queue).await, [(HEADER, 0), (KEY, 80)]);
        assert_eq!(queue.counts().dropped, 2);
    }
}
