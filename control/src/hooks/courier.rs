//! Brings events to one endpoint: takes from its queue what is due, sends it, and says what became of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::event::{now_ms, random};
use super::held::Held;
use super::metrics::{Delivery, Metrics, class};
use super::outbox::Outbox;
use super::queue::{Attempt, Next, Policy, Queue, Settled};
use super::target::{Answer, EndpointId, Failure, Target};

/// An endpoint's queue, and how it is reached now.
#[derive(Debug)]
pub(super) struct Courier {
    id: EndpointId,
    /// Its label in metrics.
    name: String,
    ways: Mutex<(Arc<Target>, Policy)>,
    queue: Mutex<Queue>,
    /// Something is due earlier than it was.
    woken: Notify,
    metrics: Metrics,
}

impl Courier {
    pub(super) fn new(target: Arc<Target>, policy: Policy, metrics: Metrics) -> Self {
        Self {
            id: target.id,
            name: target.name.clone(),
            ways: Mutex::new((target, policy)),
            queue: Mutex::default(),
            woken: Notify::new(),
            metrics,
        }
    }

    pub(super) fn id(&self) -> EndpointId {
        self.id
    }

    /// How the endpoint is reached now.
    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.ways.lock().0)
    }

    /// The configuration has changed; what is on its way goes on as it was.
    pub(super) fn change(&self, target: Arc<Target>, policy: Policy) {
        *self.ways.lock() = (target, policy);
        self.woken.notify_one();
    }

    /// An event for this endpoint. Those of one stream come in their order.
    pub(super) fn push(&self, held: Arc<Held>) {
        let age = Duration::from_millis(now_ms().saturating_sub(held.accepted_ms));
        let left = self.ways.lock().1.give_up_after.saturating_sub(age);
        self.queue.lock().push(held, Instant::now() + left);
        self.metrics.queued(&self.name, 1);
        self.woken.notify_one();
    }

    /// An event that nobody wants any more.
    pub(super) fn remove(&self, held: &Held) {
        let gone = {
            let mut queue = self.queue.lock();
            let before = queue.len();
            queue.remove(held);
            before - queue.len()
        };
        self.metrics.queued(&self.name, if gone > 0 { -1 } else { 0 });
    }

    /// Delivers until `closing` says so, or nobody is left to say it, and then what can be delivered at once.
    pub(super) async fn run(self: Arc<Self>, outbox: Outbox, mut closing: watch::Receiver<bool>) {
        let mut flights = FuturesUnordered::new();
        loop {
            let (target, policy) = self.ways.lock().clone();
            let next = self.queue.lock().take(Instant::now(), &policy);
            let at = match next {
                Next::Deliver(held) => {
                    flights.push(fly(target, held));
                    continue;
                }
                Next::Wait(at) => at,
            };
            let ends = *closing.borrow() || closing.has_changed().is_err();
            if ends && flights.is_empty() {
                return;
            }
            tokio::select! {
                Some((target, held, answered)) = flights.next() => {
                    if self.landed(&target, &held, &answered) {
                        outbox.done(held.seq, self.id).await;
                    }
                }
                () = self.woken.notified() => {}
                // Far away without one.
                () = sleep_until(at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))), if at.is_some() => {}
                _ = closing.changed(), if !ends => {}
            }
        }
    }

    /// Notes how a delivery went; whether the event is done with.
    fn landed(&self, target: &Target, held: &Held, answered: &Result<Answer, Failure>) -> bool {
        let (attempt, what) = match answered {
            Ok(answer) => (attempt(answer), class(answer.status)),
            Err(failure) => (Attempt::Failed(None), failure.label()),
        };
        self.metrics.attempted(what);
        let policy = self.ways.lock().1;
        let (settled, failed_before, fails) = {
            let mut queue = self.queue.lock();
            let failed_before = queue.has_failed();
            let settled = queue.settle(held, attempt, Instant::now(), &policy, random());
            (settled, failed_before, queue.has_failed())
        };
        if fails != failed_before {
            let endpoint = &target.name;
            if fails {
                tracing::warn!(endpoint, what, "a hook's endpoint fails; it is asked less and less often");
            } else {
                tracing::info!(endpoint, "a hook's endpoint takes events again");
            }
        }
        let outcome = match settled {
            Settled::Again | Settled::Dropped => return false,
            Settled::Done => Delivery::Delivered,
            Settled::GivenUp if attempt == Attempt::Rejected => Delivery::Rejected,
            Settled::GivenUp => Delivery::GivenUp,
        };
        self.metrics.queued(&self.name, -1);
        self.metrics.done(held.kind, outcome);
        if outcome != Delivery::Delivered
            && let Some(left_out) = target.rejecting.line()
        {
            let (endpoint, event, id) = (&target.name, held.kind.name(), held.id);
            tracing::warn!(endpoint, event, %id, what, left_out, "a hook's event was given up");
        }
        true
    }
}

impl Drop for Courier {
    /// What it did not deliver is no longer its own.
    fn drop(&mut self) {
        let left = i64::try_from(self.queue.get_mut().len()).unwrap_or_default();
        self.metrics.queued(&self.name, -left);
    }
}

async fn fly(target: Arc<Target>, held: Arc<Held>) -> (Arc<Target>, Arc<Held>, Result<Answer, Failure>) {
    let answered = target.post(&held.message(), Instant::now() + target.timeout).await;
    (target, held, answered)
}

/// What a status means for a delivery.
fn attempt(answer: &Answer) -> Attempt {
    match answer.status.as_u16() {
        200..300 => Attempt::Taken,
        408 | 429 => Attempt::Failed(answer.retry_after),
        400..500 => Attempt::Rejected,
        // A redirect is not followed: it could lead to where a hook may not go.
        _ => Attempt::Failed(answer.retry_after),
    }
}
