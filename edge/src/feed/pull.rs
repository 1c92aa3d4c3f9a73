//! The task of a feed: reads the relay, writes the fan-out, asks again when the upstream is lost.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use media_core::hub::Epoch;
use media_core::relay::{Decoder, Event, Place};
use tokio::sync::watch;

use super::reading::Reading;
use super::resume::Resume;
use super::timeline::Timeline;
use super::trace::Relay;
use super::{Feed, Feeds, Phase, Refusal, now};
use crate::upstream::{Body, BoxError, Giver, VIA, ask, segment};

/// The first wait before the upstream is asked again; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait: an origin that is back has its viewers again within it.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

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
    #[error("upstream has an older epoch of the stream than another origin")]
    Outdated,
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
        let mut told = self.feed.newest.subscribe();
        let mut backoff = MIN_BACKOFF;
        // Where the stream has ended, while the other origins are asked once whether it goes on there.
        let mut ended: Option<Giver> = None;
        loop {
            let (before, began) = (resume.progress(), now());
            let mut relay = Relay::new(self.feeds.tracer());
            let pulled = self.pull(&mut resume, &mut timeline, ended, &mut relay).await;
            if let Err(error) = &pulled {
                // Nobody waits for whether another origin has what has ended.
                let wanted = ended.is_none() && *self.feed.phase.borrow() == Phase::Live;
                relay.failed(key, wanted, error);
            }
            self.feed.fanout.tell_all(now());
            let has_come = resume.progress() != before;
            let error = match pulled {
                // Its encoder may have moved to another origin. Of those that are asked then, one that has nothing of its
                // own ends it, too.
                Ok(Some(giver)) if has_come || ended.is_none() => {
                    tracing::info!(stream = %key, "stream ended at its origin; asking the others");
                    let lasted = now().saturating_duration_since(began) > MAX_BACKOFF;
                    if lasted {
                        backoff = MIN_BACKOFF;
                    }
                    if ended.replace(giver).is_some() && !lasted {
                        // Origins that end it in turn are not asked in a tight loop.
                        tokio::time::sleep(jittered(backoff)).await;
                        backoff = (backoff * 2).min(MAX_BACKOFF);
                    }
                    continue;
                }
                Ok(_) => {
                    tracing::info!(stream = %key, "stream ended");
                    return;
                }
                Err(error) if ended.is_some() && !has_come => {
                    tracing::info!(stream = %key, %error, "stream ended, and can't be had of another origin");
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
            // That it goes on elsewhere, if it was told since the last wait, is worth asking at once.
            match tokio::time::timeout(jittered(backoff).min(left), told.changed()).await {
                Ok(_) => backoff = MIN_BACKOFF,
                Err(_) => backoff = (backoff * 2).min(MAX_BACKOFF),
            }
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
        relay: &mut Relay,
    ) -> Result<Option<Giver>, Error> {
        let answer = self.request(resume.place(), beside).await?;
        if let Some(trace) = relay.answered(&self.feed.key, &answer) {
            *self.feed.trace.lock() = Some(trace);
        }
        let giver = answer.extensions().get().copied();
        let body = answer.into_body();
        self.feed.settle(Phase::Live);
        tracing::info!(stream = %self.feed.key, "pulling");
        let fanout = &self.feed.fanout;
        let mut reading = Reading::new(body, fanout);
        let mut decoder = Decoder::new();
        let before = resume.progress();
        let mut newest = self.feed.newest.subscribe();
        // Of this body, not of the one before.
        let mut epoch = Epoch::default();
        loop {
            let piece = tokio::select! {
                piece = reading.next(resume.progress() != before) => piece,
                () = outdated(&mut newest, epoch) => return Err(Error::Outdated),
            };
            let Some(piece) = piece else { return Ok(giver) };
            let Ok(data) = piece.map_err(Error::Upstream)?.into_data() else { continue };
            decoder.push(data);
            while let Some(event) = decoder.next_event()? {
                match event {
                    Event::Mark(mark) => {
                        epoch = mark.epoch;
                        if *newest.borrow() > epoch {
                            return Err(Error::Outdated);
                        }
                        resume.mark(&mark);
                        relay.mark(&mark);
                        timeline.mark(mark);
                    }
                    Event::Tag(tag) => {
                        relay.tag(&tag);
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

    async fn request(&self, after: Option<Place>, beside: Option<Giver>) -> Result<Response<Body>, Error> {
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
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::Absent),
            status => Err(Error::Status(status)),
        }
    }
}

/// Resolves when the stream has a newer epoch somewhere: this one's origin may not know that it lost the stream.
async fn outdated(newest: &mut watch::Receiver<Epoch>, epoch: Epoch) {
    // The sender lives in the feed, which the pull holds. Before the first mark there is no epoch.
    let _ = newest.wait_for(|newest| epoch != Epoch::default() && *newest > epoch).await;
}

/// Between half of a wait and all of it, so that edges don't ask in step.
fn jittered(wait: Duration) -> Duration {
    // Each `RandomState` is keyed anew.
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 512).unwrap_or_default();
    wait / 2 + wait * share / 1024
}
