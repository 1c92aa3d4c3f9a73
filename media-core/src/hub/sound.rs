//! A stream's sound beside its frames: whether it is dropped, and how loud it is.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// No level was told since it was asked last.
const UNKNOWN: u8 = u8::MAX;

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
