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
            let rest = if dry && begun { self.rest() } else { None };
            match rest {
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

/// Forever without a deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use http_body_util::StreamBody;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::FanoutConfig;
    use crate::fanout::{Format, Start};
    use crate::tests::studio::{self, Studio};

    const MS: Duration = Duration::from_millis(1);

    /// Of the pictures that come.
    const APART: Duration = Duration::from_millis(40);

    /// A body whose pictures come in time, and when it was looked at.
    fn body() -> (Body, Arc<Mutex<Vec<Instant>>>) {
        let (pictures, mut come) = mpsc::channel(1_000);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(APART);
            loop {
                clock.tick().await;
                if pictures.send(()).await.is_err() {
                    return;
                }
            }
        });
        let looks = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&looks);
        let pieces = futures_util::stream::poll_fn(move |cx| {
            noted.lock().push(now());
            come.poll_recv(cx).map(|picture| picture.map(|()| Ok(Frame::data(Bytes::new()))))
        });
        (BodyExt::boxed_unsync(StreamBody::new(pieces)), looks)
    }

    /// Somebody who is told so often, and when.
    fn watch(fanout: &Fanout, every: Option<Duration>) -> Arc<Mutex<Vec<Instant>>> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&told);
        let mut follower = fanout.enter(Format::Flv, Start::Gop).outlet().follow();
        tokio::spawn(std::future::poll_fn(move |cx| {
            let mut units = Vec::new();
            follower.read(cx.waker(), every, now(), &mut units);
            if !units.is_empty() {
                noted.lock().push(now());
            }
            Poll::<()>::Pending
        }));
        told
    }

    async fn read_for(time: Duration, reading: &mut Reading<'_>, studio: &mut Studio) {
        let read = async {
            loop {
                reading.next(true).await.unwrap().unwrap();
                let (tags, _) = studio::events(&[studio.picture(true, 100)]);
                tags.into_iter().for_each(|tag| reading.fanout.push(tag, now()));
            }
        };
        assert!(tokio::time::timeout(time, read).await.is_err());
    }

    /// The longest time between two, once it runs.
    fn apart(times: &Mutex<Vec<Instant>>) -> Duration {
        times.lock().drain(..).collect::<Vec<_>>().windows(2).map(|two| two[1] - two[0]).max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_is_not_looked_at_while_nobody_wants_what_comes() {
        let fanout = Fanout::new(&FanoutConfig::default(), now());
        let (body, looks) = body();
        let (mut reading, mut studio) = (Reading::new(body, &fanout), Studio::new());
        let patient = watch(&fanout, Some(300 * MS));
        read_for(3_000 * MS, &mut reading, &mut studio).await;
        assert_eq!(patient.lock().len(), 10, "at once, and then after each window");
        let rest = apart(&looks);
        assert!(rest > 250 * MS && rest <= 300 * MS, "{rest:?}");
        patient.lock().clear();

        // In the middle of a rest.
        let hasty = watch(&fanout, None);
        read_for(3_000 * MS, &mut reading, &mut studio).await;
        assert!(hasty.lock().len() >= 75, "each picture");
        assert!(apart(&hasty) <= APART + DRY);
        assert!(apart(&looks) <= APART);
        assert!((10..=11).contains(&patient.lock().len()), "as before");
    }

    #[tokio::test(start_paused = true)]
    async fn groups_share_what_an_upstream_is_looked_at_for() {
        let fanout = Fanout::new(&FanoutConfig::default(), now());
        let (body, looks) = body();
        let (mut reading, mut studio) = (Reading::new(body, &fanout), Studio::new());
        let mut groups = Vec::new();
        for every in [300, 300, 150, 300, 150] {
            groups.push((watch(&fanout, Some(every * MS)), every));
            read_for(70 * MS, &mut reading, &mut studio).await;
        }
        looks.lock().clear();
        groups.iter().for_each(|(told, _)| told.lock().clear());
        read_for(6_000 * MS, &mut reading, &mut studio).await;
        let rests = looks.lock().windows(2).filter(|two| two[1] - two[0] > 5 * DRY).count();
        assert!((39..=41).contains(&rests), "{rests} rests in 40 windows of 150 ms");
        for (told, every) in groups {
            let times = told.lock().len();
            let windows = 6_000 / usize::try_from(every).unwrap();
            assert!(times.abs_diff(windows) <= 1, "{times} times, once each {every} ms");
        }
    }
}
