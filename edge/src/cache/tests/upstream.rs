//! An upstream that does as a test says.

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::{mpsc, oneshot};
use tower::service_fn;

use crate::upstream::{Body, BoxError, Upstream};

/// The questions that come.
pub(super) struct Calls {
    calls: mpsc::Receiver<Call>,
    counted: usize,
}

/// A question.
pub(super) struct Call {
    pub(super) uri: String,
    reply: oneshot::Sender<Reply>,
}

enum Reply {
    Answer(Response<Body>),
    Failure,
    Panic,
}

pub(super) fn scripted() -> (Upstream, Calls) {
    let (sender, calls) = mpsc::channel(4096);
    let upstream = Upstream::new(service_fn(move |request: Request<()>| {
        let sender = sender.clone();
        async move {
            assert!(request.headers().is_empty(), "nothing of a viewer's");
            let (reply, answer) = oneshot::channel();
            let uri = request.uri().to_string();
            sender.send(Call { uri, reply }).await.map_err(|_| "the test is over")?;
            match answer.await {
                Ok(Reply::Answer(response)) => Ok(response),
                Ok(Reply::Failure) | Err(_) => Err(BoxError::from("no route to origin")),
                Ok(Reply::Panic) => panic!("as the test says"),
            }
        }
    }));
    (upstream, Calls { calls, counted: 0 })
}

impl Calls {
    /// The next question.
    pub(super) async fn next(&mut self) -> Call {
        self.counted += 1;
        self.calls.recv().await.unwrap()
    }

    /// How many there were.
    pub(super) fn count(&mut self) -> usize {
        while self.calls.recv().now_or_never().is_some() {
            self.counted += 1;
        }
        self.counted
    }
}

impl Call {
    pub(super) fn answer(self, response: Response<Body>) {
        let _ = self.reply.send(Reply::Answer(response));
    }

    pub(super) fn fail(self) {
        let _ = self.reply.send(Reply::Failure);
    }

    pub(super) fn panic(self) {
        let _ = self.reply.send(Reply::Panic);
    }

    /// Nobody waits for it any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) async fn cancelled(&mut self) {
        self.reply.closed().await;
    }
}

pub(super) fn file(text: impl Into<Bytes>, rule: &str) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert("cache-control", rule.parse().unwrap());
    response
}

pub(super) fn immutable(body: &[u8]) -> Response<Body> {
    file(body.to_vec(), "public, max-age=31536000, immutable")
}

/// A playlist whose newest part is this.
pub(super) fn playlist(part: &str, max_age_s: u32) -> Response<Body> {
    let text = format!("#EXTM3U\n#EXT-X-PART:DURATION=0.2,URI=\"{part}\"\n");
    file(text, &format!("public, max-age={max_age_s}"))
}

/// A playlist that announces a part, good for a second.
pub(super) fn announcement(part: &str) -> Response<Body> {
    let text = format!("#EXTM3U\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{part}\"\n");
    file(text, "public, max-age=1")
}

pub(super) fn problem(status: u16, rule: &str) -> Response<Body> {
    let mut response = file("no", rule);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The other end of a body that comes piece by piece. Dropping it ends the body.
pub(super) struct Source(mpsc::Sender<Result<Bytes, BoxError>>);

impl Source {
    pub(super) async fn send(&self, piece: Bytes) {
        self.0.send(Ok(piece)).await.unwrap();
    }

    pub(super) async fn fail(self) {
        self.0.send(Err("broken".into())).await.unwrap();
    }

    pub(super) fn end(self) {
        drop(self);
    }
}

/// A segment that comes piece by piece.
pub(super) fn flowing(declared: Option<u64>) -> (Response<Body>, Source) {
    let (sender, receiver) = mpsc::channel(64);
    let pieces =
        stream::unfold(receiver, |mut receiver: mpsc::Receiver<Result<Bytes, BoxError>>| async move {
            let piece = receiver.recv().await?;
            Some((piece.map(Frame::data), receiver))
        });
    let mut response = immutable(b"").map(|_| StreamBody::new(pieces).boxed_unsync());
    if let Some(declared) = declared {
        response.headers_mut().insert("content-length", declared.into());
    }
    (response, Source(sender))
}
