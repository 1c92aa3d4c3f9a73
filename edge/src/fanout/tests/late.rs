//! Viewers who lag longer than they may, in time that the test makes.

use std::task::{Context, Poll};

use super::*;
use crate::fanout::cursor::Skips;

const PICTURE: Duration = Duration::from_millis(40);

const LAG: Duration = Duration::from_secs(5);

/// A stream with a picture every 40 ms.
struct Live {
    fanout: Fanout,
    tags: Vec<Tag>,
    marks: Vec<Mark>,
    began: Instant,
    pushed: usize,
    marked: Option<u64>,
}

impl Live {
    /// With keyframes at these numbers.
    fn new(config: &FanoutConfig, pictures: usize, keyframes: &[usize]) -> Self {
        let mut studio = Studio::new();
        let frames: Vec<_> = (0..pictures).map(|n| studio.picture(keyframes.contains(&n), 100)).collect();
        let (tags, marks) = studio::events(&frames);
        let began = Instant::now();
        Self { fanout: Fanout::new(config, began), tags, marks, began, pushed: 0, marked: None }
    }

    fn at(&self, picture: usize) -> Instant {
        self.began + PICTURE * u32::try_from(picture).unwrap()
    }

    /// All until that picture come, each at its time.
    fn until(&mut self, picture: usize) {
        while let Some(tag) = self.tags.get(self.pushed) {
            let number = if is_header_of(tag) { 0 } else { usize::try_from(number(&tag.body)).unwrap() };
            if number > picture {
                break;
            }
            let now = self.at(number);
            let mark = self.marks.iter().find(|mark| mark.sequence == tag.sequence);
            if let Some(mark) = mark.filter(|mark| self.marked != Some(mark.sequence)) {
                self.fanout.mark(*mark, now);
                self.marked = Some(mark.sequence);
            }
            self.fanout.push(tag.clone(), now);
            self.pushed += 1;
        }
    }

    /// What a viewer takes at the time of that picture, at most so many pieces.
    fn takes(
        &self,
        viewer: &mut super::super::Reader,
        picture: usize,
        most: usize,
    ) -> (Vec<u64>, Option<Over>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut pieces = Vec::new();
        let over = loop {
            if pieces.len() == most {
                break None;
            }
            match viewer.poll_next(&mut cx, self.at(picture)) {
                Poll::Ready(Ok(bytes)) => pieces.push(bytes),
                Poll::Ready(Err(over)) => break Some(over),
                Poll::Pending => break None,
            }
        };
        let began = pieces.first().is_some_and(|first| first.starts_with(b"FLV"));
        let pieces = if began { pieces } else { [vec![HEADER.clone()], pieces].concat() };
        (numbers(&read(&pieces)), over)
    }
}

/// What a reader of tags wants before the first.
static HEADER: std::sync::LazyLock<Bytes> =
    std::sync::LazyLock::new(|| Bytes::copy_from_slice(&flv::header(true, true)));

fn is_header_of(tag: &Tag) -> bool {
    tag.is_metadata || tag.is_sequence_header
}

fn config(skips: u32) -> FanoutConfig {
    let max_lag_ms = u64::try_from(LAG.as_millis()).unwrap();
    // So that time alone is a reason.
    FanoutConfig { max_lag_ms, max_skips_per_minute: skips, ring_ms: 600_000, ..FanoutConfig::default() }
}

fn range(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    numbers.collect()
}

#[test]
fn who_is_late_in_a_long_gop_waits_for_the_next_keyframe() {
    let mut live = Live::new(&config(6), 500, &[0, 300, 310]);
    live.until(0);
    let mut viewer = live.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(live.takes(&mut viewer, 0, 100).0, [0]);
    live.until(9);
    assert_eq!(live.takes(&mut viewer, 9, 100).0, range(1..=9));
    // The next came 5 s ago, which may be; and then a picture more.
    live.until(135);
    assert_eq!(live.takes(&mut viewer, 135, 1).0, [10]);
    assert_eq!(live.takes(&mut viewer, 137, 100), (vec![], None), "too late, and no keyframe to go on at");
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 1 });
    live.until(299);
    assert_eq!(live.takes(&mut viewer, 299, 100), (vec![], None));
    live.until(305);
    assert_eq!(live.takes(&mut viewer, 305, 100).0, range(300..=305));
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 1 });
}

#[test]
fn who_is_late_goes_on_at_a_newer_keyframe_at_once() {
    let mut live = Live::new(&config(6), 500, &[0, 100, 200]);
    live.until(9);
    let mut viewer = live.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(live.takes(&mut viewer, 9, 3).0, [0, 1]);
    live.until(210);
    assert_eq!(live.takes(&mut viewer, 210, 100).0, range(200..=210));
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 1 });
}

#[test]
fn a_newcomer_has_time_for_a_gop_that_is_older() {
    let mut live = Live::new(&config(6), 500, &[0, 400]);
    live.until(300);
    // The keyframe came 12 s ago.
    let mut viewer = live.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(live.takes(&mut viewer, 300, 100).0, range(0..=98));
    live.until(400);
    assert_eq!(live.takes(&mut viewer, 400, 50).0, range(99..=148), "4 s behind its beginning");
    assert_eq!(viewer.skips(), Skips::default());
    live.until(430);
    assert_eq!(live.takes(&mut viewer, 430, 100).0, range(400..=430));
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 1 });
}

#[test]
fn who_is_late_too_often_is_dropped_and_a_stream_without_keyframes_goes_on_at_its_live_edge() {
    let mut live = Live::new(&config(1), 1_500, &[0]);
    live.until(0);
    let mut viewer = live.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(live.takes(&mut viewer, 0, 100).0, [0]);
    // Nobody starts at a keyframe after 20 s of media, nor is one waited for.
    live.until(700);
    assert_eq!(live.takes(&mut viewer, 700, 100), (vec![], None));
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 1 }, "what it wanted is still there");
    live.until(720);
    assert_eq!(live.takes(&mut viewer, 720, 100).0, range(701..=720));
    live.until(900);
    assert_eq!(live.takes(&mut viewer, 900, 100), (vec![], Some(Over::Lagged)));
    assert_eq!(viewer.skips(), Skips { lagged: 0, late: 2 });
}
