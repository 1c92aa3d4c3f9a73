//! The admin port: `/metrics`, `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, IntGauge, Opts, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::lifecycle::{Lifecycle, Phase};

/// Scrapers and probes are a handful; more connections than this are somebody's mistake and wait.
const MAX_CONNECTIONS: usize = 64;
/// A probe sends its request at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The admin port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where it listens. Anybody who can reach it can read it.
    pub(crate) listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9910)) }
    }
}

/// A registry with what is true of every process: its resources and its build.
pub(crate) fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))?;
    let opts = Opts::new("weir_build_info", "A constant 1; its labels say what is running.");
    let build = IntGauge::with_opts(opts.const_label("version", env!("CARGO_PKG_VERSION")))?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// Answers on `listener` for as long as the process lives, draining included.
pub(crate) async fn serve(listener: TcpListener, registry: Registry, life: Lifecycle) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept");
                // Out of file descriptors, most likely; accepting at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, life) = (registry.clone(), life.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request: Request<_>| {
                let response = respond(request.method(), request.uri().path(), &registry, &life);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin: connection ended");
            }
        });
    }
}

fn respond(method: &Method, path: &str, registry: &Registry, life: &Lifecycle) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(life.phase()),
        "/metrics" => metrics(registry),
        _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n"),
    }
}

fn readiness(phase: Phase) -> Response<Full<Bytes>> {
    let (status, body) = match phase {
        Phase::Ready => (StatusCode::OK, r#"{"ready":true,"reasons":[]}"#),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false,"reasons":["starting"]}"#),
        Phase::Unready | Phase::Draining => {
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false,"reasons":["draining"]}"#)
        }
    };
    answer(status, "application/json", body)
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut body) {
        Ok(()) => answer(StatusCode::OK, prometheus::TEXT_FORMAT, body),
        Err(error) => {
            tracing::error!(%error, "cannot write metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write metrics\n")
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(path: &str, life: &Lifecycle) -> (StatusCode, String) {
        let response = respond(&Method::GET, path, &registry().unwrap(), life);
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_the_phase() {
        let life = Lifecycle::new();
        assert_eq!(get("/readyz", &life).await.0, StatusCode::SERVICE_UNAVAILABLE);
        life.advance(Phase::Ready);
        assert_eq!(get("/readyz", &life).await, (StatusCode::OK, r#"{"ready":true,"reasons":[]}"#.into()));
        for phase in [Phase::Unready, Phase::Draining] {
            life.advance(phase);
            let (status, body) = get("/readyz", &life).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(body.contains("draining"), "{body}");
        }
        assert_eq!(get("/healthz", &life).await.0, StatusCode::OK, "alive until it is gone");
    }

    #[tokio::test]
    async fn metrics_say_build_and_process() {
        let (status, body) = get("/metrics", &Lifecycle::new()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("weir_build_info{version="), "{body}");
        assert!(body.contains("process_resident_memory_bytes"), "{body}");
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        let (registry, life) = (registry().unwrap(), Lifecycle::new());
        assert_eq!(
            respond(&Method::POST, "/metrics", &registry, &life).status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(respond(&Method::GET, "/", &registry, &life).status(), StatusCode::NOT_FOUND);
    }
}
