//! Servers for hooks: one that answers as it is told, and raw ones that do as they like.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::PATIENCE;

/// A request that came, and how it was answered.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) at: Instant,
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    headers: HeaderMap,
}

impl Hit {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A server that answers as it is told.
pub(super) struct Server {
    at: SocketAddr,
    hits: watch::Receiver<Vec<Hit>>,
    task: JoinHandle<()>,
}

pub(super) fn answer(status: u16, body: &'static str) -> Response {
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

impl Server {
    /// `script` is told how many requests there were before.
    pub(super) async fn start(script: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(super) async fn start_at(
        at: SocketAddr,
        script: impl Fn(usize) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (sender, hits) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let handler = move |headers: HeaderMap, body: Bytes| {
            let (sender, script) = (Arc::clone(&sender), script.clone());
            async move {
                let mut answered = None;
                sender.send_modify(|hits: &mut Vec<Hit>| {
                    let response = script(hits.len());
                    hits.push(Hit { at: Instant::now(), status: response.status(), body, headers });
                    answered = Some(response);
                });
                answered.unwrap()
            }
        };
        let app = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { at, hits, task }
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks", self.at)
    }

    /// Waits for so many requests; all that came.
    pub(super) async fn hits(&self, count: usize) -> Vec<Hit> {
        let mut hits = self.hits.clone();
        let waited = tokio::time::timeout(PATIENCE, hits.wait_for(|hits| hits.len() >= count)).await;
        let came = self.hits.borrow().clone();
        assert!(waited.is_ok(), "{} of {count} requests came", came.len());
        came
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that does with each connection what it likes.
pub(super) struct Raw {
    pub(super) at: SocketAddr,
    /// Connections that began, and that are over.
    pub(super) begun: Arc<AtomicUsize>,
    pub(super) over: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Raw {
    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks", self.at)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `serve` gets each connection and its number.
pub(super) async fn raw<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static,
) -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (begun, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&begun), Arc::clone(&over));
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = serve(stream, counts.0.fetch_add(1, Ordering::Relaxed));
            let over = Arc::clone(&counts.1);
            tokio::spawn(async move {
                serving.await;
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    Raw { at, begun, over, task }
}

/// A port at which connections are taken and nobody answers.
pub(super) async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads until the other end closes.
pub(super) async fn read_to_end(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Reads a request with its body, which hooks send with a Content-Length.
pub(super) async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap_or_default();
        if count == 0 {
            return;
        }
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some((_, length)) = head.split_once("content-length: ")
            && body.len() >= length.lines().next().unwrap().trim().parse().unwrap()
        {
            return;
        }
    }
}

/// Writes; whether it went.
pub(super) async fn write(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}
