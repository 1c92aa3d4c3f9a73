//! The task of a feed: reads the relay, writes the fan-out, asks again when the upstream is lost.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use media_core::relay::{Decoder, Event, Place};

use super::resume::Resume;
use super::timeline::Timeline;
use super::{Feed, Feeds, Phase, Refusal, now};
use crate::upstream::{Body, BoxError, Giver, VIA, ask, segment};

/// The first wait before the upstream is asked again; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait: an origin that is back has its viewers again within it.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Pieces that are taken before viewers are told, though there are more.
const MAX_UNTOLD: usize = 64;

/// Of a body.
type Piece = Result<http_body::Frame<Bytes>, BoxError>;

/// Why a pull ended before the stream did.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no such stream")]
    Absent,
    #[error("upstream answered {0}")]
    Status(StatusCode),
    #[error("upstream did not answer in time")]
    Timeout,
    #[error("upstream failed: {0}")]
    Upstream(BoxError),
    #[error("what upstream sends is no relay: {0}")]
    Relay(#[from] media_core::relay::Error),
    #[error("stream name makes no URI: {0}")]
    Uri(#[from] http::Error),
}

/// Starts the task.
pub(super) fn start(feeds: Arc<Feeds>, feed: Arc<Feed>) {
    feeds.metrics.feeds.inc();
    tokio::spawn(Pull { feeds, feed }.run());
}

struct Pull {
    feeds: Arc<Feeds>,
    feed: Arc<Feed>,
}

impl Drop for Pull {
    /// However the task ends, nobody waits for it any longer.
    fn drop(&mut self) {
        self.leave();
        self.feed.settle(Phase::Refused(Refusal::Unavailable));
        self.feed.fanout.end(now());
        self.feeds.metrics.feeds.dec();
    }
}

impl Pull {
    async fn run(self) {
        tokio::select! {
            () = self.unwanted() => tracing::info!(stream = %self.feed.key, "nobody watches any more"),
            () = self.follow() => {}
        }
    }

    /// Resolves when nobody has watched for the time that a feed lingers.
    async fn unwanted(&self) {
        let mut seats = self.feed.seats.subscribe();
        let linger = Duration::from_millis(self.feeds.config.linger_ms);
        loop {
            // The sender lives in the feed, which this task holds.
            let _ = seats.wait_for(|seats| *seats == 0).await;
            // Whoever came and left again in the meantime counts, too.
            if tokio::time::timeout(linger, seats.changed()).await.is_ok() {
                continue;
            }
            let mut feeds = self.feeds.feeds.lock();
            // Seats are taken under this lock.
            if *self.feed.seats.borrow() == 0 {
                feeds.remove(&self.feed.key);
                return;
            }
        }
    }

    /// Makes way for a new feed of the same stream.
    fn leave(&self) {
        let mut feeds = self.feeds.feeds.lock();
        if feeds.get(&self.feed.key).is_some_and(|feed| Arc::ptr_eq(feed, &self.feed)) {
            feeds.remove(&self.feed.key);
        }
    }

    /// Pulls until the stream is over, or lost for longer than the grace period.
    async fn follow(&self) {
        let key = &self.feed.key;
        let grace = Duration::from_millis(self.feeds.config.grace_ms);
        let mut resume = Resume::default();
        let mut timeline = Timeline::default();
        let mut lost: Option<Instant> = None;
        let mut backoff = MIN_BACKOFF;
        // Where the stream has ended, while the other origins are asked once whether it goes on there.
        let mut ended: Option<Giver> = None;
        loop {
            let before = resume.progress();
            let pulled = self.pull(&mut resume, &mut timeline, ended).await;
            self.feed.fanout.tell_all(now());
            let has_come = resume.progress() != before;
            let error = match pulled {
                // Its encoder may have moved to another origin. One that has nothing of its own ends it, too.
                Ok(Some(giver)) if has_come => {
                    tracing::info!(stream = %key, "stream ended at its origin; asking the others");
                    ended = Some(giver);
                    continue;
                }
                Ok(_) => {
                    tracing::info!(stream = %key, "stream ended");
                    return;
                }
                Err(error) if ended.is_some() && !has_come => {
                    tracing::info!(stream = %key, %error, "stream ended; no other origin has it");
                    return;
                }
                Err(error) => error,
            };
            ended = None;
            if *self.feed.phase.borrow() == Phase::Starting {
                self.refuse(&error);
                return;
            }
            if has_come {
                lost = None;
                backoff = MIN_BACKOFF;
            }
            let since = *lost.get_or_insert_with(now);
            let left = grace.saturating_sub(now().saturating_duration_since(since));
            if left.is_zero() {
                tracing::warn!(stream = %key, %error, "upstream stays lost; viewers are let go");
                return;
            }
            tracing::info!(stream = %key, %error, "upstream lost; asking again");
            self.feeds.metrics.feed_reconnects.inc();
            tokio::time::sleep(jittered(backoff).min(left)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// The very first answer was none.
    fn refuse(&self, error: &Error) {
        let key = &self.feed.key;
        let refusal = if matches!(error, Error::Absent) {
            // A response that waits for a stream is kept by no cache.
            self.feeds.absent.insert(key, 0, now());
            Refusal::Absent
        } else if matches!(error, Error::Status(StatusCode::SERVICE_UNAVAILABLE)) {
            if let Some(left_out) = self.feeds.away.line(now()) {
                tracing::info!(stream = %key, %error, left_out, "stream can't be had at the moment");
            }
            Refusal::Away
        } else {
            if let Some(left_out) = self.feeds.unavailable.line(now()) {
                tracing::warn!(stream = %key, %error, left_out, "stream can't be had");
            }
            Refusal::Unavailable
        };
        self.leave();
        self.feed.settle(Phase::Refused(refusal));
    }

    /// One request and its body to the end, which is the stream's; at which of several origins. With `beside`, the others
    /// are asked.
    async fn pull(
        &self,
        resume: &mut Resume,
        timeline: &mut Timeline,
        beside: Option<Giver>,
    ) -> Result<Option<Giver>, Error> {
        let (mut body, giver) = self.request(resume.place(), beside).await?;
        self.feed.settle(Phase::Live);
        tracing::info!(stream = %self.feed.key, "pulling");
        let fanout = &self.feed.fanout;
        let mut decoder = Decoder::new();
        let (mut untold, mut rested) = (0, false);
        loop {
            let piece = match body.frame().now_or_never() {
                Some(piece) if untold < MAX_UNTOLD => piece,
                piece => {
                    // Who is told after a rest does not look again soon: what waits for a picture goes along.
                    if rested && piece.is_none() {
                        fanout.flush(now());
                    }
                    fanout.tell(now());
                    untold = 0;
                    match piece {
                        Some(piece) => piece,
                        None => {
                            rested = self.rest().await;
                            if rested {
                                continue;
                            }
                            self.next(&mut body).await
                        }
                    }
                }
            };
            untold += 1;
            let Some(piece) = piece else { return Ok(giver) };
            let Ok(data) = piece.map_err(Error::Upstream)?.into_data() else { continue };
            decoder.push(data);
            while let Some(event) = decoder.next_event()? {
                match event {
                    Event::Mark(mark) => {
                        resume.mark(&mark);
                        timeline.mark(mark);
                    }
                    Event::Tag(tag) => {
                        if resume.is_news(&tag) {
                            let tag = timeline.place(tag);
                            let frame = !tag.is_metadata && !tag.is_sequence_header;
                            if frame && let Some(mark) = timeline.take_mark() {
                                fanout.mark(mark, now());
                            }
                            fanout.push(tag, now());
                        }
                    }
                }
            }
            // A body that always has more must not keep others from running.
            tokio::task::consume_budget().await;
        }
    }

    /// Waits while nobody wants what comes. Whether there was time for that.
    async fn rest(&self) -> bool {
        let Some(until) = self.feed.fanout.rests_until(now()) else { return false };
        tokio::select! {
            () = sleep_until(Some(until)) => {}
            () = self.feed.fanout.hurried() => {}
        }
        true
    }

    /// What comes next. Viewers are told meanwhile of what they have waited for.
    async fn next(&self, body: &mut Body) -> Option<Piece> {
        loop {
            tokio::select! {
                piece = body.frame() => return piece,
                () = sleep_until(self.feed.fanout.deadline()) => self.feed.fanout.handle_timeout(now()),
            }
        }
    }

    async fn request(
        &self,
        after: Option<Place>,
        beside: Option<Giver>,
    ) -> Result<(Body, Option<Giver>), Error> {
        let key = &self.feed.key;
        let mut uri = format!("/relay/{}/{}", segment(key.app()), segment(key.name()));
        if let Some(after) = after {
            uri = format!("{uri}?{}", after.query());
        }
        let mut request = Request::get(uri).body(())?;
        if let Some(via) = &self.feed.via {
            request.headers_mut().insert(VIA, via.clone());
        }
        if let Some(beside) = beside {
            request.extensions_mut().insert(beside);
        }
        self.feeds.metrics.upstream_relay.inc();
        let wait = Duration::from_millis(self.feeds.config.connect_timeout_ms);
        let answer = tokio::time::timeout(wait, ask(&self.feeds.upstream, request));
        let response = answer.await.map_err(|_| Error::Timeout)?.map_err(Error::Upstream)?;
        match response.status() {
            StatusCode::OK => {
                let giver = response.extensions().get().copied();
                Ok((response.into_body(), giver))
            }
            StatusCode::NOT_FOUND => Err(Error::Absent),
            status => Err(Error::Status(status)),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Between half of a wait and all of it, so that edges don't ask in step.
fn jittered(wait: Duration) -> Duration {
    // Each `RandomState` is keyed anew.
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 512).unwrap_or_default();
    wait / 2 + wait * share / 1024
}
