//! The timestamps of several tracks, each counted from anywhere, on one clock of 90 kHz.
//!
//! Until sender reports came, a track's first packet is taken to be of the moment at which it came. Reports (RFC 3550
//! §6.4.1) say which timestamps of two tracks belong to the same moment; pictures are then moved towards the sound, a
//! little with each, so that neither jumps.

use std::time::Instant;

/// What a sender report says of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender's wall clock, in microseconds from any moment that is the same for all its tracks.
    pub wall_clock_us: i64,
    /// The RTP timestamp of that moment, in ticks of the track's clock.
    pub timestamp: u32,
}

/// Ticks of the common clock in a second.
const SECOND: i64 = 90_000;
/// A track whose timestamps say something else than the time of arrival by more than this has begun to count anew.
const MAX_DRIFT: i64 = 10 * SECOND;
/// Tracks further apart than this are not moved: such a report is wrong rather than the tracks are.
const MAX_SHIFT: i64 = 5 * SECOND;
/// A shift grows by one in so many ticks of the track.
const SHIFT_EVERY: i64 = 8;

/// The clock of one track.
#[derive(Debug)]
pub(super) struct Clock {
    rate: i64,
    /// A timestamp and the time that it stands for.
    anchor: Option<(i64, i64)>,
    /// The newest report: the sender's wall clock in ticks of the common clock, and the timestamp.
    report: Option<(i64, i64)>,
    shift: i64,
    wanted_shift: i64,
    last: i64,
}

impl Clock {
    /// Of a track that counts `rate` ticks a second.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: i64::from(rate.max(1)), anchor: None, report: None, shift: 0, wanted_shift: 0, last: 0 }
    }

    /// The time of a timestamp that came at `arrival`, in ticks since the beginning.
    pub(super) fn time(&mut self, timestamp: i64, arrival: i64) -> i64 {
        let fresh = match self.unshifted(timestamp) {
            Some(time) => (time - arrival).abs() > MAX_DRIFT,
            None => true,
        };
        if fresh {
            self.anchor = Some((timestamp, arrival));
            self.report = None;
            (self.shift, self.wanted_shift) = (0, 0);
            self.last = arrival;
        }
        let time = self.unshifted(timestamp).unwrap_or(arrival);
        let most = (time - self.last).max(0) / SHIFT_EVERY;
        self.shift += (self.wanted_shift - self.shift).clamp(-most, most);
        self.last = self.last.max(time);
        time + self.shift
    }

    /// Takes a report whose timestamp is already unwrapped.
    pub(super) fn report(&mut self, report: SenderReport, timestamp: i64) {
        let wall_clock = i128::from(report.wall_clock_us) * i128::from(SECOND) / 1_000_000;
        self.report = i64::try_from(wall_clock).ok().map(|wall_clock| (wall_clock, timestamp));
    }

    /// What must be added to this track's time to get the sender's wall clock.
    pub(super) fn to_wall_clock(&self) -> Option<i64> {
        let (wall_clock, timestamp) = self.report?;
        wall_clock.checked_sub(self.unshifted(timestamp)?)
    }

    /// Moves the track towards another whose [`Clock::to_wall_clock`] is `reference`.
    pub(super) fn follow(&mut self, reference: i64) {
        if let Some(own) = self.to_wall_clock()
            && let Some(shift) = own.checked_sub(reference)
            && shift.abs() <= MAX_SHIFT
        {
            self.wanted_shift = shift;
        }
    }

    fn unshifted(&self, timestamp: i64) -> Option<i64> {
        let (at, time) = self.anchor?;
        let ticks = i128::from(timestamp - at) * i128::from(SECOND);
        Some(time + i64::try_from(ticks.div_euclid(i128::from(self.rate))).ok()?)
    }
}

/// Ticks from `start` to `now`.
pub(super) fn ticks_since(start: Instant, now: Instant) -> i64 {
    let micros = now.saturating_duration_since(start).as_micros();
    i64::try_from(micros * 9 / 100).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packet_is_of_the_moment_it_came_at() {
        let mut sound = Clock::new(48_000);
        assert_eq!(sound.time(1_000_000, 900), 900);
        assert_eq!(sound.time(1_000_960, 5_000), 2_700);
    }

    #[test]
    fn reports_bring_pictures_to_the_sound_without_a_step() {
        let (mut picture, mut sound) = (Clock::new(90_000), Clock::new(48_000));
        // The picture's first packet came 100 ms late.
        sound.time(0, 0);
        picture.time(0, 9_000);
        sound.report(SenderReport { wall_clock_us: 1_000_000, timestamp: 0 }, 0);
        picture.report(SenderReport { wall_clock_us: 1_000_000, timestamp: 0 }, 0);
        picture.follow(sound.to_wall_clock().unwrap());
        let mut before = 9_000;
        for frame in 1..100 {
            let time = picture.time(frame * 3_000, 9_000 + frame * 3_000);
            assert!(time > before);
            before = time;
        }
        assert_eq!(before, 99 * 3_000, "the 9,000 ticks are gone");
    }

    #[test]
    fn a_sender_that_counts_anew_is_followed_and_absurd_reports_are_not() {
        let mut clock = Clock::new(90_000);
        clock.time(0, 0);
        assert_eq!(clock.time(1 << 40, 3_000), 3_000);
        clock.report(SenderReport { wall_clock_us: i64::MAX, timestamp: 0 }, i64::MIN / 4);
        clock.follow(0);
        clock.follow(i64::MIN);
        assert_eq!(clock.time((1 << 40) + 3_000, 6_000), 6_000);
    }
}
