//! Hooks: events that are told to the operator's own HTTP servers, and questions that those answer.
//!
//! What has happened is *told* ([`Hooks::tell`]): it is written to a journal before it counts as accepted, and delivered at
//! least once, in order for each stream and endpoint, however long an endpoint is away. Whether somebody may publish or
//! play is *asked* ([`Hooks::admit`]): at once, with a short time limit, and nothing of it is kept.
//!
//! ```text
//! tell ─→ outbox (a thread; owns the journal) ─→ courier (a task an endpoint; owns its queue) ─→ target (one POST)
//! admit ─────────────────────────────────────────────────────────────────────→ all targets at once
//! ```
//!
//! An endpoint may only be where the public internet is, or where the operator allows it (`address`); that is looked at
//! when a connection is made (`connect`), and redirects are not followed. docs/hooks.md is the page for who writes one.

mod address;
mod admission;
mod backoff;
mod config;
mod connect;
mod courier;
mod event;
mod held;
mod journal;
mod metrics;
mod outbox;
mod queue;
mod seldom;
mod sign;
mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use address::Allowed;
pub use admission::Refused;
pub use config::{Config, Endpoint, OnError, Wrong};
use connect::{Resolve, System};
use courier::Courier;
pub use event::{Event, EventId, EventKind, Happening, StreamName};
use journal::{Bounds, Folder, Journal};
use metrics::{Drop as Lost, Metrics};
use outbox::{Directory, Outbox, body_of};
use queue::Policy;
use target::{EndpointId, Message, Reaching, Target};

/// Why hooks can't be had, or an event is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong.
    #[error("hooks: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<Wrong>),
    /// The journal can't be read or made.
    #[error("hooks: the journal in {}: {source}", path.display())]
    Journal {
        /// Its folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There are metrics of these names already.
    #[error("hooks: {0}")]
    Metrics(#[from] prometheus::Error),
    /// TLS can't be set up.
    #[error("hooks: {0}")]
    Tls(#[from] rustls::Error),
    /// It is asked with [`Hooks::admit`], and nothing of that is kept.
    #[error("{0} is asked, not told")]
    Asked(&'static str),
    /// The event is longer than 16 KiB as JSON.
    #[error("the event is too long")]
    TooLarge,
    /// The journal could not be written, so that the event would not survive a restart.
    #[error("the event can't be written: {0}")]
    Write(io::ErrorKind),
    /// Hooks were shut down.
    #[error("hooks are shut down")]
    Closed,
}

/// Hooks. Clones are the same; deliveries end with [`Self::shutdown`], or when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Hooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Directory,
    outbox: Outbox,
    metrics: Metrics,
    resolver: Arc<dyn Resolve>,
    tls: ClientConfig,
    admissions: Mutex<Arc<Semaphore>>,
    closing: watch::Sender<bool>,
    /// Couriers at work. A reload holds it, so that there is one at a time.
    running: tokio::sync::Mutex<Vec<(EndpointId, JoinHandle<()>)>>,
}

impl Hooks {
    /// Opens the journal in that folder, which is made if need be, and begins to deliver what is in it. Needs a tokio
    /// runtime; reads files, which takes moments.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong, the journal is another process's or can't be read, or metrics of these names are
    /// registered already.
    pub fn open(config: &Config, folder: &Path, registry: &prometheus::Registry) -> Result<Self, Error> {
        Self::open_with(config, folder, registry, Arc::new(System), tls()?)
    }

    fn open_with(
        config: &Config,
        folder: &Path,
        registry: &prometheus::Registry,
        resolver: Arc<dyn Resolve>,
        tls: ClientConfig,
    ) -> Result<Self, Error> {
        let allowed = checked(config)?;
        let metrics = Metrics::register(registry)?;
        let failed = |source| Error::Journal { path: folder.to_owned(), source };
        let disk = Folder::open(folder).map_err(failed)?;
        let (journal, found) = Journal::open(disk, bounds(config)).map_err(failed)?;
        if found.torn > 0 {
            tracing::warn!(
                bytes = found.torn,
                "hooks: the journal's last record was not finished; it is cut off"
            );
        }
        if found.damaged > 0 {
            tracing::error!(
                places = found.damaged,
                "hooks: the journal is damaged; what could not be read is lost"
            );
            metrics.dropped(Lost::Damaged, found.damaged);
        }
        let reaching = Reaching { resolver: Arc::clone(&resolver), allowed, tls: tls.clone() };
        let couriers = targets(config, &reaching)
            .map(|target| Arc::new(Courier::new(Arc::new(target), policy(config), metrics.clone())))
            .collect();
        let directory: Directory = Arc::new(Mutex::new(Arc::new(couriers)));
        let outbox = Outbox::start(journal, Arc::clone(&directory), metrics.clone()).map_err(failed)?;
        let (closing, _) = watch::channel(false);
        let couriers = Arc::clone(&directory.lock());
        let running = couriers.iter().map(|courier| start(courier, &outbox, &closing)).collect();
        Ok(Self(Arc::new(Inner {
            directory,
            outbox,
            metrics,
            resolver,
            tls,
            admissions: Mutex::new(Arc::new(Semaphore::new(config.max_admissions))),
            closing,
            running: tokio::sync::Mutex::new(running),
        })))
    }

    /// Tells an event. Resolves when it is on disk, from when on it is delivered at least once to each endpoint that
    /// listens to it now. Who stops waiting earlier does not know whether it is.
    ///
    /// # Errors
    ///
    /// When it is not accepted; then it is counted as lost.
    pub async fn tell(&self, event: &Event) -> Result<(), Error> {
        let told = async { self.enter(event).await?.on_disk().await };
        told.await.inspect_err(|error| self.is_lost(error))
    }

    /// The first half of [`Self::tell`]: resolves when the event has its place in the order of all, without waiting for
    /// the disk. Whoever enters events one after the other has them told in that order.
    ///
    /// # Errors
    ///
    /// When it is not accepted. What may be accepted if it is tried again is not counted.
    pub(crate) async fn enter(&self, event: &Event) -> Result<Entered, Error> {
        if event.kind().is_asked() {
            return Err(Error::Asked(event.kind().name()));
        }
        if *self.0.closing.borrow() {
            return Err(Error::Closed);
        }
        if !self.couriers().iter().any(|courier| courier.target().listens_to(event.kind())) {
            return Ok(Entered(None));
        }
        let body = body_of(event).inspect_err(|_| self.0.metrics.dropped(Lost::TooLarge, 1))?;
        Ok(Entered(Some(self.0.outbox.enter(event, body).await?)))
    }

    /// An event was not accepted, and nobody tries it again.
    pub(crate) fn is_lost(&self, error: &Error) {
        if let Error::Write(_) = error {
            self.0.metrics.dropped(Lost::Disk, 1);
        }
    }

    /// Asks all endpoints that listen to the event whether it may happen. Takes no longer than the longest
    /// `admission_timeout_ms` of them.
    ///
    /// # Errors
    ///
    /// When one refuses, or gives no answer and has to agree.
    pub async fn admit(&self, event: &Event) -> Result<(), Refused> {
        let targets: Vec<_> = self.couriers().iter().map(|courier| courier.target()).collect();
        let asked: Vec<_> = targets.iter().filter(|target| target.listens_to(event.kind())).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let Ok(body) = body_of(event) else {
            self.0.metrics.dropped(Lost::TooLarge, 1);
            return Err(Refused::TooLarge);
        };
        let message = Message { kind: event.kind(), id: event.id, body: Bytes::from(body) };
        let slots = Arc::clone(&self.0.admissions.lock());
        let Ok(_slot) = slots.try_acquire() else {
            return admission::busy(&asked, &message, &self.0.metrics);
        };
        Box::pin(admission::ask(&asked, &message, &self.0.metrics)).await
    }

    /// Takes another configuration over. Endpoints are known by their URL: one that stays keeps what waits for it; what
    /// waits for one that is gone is dropped and counted.
    ///
    /// # Errors
    ///
    /// When it is wrong; then all stays as it was.
    pub async fn reload(&self, config: &Config) -> Result<(), Error> {
        let allowed = checked(config)?;
        let inner = &self.0;
        let mut running = inner.running.lock().await;
        if *inner.closing.borrow() {
            return Err(Error::Closed);
        }
        let reaching = Reaching { resolver: Arc::clone(&inner.resolver), allowed, tls: inner.tls.clone() };
        let old = self.couriers();
        let mut new = Vec::new();
        let mut couriers = Vec::new();
        for target in targets(config, &reaching).map(Arc::new) {
            if let Some(courier) = old.iter().find(|courier| courier.id() == target.id) {
                courier.change(target, policy(config));
                couriers.push(Arc::clone(courier));
            } else {
                new.push(Arc::new(Courier::new(target, policy(config), inner.metrics.clone())));
            }
        }
        couriers.extend(new.iter().cloned());
        let gone: Vec<_> = old
            .iter()
            .map(|courier| courier.id())
            .filter(|id| couriers.iter().all(|c| c.id() != *id))
            .collect();
        *inner.directory.lock() = Arc::new(couriers);
        running.extend(new.iter().map(|courier| start(courier, &inner.outbox, &inner.closing)));
        for (_, task) in running.extract_if(.., |(id, _)| gone.contains(id)) {
            task.abort();
        }
        for endpoint in gone {
            inner.outbox.forget(endpoint).await;
        }
        inner.outbox.set_bounds(bounds(config)).await;
        *inner.admissions.lock() = Arc::new(Semaphore::new(config.max_admissions));
        Ok(())
    }

    /// Accepts nothing more, delivers what can be delivered at once, and returns within that time; what is left is
    /// delivered after the next start.
    pub async fn shutdown(&self, within: Duration) {
        let deadline = Instant::now() + within;
        self.0.closing.send_replace(true);
        let running = std::mem::take(&mut *self.0.running.lock().await);
        for (_, mut task) in running {
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        // A disk that hangs must not keep the process.
        let _ = timeout_at(deadline + SYNC_GRACE, self.0.outbox.close()).await;
    }

    fn couriers(&self) -> Arc<Vec<Arc<Courier>>> {
        Arc::clone(&self.0.directory.lock())
    }
}

/// An event on its way to the disk.
#[must_use]
#[derive(Debug)]
pub(crate) struct Entered(Option<outbox::Answer>);

impl Entered {
    /// The second half of [`Hooks::tell`].
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub(crate) async fn on_disk(self) -> Result<(), Error> {
        match self.0 {
            Some(answer) => answer.await.map_err(|_| Error::Closed)?,
            // Nobody listens.
            None => Ok(()),
        }
    }
}

impl Error {
    /// Whether the same event may be accepted later, or by another replica.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Closed)
    }
}

/// How long the last sync may take beyond a shutdown's deadline.
const SYNC_GRACE: Duration = Duration::from_secs(1);

fn start(
    courier: &Arc<Courier>,
    outbox: &Outbox,
    closing: &watch::Sender<bool>,
) -> (EndpointId, JoinHandle<()>) {
    let run = Arc::clone(courier).run(outbox.clone(), closing.subscribe());
    (courier.id(), tokio::spawn(run))
}

fn checked(config: &Config) -> Result<Arc<Allowed>, Error> {
    let wrong = config.check();
    if !wrong.is_empty() {
        return Err(Error::Config(wrong));
    }
    Ok(Arc::new(Allowed::parse(&config.allow_private).unwrap_or_default()))
}

fn targets(config: &Config, reaching: &Reaching) -> impl Iterator<Item = Target> {
    config.endpoints.iter().filter_map(|endpoint| Target::new(endpoint, reaching))
}

fn policy(config: &Config) -> Policy {
    Policy {
        max_concurrent: config.max_concurrent,
        max_attempts: config.max_attempts,
        give_up_after: Duration::from_secs(config.give_up_after_s),
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds { live_bytes: config.journal_bytes, segment_bytes: config.segment_bytes }
}

/// Servers are trusted as the system trusts them.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!(
            "hooks: this system has no certificates to trust; endpoints with https can't be reached"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
