//! hyper's timer for the heads of HTTP/1 requests, with one alarm a connection.
//!
//! hyper asks for a new timer with each request, and drops it when the head is there: with tokio's, that is an entry made
//! in the runtime's wheel, under its lock, and taken out again. Here the alarm stays as it was set for an earlier request;
//! when it rings it is set again for the one that is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

type Alarm = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// Of one connection.
#[derive(Clone, Default)]
pub(super) struct HeadTimer {
    alarm: Alarm,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { deadline: deadline.into(), alarm: Arc::clone(&self.alarm) })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// A deadline, for which the connection's alarm rings in time.
struct Until {
    deadline: Instant,
    alarm: Alarm,
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.lock();
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(self.deadline)));
        if alarm.deadline() > self.deadline {
            alarm.as_mut().reset(self.deadline);
        }
        ready!(alarm.as_mut().poll(cx));
        while Instant::now() < self.deadline {
            // It rang for a request that was there in time.
            alarm.as_mut().reset(self.deadline);
            ready!(alarm.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings_after(timer: &HeadTimer, ms: u64) -> impl Future<Output = u128> + use<> {
        let (began, timer) = (Instant::now(), timer.clone());
        async move {
            timer.sleep(Duration::from_millis(ms)).await;
            began.elapsed().as_millis()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_was_waited_for_before() {
        let timer = HeadTimer::default();
        // There in time, again and again: the alarm stays set for the first.
        for _ in 0..5 {
            let waited = tokio::time::timeout(Duration::from_millis(30), rings_after(&timer, 100)).await;
            assert!(waited.is_err());
        }
        assert_eq!(rings_after(&timer, 100).await, 100);
        assert_eq!(rings_after(&timer, 100).await, 100);
        // It rang while nobody waited.
        drop(tokio::time::timeout(Duration::from_millis(10), rings_after(&timer, 100)).await);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(rings_after(&timer, 100).await, 100);
        // One that is nearer than the one before.
        drop(tokio::time::timeout(Duration::from_millis(10), rings_after(&timer, 1000)).await);
        assert_eq!(rings_after(&timer, 50).await, 50);
    }
}
