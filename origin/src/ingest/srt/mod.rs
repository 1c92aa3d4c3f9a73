//! SRT in: the listener, who is let in by it, and publishers, who send MPEG-TS. Who wants to play is handed on.

mod config;
mod connection;
mod decision;
mod metrics;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;
use control_api::grant::Grants;
use srt::stream_id::{Mode, StreamId};
use srt::{Connection, Listener, PassphraseError, Passphrases, Reject};
use tokio::task::JoinSet;

use super::limits::{Limits, Slot};
use crate::Origin;
use crate::auth::Auth;

pub use config::Config;

use metrics::Metrics;

/// Why there can be no ingest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its metrics are there already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A passphrase cannot be used.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
}

/// A connection whose caller wants to play.
pub struct Handoff {
    /// The connection.
    pub connection: Connection,
    /// What the caller wants. Of it only the passphrase is checked.
    pub stream_id: StreamId,
    /// The connection's place under the listener's limits: keep it as long as the connection.
    pub slot: Slot,
}

/// Who takes players over.
pub trait Players: Send + Sync + 'static {
    /// Whether that caller may play, as far as it can be said at once. It must not wait.
    fn may(&self, peer: SocketAddr, stream_id: &StreamId) -> Result<(), Reject>;

    /// Takes a player over. Called within the runtime that serves the listener; it must not block.
    fn play(&self, handoff: Handoff);
}

/// The SRT ingest. Clones are the same ingest.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    origin: Origin,
    auth: Auth,
    config: ArcSwap<Config>,
    passphrases: ArcSwap<Passphrases>,
    limits: Arc<Limits>,
    metrics: Metrics,
    players: Option<Arc<dyn Players>>,
}

impl Ingest {
    /// An ingest for `origin`, by its configuration, which puts its metrics (`weir_origin_srt_…`) into `metrics`.
    /// Publishers may show grants. Without `players`, whoever wants to play is refused.
    pub fn new(
        origin: Origin,
        grants: Arc<Grants>,
        players: Option<Arc<dyn Players>>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let auth = Auth::new(origin.config().auth.clone(), grants);
        let config = &origin.config().srt;
        let passphrases = ArcSwap::from_pointee(Passphrases::load(&config.passphrases)?);
        let config = ArcSwap::from_pointee(config.clone());
        let (metrics, limits) = (Metrics::register(metrics)?, Arc::default());
        Ok(Self(Arc::new(Inner { origin, auth, config, passphrases, limits, metrics, players })))
    }

    /// Replaces publish keys, passphrases, limits and timeouts; they hold for who comes from now on. The address and the
    /// latency can't change. A passphrase that cannot be used leaves them all as they were.
    pub fn reload(&self, config: &crate::Config) {
        self.0.auth.replace(config.auth.clone());
        match Passphrases::load(&config.srt.passphrases) {
            Ok(passphrases) => self.0.passphrases.store(passphrases.into()),
            Err(error) => tracing::error!(%error, "the passphrases of SRT stay as they were"),
        }
        self.0.config.store(config.srt.clone().into());
    }

    /// Lets callers in at that port until `drain` completes, then waits until the connections of publishers have ended,
    /// which [`Origin::drain`] sees to. Dropping the future closes them.
    pub async fn serve(&self, socket: UdpSocket, drain: impl Future<Output = ()>) -> Result<(), srt::Error> {
        let (ingest, options) = (self.clone(), self.0.config.load().options());
        let listener = Listener::over(socket, &options, move |request| ingest.0.decide(request))?;
        let mut drain = std::pin::pin!(drain);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut drain => break,
                // A connection's panic ends that connection only.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => self.accept(&mut connections, accepted?),
            }
            self.gauge();
        }
        drop(listener);
        while connections.join_next().await.is_some() {
            self.gauge();
        }
        Ok(())
    }

    fn accept(&self, connections: &mut JoinSet<()>, connection: Connection) {
        let (inner, remote) = (&self.0, connection.peer());
        // It was read before the caller was let in.
        let Ok(stream_id) = StreamId::parse(connection.stream_id()) else { return };
        let config = inner.config.load();
        let entered =
            inner.limits.enter(remote.ip(), config.max_connections, config.max_connections_per_address);
        // Whoever came between the decision and this.
        let Ok(slot) = entered else {
            inner.metrics.refused.with_label_values(&["limit"]).inc();
            return;
        };
        match (stream_id.mode, &inner.players) {
            (Mode::Publish, _) => {
                let ingest = self.clone();
                connections
                    .spawn(async move { connection::serve(&ingest.0, connection, stream_id, slot).await });
            }
            (Mode::Request, Some(players)) => {
                inner.metrics.plays.inc();
                players.play(Handoff { connection, stream_id, slot });
            }
            (Mode::Request, None) => {}
        }
    }

    fn gauge(&self) {
        let connections = self.0.limits.connections();
        self.0.metrics.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }
}
