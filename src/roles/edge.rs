//! An edge alone: viewers come by HTTP and RTMP, and what they watch is pulled from origins elsewhere.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use edge::{Edge, Origins, Pages};
use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use srt::Passphrases;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::{ServiceExt, service_fn};

use super::{Roles, Sockets, Start, hls_end, pages, serve_http};
use crate::cluster::Watched;

/// What is said of all streams (RFC 9457).
const UNKNOWN: &[u8] = br#"{"title":"Service Unavailable","status":503,"detail":"an edge does not know what is live; ask the API of its origin"}"#;

/// Of the API, what is about streams.
const STREAMS: &str = "/api/v1/streams";

pub(super) fn start(start: Start<'_>, sockets: Sockets) -> anyhow::Result<Roles> {
    let (access, edge) = (start.access(), start.edge());
    let Start { config, office, keyring, registry, life } = start;
    let Sockets { rtmp, srt, web } = sockets;
    let origins = Origins::new(&config.edge.upstream).map_err(|error| anyhow!(error))?;
    origins.register(registry)?;
    let cluster = Arc::new(Watched::new());
    let mut control = config.control.clone();
    control.rtmp_port = rtmp.1.port();
    let pages =
        pages(control, Arc::<Watched>::clone(&cluster), office, control::Metrics::register(registry)?);

    let pages = without_streams(pages);
    let edge = Edge::new(edge, access, origins.service(), Some(pages)).context("the edge cannot start")?;
    edge.register(registry)?;
    cluster.join(edge.clone());
    tokio::spawn(async move { cluster.follow().await });

    let mut serving = JoinSet::new();
    let (playing, drain) = (edge.clone(), life.clone());
    serving.spawn(async move {
        playing.serve_rtmp(rtmp.0, async move { drain.draining().await }).await;
        "the RTMP listener"
    });
    if let Some(socket) = srt {
        let passphrases = Passphrases::load(&config.edge.srt.passphrases)?;
        let (playing, drain) = (edge.clone(), life.clone());
        serving.spawn(async move {
            let drain = async move { drain.draining().await };
            if let Err(error) = playing.serve_srt(socket, passphrases, drain).await {
                tracing::error!(%error, "SRT cannot be served");
            }
            "the SRT listener"
        });
    }
    let (stop_http, certificates) = serve_http(&mut serving, edge.clone(), web);
    let (_, players) = mpsc::channel(1);
    Ok(Roles {
        ingest: None,
        edge: Some(edge),
        origins: Some(origins),
        certificates,
        keyring,
        stop_http: Some(stop_http),
        hls_end: hls_end(config),
        serving,
        players,
    })
}

/// An edge can't tell what is live: "not found" would be a lie, which the player's page takes for the end.
fn without_streams(pages: Pages) -> Pages {
    Pages::new(service_fn(move |request| answer(pages.clone(), request)))
}

fn answer(
    pages: Pages,
    request: http::Request<edge::Body>,
) -> Pin<Box<dyn Future<Output = Result<http::Response<edge::Body>, edge::BoxError>> + Send>> {
    if !request.uri().path().starts_with(STREAMS) {
        return Box::pin(pages.oneshot(request));
    }
    let body = Full::new(Bytes::from_static(UNKNOWN)).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Box::pin(std::future::ready(Ok(response)))
}
