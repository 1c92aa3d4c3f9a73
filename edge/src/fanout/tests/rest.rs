//! When a stream is read for viewers who don't want each picture as it comes, and when they are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use futures_util::FutureExt;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Told(AtomicUsize);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn told() -> (Arc<Told>, Waker) {
    let told = Arc::new(Told::default());
    (Arc::clone(&told), Waker::from(told))
}

impl Told {
    fn times(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn picture(fanout: &Fanout, studio: &mut Studio, now: Instant) {
    let (tags, _) = studio::events(&[studio.picture(true, 100)]);
    tags.into_iter().for_each(|tag| fanout.push(tag, now));
}

#[test]
fn who_wants_all_together_is_told_when_the_time_has_come() {
    let (mut studio, now) = (Studio::new(), Instant::now());
    let fanout = Fanout::new(&config(), now);
    assert_eq!(fanout.rests_until(now), Some(now + MAX_WINDOW), "nobody watches");
    let viewer = fanout.enter(Format::Flv, Start::Gop);
    let mut follower = viewer.outlet().follow();
    let (told, waker) = told();
    let every = Some(100 * MS);
    let mut read = |at| {
        let mut units = Vec::new();
        follower.read(&waker, every, now + at, &mut units);
        units.len()
    };
    // The first picture is not kept from it.
    read(Duration::ZERO);
    assert_eq!((fanout.rests_until(now), fanout.deadline()), (None, None));
    picture(&fanout, &mut studio, now);
    fanout.tell(now);
    assert_eq!(told.times(), 1);
    read(3 * MS);
    assert_eq!(fanout.rests_until(now + 3 * MS), Some(now + 100 * MS));
    assert_eq!(fanout.deadline(), None, "there is nothing to tell");
    // What was read for somebody else waits for its time.
    picture(&fanout, &mut studio, now + 20 * MS);
    picture(&fanout, &mut studio, now + 60 * MS);
    fanout.tell(now + 99 * MS);
    assert_eq!((told.times(), fanout.deadline()), (0, Some(now + 100 * MS)));
    fanout.handle_timeout(now + 101 * MS);
    assert_eq!((told.times(), fanout.deadline()), (1, None));
    // The next time is known before it has come for them, and is no other when it or the feed was late.
    assert_eq!(fanout.rests_until(now + 101 * MS), Some(now + 200 * MS));
    assert!(read(109 * MS) >= 2);
    assert_eq!(fanout.rests_until(now + 109 * MS), Some(now + 200 * MS));
    // If nothing has come by then, it is told of what comes at once.
    fanout.tell(now + 201 * MS);
    assert_eq!((told.times(), fanout.rests_until(now + 201 * MS)), (0, None));
    picture(&fanout, &mut studio, now + 350 * MS);
    fanout.tell(now + 350 * MS);
    assert_eq!((told.times(), fanout.rests_until(now + 350 * MS)), (1, Some(now + 400 * MS)));
    // And at the end, or when the upstream is lost, nobody waits for a time.
    read(350 * MS);
    picture(&fanout, &mut studio, now + 360 * MS);
    fanout.tell_all(now + 360 * MS);
    assert_eq!(told.times(), 1);
    read(361 * MS);
    fanout.end(now + 370 * MS);
    assert_eq!(told.times(), 1);
}

#[test]
fn who_wants_each_picture_ends_the_rest() {
    let (mut studio, now) = (Studio::new(), Instant::now());
    let fanout = Fanout::new(&config(), now);
    picture(&fanout, &mut studio, now);
    let viewer = fanout.enter(Format::Flv, Start::Gop);
    let mut follower = viewer.outlet().follow();
    let (_, patient) = told();
    let (told, waker) = told();
    let (half, whole) = (Some(175 * MS), Some(350 * MS));
    follower.read(&patient, half, now, &mut Vec::new());
    assert!(fanout.hurried().now_or_never().is_some(), "somebody came");
    assert!(fanout.hurried().now_or_never().is_none());
    follower.read(&patient, half, now + 60 * MS, &mut Vec::new());
    assert!(fanout.hurried().now_or_never().is_none(), "as before");
    follower.read(&patient, whole, now + 60 * MS, &mut Vec::new());
    assert!(fanout.hurried().now_or_never().is_some(), "less often");
    assert_eq!(fanout.rests_until(now + 61 * MS), Some(now + 350 * MS));
    let mut hasty = viewer.outlet().follow();
    hasty.read(&waker, None, now, &mut Vec::new());
    assert!(fanout.hurried().now_or_never().is_some());
    assert_eq!(fanout.rests_until(now), None);
    picture(&fanout, &mut studio, now);
    fanout.tell(now);
    assert_eq!(told.times(), 1);
    // It has yet to come for what it was told of.
    assert_eq!(fanout.rests_until(now), None);
    hasty.read(&waker, None, now, &mut Vec::new());
    assert!(fanout.hurried().now_or_never().is_none(), "as before");
    drop(hasty);
    assert_eq!(fanout.rests_until(now + 61 * MS), Some(now + 350 * MS));
}

#[test]
fn windows_of_the_same_length_end_together_whoever_came_when() {
    let (mut studio, now) = (Studio::new(), Instant::now());
    let fanout = Fanout::new(&config(), now);
    let viewers = [Format::Flv, Format::Flv, Format::Rtmp].map(|format| fanout.enter(format, Start::Gop));
    let (told, waker) = told();
    let mut groups = Vec::new();
    for ((viewer, every), at) in viewers.iter().zip([100, 100, 200]).zip([0, 13, 71]) {
        let (mut follower, at) = (viewer.outlet().follow(), now + at * MS);
        follower.read(&waker, Some(every * MS), at, &mut Vec::new());
        assert_eq!(fanout.rests_until(at), None, "its first picture is not kept from it");
        picture(&fanout, &mut studio, at);
        fanout.tell(at);
        follower.read(&waker, Some(every * MS), at, &mut Vec::new());
        groups.push((follower, every));
    }
    assert_eq!(told.times(), 3);
    for (rest, due) in [(100, 2), (200, 3), (300, 2), (400, 3)] {
        let (before, at) = (now + rest * MS - 9 * MS, now + rest * MS + 3 * MS);
        assert_eq!(fanout.rests_until(before), Some(now + rest * MS));
        picture(&fanout, &mut studio, at);
        fanout.tell(at);
        assert_eq!(told.times(), due, "after {rest} ms");
        for (follower, every) in &mut groups {
            follower.read(&waker, Some(*every * MS), at, &mut Vec::new());
        }
    }
}

#[test]
fn who_wants_each_picture_is_all_that_matters_to_a_rest() {
    let at = Look::At(Instant::now());
    let unseen = std::iter::from_fn(|| -> Option<Look> { unreachable!("nothing is before it") });
    assert_eq!(Look::first([at, Look::AtOnce].into_iter().chain(unseen)), Look::AtOnce);
    assert_eq!(Look::first([Look::Never, at, Look::Never]), at);
    assert_eq!(Look::first([]), Look::Never);
}
