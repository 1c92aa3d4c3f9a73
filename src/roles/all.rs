//! Every role in one process: an origin, an edge whose upstream is that origin's own service, and a
//! control plane whose pages are what the edge does not know.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use ::srt::Reject;
use ::srt::stream_id::StreamId;
use anyhow::Context;
use control_api::grant::Play;
use edge::{Edge, Upstream};
use origin::Origin;
use origin::ingest::rtmp::{Handoff, Ingest, OnPlay};
use origin::ingest::srt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Ingests, Roles, Sockets, Start, hls_end, pages, serve_http, serve_srt};
use crate::cluster::Local;

pub(super) fn start(start: Start<'_>, sockets: Sockets) -> anyhow::Result<Roles> {
    let (access, edge) = (start.access(), start.edge());
    let Start { config, office, keyring, registry, life } = start;
    let Sockets { rtmp, srt, web } = sockets;
    let origin = Origin::new(config.origin.clone(), registry)?;
    let cluster = Arc::new(Local::new(origin.clone()));

    let mut control = config.control.clone();
    control.rtmp_port = rtmp.1.port();
    control.grants_to_play = config.grants.play == Play::Required;
    let pages = pages(control, Arc::<Local>::clone(&cluster), office, control::Metrics::register(registry)?);

    let edge = Edge::new(edge, access, Upstream::new(origin.service()), Some(pages))
        .context("the edge cannot start")?;
    edge.register(registry)?;
    cluster.join(edge.clone());
    tokio::spawn(async move { cluster.follow().await });

    // Nothing is ever sent: each player holds a sender, and the channel closes with the last.
    let (playing, players) = mpsc::channel(1);
    let ingest = Ingest::new(
        origin.clone(),
        Arc::clone(keyring.grants()),
        Some(hand_over(edge.clone(), playing.clone())),
        registry,
    )?;
    let mut ingests = Ingests { rtmp: ingest.clone(), srt: None };

    let mut serving = JoinSet::new();
    let (listening, drain) = (ingest, life.clone());
    serving.spawn(async move {
        listening.serve(rtmp.0, async move { drain.draining().await }).await;
        "the RTMP listener"
    });
    if let Some(socket) = srt {
        let players = Arc::new(Players { edge: edge.clone(), playing });
        let ingest = srt::Ingest::new(origin.clone(), Arc::clone(keyring.grants()), Some(players), registry)?;
        serve_srt(&mut serving, &ingest, socket, life);
        ingests.srt = Some(ingest);
    }
    let (stop_http, certificates) = serve_http(&mut serving, edge.clone(), web);
    Ok(Roles {
        ingest: Some((origin, ingests)),
        edge: Some(edge),
        origins: None,
        certificates,
        keyring,
        stop_http: Some(stop_http),
        hls_end: hls_end(config),
        serving,
        players,
    })
}

/// Passes SRT players on to the edge.
struct Players {
    edge: Edge,
    playing: mpsc::Sender<Infallible>,
}

impl srt::Players for Players {
    fn may(&self, peer: SocketAddr, stream_id: &StreamId) -> Result<(), Reject> {
        self.edge.may_play_srt(peer, stream_id)
    }

    fn play(&self, handoff: srt::Handoff) {
        let srt::Handoff { connection, stream_id, slot } = handoff;
        let hold = Box::new((slot, self.playing.clone()));
        let (edge, play) = (self.edge.clone(), edge::SrtPlay { connection, stream_id, hold });
        tokio::spawn(async move { edge.serve_srt_play(play).await });
    }
}

/// Passes RTMP players on to the edge, which asks for their stream in a task of its own.
fn hand_over(edge: Edge, playing: mpsc::Sender<Infallible>) -> OnPlay {
    Box::new(move |handoff| {
        let (edge, playing) = (edge.clone(), playing.clone());
        let Handoff { socket, session, request, remote, slot } = handoff;
        let play = edge::Play { socket, peer: remote, session, request, hold: Box::new((slot, playing)) };
        tokio::spawn(async move { edge.serve_play(play).await });
    })
}
