//! When a feed reads its upstream: while somebody wants what comes, and at the end of a rest all that has come.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Frame;
use http_body_util::BodyExt;

use super::now;
use crate::fanout::Fanout;
use crate::upstream::{Body, BoxError};

/// Pieces that are taken before viewers are told, though there are more.
const MAX_UNTOLD: usize = 64;

/// A connection hands over a piece at a time, and the next one a moment later: none is left when none has followed for so
/// long. Without that, a feed would take one piece a rest.
const DRY: Duration = Duration::from_millis(2);

/// An upstream that is never quiet for that long is not waited for longer than this behind a rest.
const CATCHING_UP: Duration = Duration::from_millis(20);

/// Of a body.
pub(super) type Piece = Result<Frame<Bytes>, BoxError>;

/// An upstream's body, and the viewers that are told of what it brings.
pub(super) struct Reading<'a> {
    body: Body,
    fanout: &'a Fanout,
    /// Pieces that viewers have not been told of.
    untold: usize,
    /// When the last rest ended, until they have been told of what came meanwhile.
    rested: Option<Instant>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(body: Body, fanout: &'a Fanout) -> Self {
        Self { body, fanout, untold: 0, rested: None }
    }

    /// The next piece; `None` at the end. There is no rest before `begun`: whoever watches waits for the first picture.
    pub(super) async fn next(&mut self, begun: bool) -> Option<Piece> {
        loop {
            if self.untold >= MAX_UNTOLD {
                self.tell();
            }
            let dry = match self.body.frame().now_or_never() {
                Some(piece) => return self.taken(piece),
                None if self.catches_up() || begun && self.rest().is_some() => {
                    match tokio::time::timeout(DRY, self.body.frame()).await {
                        Ok(piece) => return self.taken(piece),
                        Err(_) => true,
                    }
                }
                None => false,
            };
            // Who is told after a rest does not look again soon: what waits for a picture goes along.
            if self.rested.take().is_some() {
                self.fanout.flush(now());
            }
            self.tell();
            match self.rest().filter(|_| dry && begun) {
                Some(until) => {
                    tokio::select! {
                        () = sleep_until(Some(until)) => {}
                        () = self.fanout.hurried() => {}
                    }
                    self.rested = Some(now());
                }
                None => {
                    let piece = self.wait().await;
                    return self.taken(piece);
                }
            }
        }
    }

    /// Whether what came during the last rest may still be on its way here.
    fn catches_up(&self) -> bool {
        self.rested.is_some_and(|at| now().saturating_duration_since(at) < CATCHING_UP)
    }

    fn taken(&mut self, piece: Option<Piece>) -> Option<Piece> {
        self.untold += 1;
        piece
    }

    fn tell(&mut self) {
        self.fanout.tell(now());
        self.untold = 0;
    }

    /// Until when there is time, if nobody wants what comes.
    fn rest(&self) -> Option<Instant> {
        self.fanout.rests_until(now())
    }

    /// What comes next. Viewers are told meanwhile of what they have waited for.
    async fn wait(&mut self) -> Option<Piece> {
        loop {
            tokio::select! {
                piece = self.body.frame() => return piece,
                () = sleep_until(self.fanout.deadline()) => self.fanout.handle_timeout(now()),
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
