//! An origin that answers as a test says.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tower::service_fn;

use crate::upstream::{Body, BoxError, Upstream};

/// The made-up origin.
#[derive(Clone, Default)]
pub(super) struct Origin {
    state: Arc<Mutex<State>>,
    asked: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    replies: HashMap<String, VecDeque<Reply>>,
    requests: Vec<(String, Option<String>)>,
}

enum Reply {
    Relay(mpsc::Receiver<Result<Bytes, BoxError>>),
    Long(usize, mpsc::Receiver<Result<Bytes, BoxError>>),
    File(Response<Bytes>),
    Held(oneshot::Receiver<Response<Bytes>>),
    Failure,
}

/// The origin's end of a relay. Dropping it ends the stream.
pub(super) struct Relay(mpsc::Sender<Result<Bytes, BoxError>>);

impl Relay {
    pub(super) async fn send(&self, bytes: Bytes) {
        self.0.send(Ok(bytes)).await.expect("the edge reads");
    }

    /// The connection breaks.
    pub(super) async fn fail(self) {
        self.0.send(Err("broken".into())).await.expect("the edge reads");
    }

    /// The edge no longer reads.
    pub(super) async fn dropped(self) {
        self.0.closed().await;
    }
}

impl Origin {
    pub(super) fn upstream(&self) -> Upstream {
        let origin = self.clone();
        Upstream::new(service_fn(move |request| {
            let origin = origin.clone();
            async move { origin.answer(request).await }
        }))
    }

    /// The next request for a stream's relay is answered with one.
    pub(super) fn relay(&self, name: &str) -> Relay {
        self.relay_holding(name, 1024)
    }

    /// The same, for so many pieces that the edge has not read: a connection holds one.
    pub(super) fn relay_holding(&self, name: &str, pieces: usize) -> Relay {
        let (sender, receiver) = mpsc::channel(pieces);
        self.reply(&format!("/relay/live/{name}"), Reply::Relay(receiver));
        Relay(sender)
    }

    /// The next request for it is answered with this.
    pub(super) fn file(&self, path: &str, response: Response<&'static str>) {
        self.reply(path, Reply::File(response.map(Bytes::from)));
    }

    /// The next request for it is answered with a file that comes piece by piece and may be kept.
    pub(super) fn long_file(&self, path: &str, len: usize) -> Relay {
        let (sender, receiver) = mpsc::channel(1024);
        self.reply(path, Reply::Long(len, receiver));
        Relay(sender)
    }

    /// The next request for it is answered when the test says.
    pub(super) fn held(&self, path: &str) -> oneshot::Sender<Response<Bytes>> {
        let (sender, receiver) = oneshot::channel();
        self.reply(path, Reply::Held(receiver));
        sender
    }

    /// The next request for it fails.
    pub(super) fn failure(&self, path: &str) {
        self.reply(path, Reply::Failure);
    }

    fn reply(&self, path: &str, reply: Reply) {
        self.state.lock().replies.entry(path.to_owned()).or_default().push_back(reply);
    }

    /// What was asked for: path and query, and the accepted encoding.
    pub(super) fn requests(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().requests.clone()
    }

    /// How often that was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        self.state.lock().requests.iter().filter(|(asked, _)| asked == path).count()
    }

    /// Resolves when that many requests have come.
    pub(super) async fn asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    async fn answer(&self, request: Request<()>) -> Result<Response<Body>, BoxError> {
        let path = request.uri().to_string();
        let encoding = request.headers().get(ACCEPT_ENCODING).map(|v| v.to_str().unwrap().to_owned());
        let reply = {
            let mut state = self.state.lock();
            state.requests.push((path.clone(), encoding));
            // What an edge that comes back has already is for the test to know.
            let asked = path.split_once('?').filter(|(path, _)| path.starts_with("/relay/"));
            let asked = asked.map_or(path.as_str(), |(path, _)| path);
            state.replies.get_mut(asked).and_then(VecDeque::pop_front)
        };
        self.asked.send_modify(|asked| *asked += 1);
        match reply {
            None => {
                let mut response = Response::new(full("no such thing".into()));
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok(response)
            }
            Some(Reply::Failure) => Err("no route to origin".into()),
            Some(Reply::File(response)) => Ok(response.map(full)),
            Some(Reply::Held(response)) => Ok(response.await?.map(full)),
            Some(Reply::Long(len, receiver)) => {
                Ok(with_header("", "cache-control", "max-age=31536000, immutable")
                    .map(|_| RelayBody(receiver).boxed_unsync()))
                .map(|mut response| {
                    response.headers_mut().insert(CONTENT_LENGTH, len.into());
                    response
                })
            }
            Some(Reply::Relay(receiver)) => Ok(Response::new(RelayBody(receiver).boxed_unsync())),
        }
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

struct RelayBody(mpsc::Receiver<Result<Bytes, BoxError>>);

impl HttpBody for RelayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = ready!(self.0.poll_recv(cx));
        Poll::Ready(next.map(|result| result.map(Frame::data)))
    }
}

/// A response with one header.
pub(super) fn with_header(
    body: &'static str,
    name: &'static str,
    value: &'static str,
) -> Response<&'static str> {
    let mut response = Response::new(body);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(name, value.parse().unwrap());
    response
}
