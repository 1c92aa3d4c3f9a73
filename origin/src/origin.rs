//! The origin itself: the live streams and what is done with them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control_api::trace::{self, Tracer};
use control_api::{HlsState, StreamInfo};
use media_core::hub::{self, CacheLimits, Epoch, Limits, Phase, Registry, Revoked, StreamKey, Takeover};
use tokio::sync::watch;

use crate::Config;
use crate::http::Service;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::mutes::Mutes;
use crate::package::hls::{HlsConfigError, HlsMetrics, Packagers};
use crate::publication::{Graces, Hand, Publication, PublishError, Publisher};
use crate::pull::Demands;
use crate::relay::Feeds;
use crate::standby::Standbys;
use crate::stats::Stats;

/// How often the streams' counters are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Why there can be no origin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration makes no sense.
    #[error(transparent)]
    Hls(#[from] HlsConfigError),
    /// Its metrics are there already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// The origin role. Clones are the same origin.
#[derive(Clone, Debug)]
pub struct Origin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    registry: Registry,
    stats: Stats,
    metrics: Metrics,
    hls: Packagers,
    relay: Arc<Feeds>,
    /// The epoch given last.
    epoch: AtomicU64,
    draining: AtomicBool,
    graces: Graces,
    /// Who gives leases of streams, if anybody does.
    leases: OnceLock<Arc<dyn Leases>>,
    standbys: Arc<Standbys>,
    demands: Demands,
    mutes: Mutes,
    tracer: OnceLock<Tracer>,
    /// How many publications there are.
    publishers: watch::Sender<usize>,
}

impl Origin {
    /// An origin without streams, which puts its metrics (`weir_origin_…`) into `metrics`. Call it within a
    /// tokio runtime.
    pub fn new(config: Config, metrics: &prometheus::Registry) -> Result<Self, Error> {
        let limits = Limits {
            streams: config.streams.max_streams,
            cache: CacheLimits {
                bytes: config.streams.cache_bytes,
                span_ms: config.streams.cache_span_ms.into(),
            },
        };
        let own_metrics = Metrics::new()?;
        own_metrics.register(metrics)?;
        let hls_metrics = HlsMetrics::new()?;
        hls_metrics.register(metrics)?;
        let hls = Packagers::new(&config.hls, hls_metrics)?;
        let packagers = hls.clone();
        let registry = Registry::with_on_start(limits, unix_ms, move |consumer| packagers.start(consumer));
        let relay = Feeds::new(config.streams.cache_bytes, own_metrics.clone());
        let inner = Arc::new(Inner {
            config,
            registry,
            hls,
            relay,
            stats: Stats::new(limits.streams),
            metrics: own_metrics,
            epoch: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            graces: Graces::default(),
            leases: OnceLock::new(),
            standbys: Arc::new(Standbys::new(limits)),
            demands: Demands::default(),
            mutes: Mutes::default(),
            tracer: OnceLock::new(),
            publishers: watch::Sender::new(0),
        });
        tokio::spawn(sample(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The live streams.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Publishers need a lease of `leases` from now on. Once for an origin: later ones change nothing.
    pub fn lease_from(&self, leases: Arc<dyn Leases>) {
        // Whoever is first stays.
        let _ = self.0.leases.set(leases);
    }

    /// Publishers are traced from now on. Once for an origin: later ones change nothing.
    pub fn trace_by(&self, tracer: Tracer) {
        // Whoever is first stays.
        let _ = self.0.tracer.set(tracer);
    }

    pub(crate) fn tracer(&self) -> &Tracer {
        self.0.tracer.get().unwrap_or(&Tracer::OFF)
    }

    /// The span in which the stream was published.
    pub(crate) fn trace(&self, key: &StreamKey) -> Option<trace::Context> {
        self.0.stats.trace(key)
    }

    /// Publishes a stream under a new epoch, or goes on with an interrupted one.
    pub fn publish(&self, key: &StreamKey, publisher: Publisher) -> Result<Publication, PublishError> {
        self.publish_under(self.next_epoch(), key, publisher, Hand::Own)
    }

    pub(crate) fn refused(&self, error: PublishError) -> PublishError {
        self.0.metrics.refusals.with_label_values(&[refusal_reason(&error)]).inc();
        error
    }

    pub(crate) fn publish_under(
        &self,
        epoch: Epoch,
        key: &StreamKey,
        publisher: Publisher,
        hand: Hand,
    ) -> Result<Publication, PublishError> {
        let inner = &self.0;
        if inner.draining.load(Ordering::Acquire) {
            return Err(self.refused(PublishError::Draining));
        }
        // A backup gives way.
        let may = inner.config.streams.takeover
            || inner
                .registry
                .stream(key)
                .is_some_and(|stream| inner.standbys.publishes(key, stream.snapshot().tracks.epoch));
        let takeover = if may { Takeover::Allow } else { Takeover::Refuse };
        let producer =
            inner.registry.publish(key, epoch, takeover).map_err(|error| self.refused(error.into()))?;
        // Before its first frame.
        inner.mutes.apply(producer.stream());
        inner.graces.cancel(key, producer.epoch());
        tracing::info!(stream = %key, epoch = %producer.epoch(), protocol = publisher.protocol,
            remote = %publisher.remote_addr, "published");
        inner.metrics.publishes.inc();
        inner.stats.published(&producer, publisher, Instant::now(), unix_ms(), &inner.metrics);
        Ok(Publication::new(producer, self, hand))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    pub(crate) fn leases(&self) -> Option<&Arc<dyn Leases>> {
        self.0.leases.get()
    }

    pub(crate) fn standbys(&self) -> &Arc<Standbys> {
        &self.0.standbys
    }

    /// Whether somebody publishes the stream here by now whom a further publisher could not follow.
    pub(crate) fn is_taken(&self, key: &StreamKey) -> bool {
        let Some(snapshot) = self.0.registry.stream(key).map(|stream| stream.snapshot()) else {
            return false;
        };
        snapshot.phase == Phase::Live
            && !self.0.config.streams.takeover
            && !self.0.standbys.publishes(key, snapshot.tracks.epoch)
    }

    /// Streams that are pulled on demand.
    pub(crate) fn demands(&self) -> &Demands {
        &self.0.demands
    }

    /// The timers of streams that wait for their publisher.
    pub(crate) fn running_graces(&self) -> &Graces {
        &self.0.graces
    }

    pub(crate) fn count_publishers(&self, change: impl FnOnce(usize) -> usize) {
        self.0.publishers.send_modify(|count| *count = change(*count));
    }

    /// An epoch was given by somebody else: own ones are later from now on.
    pub(crate) fn is_past(&self, epoch: Epoch) {
        self.0.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Grace periods that run.
    #[cfg(test)]
    pub(crate) fn graces(&self) -> usize {
        self.0.graces.len()
    }

    /// All streams that are live or in their grace period, ordered by app and name. Nobody watches at an
    /// origin: `viewers` is zero, for the edges to fill in.
    pub fn streams(&self) -> Vec<StreamInfo> {
        self.0.stats.streams(|key| self.hls_state(key))
    }

    /// One stream; like [`Origin::streams`].
    pub fn stream(&self, key: &StreamKey) -> Option<StreamInfo> {
        self.0.stats.stream(key, |key| self.hls_state(key))
    }

    /// Publishers connected.
    pub fn publishers(&self) -> usize {
        *self.0.publishers.borrow()
    }

    /// Ends a stream: its publisher is told and disconnected, its viewers' streams end. `false`: there is
    /// none of that name.
    pub fn kick(&self, key: &StreamKey) -> bool {
        let waited = self.0.standbys.end(key, Revoked::Kicked);
        self.0.registry.end(key, Revoked::Kicked) || waited
    }

    /// Drops the sound of these streams from now on, be it that they are not published yet, and that of no others.
    pub fn mute(&self, muted: HashSet<StreamKey>) {
        self.0.mutes.replace(muted, &self.0.registry);
    }

    /// How loud publishers are, in dB below the loudest, 0 to 127: those of whom that was told since this was asked last, and
    /// that `wanted` wants.
    pub fn audio_levels(&self, wanted: impl Fn(&StreamKey) -> bool) -> Vec<(StreamKey, u8)> {
        let streams = self.0.registry.streams().into_iter().filter(|stream| wanted(stream.key()));
        streams.filter_map(|stream| Some((stream.key().clone(), stream.take_audio_level()?))).collect()
    }

    /// Ends a stream that another origin has by now, if it is published here under that epoch or an older one.
    pub fn revoke(&self, key: &StreamKey, epoch: Epoch) -> bool {
        let Some(stream) = self.0.registry.stream(key) else { return false };
        stream.snapshot().tracks.epoch <= epoch && self.0.registry.end(key, Revoked::TakenOver)
    }

    /// Tells of publishers that come and go: their number.
    pub fn publishers_changed(&self) -> watch::Receiver<usize> {
        self.0.publishers.subscribe()
    }

    /// Takes no more publishers, and ends all streams once the last publisher left, at the latest
    /// after `deadline`. Streams that are leased do not end: their publishers are sent away, to go on at another origin.
    pub async fn drain(&self, deadline: Duration) {
        self.0.draining.store(true, Ordering::Release);
        let mut publishers = self.0.publishers.subscribe();
        // Either outcome ends the streams: nobody is left, or the time is up.
        let _ = tokio::time::timeout(deadline, publishers.wait_for(|count| *count == 0)).await;
        self.0.standbys.end_all(Revoked::Draining);
        // Where there are other origins, streams go on there.
        if self.0.leases.get().is_some_and(|leases| leases.has_others()) {
            self.0.registry.dismiss_all(Revoked::Draining);
        } else {
            self.0.registry.end_all(Revoked::Draining);
        }
    }

    /// What edges, and caches in front of it, ask this origin for. Clones are the same origin's.
    pub fn service(&self) -> Service {
        Service::new(self.clone())
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The feeds that edges pull.
    pub(crate) fn relay(&self) -> &Arc<Feeds> {
        &self.0.relay
    }

    /// The streams' HLS packagers.
    pub fn hls(&self) -> &Packagers {
        &self.0.hls
    }

    fn hls_state(&self, key: &StreamKey) -> HlsState {
        self.0.hls.state(key)
    }

    /// The milliseconds since 1970, or one more than the last: an epoch is never given twice, not even by
    /// the process after the next restart, since HLS names carry it and caches keep them.
    pub(crate) fn next_epoch(&self) -> Epoch {
        let now = unix_ms();
        let next = |last: u64| now.max(last.saturating_add(1));
        let last = self.0.epoch.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        Epoch(next(last.unwrap_or_default()))
    }
}

/// Samples the streams' counters until the origin is gone.
async fn sample(origin: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(inner) = origin.upgrade() else { return };
        inner.sample(Instant::now(), unix_ms());
    }
}

impl Inner {
    fn sample(&self, now: Instant, wall_ms: u64) {
        let streams = self.stats.sample(now, wall_ms, &self.metrics);
        self.metrics.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        self.metrics.backups.set(i64::try_from(self.standbys.keys().len()).unwrap_or(i64::MAX));
        self.metrics.publishers.set(i64::try_from(*self.publishers.borrow()).unwrap_or(i64::MAX));
    }
}

fn refusal_reason(error: &PublishError) -> &'static str {
    match error {
        PublishError::Draining => "draining",
        PublishError::Lease(_) => "lease",
        PublishError::Refused(hub::PublishError::Busy(_)) => "busy",
        PublishError::Refused(hub::PublishError::TooManyStreams(_)) => "too_many_streams",
        PublishError::Refused(_) => "stale_epoch",
    }
}

/// Milliseconds since 1970 (UTC).
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
