//! The reading end of a stream.

use std::sync::Arc;

use super::cache::Read;
use super::{Phase, Stream, StreamKey, Unit};

/// What a consumer reads.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next unit.
    Unit(Unit),
    /// The stream is over; nothing follows.
    Ended,
}

/// A cursor into a stream. It starts at the newest keyframe, and goes on at the newest keyframe when it lagged
/// so far behind that its next unit is gone, which its units' numbers show; a clone reads on from the same place.
#[derive(Debug, Clone)]
pub struct Consumer {
    stream: Arc<Stream>,
    next: u64,
}

impl Consumer {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let next = stream.with_state(|s| s.cache.join_point());
        Self { stream, next }
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The stream's name.
    pub fn key(&self) -> &StreamKey {
        self.stream.key()
    }

    /// Goes back to the oldest keyframe that is kept.
    pub fn rewind(&mut self) {
        self.next = self.stream.with_state(|s| s.cache.oldest_join_point());
    }

    /// What there is now. [`Stream::changed`] tells of more.
    pub fn try_next(&mut self) -> Option<Event> {
        let next = &mut self.next;
        self.stream.with_state(|s| {
            loop {
                match s.cache.read(*next) {
                    Read::Unit(unit) => {
                        *next = unit.sequence + 1;
                        return Some(Event::Unit(unit));
                    }
                    Read::Later if s.phase == Phase::Ended => return Some(Event::Ended),
                    Read::Later => return None,
                    Read::Lost(sequence) => *next = sequence,
                }
            }
        })
    }

    /// Waits for a unit whose decoding time is `ms` or later, for the keyframe of a picture, for other tracks, for the
    /// end, or until some dozens of units are unread; not at all if there is a unit to read, whatever its time. Those who
    /// need not see each unit at once save being woken for it. Cancel-safe.
    pub async fn reaches(&self, ms: i64) {
        let reached = self.stream.reached();
        let there = self.stream.with_state(|s| {
            let there = s.cache.next_sequence() > self.next || s.phase == Phase::Ended;
            if !there {
                s.awaits(ms);
            }
            there
        });
        if !there {
            reached.await;
        }
    }
}
