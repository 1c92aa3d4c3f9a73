//! Spans on their way to a collector: a queue with an end, and batches of what is in it.

use std::fmt;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Spans that wait. Further ones are dropped: a collector that is slow is worth no memory.
const MAX_WAITING: usize = 2_048;

/// Spans that are sent at once.
const MAX_BATCH: usize = 512;

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// What became of spans.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    sent: IntCounter,
    lost: IntCounter,
    dropped: IntCounter,
}

impl Counts {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "weir_traces_spans_total",
            "Spans by what became of them: sent, lost by a collector that took none, dropped since too many waited.",
        );
        let counts = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(counts.clone()))?;
        let of = |outcome| counts.with_label_values(&[outcome]);
        Ok(Self { sent: of("sent"), lost: of("lost"), dropped: of("dropped") })
    }
}

/// Where spans that ended are put. It never waits.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: IntCounter,
}

/// What takes them from there.
pub(super) struct Sending {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

/// A queue, and a task that sends what is put there.
pub(super) fn queue(exporter: impl SpanExporter + 'static, counts: Counts) -> (Queue, Sending) {
    let (sender, spans) = mpsc::channel(MAX_WAITING);
    let (end, ended) = oneshot::channel();
    let dropped = counts.dropped.clone();
    let sender_task = Sender { exporter, spans, counts, failing: false };
    let task = tokio::spawn(sender_task.run(ended));
    (Queue { spans: sender, dropped }, Sending { task, end })
}

impl Sending {
    /// Takes no more, and resolves when what there is was sent, or was not taken.
    pub(super) async fn end(self) {
        // Fails where the task has ended already, as the wait for it does.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// The task is ended by [`Sending::end`], which can wait.
    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Sender<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    counts: Counts,
    /// The collector took nothing the last time.
    failing: bool,
}

impl<E: SpanExporter> Sender<E> {
    async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let mut ends = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                _ = &mut end, if !ends => {
                    ends = true;
                    self.spans.close();
                }
                count = self.spans.recv_many(&mut batch, MAX_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let full = batch.len() == MAX_BATCH;
                    if !full && !ends && tokio::time::timeout(GATHER, &mut end).await.is_ok() {
                        ends = true;
                        self.spans.close();
                    }
                    while batch.len() < MAX_BATCH && let Ok(span) = self.spans.try_recv() {
                        batch.push(span);
                    }
                    self.send(batch).await;
                }
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.counts.sent.inc_by(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector of traces takes spans again");
                }
            }
            Err(error) => {
                self.counts.lost.inc_by(count);
                // Said once, until it takes some again.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the collector of traces takes no spans; they are lost until it does");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    /// A collector that takes a batch for each permit, or fails.
    #[derive(Debug, Clone)]
    struct Collector {
        batches: Arc<Mutex<Vec<usize>>>,
        permits: Arc<Semaphore>,
        down: bool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.permits.acquire().await.unwrap().forget();
            self.batches.lock().push(batch.len());
            if self.down { Err(OTelSdkError::InternalFailure("down".into())) } else { Ok(()) }
        }
    }

    fn start(permits: usize, down: bool) -> (SdkTracer, Collector, Counts, Sending) {
        let permits = Arc::new(Semaphore::new(permits));
        let collector = Collector { batches: Arc::default(), permits, down };
        let counts = Counts::register(&Registry::new()).unwrap();
        let (queue, sending) = queue(collector.clone(), counts.clone());
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        (provider.tracer("test"), collector, counts, sending)
    }

    fn spans(tracer: &SdkTracer, count: usize) {
        (0..count).for_each(|_| drop(tracer.start("test")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_within_a_second_is_sent_together() {
        let (tracer, collector, counts, sending) = start(100, false);
        spans(&tracer, 2);
        tokio::time::sleep(GATHER / 2).await;
        spans(&tracer, 3);
        tokio::time::sleep(GATHER).await;
        assert_eq!(*collector.batches.lock(), [5]);
        // The end waits for nothing to come in company, and leaves nothing behind.
        spans(&tracer, MAX_BATCH + 1);
        let before = tokio::time::Instant::now();
        sending.end().await;
        assert!(before.elapsed() < GATHER);
        assert_eq!(*collector.batches.lock(), [5, MAX_BATCH, 1]);
        assert_eq!(counts.sent.get(), 5 + MAX_BATCH as u64 + 1);
        spans(&tracer, 1);
        assert_eq!(counts.dropped.get(), 1, "after the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_costs_a_queue_and_what_it_does_not_take_is_counted() {
        let (tracer, collector, counts, sending) = start(0, true);
        spans(&tracer, MAX_WAITING + 10);
        assert_eq!(counts.dropped.get(), 10);
        tokio::time::sleep(GATHER * 2).await;
        spans(&tracer, MAX_BATCH + 7);
        assert_eq!(counts.dropped.get(), 17, "there is room for what is on its way");
        collector.permits.add_permits(100);
        sending.end().await;
        assert_eq!(counts.lost.get(), (MAX_WAITING + MAX_BATCH) as u64);
        assert_eq!(counts.sent.get(), 0);
    }
}
