//! How far the answer to a request is: of HTTP/2 and HTTP/3, whose answers share a socket.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::guard::Record;

/// When a body was last asked for more. HTTP/2 does not ask while the client grants no window, which no timeout
/// on the socket would see. It lives as long as something of the request is to be answered or sent.
pub(super) struct Progress {
    since: Instant,
    last_ms: AtomicU64,
    /// It waits for the stream or the answer, not for the client.
    idle: AtomicBool,
    /// Bytes of the body that were sent.
    bytes: AtomicU64,
    /// Of HTTP/2: those that were queued to be.
    queued: AtomicU64,
    /// The body was handed over whole.
    over: AtomicBool,
    record: Mutex<Option<Record>>,
    /// When the record is told again how many.
    note_ms: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last_ms: AtomicU64::new(0),
            idle: AtomicBool::new(true),
            bytes: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            over: AtomicBool::new(false),
            record: Mutex::default(),
            note_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// A piece of what was handed out was taken, to be sent or, after a reset, to be forgotten.
    pub(super) fn taken(&self) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// So many bytes are to be sent.
    pub(super) fn queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes were sent.
    pub(super) fn sent(&self, bytes: usize) {
        let bytes = bytes as u64;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.elapsed_ms() >= self.note_ms.load(Ordering::Relaxed)
            && let Some(record) = &mut *self.record.lock()
        {
            record.so_far(bytes);
            self.note_ms.store(self.elapsed_ms().saturating_add(record.every_ms()), Ordering::Relaxed);
        }
    }

    pub(super) fn note(&self, record: Record) {
        self.note_ms.store(self.elapsed_ms().saturating_add(record.every_ms()), Ordering::Relaxed);
        *self.record.lock() = Some(record);
    }

    /// Nothing more of the body comes.
    pub(super) fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Nothing more of the body comes, for that reason.
    pub(super) fn failed(&self, why: &'static str) {
        if let Some(record) = self.record.lock().take() {
            record.end(self.bytes.load(Ordering::Relaxed), why);
        }
    }

    /// More was asked for, and is there unless it is `idle`.
    pub(super) fn polled(&self, idle: bool) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.idle.store(idle, Ordering::Relaxed);
    }

    pub(super) fn is_stuck(&self, max_stall: Duration) -> bool {
        let stuck_ms = self.elapsed_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        !self.idle.load(Ordering::Relaxed) && Duration::from_millis(stuck_ms) > max_stall
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(record) = self.record.get_mut().take() else { return };
        let bytes = *self.bytes.get_mut();
        let all = *self.over.get_mut() && bytes >= *self.queued.get_mut();
        if all { record.end(bytes, "finished") } else { record.broke_off(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_is_stuck_when_there_is_more_and_nobody_asks() {
        let limit = Duration::from_secs(15);
        let progress = Progress::new();
        progress.polled(true);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!progress.is_stuck(limit), "the stream is silent");
        progress.polled(false);
        tokio::time::advance(limit).await;
        assert!(!progress.is_stuck(limit));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(progress.is_stuck(limit));
    }
}
