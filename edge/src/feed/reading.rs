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

/// Of a body.
pub(super) type Piece = Result<Frame<Bytes>, BoxError>;

/// An upstream's body, and the viewers that are told of what it brings.
pub(super) struct Reading<'a> {
    body: Body,
    fanout: &'a Fanout,
    /// Pieces that viewers have not been told of.
    untold: usize,
    /// Nor of what came during the last rest.
    rested: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(body: Body, fanout: &'a Fanout) -> Self {
        Self { body, fanout, untold: 0, rested: false }
    }

    /// The next piece; `None` at the end. There is no rest before `begun`: whoever watches waits for the first picture.
    pub(super) async fn next(&mut self, begun: bool) -> Option<Piece> {
        loop {
            if self.untold >= MAX_UNTOLD {
                self.tell();
            }
            let piece = match self.body.frame().now_or_never() {
                Some(piece) => Some(piece),
                None if self.rested || begun && self.rest().is_some() => {
                    tokio::time::timeout(DRY, self.body.frame()).await.ok()
                }
                None => None,
            };
            if let Some(piece) = piece {
                self.untold += 1;
                return piece;
            }
            // Who is told after a rest does not look again soon: what waits for a picture goes along.
            if std::mem::take(&mut self.rested) {
                self.fanout.flush(now());
            }
            self.tell();
            match self.rest().filter(|_| begun) {
                Some(until) => {
                    tokio::select! {
                        () = sleep_until(Some(until)) => {}
                        () = self.fanout.hurried() => {}
                    }
                    self.rested = true;
                }
                None => {
                    let piece = self.wait().await;
                    self.untold += 1;
                    return piece;
                }
            }
        }
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
