//! Decoding times of pictures whose protocol tells presentation times only, as RTP does (RFC 6184 §5.1).
//!
//! Pictures come in the order in which they are decoded. Of a stream that decodes `depth` pictures at most before one that
//! is shown earlier, the presentation times in rising order, `depth` pictures late, are decoding times: none is later than
//! its picture's presentation, and none is waited for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pictures that a decoder holds at most: of H.264 (§A.3.1) and of HEVC (§A.4.2).
const MAX_DEPTH: usize = 16;

/// A presentation time so far from the decoding times before, in ticks of 90 kHz, is of another clock.
const JUMP_TICKS: i64 = 10 * 90_000;

/// How far apart pictures are taken to be before two have come: 25 a second.
const STEP_TICKS: i64 = 3_600;

/// Gives the decoding times of one track, in ticks of 90 kHz.
#[derive(Debug)]
pub struct DecodingTimes {
    /// How many pictures may come before one that is shown earlier.
    depth: usize,
    /// Presentation times that are no decoding times yet: as many as the depth says.
    waiting: BinaryHeap<Reverse<i64>>,
    last: Option<i64>,
}

impl DecodingTimes {
    /// Of a track of which so much reordering is known ([`super::reordering`]). Where nothing is known there is none, until
    /// a picture shows that there is.
    pub fn new(depth: Option<u8>) -> Self {
        let depth = depth.map_or(0, usize::from).min(MAX_DEPTH);
        Self { depth, waiting: BinaryHeap::new(), last: None }
    }

    /// When the picture that is shown at `pts` is decoded: later than the one before. That is after `pts` only for the few
    /// pictures that show that there is more reordering than was known.
    pub fn of(&mut self, pts: i64) -> i64 {
        if self.last.is_some_and(|last| pts.saturating_sub(last).saturating_abs() > JUMP_TICKS) {
            self.waiting.clear();
            self.last = None;
        }
        let mut late = false;
        if let Some(last) = self.last
            && pts < last
            && self.depth < MAX_DEPTH
        {
            self.depth += 1;
            late = true;
        }
        self.waiting.push(Reverse(pts));
        let due = if self.waiting.len() > self.depth && !late {
            self.waiting.pop().map_or(pts, |Reverse(due)| due)
        } else {
            // The first ones, before those that are shown first.
            let behind = i64::try_from(self.depth + 1 - self.waiting.len().min(self.depth)).unwrap_or(1);
            let first = self.waiting.peek().map_or(pts, |Reverse(first)| *first);
            first.saturating_sub(behind.saturating_mul(STEP_TICKS))
        };
        let dts = self.last.map_or(due, |last| due.max(last.saturating_add(1)));
        self.last = Some(dts);
        dts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A GOP with two B pictures between the others: what is decoded when, as numbers of pictures shown.
    const WITH_B: [i64; 10] = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];

    fn of(depth: Option<u8>, shown: &[i64]) -> Vec<(i64, i64)> {
        let mut times = DecodingTimes::new(depth);
        shown.iter().map(|n| 900_000 + n * 3_600).map(|pts| (times.of(pts), pts)).collect()
    }

    fn rise(times: &[(i64, i64)]) -> bool {
        times.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }

    #[test]
    fn without_reordering_pictures_are_decoded_when_they_are_shown() {
        let times = of(Some(0), &[0, 1, 2, 3, 4]);
        assert!(times.iter().all(|(dts, pts)| dts == pts), "{times:?}");
    }

    #[test]
    fn with_known_reordering_no_picture_is_shown_before_it_is_decoded() {
        let times = of(Some(1), &WITH_B);
        assert!(rise(&times) && times.iter().all(|(dts, pts)| dts <= pts), "{times:?}");
        // One picture late, evenly.
        assert!(times.windows(2).all(|pair| pair[1].0 - pair[0].0 == 3_600), "{times:?}");
    }

    #[test]
    fn reordering_that_was_not_known_is_found_out() {
        let shown: Vec<i64> = (0..5).flat_map(|gop| WITH_B.map(|n| gop * 10 + n)).collect();
        let times = of(None, &shown);
        assert!(rise(&times), "{times:?}");
        let late = times.iter().filter(|(dts, pts)| dts > pts).count();
        assert!(late <= 3, "{times:?}");
        assert!(times.iter().skip(10).all(|(dts, pts)| dts <= pts && pts - dts <= 4 * 3_600), "{times:?}");
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut times = DecodingTimes::new(Some(2));
        for n in 0..10 {
            times.of(n * 3_600);
        }
        assert_eq!(times.of(-90_000_000), -90_000_000 - 2 * 3_600);
    }

    proptest! {
        #[test]
        fn times_rise_whatever_comes(
            pts in prop::collection::vec(-500_000i64..500_000, 0..200),
            depth in prop::option::of(0u8..40),
        ) {
            let mut times = DecodingTimes::new(depth);
            let mut last: Option<i64> = None;
            for pts in pts {
                let dts = times.of(pts);
                prop_assert!(times.waiting.len() <= MAX_DEPTH + 1);
                if let Some(before) = last.filter(|before| (pts - before).abs() <= JUMP_TICKS) {
                    prop_assert!(dts > before);
                }
                last = Some(dts);
            }
        }
    }
}
