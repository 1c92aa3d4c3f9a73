//! The threads that connections live on, with the packagers of the streams that come in by them.
//!
//! A publisher sends a message every 10 to 20 ms. Woken for each of them, a server of a hundred streams
//! spends most of its time on waking: the poll, the switch to the thread and back, and code and data that the
//! caches have lost meanwhile. So a thread here that is woken often waits a moment before it polls again, and
//! then finds the messages of many connections at once, the way network cards moderate interrupts. One
//! that is woken seldom does not wait, so that a few streams are passed on as they come.
//!
//! Stream, packager and publisher share a thread: none of them wakes another one's.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How far apart a busy thread's polls are, and so the most by which a message is late: about the distance of two
/// audio frames.
const BUSY_PERIOD: Duration = Duration::from_millis(20);

/// What a poll costs: a thread that needs no more of them than one in this time is not busy. A lone stream
/// needs one in 13 ms.
const POLL_COST: Duration = Duration::from_millis(10);

/// How many polls a thread may catch up that it did not need before: enough for a handshake and for the
/// jitter of a lone stream.
const MAX_CREDIT: Duration = Duration::from_millis(200);

/// How often a stopped thread looks whether its last task has ended.
const LAST_TASK_POLL: Duration = Duration::from_millis(100);

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace { credit: MAX_CREDIT, polled: None }) };
}

/// How long to wait before the next poll: each costs [`POLL_COST`] of credit, and the time that polls and work
/// take earns it. Time waited here earns none: a thread stays busy as long as every poll finds something.
#[derive(Debug, Clone, Copy)]
struct Pace {
    credit: Duration,
    polled: Option<Instant>,
}

impl Pace {
    /// The time to wait for, and the pace after that.
    fn next(self, now: Instant) -> (Duration, Self) {
        let earned = self.polled.map_or(MAX_CREDIT, |polled| now.saturating_duration_since(polled));
        let credit = self.credit.saturating_add(earned).min(MAX_CREDIT);
        let (wait, credit) = match credit.checked_sub(POLL_COST) {
            Some(left) => (Duration::ZERO, left),
            None => (BUSY_PERIOD.saturating_sub(earned), credit),
        };
        (wait, Self { credit, polled: Some(now + wait) })
    }
}

#[allow(clippy::disallowed_methods, reason = "the event that is waited for is the next poll's time")]
fn wait_before_poll() {
    let (wait, pace) = PACE.get().next(Instant::now());
    PACE.set(pace);
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}

/// The threads. Dropped, each ends with its last task.
pub(super) struct Threads {
    threads: Vec<(Handle, oneshot::Sender<()>)>,
    next: AtomicUsize,
}

impl Threads {
    /// One for each core.
    pub(super) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism()?.get();
        let threads = (0..count).map(start_one).collect::<io::Result<_>>()?;
        Ok(Self { threads, next: AtomicUsize::new(0) })
    }

    /// One after the other, in turn.
    pub(super) fn pick(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.threads.len())?;
        self.threads.get(turn).map(|(handle, _)| handle)
    }
}

fn start_one(index: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().on_thread_park(wait_before_poll).build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new().name(format!("ingest-{index}")).spawn(move || {
        runtime.block_on(async {
            // Only ever dropped.
            let _ = stopped.await;
            // This task is not counted.
            while runtime.metrics().num_alive_tasks() > 0 {
                tokio::time::sleep(LAST_TASK_POLL).await;
            }
        });
    })?;
    Ok((handle, stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls that come `apart` from each other: the waits they are given.
    fn waits(apart: Duration, count: u32) -> Vec<Duration> {
        let mut pace = Pace { credit: MAX_CREDIT, polled: None };
        let mut now = Instant::now();
        (0..count)
            .map(|_| {
                let (wait, after) = pace.next(now);
                pace = after;
                now += wait + apart;
                wait
            })
            .collect()
    }

    #[test]
    fn a_lone_stream_is_never_kept_waiting() {
        // 77 messages a second.
        assert!(waits(Duration::from_millis(13), 1_000).iter().all(Duration::is_zero));
    }

    #[test]
    fn a_handshake_is_not_kept_waiting() {
        assert!(waits(Duration::from_micros(100), 15).iter().all(Duration::is_zero));
    }

    #[test]
    fn many_streams_are_polled_fifty_times_a_second() {
        let apart = Duration::from_micros(130);
        let waits = waits(apart, 1_000);
        let busy = waits.iter().skip_while(|wait| wait.is_zero());
        let (waited, not): (Vec<&Duration>, Vec<&Duration>) =
            busy.partition(|wait| **wait == BUSY_PERIOD - apart);
        assert!(waited.len() > 950, "{}", waited.len());
        assert!(not.iter().all(|wait| wait.is_zero()) && not.len() < 20, "{}", not.len());
    }

    #[test]
    fn rest_earns_a_bounded_credit() {
        let pace = Pace { credit: Duration::ZERO, polled: Some(Instant::now()) };
        let (wait, after) = pace.next(Instant::now() + Duration::from_secs(3_600));
        assert_eq!((wait, after.credit), (Duration::ZERO, MAX_CREDIT - POLL_COST));
    }

    #[tokio::test]
    async fn a_dropped_thread_finishes_its_tasks() {
        let threads = Threads::start().unwrap();
        let (release, released) = oneshot::channel::<()>();
        let handle = threads.pick().unwrap().clone();
        let task = handle.spawn(async { released.await.is_ok() });
        drop((threads, handle));
        release.send(()).unwrap();
        assert!(task.await.unwrap());
    }
}
