//! Edges pull, leave and outlive publishers.

use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, StatusCode};
use media_core::frame::{Frame as Picture, Timestamp, TrackId};
use media_core::hub::Epoch;
use media_core::relay::{Decoder, Event as FeedEvent, Mark, Tag};

use super::*;
use crate::Publication;
use crate::testing::{ask, clip, key, origin, publish, send};
use crate::{Config, Origin};

const PATH: &str = "/relay/live/a";

/// An edge.
struct Edge {
    body: Body,
    decoder: Decoder,
    marks: Vec<Mark>,
}

impl Edge {
    async fn pull(origin: &Origin) -> Self {
        Self::pull_from(origin, PATH).await
    }

    /// What follows that frame.
    async fn pull_after(origin: &Origin, mark: &Mark, last: &Tag) -> Self {
        let place = Place { epoch: mark.epoch, sequence: last.sequence };
        Self::pull_from(origin, &format!("{PATH}?{}", place.query())).await
    }

    async fn pull_from(origin: &Origin, path: &str) -> Self {
        let response = ask(origin, Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), decoder: Decoder::new(), marks: Vec::new() }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        self.body.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Tag> {
        loop {
            match self.decoder.next_event().unwrap() {
                Some(FeedEvent::Mark(mark)) => self.marks.push(mark),
                Some(FeedEvent::Tag(tag)) if tag.is_metadata || tag.is_sequence_header => {}
                Some(FeedEvent::Tag(tag)) => return Some(tag),
                None => {
                    let piece = self.piece().await?;
                    self.decoder.push(piece);
                }
            }
        }
    }

    async fn frames(&mut self, count: usize) -> Vec<Tag> {
        let mut frames = Vec::new();
        for _ in 0..count {
            frames.push(self.frame().await.unwrap());
        }
        frames
    }
}

/// Tasks that there are once those that can go on have done so; the clock stands still meanwhile.
async fn tasks() -> usize {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// How many of the clip's frames come from the newest keyframe on.
fn joined() -> usize {
    let frames = clip().1;
    let is_start = |f: &media_core::frame::Frame| f.keyframe && f.track == media_core::frame::TrackId::VIDEO;
    frames.len() - frames.iter().rposition(is_start).unwrap()
}

#[tokio::test]
async fn an_edge_starts_with_the_newest_gop_and_gets_what_follows() {
    let origin = origin(Config::default());
    let mut publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    let cached = edge.frames(joined()).await;
    assert!(cached[0].is_keyframe);
    assert_eq!(edge.marks[0].epoch, publication.epoch());
    assert_eq!(edge.marks[0].sequence, cached[0].sequence);
    assert!(edge.marks[0].wall_clock_ms > 1_700_000_000_000);

    send(&mut publication, 1_000);
    let live = edge.frames(clip().1.len()).await;
    let sequences: Vec<_> = cached.iter().chain(&live).map(|t| t.sequence).collect();
    assert!(sequences.windows(2).all(|s| s[1] == s[0] + 1));
}

#[tokio::test]
async fn an_edge_whose_connection_breaks_goes_on_behind_what_it_has() {
    let origin = origin(Config::default());
    let mut publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    let mut seen = edge.frames(joined()).await;
    // Alone, the edge takes the feed with it, and the hub remembers; beside another one it finds it.
    for (round, alone) in (1..).zip([true, false, true, true, false]) {
        let _other = if alone { None } else { Some(Edge::pull(&origin).await) };
        send(&mut publication, round * 1_000);
        seen.extend(edge.frames(5).await);
        // In the middle of a frame.
        let half = edge.piece().await.unwrap();
        edge.decoder.push(half.slice(..half.len() / 2));
        assert!(edge.decoder.next_event().unwrap().is_none());
        let mark = *edge.marks.last().unwrap();
        drop(edge);
        edge = Edge::pull_after(&origin, &mark, seen.last().unwrap()).await;
        seen.extend(edge.frames(clip().1.len() - 5).await);
    }
    let sequences: Vec<_> = seen.iter().map(|t| t.sequence).collect();
    assert!(sequences.windows(2).all(|s| s[1] == s[0] + 1), "{sequences:?}");
    assert!(seen.windows(2).all(|t| t[0].kind != t[1].kind || t[0].timestamp_ms < t[1].timestamp_ms));
    assert_eq!(origin.metrics().relay_resumptions.get(), 5);

    // With nothing new it waits, and another publisher's frames follow, too.
    let (mark, last) = (*edge.marks.last().unwrap(), seen.last().unwrap().clone());
    let mut edge = Edge::pull_after(&origin, &mark, &last).await;
    drop(publication);
    let publication = publish(&origin, 0);
    assert_eq!(edge.frame().await.unwrap().sequence, last.sequence + 1);
    assert_eq!(edge.marks.last().map(|m| m.epoch), Some(publication.epoch()));
}

#[tokio::test]
async fn an_edge_that_has_what_the_origin_has_not_begins_at_the_newest_keyframe() {
    let origin = origin(Config::default());
    let publication = publish(&origin, 0);
    let epoch = publication.epoch().0;
    let expected = Edge::pull(&origin).await.frames(joined()).await;
    for after in [format!("{epoch}-{}", u64::MAX), format!("{}-0", epoch - 1), format!("{}-0", epoch + 1)] {
        let mut edge = Edge::pull_from(&origin, &format!("{PATH}?after={after}")).await;
        assert_eq!(edge.frames(joined()).await, expected, "{after}");
    }
    for query in ["after=", "after=1", "after=x-1", "after=1-2&x", "x=1", "after=-1-1"] {
        let response = ask(&origin, Method::GET, &format!("{PATH}?{query}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn who_loses_frames_is_told_apart_from_who_came_later() {
    let mut config = Config::default();
    config.streams.cache_bytes = 64 << 10;
    let origin = origin(config);
    let skips = || origin.metrics().relay_skips.get();
    let mut publication = publish(&origin, 0);
    let (mut one, mut other) = (Edge::pull(&origin).await, Edge::pull(&origin).await);
    let last = one.frames(joined()).await.pop().unwrap().sequence;
    other.frames(joined()).await;
    // More than the hub keeps before anybody reads again, who is new and has lost nothing.
    (1..=20).for_each(|round| send(&mut publication, round * 1_000));
    let mut new = Edge::pull(&origin).await;
    let newest = new.frames(joined()).await;
    assert_eq!(skips(), 0);
    for (mut edge, counted) in [(one, 1), (other, 2)] {
        let next = edge.frames(joined()).await;
        assert!(next[0].is_keyframe && next[0].sequence > last + 1);
        assert_eq!(next, newest);
        assert_eq!(skips(), counted);
    }
    send(&mut publication, 21_000);
    assert_eq!(new.frame().await.unwrap().sequence, newest.last().unwrap().sequence + 1);
    assert_eq!(skips(), 2);
}

/// Pictures of 100 KB, ten a second, every tenth a keyframe.
fn send_large(publication: &mut Publication, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let (dts, keyframe) = (Timestamp(number * 9_000), number % 10 == 0);
        let data = Bytes::from(vec![0; 100_000]);
        assert!(publication.push(Picture { track: TrackId::VIDEO, dts, cts: 0, keyframe, data }).unwrap());
    }
}

#[tokio::test]
async fn much_that_nobody_has_read_is_encoded_in_turns_with_others() {
    let origin = origin(Config::default());
    let mut publication = origin.publish(&key(), crate::testing::publisher()).unwrap();
    publication.set_tracks(clip().0).unwrap();
    send_large(&mut publication, 0..45);
    let mut edge = Edge::pull(&origin).await;
    let mut turns = 0;
    let first = loop {
        match edge.body.frame().now_or_never() {
            Some(piece) => break piece.unwrap().unwrap().into_data().unwrap(),
            None => turns += 1,
        }
    };
    assert_eq!(turns, 45 / TURN_BYTES.div_ceil(100_000));
    // And what it begins with is the newest all the same.
    edge.decoder.push(first);
    let sequences = |frames: Vec<Tag>| frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(edge.frames(5).await), [40, 41, 42, 43, 44]);

    // Who goes on does not wait for all to be encoded.
    send_large(&mut publication, 45..85);
    for number in 45..85 {
        assert_eq!(edge.frame().now_or_never().flatten().unwrap().sequence, number);
    }
    assert_eq!(origin.metrics().relay_skips.get(), 0);
}

#[tokio::test]
async fn edges_share_the_encoded_bytes() {
    let origin = origin(Config::default());
    let _publication = publish(&origin, 0);
    let (mut one, mut two) = (Edge::pull(&origin).await, Edge::pull(&origin).await);
    for _ in 0..=joined() {
        let (a, b) = (one.piece().await.unwrap(), two.piece().await.unwrap());
        assert_eq!((a.as_ptr(), a.len()), (b.as_ptr(), b.len()));
    }
}

#[tokio::test]
async fn an_edge_that_comes_before_the_first_frame_waits_for_it() {
    let origin = origin(Config::default());
    let mut publication = origin.publish(&key(), crate::testing::publisher()).unwrap();
    let mut edge = Edge::pull(&origin).await;
    let (tracks, frames) = clip();
    let (frame, ()) = tokio::join!(edge.frame(), async {
        publication.set_tracks(tracks).unwrap();
        publication.push(frames[0].clone()).unwrap();
    });
    assert_eq!(frame.unwrap().sequence, 0);
}

#[tokio::test]
async fn the_body_ends_when_the_stream_does() {
    let origin = origin(Config::default());
    let _publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    edge.frames(joined()).await;
    assert!(origin.kick(&key()));
    assert!(edge.frame().await.is_none());
    assert_eq!(ask(&origin, Method::GET, PATH).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nothing_is_left_behind_when_the_last_edge_leaves() {
    let origin = origin(Config::default());
    let _publication = publish(&origin, 0);
    let (one, two) = (Edge::pull(&origin).await, Edge::pull(&origin).await);
    assert_eq!(origin.relay().feeds.lock().len(), 1);
    drop(one);
    assert_eq!(origin.relay().feeds.lock().len(), 1);
    drop(two);
    assert_eq!(origin.relay().feeds.lock().len(), 0);
    // And it can be pulled again.
    Edge::pull(&origin).await.frames(joined()).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_returns_continues_the_body_under_a_new_epoch() {
    let origin = origin(Config::default());
    let publication = publish(&origin, 0);
    let first = publication.epoch();
    let mut edge = Edge::pull(&origin).await;
    let last = edge.frames(joined()).await.pop().unwrap();
    drop(publication);
    tokio::time::sleep(Duration::from_secs(14)).await;
    let publication = publish(&origin, 0);
    assert!(publication.epoch() > first);
    let next = edge.frame().await.unwrap();
    assert_eq!(next.sequence, last.sequence + 1);
    assert!(next.timestamp_ms > last.timestamp_ms);
    assert_eq!(edge.marks.last().map(|m| m.epoch), Some(publication.epoch()));
    // The first publisher's grace period does not end the second's stream.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(origin.registry().stream(&key()).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_body_ends_when_the_publisher_does_not_return() {
    let origin = origin(Config::default());
    let publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    edge.frames(joined()).await;
    let before = tokio::time::Instant::now();
    drop(publication);
    assert!(edge.frame().await.is_none());
    assert_eq!(before.elapsed().as_secs(), 15);
    assert!(origin.streams().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_and_goes_leaves_one_timer_or_none() {
    let origin = origin(Config::default());
    let before = tasks().await;
    for _ in 0..100 {
        drop(publish(&origin, 0));
        assert_eq!(origin.graces(), 1);
    }
    // The stream's packager, and the one timer.
    assert_eq!(tasks().await, before + 2);
    let publication = publish(&origin, 0);
    assert_eq!((origin.graces(), tasks().await), (0, before + 1));
    drop(publication);
    let mut edge = Edge::pull(&origin).await;
    while edge.frame().await.is_some() {}
    drop(edge);
    assert_eq!((origin.graces(), origin.registry().streams().len()), (0, 0));
    // What it left for players to fetch is forgotten.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tasks().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_had_a_frame_ends_with_its_publisher() {
    let origin = origin(Config::default());
    let before = tasks().await;
    for _ in 0..100 {
        drop(origin.publish(&key(), crate::testing::publisher()).unwrap());
        assert!(origin.registry().stream(&key()).is_none());
        assert_eq!(origin.graces(), 0);
    }
    assert_eq!(tasks().await, before);
}

#[tokio::test(start_paused = true)]
async fn draining_refuses_publishers_and_ends_streams_at_the_deadline() {
    let origin = origin(Config::default());
    let mut publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    edge.frames(joined()).await;
    let drained = tokio::spawn({
        let origin = origin.clone();
        async move { origin.drain(Duration::from_secs(5)).await }
    });
    assert_eq!(publication.revoked().await, media_core::hub::Revoked::Draining);
    assert!(edge.frame().await.is_none());
    drained.await.unwrap();
    let refused = origin.publish(&key(), crate::testing::publisher()).unwrap_err();
    assert_eq!(refused, crate::PublishError::Draining);
}

/// Gives every lease.
#[derive(Debug)]
struct Leased;

#[async_trait::async_trait]
impl crate::Leases for Leased {
    fn has_others(&self) -> bool {
        true
    }

    async fn take(
        &self,
        _: &media_core::hub::StreamKey,
        own: Epoch,
        _: crate::Purpose,
        _: &crate::Publisher,
    ) -> Result<crate::Lease, crate::LeaseRefused> {
        Ok(crate::Lease::Held(own))
    }
}

#[tokio::test(start_paused = true)]
async fn draining_sends_publishers_away_and_leaves_their_streams_to_other_origins() {
    let origin = origin(Config::default());
    origin.lease_from(std::sync::Arc::new(Leased));
    let mut publication = publish(&origin, 0);
    let mut edge = Edge::pull(&origin).await;
    edge.frames(joined()).await;
    origin.drain(Duration::ZERO).await;
    assert_eq!(publication.revoked().await, media_core::hub::Revoked::Draining);
    let epoch = publication.epoch();
    drop(publication);
    assert_eq!(origin.registry().streams().len(), 1, "its viewers wait");
    assert_eq!(
        origin.admit(&key(), crate::testing::publisher()).await.unwrap_err(),
        crate::PublishError::Draining
    );
    // Another origin has it.
    assert!(origin.revoke(&key(), epoch));
    assert!(edge.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn draining_is_over_once_the_last_publisher_left() {
    let origin = origin(Config::default());
    let publication = publish(&origin, 0);
    let before = tokio::time::Instant::now();
    let drained = tokio::spawn({
        let origin = origin.clone();
        async move { origin.drain(Duration::from_secs(3_600)).await }
    });
    tokio::task::yield_now().await;
    drop(publication);
    drained.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(origin.registry().streams().is_empty());
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let first = origin(Config::default());
    let _publication = publish(&first, 0);
    assert!(matches!(
        first.publish(&key(), crate::testing::publisher()),
        Err(crate::PublishError::Refused(media_core::hub::PublishError::Busy(_)))
    ));

    let mut config = Config::default();
    config.streams.takeover = true;
    let second = origin(config);
    let mut loser = publish(&second, 0);
    let winner = publish(&second, 0);
    assert_eq!(loser.revoked().await, media_core::hub::Revoked::TakenOver);
    assert!(winner.epoch() > loser.epoch() && loser.epoch() > Epoch(0));
    // The loser's leaving begins no grace period.
    drop(loser);
    assert_eq!(second.streams()[0].state, control_api::StreamState::Live);
}
