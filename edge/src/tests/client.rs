//! An edge on a loopback socket, and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use control_api::grant::{Grants, KeySet, Play};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use media_core::flv::{Reader, Tag, TagKind};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::origin::Origin;
use super::studio;
use crate::{Access, Config, Edge, Listeners, Pages, Upstream};

/// An edge that serves on a free port.
pub(super) struct Server {
    pub(super) edge: Edge,
    pub(super) address: SocketAddr,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(origin: &Origin) -> Self {
        Self::with(origin, Config::default(), None).await
    }

    pub(super) async fn with(origin: &Origin, config: Config, pages: Option<Pages>) -> Self {
        Self::guarded(origin, config, open(), pages).await
    }

    pub(super) async fn guarded(
        origin: &Origin,
        config: Config,
        access: Access,
        pages: Option<Pages>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = Edge::new(config, access, origin.upstream(), pages).unwrap();
        Self::serving(edge, listener.into())
    }

    /// With any upstream.
    pub(super) async fn behind(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serving(Edge::new(Config::default(), open(), upstream, None).unwrap(), listener.into())
    }

    /// The same on certain listeners.
    pub(super) fn on(
        listeners: Listeners,
        origin: &Origin,
        config: Config,
        access: Access,
        pages: Option<Pages>,
    ) -> Self {
        Self::serving(Edge::new(config, access, origin.upstream(), pages).unwrap(), listeners)
    }

    pub(super) fn serving(edge: Edge, listeners: Listeners) -> Self {
        let address = listeners.http.local_addr().unwrap();
        let (drain, drained) = oneshot::channel();
        let task = tokio::spawn({
            let edge = edge.clone();
            async move {
                let drained = async {
                    let _ = drained.await;
                };
                edge.serve_http(listeners, drained).await.unwrap();
            }
        });
        Self { edge, address, drain: Some(drain), task }
    }

    /// Begins to drain.
    pub(super) fn drain(&mut self) {
        drop(self.drain.take());
    }

    /// Drains and waits for the end.
    pub(super) async fn stopped(mut self) {
        self.drain();
        (&mut self.task).await.unwrap();
    }

    /// Ends the listener as the end of the process does.
    pub(super) fn cut(&mut self) {
        self.task.abort();
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response<Incoming> {
        self.request(Method::GET, path, &[]).await
    }

    /// A request on a connection of its own.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", "edge");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    /// Requests on one HTTP/2 connection.
    pub(super) async fn http2(&self) -> http2::SendRequest<Empty<Bytes>> {
        self.http2_with(&http2::Builder::new(TokioExecutor::new())).await
    }

    /// The same, of a certain client.
    pub(super) async fn http2_with(
        &self,
        client: &http2::Builder<TokioExecutor>,
    ) -> http2::SendRequest<Empty<Bytes>> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = client.handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Everybody may watch.
pub(super) fn open() -> Access {
    Access { play: Play::Open, grants: Arc::new(Grants::new(KeySet::new([]).unwrap())) }
}

/// The whole body as text.
pub(super) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads FLV from a response.
pub(super) struct Player {
    body: Incoming,
    reader: Reader,
}

impl Player {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "video/x-flv");
        Self { body: response.into_body(), reader: Reader::new() }
    }

    /// The next tag; `None` at the end of the stream.
    pub(super) async fn tag(&mut self) -> Option<Tag> {
        loop {
            if let Some(tag) = self.reader.next_tag().unwrap() {
                return Some(tag);
            }
            let data = self.body.frame().await?.expect("an unbroken body").into_data().unwrap();
            self.reader.push(data);
        }
    }

    /// The number of the next frame; headers are read over.
    pub(super) async fn number(&mut self) -> Option<u64> {
        loop {
            let tag = self.tag().await?;
            if tag.kind != TagKind::Script && tag.body[1] != 0 {
                return Some(studio::number(&tag.body));
            }
        }
    }

    /// The body breaks off instead of going on.
    pub(super) async fn breaks_off(mut self) {
        while let Some(frame) = self.body.frame().await {
            if frame.is_err() {
                return;
            }
        }
        panic!("a regular end");
    }
}
