//! A stream's sound beside its frames: whether it is dropped, and how loud it is.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use bytes::Bytes;

use crate::frame::{Codec, Track};

/// No level was told since it was asked last.
const UNKNOWN: u8 = u8::MAX;

/// A frame of silence, where the codec has one that fits any stream of it: 20 ms of Opus (RFC 6716 §3.1), which is what
/// browsers send. A stream of sound alone goes on by it, so that nobody takes it to have stalled. `None`: none.
pub(super) fn silence(track: &Track) -> Option<Bytes> {
    match (track.codec, track.audio()?.channels) {
        (Codec::Opus, 1) => Some(Bytes::from_static(&[0xf8, 0xff, 0xfe])),
        (Codec::Opus, 2) => Some(Bytes::from_static(&[0xfc, 0xff, 0xfe])),
        _ => None,
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sound {
    muted: AtomicBool,
    level: AtomicU8,
}

impl Sound {
    pub(super) const fn new() -> Self {
        Self { muted: AtomicBool::new(false), level: AtomicU8::new(UNKNOWN) }
    }

    pub(super) fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    pub(super) fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    pub(super) fn set_level(&self, level: u8) {
        self.level.store(level.min(127), Ordering::Relaxed);
    }

    pub(super) fn take_level(&self) -> Option<u8> {
        Some(self.level.swap(UNKNOWN, Ordering::Relaxed)).filter(|level| *level != UNKNOWN)
    }
}
