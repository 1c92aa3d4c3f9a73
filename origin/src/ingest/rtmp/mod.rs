//! RTMP in: the listener and its connections. Who wants to play is handed on.

mod config;
mod connection;
mod metrics;
mod publishing;
mod threads;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control_api::grant::Grants;
use media_core::rtmp::Refusal;
use media_core::rtmp::server::{Request, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Origin;
use crate::auth::Auth;

pub use config::Config;

use super::limits::{Limits, Slot};
use metrics::Metrics;
use threads::Threads;

/// How long to wait when no connection can be accepted, for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a player that nobody serves has for taking the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose client wants to play, with everything that was learnt of it. Its session waits for
/// `accept_play` or `refuse`, and may have bytes to send.
pub struct Handoff {
    /// The connection.
    pub socket: TcpStream,
    /// Its session.
    pub session: Session,
    /// What the client wants. Not checked in any way.
    pub request: Request,
    /// The client's address.
    pub remote: SocketAddr,
    /// The connection's place under the listener's limits: keep it as long as the socket.
    pub slot: Slot,
}

/// Takes players over. Called within the runtime that serves the listener; it must not block.
pub type OnPlay = Box<dyn Fn(Handoff) + Send + Sync>;

/// The RTMP ingest. Clones are the same ingest.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    origin: Origin,
    auth: Auth,
    config: ArcSwap<Config>,
    limits: Arc<Limits>,
    metrics: Metrics,
    on_play: Option<OnPlay>,
}

impl Ingest {
    /// An ingest for `origin`, by its configuration, which puts its metrics (`weir_origin_rtmp_…`) into
    /// `metrics`. Publishers may show grants. Without `on_play`, players are refused.
    pub fn new(
        origin: Origin,
        grants: Arc<Grants>,
        on_play: Option<OnPlay>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let auth = Auth::new(origin.config().auth.clone(), grants);
        let config = ArcSwap::from_pointee(origin.config().rtmp.clone());
        let metrics = Metrics::register(metrics)?;
        Ok(Self(Arc::new(Inner { origin, auth, config, limits: Arc::default(), metrics, on_play })))
    }

    /// Replaces publish keys, limits and timeouts; they hold for what begins from now on. The address
    /// can't change.
    pub fn reload(&self, config: &crate::Config) {
        self.0.auth.replace(config.auth.clone());
        self.0.config.store(config.rtmp.clone().into());
    }

    /// Accepts connections until `drain` completes, then waits until those of publishers have ended,
    /// which [`Origin::drain`] sees to. Dropping the future closes them.
    pub async fn serve(&self, listener: TcpListener, drain: impl Future<Output = ()>) {
        let mut drain = std::pin::pin!(drain);
        let threads = match Threads::start() {
            Ok(threads) => threads,
            Err(error) => return tracing::error!(%error, "the threads of the RTMP ingest cannot be started"),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut drain => break,
                // A connection's panic ends that connection only.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((socket, remote)) => self.accept(&mut connections, &threads, socket, remote),
                    Err(error) => self.pause(&error).await,
                },
            }
            self.gauge();
        }
        drop(listener);
        while connections.join_next().await.is_some() {
            self.gauge();
        }
    }

    fn accept(
        &self,
        connections: &mut JoinSet<()>,
        threads: &Threads,
        socket: TcpStream,
        remote: SocketAddr,
    ) {
        let inner = &self.0;
        let config = inner.config.load();
        let entered =
            inner.limits.enter(remote.ip(), config.max_connections, config.max_connections_per_address);
        match entered {
            Ok(slot) => {
                inner.metrics.accepted.inc();
                let Some(thread) = threads.pick() else { return };
                let (ingest, home) = (self.clone(), Handle::current());
                let served = async move {
                    match move_here(socket) {
                        Ok(socket) => connection::serve(ingest, socket, remote, slot, home).await,
                        Err(error) => tracing::error!(%remote, %error, "RTMP connection cannot be served"),
                    }
                };
                connections.spawn_on(served, thread);
            }
            Err(exceeded) => {
                inner.metrics.refused_connections.with_label_values(&[exceeded.name()]).inc();
                tracing::debug!(%remote, limit = exceeded.name(), "RTMP connection refused");
            }
        }
    }

    async fn pause(&self, error: &io::Error) {
        // The client may have gone before it was accepted; anything else is ours, and would repeat at once.
        if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            tracing::error!(%error, "RTMP connections cannot be accepted");
            sleep(ACCEPT_PAUSE).await;
        }
    }

    fn gauge(&self) {
        let connections = self.0.limits.connections();
        self.0.metrics.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// Hands a player over, in the runtime that it came from.
    fn play(&self, handoff: Handoff, home: &Handle) {
        let ingest = self.clone();
        home.spawn(async move {
            let Handoff { socket, session, request, remote, slot } = handoff;
            let socket = match move_here(socket) {
                Ok(socket) => socket,
                Err(error) => return tracing::error!(%remote, %error, "RTMP player cannot be served"),
            };
            let handoff = Handoff { socket, session, request, remote, slot };
            match &ingest.0.on_play {
                Some(on_play) => on_play(handoff),
                None => refuse_play(handoff).await,
            }
        });
    }
}

/// The socket, polled by the runtime of the task that calls it.
fn move_here(socket: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into_std()?)
}

/// Tells a player that nobody serves it.
async fn refuse_play(mut handoff: Handoff) {
    let refusal = Refusal::play_failed("this server takes streams in, and plays none");
    if handoff.session.refuse(handoff.request.id, &refusal).is_err() {
        return;
    }
    let telling = async {
        while let Some(bytes) = handoff.session.poll_output() {
            handoff.socket.write_all(&bytes).await?;
        }
        handoff.socket.shutdown().await
    };
    // The player has gone, or takes nothing: there is nobody to tell.
    let _ = timeout(REFUSAL_TIMEOUT, telling).await;
}
