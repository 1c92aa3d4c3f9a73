//! The RTMP listener of an edge that is a process of its own: for players, and for publishers who are passed on.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::rtmp::server::{self, Event, Request, Session};
use media_core::rtmp::{Error, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Play;
use super::forward::{self, Publisher, draining};
use crate::Edge;
use crate::config::RtmpConfig;
use crate::places::Places;
use crate::seldom::Seldom;

/// How much is read at once: a player's commands are some hundred bytes.
const READ_BYTES: usize = 4 << 10;

/// How long a client may take none of what is sent to it, and how long one that was refused has for closing its end:
/// closing ours earlier can destroy the refusal on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted, for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a publisher is told.
const NO_PUBLISHERS: &str = "this server plays streams and takes none in; publish to its origin";

/// What one is told that an edge has passed on already.
const IN_A_CIRCLE: &str =
    "an edge passed this on, and it came to an edge: the RTMP address of an origin leads to edges";

/// Accepts players until `drain` completes, and then lets those who are there finish until the configured deadline.
/// Publishers are told to come back elsewhere, and who has asked for nothing yet is hung up on.
pub(crate) async fn serve(edge: &Edge, listener: TcpListener, drain: impl Future<Output = ()>) {
    let config = &edge.shared.rtmp;
    let metrics = &edge.shared.metrics;
    let gauge = metrics.rtmp_connections.clone();
    let (total, per_address) = (config.max_connections, config.max_connections_per_address);
    let places = Places::new(total, per_address, gauge, Arc::clone(metrics));
    // Nothing is ever sent: each player holds a sender, and the channel closes with the last.
    let (playing, mut players) = mpsc::channel::<Infallible>(1);
    let (drains, drained) = watch::channel(false);
    let circles = Arc::new(Seldom::default());
    let mut connections = JoinSet::new();
    let mut drain = std::pin::pin!(drain);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut drain => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no RTMP connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if edge.shared.guard.may_connect(peer.ip()).is_err() {
            continue;
        }
        let Some(place) = places.take(peer.ip(), false) else { continue };
        let (edge, session, playing) = (edge.clone(), session(config), playing.clone());
        let (drain, circles) = (drained.clone(), Arc::clone(&circles));
        connections.spawn(async move {
            let mut connection = Connection { socket, session, peer, drain, circles };
            match connection.until_play(&edge).await {
                Ok(Some(request)) => {
                    let Connection { socket, session, .. } = connection;
                    edge.serve_play(Play {
                        socket,
                        peer,
                        session,
                        request,
                        hold: Box::new((place, playing)),
                    })
                    .await;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%peer, %error, "RTMP client"),
            }
        });
    }
    drop((listener, playing));
    drains.send_replace(true);
    let left = async {
        while connections.join_next().await.is_some() {}
        while players.recv().await.is_some() {}
    };
    edge.drain_players(left).await;
}

fn session(config: &RtmpConfig) -> Session {
    let limit = Duration::from_millis(config.handshake_timeout_ms);
    let limits =
        server::Config { handshake_timeout: limit, request_timeout: limit, ..server::Config::default() };
    Session::new(limits, Instant::now())
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] Error),
    #[error("it takes nothing")]
    Stalled,
    #[error(transparent)]
    Forward(#[from] forward::Failure),
}

struct Connection {
    socket: TcpStream,
    session: Session,
    peer: SocketAddr,
    drain: watch::Receiver<bool>,
    /// Lines about publishers who come again and again.
    circles: Arc<Seldom>,
}

impl Connection {
    /// What the client wants to play; `None` if it has published, wants something else, or has left.
    async fn until_play(&mut self, edge: &Edge) -> Result<Option<Request>, Failure> {
        let mut buffer = [0; READ_BYTES];
        loop {
            while !self.session.is_closed()
                && let Some(event) = self.session.poll_event()
            {
                match event {
                    Event::Play(request) => return Ok(Some(*request)),
                    Event::Publish(request) => self.publish(edge, &request).await?,
                    _ => {}
                }
            }
            let sent = self.flush().await;
            if self.session.is_closed() {
                sent?;
                // Whatever comes of it, the connection is over.
                let _ = tokio::time::timeout(PATIENCE, self.linger(&mut buffer)).await;
                return Ok(None);
            }
            sent?;
            let deadline = self.session.poll_timeout();
            let read = tokio::select! {
                read = self.socket.read(&mut buffer) => read?,
                () = sleep_until(deadline) => {
                    let late = self.session.handle_timeout(Instant::now());
                    self.flush().await?;
                    late?;
                    continue;
                }
                () = draining(&mut self.drain) => return Ok(None),
            };
            if read == 0 {
                return Ok(None);
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            if let Err(error) = self.session.handle_input(Instant::now(), bytes) {
                self.flush().await?;
                return Err(error.into());
            }
        }
    }

    async fn publish(&mut self, edge: &Edge, request: &Request) -> Result<(), Failure> {
        let Some(ingests) = edge.shared.ingests.get() else {
            return Ok(self.session.refuse(request.id, &Refusal::publish_denied(NO_PUBLISHERS))?);
        };
        if forward::is_passed_on(request) {
            if let Some(left_out) = self.circles.line(Instant::now()) {
                let (app, name) = (&request.app, &request.name);
                tracing::warn!(peer = %self.peer, ?app, ?name, left_out, "a publisher is refused: {IN_A_CIRCLE}");
            }
            return Ok(self.session.refuse(request.id, &Refusal::publish_denied(IN_A_CIRCLE))?);
        }
        let Self { socket, session, peer, drain, .. } = self;
        let mut publisher = Publisher { socket, session, peer: *peer, drain: drain.clone() };
        match publisher.forward(ingests, request, &edge.shared.metrics).await {
            // It is told, or the connection is over when it has said no more.
            Ok(()) => Ok(()),
            Err(_) if self.session.is_closed() => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        while let Some(bytes) = self.session.poll_output() {
            tokio::time::timeout(PATIENCE, self.socket.write_all(&bytes))
                .await
                .map_err(|_| Failure::Stalled)??;
        }
        Ok(())
    }

    async fn linger(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.socket.shutdown().await?;
        while self.socket.read(buffer).await? > 0 {}
        Ok(())
    }
}

pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
