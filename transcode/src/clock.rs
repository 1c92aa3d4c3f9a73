//! What time a stream's samples are for.
//!
//! Frames out are exactly as far apart as they are long, since players count (a timestamp that jumps by a few samples is a
//! loss to a WebRTC player). Frames in say when they are for, most often rounded to milliseconds and by a clock that is not
//! the sound card's. So the timestamps are averaged, and the samples are made to fit them:
//!
//! - off by less than a frame: a sample more or less in each frame until it fits to a millisecond;
//! - late by a frame or more: frames were lost, and silence takes their place;
//! - off by more than 100 ms either way: this is another time, and the samples are counted from there.

use crate::RATE;

/// Beyond this sound would be heard at a wrong time for too long, or be silent for too long: in samples at 48 kHz.
const MAX_DEVIATION: i64 = 4_800;
/// What is not repaired: a millisecond, to which FLV rounds.
const TOLERATED: i64 = 48;
/// The average is over some 16 frames: many enough for rounding and jitter to go away, and less than a second.
const AVERAGED: i64 = 16;
/// The average is kept in parts of a sample.
const PARTS: i64 = 256;
/// A frame late by less than this is not taken for one after a loss, however short frames are: 5 ms.
const MIN_LOSS: i64 = 240;

/// What is to be done before a frame's samples are put behind those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin anew: what is there belongs to another time.
    Restart,
    /// Nothing.
    Go,
    /// That many samples, at the frame's own rate, were lost: put silence there.
    Lost(usize),
    /// Make the frame a sample longer, or shorter, and say so by [`Clock::stretched`].
    Stretch { longer: bool },
}

/// Follows a track's timestamps; all in samples at 48 kHz.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    /// When the first sample was for.
    start: i64,
    /// Sampling rate of what is counted, in Hz.
    rate: u32,
    /// Samples since, at that rate.
    count: i64,
    /// Samples put in less those taken out.
    stretched: i64,
    /// How much later than counted timestamps are, on average, in [`PARTS`].
    average: i64,
    /// Samples that were handed out.
    handed_out: i64,
}

impl Run {
    fn expected(&self) -> i64 {
        let counted = self.count.saturating_mul(RATE.into()) / i64::from(self.rate);
        self.start.saturating_add(counted).saturating_add(self.stretched)
    }
}

impl Clock {
    /// Takes the time of a frame, and its length in samples at its rate.
    pub(crate) fn follow(&mut self, time: i64, samples: usize, rate: u32) -> Step {
        let length = i64::try_from(samples).unwrap_or(i64::MAX);
        let (step, run) = match self.run.as_mut().filter(|run| run.rate == rate) {
            Some(run) => (run.step(time, length), run),
            None => (Step::Restart, self.run.insert(Run::new(time, rate))),
        };
        if step == Step::Restart {
            *run = Run::new(time, rate);
        }
        run.count = run.count.saturating_add(length);
        step
    }

    /// A frame was made a sample longer or shorter.
    pub(crate) fn stretched(&mut self, longer: bool) {
        if let Some(run) = &mut self.run {
            run.stretched += if longer { 1 } else { -1 };
        }
    }

    /// The time of the next frame out, of that many samples.
    pub(crate) fn hand_out(&mut self, samples: usize) -> i64 {
        let Some(run) = &mut self.run else { return 0 };
        let time = run.start.saturating_add(run.handed_out);
        run.handed_out = run.handed_out.saturating_add(i64::try_from(samples).unwrap_or(i64::MAX));
        time
    }
}

impl Run {
    fn new(start: i64, rate: u32) -> Self {
        Self { start, rate, count: 0, stretched: 0, average: 0, handed_out: 0 }
    }

    fn step(&mut self, time: i64, length: i64) -> Step {
        let deviation = time.saturating_sub(self.expected());
        if deviation.saturating_abs() > MAX_DEVIATION {
            return Step::Restart;
        }
        let rate = i64::from(self.rate);
        let frame = length.saturating_mul(RATE.into()) / rate;
        if deviation >= frame.max(MIN_LOSS) {
            let lost = deviation * rate / i64::from(RATE);
            self.count = self.count.saturating_add(lost);
            self.average = 0;
            return Step::Lost(usize::try_from(lost).unwrap_or_default());
        }
        self.average += (deviation * PARTS - self.average) / AVERAGED;
        let off = self.average / PARTS;
        if off.abs() <= TOLERATED { Step::Go } else { Step::Stretch { longer: off > 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: usize = 1024;

    fn run(clock: &mut Clock, time: i64) -> Step {
        let step = clock.follow(time, FRAME, RATE);
        if let Step::Stretch { longer } = step {
            clock.stretched(longer);
        }
        step
    }

    #[test]
    fn exact_timestamps_need_nothing() {
        let mut clock = Clock::default();
        assert_eq!(run(&mut clock, 77), Step::Restart);
        for frame in 1..10_000 {
            assert_eq!(run(&mut clock, 77 + frame * 1024), Step::Go);
        }
        assert_eq!((clock.hand_out(960), clock.hand_out(960)), (77, 77 + 960));
    }

    #[test]
    fn lost_frames_are_filled_and_long_gaps_begin_anew() {
        let mut clock = Clock::default();
        run(&mut clock, 0);
        assert_eq!(run(&mut clock, 3 * 1024), Step::Lost(2048));
        assert_eq!(run(&mut clock, 4 * 1024), Step::Go);
        assert_eq!(run(&mut clock, 5 * 1024 + 4_801), Step::Restart);
        assert_eq!(run(&mut clock, 6 * 1024 + 4_801), Step::Go);
        assert_eq!(clock.hand_out(960), 5 * 1024 + 4_801);
        assert_eq!(run(&mut clock, 0), Step::Restart);
        assert_eq!(run(&mut clock, i64::MAX), Step::Restart);
        assert_eq!(run(&mut clock, i64::MIN), Step::Restart);
        assert_eq!(clock.follow(i64::MIN + 1024, 441, 44_100), Step::Restart);
    }

    proptest! {
        /// Milliseconds by truncation, jitter of 3 ms, and a sound card that is off by up to 500 ppm.
        #[test]
        fn jittery_clocks_are_followed_to_two_milliseconds(
            ppm in -500_i64..500,
            jitter in proptest::collection::vec(-144_i64..144, 100),
        ) {
            let mut clock = Clock::default();
            for frame in 0..20_000_i64 {
                let true_time = frame * 1024 * (1_000_000 + ppm) / 1_000_000;
                let told = (true_time + jitter[usize::try_from(frame).unwrap() % jitter.len()]).div_euclid(48) * 48;
                let step = run(&mut clock, told);
                prop_assert_eq!(step == Step::Restart, frame == 0);
                prop_assert!(!matches!(step, Step::Lost(_)));
                let counted = clock.run.as_ref().unwrap().expected() - 1024;
                prop_assert!((counted - true_time).abs() <= 240, "{} for {}", counted, true_time);
            }
        }
    }
}
