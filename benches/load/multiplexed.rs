//! Viewers over HTTP/2 and HTTP/3, each with a connection of its own: tasks of one thread.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use media_core::flv::Reader;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::crowd::{LOOK, Shared};
use super::trust::trusting_tls_for;
use super::wire::{Wire, next_picture};

/// What may be on its way to a viewer over HTTP/2: seconds of the stream.
const WINDOW_BYTES: u32 = 4 << 20;

/// Watches with those viewers of the plan until the crowd is dismissed. Those in `samples` read the clock.
pub(super) fn watch(shared: &Arc<Shared>, samples: &[usize], began: Instant) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let quic = match shared.plan.wire {
            Wire::Http3Flv => Some(endpoint()?),
            _ => None,
        };
        let mut viewers = JoinSet::new();
        for index in 0..shared.plan.viewers {
            let viewer = Viewer {
                shared: Arc::clone(shared),
                index,
                sampled: samples.contains(&index),
                came: Instant::now(),
                reader: Some(Box::new(Reader::new())),
                picture: false,
            };
            let due = began + shared.plan.within.mul_f64(index as f64 / shared.plan.viewers as f64);
            let quic = quic.clone();
            viewers.spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                let end = match quic {
                    Some(endpoint) => viewer.by_http3(&endpoint).await,
                    None => viewer.by_http2().await,
                };
                end.with_context(|| format!("number {index}"))
            });
        }
        while !shared.is_over() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(ended) = viewers.join_next() => ended??,
            }
        }
        Ok(())
    })
}

/// One UDP socket for all, as the server has.
fn endpoint() -> Result<Endpoint> {
    let tls = QuicClientConfig::try_from(trusting_tls_for(b"h3"))?;
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    Ok(endpoint)
}

struct Viewer {
    shared: Arc<Shared>,
    index: usize,
    sampled: bool,
    came: Instant,
    /// Until nothing more is to be known than how many bytes come.
    reader: Option<Box<Reader>>,
    picture: bool,
}

impl Viewer {
    fn request(&self) -> Result<http::Request<()>> {
        let plan = &self.shared.plan;
        let (port, stream, latency) = (plan.server.port(), self.index % plan.streams, &plan.latency);
        let uri = format!("https://localhost:{port}/live/s{stream}.flv?latency={latency}");
        Ok(http::Request::get(uri).body(())?)
    }

    async fn by_http2(mut self) -> Result<()> {
        let socket = TcpStream::connect(self.shared.plan.server).await?;
        let tls = TlsConnector::from(Arc::new(trusting_tls_for(b"h2")));
        let tls = tls.connect(ServerName::try_from("localhost")?, socket).await?;
        let (mut requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(tls))
            .await?;
        let requested = self.request()?.map(|()| Empty::new());
        let viewing = async {
            let response = requests.send_request(requested).await?;
            ensure!(response.status() == http::StatusCode::OK, "{}", response.status());
            let mut body = response.into_body();
            self.joined();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    self.received(data)?;
                }
            }
            bail!("the stream ended")
        };
        tokio::select! {
            ended = connection => Ok(ended?),
            ended = viewing => ended,
        }
    }

    async fn by_http3(mut self, endpoint: &Endpoint) -> Result<()> {
        let connection = endpoint.connect(self.shared.plan.server, "localhost")?.await?;
        let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
        let requested = self.request()?;
        let viewing = async {
            let mut stream = requests.send_request(requested).await?;
            stream.finish().await?;
            let response = stream.recv_response().await?;
            ensure!(response.status() == http::StatusCode::OK, "{}", response.status());
            self.joined();
            while let Some(mut data) = stream.recv_data().await? {
                self.received(data.copy_to_bytes(data.remaining()))?;
            }
            bail!("the stream ended")
        };
        tokio::select! {
            ended = std::future::poll_fn(|cx| driver.poll_close(cx)) => Err(ended.into()),
            ended = viewing => ended,
        }
    }

    fn joined(&self) {
        self.shared.has_joined();
    }

    fn received(&mut self, data: Bytes) -> Result<()> {
        self.shared.received(self.index, data.len());
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.push(data);
        while let Some(body) = next_picture(reader)? {
            if !std::mem::replace(&mut self.picture, true) {
                self.shared.first_picture(self.came.elapsed());
            }
            self.shared.picture(&body)?;
        }
        if !self.sampled && (self.picture || !self.shared.plan.first_pictures) {
            self.reader = None;
        }
        Ok(())
    }
}
