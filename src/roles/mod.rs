//! The roles that a process runs: all of them, or one.

mod all;
mod edge;
mod origin;
mod wish;

use std::convert::Infallible;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ::edge::{Access, Certificates, Edge, Listeners, Origins};
use ::origin::Origin;
use ::origin::ingest::rtmp::Ingest;
use ::origin::ingest::srt;
use bytes::Bytes;
use control::{Replica, Token};
use control_api::trace::Tracer;
use http_body_util::BodyExt;
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::agent::Keyring;
use crate::config::Config;
use crate::grant::key_set;
use crate::lifecycle::Lifecycle;
use crate::listen::Listener;
pub(crate) use wish::Wish;

/// HLS players without low latency stay three segments behind (RFC 8216bis §6.3.3), and ask for each of them,
/// over new connections too, when the stream has ended.
pub(crate) const PLAYERS_BEHIND_SEGMENTS: u32 = 3;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// Takes streams in and serves edges.
    Origin,
    /// Serves viewers.
    Edge,
    /// Coordinates origins and edges.
    Control,
}

impl Role {
    /// Its name, as commands have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::Control => "control",
        }
    }

    /// The key of where HTTP is served.
    pub(crate) fn http_key(self) -> &'static str {
        match self {
            Self::All | Self::Edge => "edge.http.listen",
            Self::Origin => "origin.http.listen",
            Self::Control => "control.http.listen",
        }
    }

    /// Where HTTP is served.
    pub(crate) fn http(self, config: &Config) -> SocketAddr {
        match self {
            Self::All | Self::Edge => config.edge.http.listen,
            Self::Origin => config.origin.http.listen,
            Self::Control => config.control.http.listen,
        }
    }

    /// The key of where RTMP is served.
    pub(crate) fn rtmp_key(self) -> &'static str {
        if self == Self::Edge { "edge.rtmp.listen" } else { "origin.rtmp.listen" }
    }

    /// Where RTMP is served.
    pub(crate) fn rtmp(self, config: &Config) -> SocketAddr {
        if self == Self::Edge { config.edge.rtmp.listen } else { config.origin.rtmp.listen }
    }

    /// The key of where SRT is served.
    pub(crate) fn srt_key(self) -> &'static str {
        if self == Self::Edge { "edge.srt.listen" } else { "origin.srt.listen" }
    }

    /// Where SRT is served, if it is.
    pub(crate) fn srt(self, config: &Config) -> Option<SocketAddr> {
        let (origin, edge) = (&config.origin.srt, &config.edge.srt);
        match self {
            Self::All | Self::Origin => origin.enabled.then_some(origin.listen),
            Self::Edge => edge.enabled.then_some(edge.listen),
            Self::Control => None,
        }
    }

    /// Where HTTPS is served, if it is.
    pub(crate) fn https(self, config: &Config) -> Option<SocketAddr> {
        config.edge.tls.address().filter(|_| matches!(self, Self::All | Self::Edge))
    }
}

/// Where the edge's cache is, in the data folder.
const CACHE: &str = "cache";

/// What viewers, publishers and edges come by.
pub(crate) struct Sockets {
    pub(crate) rtmp: Listener,
    /// If SRT is served.
    pub(crate) srt: Option<UdpSocket>,
    /// For an origin alone it is for edges.
    pub(crate) web: Listeners,
}

/// What stands behind the API.
pub(crate) struct Office {
    /// The operator's.
    pub(crate) token: Token,
    /// Of a process that coordinates itself.
    pub(crate) replica: Option<Replica>,
}

/// What the roles of a process share.
struct Start<'a> {
    config: &'a Config,
    office: Office,
    keyring: Arc<Keyring>,
    registry: &'a Registry,
    life: &'a Lifecycle,
}

impl Start<'_> {
    /// The edge's configuration, which knows no data folder.
    fn edge(&self) -> ::edge::Config {
        let mut edge = self.config.edge.clone();
        edge.cache.folder.get_or_insert_with(|| self.config.data.join(CACHE));
        edge
    }

    /// Who may play.
    fn access(&self) -> Access {
        Access { play: self.config.grants.play, grants: Arc::clone(self.keyring.grants()) }
    }
}

/// What takes publishers in.
struct Ingests {
    rtmp: Ingest,
    srt: Option<srt::Ingest>,
}

/// The roles that run.
pub(crate) struct Roles {
    ingest: Option<(Origin, Ingests)>,
    edge: Option<Edge>,
    /// Those of an edge alone.
    origins: Option<Origins>,
    certificates: Option<Certificates>,
    keyring: Arc<Keyring>,
    /// Drains the HTTP listener, once.
    stop_http: Option<oneshot::Sender<()>>,
    /// How long HLS players have for fetching the end of their stream.
    hls_end: Duration,
    /// What listens; each ends when it is drained.
    serving: JoinSet<&'static str>,
    /// Ends when the last RTMP player that an origin handed over has left.
    players: mpsc::Receiver<Infallible>,
}

impl Roles {
    /// Starts the roles. They stop taking anything in when `life` begins to drain.
    pub(crate) fn start(
        role: Role,
        config: &Config,
        sockets: Sockets,
        office: Office,
        registry: &Registry,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let keyring = Arc::new(Keyring::new(key_set(&config.grants)?));
        let start = Start { config, office, keyring, registry, life };
        match role {
            Role::All => all::start(start, sockets),
            Role::Origin => origin::start(start, sockets),
            Role::Edge => edge::start(start, sockets),
            Role::Control => anyhow::bail!("a control plane has no role that serves media"),
        }
    }

    /// What they do is traced from now on.
    pub(crate) fn trace_by(&self, tracer: &Tracer) {
        if let Some((origin, _)) = &self.ingest {
            origin.trace_by(tracer.clone());
        }
        if let Some(edge) = &self.edge {
            edge.trace_by(tracer.clone());
        }
    }

    /// What of them the control plane is told of, or commands.
    pub(crate) fn for_agent(&self) -> crate::agent::Roles {
        crate::agent::Roles {
            origin: self.ingest.as_ref().map(|(origin, _)| origin.clone()),
            edge: self.edge.clone(),
            origins: self.origins.clone(),
            keyring: Arc::clone(&self.keyring),
        }
    }

    /// Takes over what of `config` can change at run time.
    pub(crate) fn reload(&self, config: &Config) {
        if let Some((_, ingests)) = &self.ingest {
            ingests.rtmp.reload(&config.origin);
            if let Some(srt) = &ingests.srt {
                srt.reload(&config.origin);
            }
        }
        // Those of a cluster are named by its control plane.
        if let Some(origins) = &self.origins
            && config.cluster.control.is_empty()
            && let Err(error) = origins.replace(&config.edge.upstream)
        {
            tracing::error!(%error, "`edge.upstream.origins` was not changed");
        }
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        if let Some(edge) = &self.edge {
            edge.reload(&config.edge, config.grants.play);
        }
        // Also if nothing changed here: a key may stand in a file that did.
        match key_set(&config.grants) {
            Ok(keys) => self.keyring.set_own(keys),
            Err(error) => tracing::error!("the keys of grants stay as they were: {error:#}"),
        }
    }

    /// Ends when a listener does, which none should before it is drained. Says which.
    pub(crate) async fn failed(&mut self) -> &'static str {
        match self.serving.join_next().await {
            Some(Ok(what)) => what,
            Some(Err(_)) => "a listener",
            None => std::future::pending().await,
        }
    }

    /// Ends all streams that come in here: publishers are told, viewers get what is left. Returns when the last viewer
    /// has it, at the latest after `deadline`: whoever is left is for [`Self::end`].
    pub(crate) async fn drain(&mut self, deadline: Duration) {
        let Self { ingest, edge, stop_http, hls_end, serving, players, .. } = self;
        let watches_hls = |edge: &Edge| edge.totals().viewers.hls > 0;
        // Edges fetch the end for players of which an origin knows nothing.
        let mut hls = edge.as_ref().is_none_or(watches_hls);
        if let Some((origin, ingests)) = ingest.take() {
            hls &= !origin.streams().is_empty();
            // The listeners hold clones of the ingests, and with them senders to `players`.
            drop(ingests);
            // No publisher leaves by itself. The sooner its encoder is told, the sooner it is somewhere else.
            origin.drain(Duration::ZERO).await;
        } else {
            // Streams go on elsewhere, and with them their viewers.
            hls = false;
        }
        let ended = async {
            if hls {
                tokio::time::sleep(*hls_end).await;
            }
            // A listener that has ended already needs no telling.
            drop(stop_http.take());
            let players_left = async { while players.recv().await.is_some() {} };
            let listeners_ended = async { while serving.join_next().await.is_some() {} };
            match edge {
                Some(edge) => {
                    tokio::join!(edge.drain_players(players_left), listeners_ended);
                }
                None => listeners_ended.await,
            }
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!("the drain deadline has passed; connections are cut");
        }
    }

    /// Cuts whoever is left. They are in the access log, too, when this returns: within seconds, whatever they do.
    pub(crate) async fn end(mut self) {
        self.serving.abort_all();
        if let Some(edge) = self.edge {
            edge.end().await;
        }
    }
}

/// Lets SRT publishers, and players, in until the process drains.
fn serve_srt(serving: &mut JoinSet<&'static str>, ingest: &srt::Ingest, socket: UdpSocket, life: &Lifecycle) {
    let (ingest, drain) = (ingest.clone(), life.clone());
    serving.spawn(async move {
        if let Err(error) = ingest.serve(socket, async move { drain.draining().await }).await {
            tracing::error!(%error, "SRT cannot be served");
        }
        "the SRT listener"
    });
}

/// Serves viewers over HTTP until told to stop.
fn serve_http(
    serving: &mut JoinSet<&'static str>,
    edge: Edge,
    web: Listeners,
) -> (oneshot::Sender<()>, Option<Certificates>) {
    let certificates = web.https.as_ref().map(|https| https.certificates.clone());
    let (stop, stopped) = oneshot::channel();
    serving.spawn(async move {
        let stopped = async move {
            // Dropped or sent to: either way the listener is to stop.
            let _ = stopped.await;
        };
        match edge.serve_http(web, stopped).await {
            Ok(()) => "the HTTP listener",
            Err(error) => {
                tracing::error!(%error, "HTTPS cannot be served");
                "the HTTPS listener"
            }
        }
    });
    (stop, certificates)
}

/// The time in which HLS players fetch the end of a stream.
fn hls_end(config: &Config) -> Duration {
    Duration::from_millis(config.origin.hls.segment_ms.into()) * PLAYERS_BEHIND_SEGMENTS
}

fn boxed<B>(response: http::Response<B>) -> http::Response<::edge::Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<::edge::BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// The control plane as a service that other listeners hand requests to.
fn pages(
    config: control::Config,
    cluster: std::sync::Arc<dyn control_api::Cluster>,
    Office { token, replica }: Office,
    metrics: control::Metrics,
) -> ::edge::Pages {
    let router = match replica {
        Some(replica) => control::own_router(config, cluster, replica, token, metrics),
        None => control::router(config, cluster, token, metrics),
    };
    let pages = tower::ServiceBuilder::new()
        .map_response(boxed)
        .map_err(|never: Infallible| -> ::edge::BoxError { match never {} })
        .service(router);
    ::edge::Pages::new(pages)
}
