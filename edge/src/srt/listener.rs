//! The SRT listener of an edge that is a process of its own: for players alone.

use std::convert::Infallible;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use srt::stream_id::{Mode, StreamId};
use srt::{Connection, Decision, Listener, Options, Passphrases, Reject, Request, Terms};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::SrtPlay;
use crate::Edge;
use crate::http::Shared;
use crate::places::Places;

/// Lets players in until `drain` completes, and then lets those who are there finish until the configured deadline.
pub(crate) async fn serve(
    edge: &Edge,
    port: UdpSocket,
    passphrases: Passphrases,
    drain: impl Future<Output = ()>,
) -> Result<(), srt::Error> {
    let (config, metrics) = (&edge.shared.srt.config, &edge.shared.metrics);
    let options = Options {
        latency: Duration::from_millis(config.latency_ms),
        idle: Duration::from_millis(config.peer_idle_ms),
        ..Options::default()
    };
    let gauge = metrics.srt_connections.clone();
    let (total, per_address) = (config.max_connections, config.max_connections_per_address);
    let places = Places::new(total, per_address, gauge, Arc::clone(metrics));
    let shared = Arc::clone(&edge.shared);
    let listener = Listener::over(port, &options, move |request| decide(&shared, &passphrases, request))?;
    // Nothing is ever sent: each player holds a sender, and the channel closes with the last.
    let (playing, mut players) = mpsc::channel::<Infallible>(1);
    let mut connections = JoinSet::new();
    let mut drain = std::pin::pin!(drain);
    loop {
        tokio::select! {
            () = &mut drain => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let connection = accepted?;
                if let Some(play) = play(connection, &places, &playing) {
                    let edge = edge.clone();
                    connections.spawn(async move { edge.serve_srt_play(play).await });
                }
            }
        }
    }
    drop((listener, playing));
    let left = async {
        while players.recv().await.is_some() {}
        while connections.join_next().await.is_some() {}
    };
    edge.drain_players(left).await;
    Ok(())
}

fn play(connection: Connection, places: &Arc<Places>, playing: &mpsc::Sender<Infallible>) -> Option<SrtPlay> {
    let place = places.take(connection.peer().ip().to_canonical(), false)?;
    // It was read before the caller was let in.
    let stream_id = StreamId::parse(connection.stream_id()).ok()?;
    Some(SrtPlay { connection, stream_id, hold: Box::new((place, playing.clone())) })
}

/// Whether a caller is let in; in the thread of the port.
fn decide(shared: &Shared, passphrases: &Passphrases, request: Request<'_>) -> Decision {
    let decided = may(shared, passphrases, request);
    if let Err(reject) = &decided {
        shared.metrics.srt_refused.inc();
        // Callers can come at any rate.
        tracing::debug!(peer = %request.peer, code = reject.code(), "SRT caller refused");
    }
    decided
}

fn may(shared: &Shared, passphrases: &Passphrases, request: Request<'_>) -> Decision {
    let id = StreamId::parse(request.stream_id).map_err(|_| Reject::BAD_REQUEST)?;
    if id.mode == Mode::Publish {
        // Callers can come at any rate.
        tracing::debug!(peer = %request.peer, "an SRT publisher is refused: an edge passes on those who come by RTMP; \
            SRT is published to an origin's port");
        return Err(Reject::BAD_MODE);
    }
    super::may(shared, request.peer, &id)?;
    let stream = format!("{}/{}", id.app, id.name);
    Ok(Terms { passphrase: passphrases.of(&stream).cloned(), latency: None })
}
