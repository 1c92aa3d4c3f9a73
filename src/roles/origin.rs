//! An origin alone: RTMP comes in, edges pull over HTTP, and the API beside them says what is live.

use std::sync::Arc;

use origin::Origin;
use origin::ingest::rtmp::Ingest;
use origin::ingest::srt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Ingests, Roles, Sockets, Start, hls_end, pages, serve_srt};
use crate::certificate;
use crate::cluster::Local;

pub(super) fn start(start: Start<'_>, sockets: Sockets) -> anyhow::Result<Roles> {
    let Start { config, office, keyring, registry, life } = start;
    let Sockets { rtmp, srt, web } = sockets;
    let certificates = certificate::of_origin(&config.origin.http)?;
    let tls = certificates.as_ref().map(|shown| shown.server(&[b"http/1.1"])).transpose()?.map(Arc::new);
    let origin = Origin::new(config.origin.clone(), registry)?;
    let cluster = Arc::new(Local::new(origin.clone()));
    let mut control = config.control.clone();
    control.rtmp_port = rtmp.1.port();
    // Viewers are at the edges.
    control.pages = false;
    let api = pages(control, cluster, office, control::Metrics::register(registry)?);
    let ingest = Ingest::new(origin.clone(), Arc::clone(keyring.grants()), None, registry)?;
    let mut ingests = Ingests { rtmp: ingest.clone(), srt: None };

    let mut serving = JoinSet::new();
    let (listening, drain) = (ingest, life.clone());
    serving.spawn(async move {
        listening.serve(rtmp.0, async move { drain.draining().await }).await;
        "the RTMP listener"
    });
    if let Some(socket) = srt {
        let ingest = srt::Ingest::new(origin.clone(), Arc::clone(keyring.grants()), None, registry)?;
        serve_srt(&mut serving, &ingest, socket, life);
        ingests.srt = Some(ingest);
    }
    let (stop_http, stopped) = oneshot::channel();
    let serving_origin = origin.clone();
    serving.spawn(async move {
        let stopped = async move {
            // Dropped or sent to: either way the listener is to stop.
            let _ = stopped.await;
        };
        origin::http::serve(&serving_origin, web.http, tls, Some(api), stopped).await;
        "the HTTP listener for edges"
    });
    if let Some(shown) = certificates.clone() {
        tokio::spawn(async move { shown.watch().await });
    }
    let (_, players) = mpsc::channel(1);
    Ok(Roles {
        ingest: Some((origin, ingests)),
        edge: None,
        origins: None,
        certificates,
        keyring,
        stop_http: Some(stop_http),
        hls_end: hls_end(config),
        serving,
        players,
    })
}
