//! One question and all who are asked it: the next origin when one fails or does not have the stream, a second one when
//! the first takes long, and what is answered when nobody has it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{HeaderName, Response, StatusCode};

use super::{Body, BoxError};

/// Why an origin gave no answer that is good for anything.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection, or no HTTP on it.
    #[error("origin {origin} cannot be asked: {error}")]
    Failed { origin: Arc<str>, error: BoxError },
    #[error("origin {origin} did not answer in {limit:?}")]
    Late { origin: Arc<str>, limit: Duration },
    #[error("origin {origin} refuses the key; set `edge.upstream.key` to its `origin.http.key`")]
    Refused { origin: Arc<str> },
    /// In the middle of a body.
    #[error("origin {origin} broke off: {error}")]
    Broken { origin: Arc<str>, error: BoxError },
    #[error("origin {origin} sent nothing for too long")]
    Stalled { origin: Arc<str> },
}

/// What one origin said.
pub(super) type Answer = Result<Response<Body>, Error>;

/// What all of them together said.
pub(super) enum Outcome {
    /// One of them has it, or knows what is wrong with the question: which one, counted in the order asked.
    Answer(usize, Response<Body>),
    /// All say that there is no such thing; the first one's words.
    Absent(Response<Body>),
    /// Nobody has it; one of them could not tell why in time, or is in trouble itself.
    Trouble(Response<Body>),
    /// Those who answered don't have it, but not all did.
    Away,
    /// Nobody answered.
    Unreachable,
}

/// What an origin says with a 404 when it has no such stream at all.
pub(super) const ABSENT: HeaderName = HeaderName::from_static("x-weir-absent");

/// Asks origins in their order, until one has an answer. `ask` is called with a number below `count`. The one that
/// `knows` has the stream, so that it alone can say what of it is not there.
pub(super) async fn race<'a>(
    count: usize,
    hedge_after: Option<Duration>,
    knows: Option<usize>,
    ask: impl Fn(usize) -> BoxFuture<'a, Answer>,
    on_hedge: impl Fn(usize),
) -> Outcome {
    let mut running = FuturesUnordered::new();
    let mut next = 0;
    let (mut absent, mut trouble, mut unreachable) = (None, None, false);
    let start = |at: usize, running: &mut FuturesUnordered<_>| {
        let answer = ask(at);
        running.push(async move { (at, answer.await) });
    };
    loop {
        if running.is_empty() {
            if next == count {
                break;
            }
            start(next, &mut running);
            next += 1;
        }
        let hedge = hedge_after.filter(|_| running.len() == 1 && next < count);
        let (at, answer) = tokio::select! {
            biased;
            Some(answered) = running.next() => answered,
            () = wait(hedge) => {
                on_hedge(next);
                start(next, &mut running);
                next += 1;
                continue;
            }
        };
        match answer {
            Err(error) => {
                tracing::debug!(%error, "upstream");
                unreachable = true;
            }
            Ok(response)
                if response.status() == StatusCode::NOT_FOUND
                    && (knows != Some(at) || response.headers().contains_key(ABSENT)) =>
            {
                absent.get_or_insert(response);
            }
            Ok(response) if response.status().is_server_error() => {
                trouble.get_or_insert(response);
            }
            Ok(response) => return Outcome::Answer(at, response),
        }
    }
    match (trouble, absent, unreachable) {
        (Some(response), ..) => Outcome::Trouble(response),
        (None, Some(response), false) => Outcome::Absent(response),
        (None, Some(_), true) => Outcome::Away,
        (None, None, _) => Outcome::Unreachable,
    }
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
