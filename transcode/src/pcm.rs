//! Samples on their way to the encoder.

/// Interleaved samples at 48 kHz that wait for a frame to be whole. A push of a transcoder adds at most the longest frame and
/// the longest gap that is filled, and takes whole frames away, so it never holds more than a quarter of a second.
#[derive(Debug)]
pub(crate) struct Queue {
    channels: usize,
    samples: Vec<f32>,
    /// Samples of each channel that are dropped before any is handed out.
    skip: usize,
    scratch: Vec<f32>,
}

impl Queue {
    pub(crate) fn new(channels: u8) -> Self {
        Self { channels: usize::from(channels), samples: Vec::new(), skip: 0, scratch: Vec::new() }
    }

    /// Begins anew; the first `skip` samples of what comes are dropped.
    pub(crate) fn restart(&mut self, skip: usize) {
        self.samples.clear();
        self.skip = skip;
    }

    /// Where samples are appended; and the number of those that are there, for [`Queue::stretch`].
    pub(crate) fn writer(&mut self) -> (&mut Vec<f32>, usize) {
        let there = self.samples.len();
        (&mut self.samples, there)
    }

    /// Makes one sample more (or less) of those from `there` on, by interpolating between neighbours: a ten-thousandth of a
    /// second in each second, which nobody hears. `false` if there are too few.
    pub(crate) fn stretch(&mut self, there: usize, longer: bool) -> bool {
        let Some(tail) = self.samples.get(there..) else { return false };
        let old = tail.len() / self.channels;
        if old < 3 {
            return false;
        }
        let new = if longer { old + 1 } else { old - 1 };
        self.scratch.clear();
        let step = as_f64(old - 1) / as_f64(new - 1);
        for index in 0..new {
            let place = as_f64(index) * step;
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at least 0, at most `old`"
            )]
            let before = (place as usize).min(old - 2);
            #[allow(clippy::cast_possible_truncation, reason = "a fraction")]
            let weight = (place - as_f64(before)) as f32;
            let at = before * self.channels;
            let (Some(left), Some(right)) =
                (tail.get(at..at + self.channels), tail.get(at + self.channels..at + 2 * self.channels))
            else {
                return false;
            };
            self.scratch.extend(left.iter().zip(right).map(|(a, b)| a + (b - a) * weight));
        }
        self.samples.truncate(there);
        self.samples.extend_from_slice(&self.scratch);
        true
    }

    /// Hands each whole frame of that many samples to `take`.
    pub(crate) fn frames(&mut self, samples: usize, mut take: impl FnMut(&[f32])) {
        let skipped = self.skip.min(self.samples.len() / self.channels);
        self.skip -= skipped;
        let mut taken = skipped * self.channels;
        let frame = samples * self.channels;
        while let Some(whole) = self.samples.get(taken..taken + frame) {
            take(whole);
            taken += frame;
        }
        self.samples.drain(..taken);
    }
}

/// Of a number of samples.
#[allow(clippy::cast_precision_loss, reason = "far below 2⁵³")]
fn as_f64(samples: usize) -> f64 {
    samples as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretching_keeps_both_ends() {
        for longer in [true, false] {
            let mut queue = Queue::new(2);
            queue.writer().0.extend([9.0, 9.0]);
            let (samples, there) = queue.writer();
            for i in 0..100_u8 {
                samples.extend([f32::from(i), -f32::from(i)]);
            }
            assert!(queue.stretch(there, longer));
            let mut frames = Vec::new();
            queue.frames(1, |sample| frames.push((sample[0], sample[1])));
            assert_eq!(frames.len(), if longer { 102 } else { 100 });
            assert_eq!(
                (frames[0], frames[1], frames[frames.len() - 1]),
                ((9.0, 9.0), (0.0, 0.0), (99.0, -99.0))
            );
            assert!(frames[1..].is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1));
        }
    }

    #[test]
    fn frames_come_whole_after_what_is_skipped() {
        let mut queue = Queue::new(1);
        queue.restart(3);
        queue.writer().0.extend([0.0, 1.0]);
        queue.frames(2, |_| panic!("all of it is skipped"));
        queue.writer().0.extend([2.0, 3.0, 4.0, 5.0]);
        let mut frames = Vec::new();
        queue.frames(2, |frame| frames.push(frame.to_vec()));
        assert_eq!(frames, [[3.0, 4.0]]);
        assert!(!queue.stretch(0, true));
    }
}
