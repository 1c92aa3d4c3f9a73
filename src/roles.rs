//! Every role in one process: an origin, an edge whose upstream is that origin's own service, and a
//! control plane whose pages are what the edge does not know.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use control::Token;
use control_api::Cluster;
use control_api::grant::Grants;
use edge::{Access, Certificates, Edge, Listeners, Pages, Play, Upstream};
use http_body_util::BodyExt;
use origin::Origin;
use origin::ingest::rtmp::{Handoff, Ingest, OnPlay};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tower::ServiceBuilder;

use crate::cluster::Local;
use crate::config::Config;
use crate::grant::key_set;
use crate::lifecycle::Lifecycle;
use crate::listen::Listener;

/// HLS players without low latency stay three segments behind (RFC 8216bis §6.3.3), and ask for each of them,
/// over new connections too, when the stream has ended.
pub(crate) const PLAYERS_BEHIND_SEGMENTS: u32 = 3;

/// How long the end of the process waits for the disk that the access log is on.
const LOG_DEADLINE: Duration = Duration::from_secs(2);

/// The roles that run.
pub(crate) struct Roles {
    origin: Origin,
    ingest: Ingest,
    edge: Edge,
    certificates: Option<Certificates>,
    grants: Arc<Grants>,
    /// Drains the HTTP listener.
    stop_http: oneshot::Sender<()>,
    /// How long HLS players have for fetching the end of their stream.
    hls_end: Duration,
    /// What listens; each ends when it is drained.
    serving: JoinSet<&'static str>,
    /// Ends when the last RTMP player has left.
    players: mpsc::Receiver<Infallible>,
}

impl Roles {
    /// Starts all roles. They stop taking anything in when `life` begins to drain.
    pub(crate) fn start(
        config: &Config,
        rtmp: Listener,
        web: Listeners,
        token: Token,
        registry: &Registry,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let origin = Origin::new(config.origin.clone(), registry)?;
        let cluster = Arc::new(Local::new(origin.clone()));

        let mut control = config.control.clone();
        control.rtmp_port = rtmp.1.port();
        let pages =
            pages(control, Arc::<Local>::clone(&cluster), token, control::Metrics::register(registry)?);

        let grants = Arc::new(Grants::new(key_set(&config.grants)?));
        let access = Access { play: config.grants.play, grants: Arc::clone(&grants) };
        let edge = Edge::new(config.edge.clone(), access, Upstream::new(origin.service()), Some(pages))
            .context("the edge cannot start")?;
        edge.register(registry)?;
        cluster.join(edge.clone());
        tokio::spawn(async move { cluster.follow().await });

        // Nothing is ever sent: each player holds a sender, and the channel closes with the last.
        let (playing, players) = mpsc::channel(1);
        let ingest = Ingest::new(
            origin.clone(),
            Arc::clone(&grants),
            Some(hand_over(edge.clone(), playing)),
            registry,
        )?;

        let mut serving = JoinSet::new();
        let (listening, drain) = (ingest.clone(), life.clone());
        serving.spawn(async move {
            listening.serve(rtmp.0, async move { drain.draining().await }).await;
            "the RTMP listener"
        });
        let certificates = web.https.as_ref().map(|https| https.certificates.clone());
        let (stop_http, stopped) = oneshot::channel();
        let serving_edge = edge.clone();
        serving.spawn(async move {
            let stopped = async move {
                // Dropped or sent to: either way the listener is to stop.
                let _ = stopped.await;
            };
            match serving_edge.serve_http(web, stopped).await {
                Ok(()) => "the HTTP listener",
                Err(error) => {
                    tracing::error!(%error, "HTTPS cannot be served");
                    "the HTTPS listener"
                }
            }
        });
        let segment = Duration::from_millis(config.origin.hls.segment_ms.into());
        let hls_end = segment * PLAYERS_BEHIND_SEGMENTS;
        Ok(Self { origin, ingest, edge, certificates, grants, stop_http, hls_end, serving, players })
    }

    /// Takes over what of `config` can change at run time.
    pub(crate) fn reload(&self, config: &Config) {
        self.ingest.reload(&config.origin);
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        }
        self.edge.reload(&config.edge, config.grants.play);
        // Also if nothing changed here: a key may stand in a file that did.
        match key_set(&config.grants) {
            Ok(keys) => self.grants.replace(keys),
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

    /// Ends all streams: publishers are told, viewers get what is left. Returns when the last viewer has it,
    /// at the latest after `deadline`: whoever is left is cut off.
    pub(crate) async fn drain(self, deadline: Duration) {
        let Self { origin, ingest, edge, stop_http, hls_end, mut serving, mut players, .. } = self;
        // The listeners hold clones of the ingest, and with it a sender to `players`.
        drop(ingest);
        // No publisher leaves by itself. The sooner its encoder is told, the sooner it is somewhere else.
        origin.drain(Duration::ZERO).await;
        let ended = async {
            if edge.totals().viewers.hls > 0 {
                tokio::time::sleep(hls_end).await;
            }
            // A listener that has ended already needs no telling.
            let _ = stop_http.send(());
            let players_left = async { while players.recv().await.is_some() {} };
            let listeners_ended = async { while serving.join_next().await.is_some() {} };
            tokio::join!(edge.drain_players(players_left), listeners_ended);
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            tracing::warn!("the drain deadline has passed; connections are cut");
        }
        // Those that are cut are in the log, too.
        drop(serving);
        if tokio::time::timeout(LOG_DEADLINE, edge.flush_log()).await.is_err() {
            tracing::warn!("the access log was not written to its end");
        }
    }
}

/// Passes RTMP players on to the edge, which asks for their stream in a task of its own.
fn hand_over(edge: Edge, playing: mpsc::Sender<Infallible>) -> OnPlay {
    Box::new(move |handoff| {
        let (edge, playing) = (edge.clone(), playing.clone());
        let Handoff { socket, session, request, remote, slot } = handoff;
        let play = Play { socket, peer: remote, session, request, hold: Box::new((slot, playing)) };
        tokio::spawn(async move { edge.serve_play(play).await });
    })
}

/// The control plane as a service that the edge hands requests to.
fn pages(
    config: control::Config,
    cluster: Arc<dyn Cluster>,
    token: Token,
    metrics: control::Metrics,
) -> Pages {
    let router = control::router(config, cluster, token, metrics);
    let pages = ServiceBuilder::new()
        .map_response(boxed)
        .map_err(|never: Infallible| -> edge::BoxError { match never {} })
        .service(router);
    Pages::new(pages)
}

fn boxed<B>(response: http::Response<B>) -> http::Response<edge::Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<edge::BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
