//! Picture and sound of a camera on one clock: what sender reports say (RFC 3550 §6.4.1) of how their timestamps lie to
//! each other, where the camera does not begin them at the same moment.

use retina::rtcp::ReceivedCompoundPacket;

/// What lies apart less than this, nobody hears: 20 ms in ticks of 90 kHz.
const TOLERANCE_TICKS: i64 = 1_800;

/// What lies apart more than this is a clock that was never set, or set meanwhile: 5 s.
const NONSENSE_TICKS: i64 = 5 * 90_000;

/// How much later the sound is than its timestamps say.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    picture: Option<Report>,
    sound: Option<Report>,
    shift: i64,
}

/// A moment in two clocks, in ticks of 90 kHz: the camera's, and the session's.
#[derive(Debug, Clone, Copy)]
struct Report {
    wall: i64,
    media: i64,
}

impl Clocks {
    /// In ticks of 90 kHz.
    pub(super) fn shift(&self) -> i64 {
        self.shift
    }

    pub(super) fn report(&mut self, reports: &ReceivedCompoundPacket, picture: usize, sound: usize) {
        let Some(timestamp) = reports.rtp_timestamp() else { return };
        let Some(ntp) = reports.pkts().find_map(|packet| {
            let report = packet.as_sender_report().ok()??;
            Some(report.ntp_timestamp().0)
        }) else {
            return;
        };
        let rate = i128::from(timestamp.clock_rate().get());
        let media = i128::from(timestamp.elapsed()) * 90_000 / rate;
        // Fixed point with 32 bits behind the point; of 1900 and later.
        let wall = (i128::from(ntp) * 90_000) >> 32;
        let (Ok(media), Ok(wall)) = (i64::try_from(media), i64::try_from(wall)) else { return };
        let report = Some(Report { wall, media });
        if reports.stream_id() == picture {
            self.picture = report;
        } else if reports.stream_id() == sound {
            self.sound = report;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let (Some(picture), Some(sound)) = (self.picture, self.sound) else { return };
        // When the session's clock was zero, by the camera's: the same for both if they began together.
        let zero = |report: Report| report.wall.saturating_sub(report.media);
        let shift = zero(sound).saturating_sub(zero(picture));
        if shift.saturating_abs() > NONSENSE_TICKS || (shift - self.shift).abs() <= TOLERANCE_TICKS {
            return;
        }
        self.shift = shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_that_began_elsewhere_is_put_beside_the_picture() {
        let mut clocks = Clocks::default();
        let at = |wall: i64, media: i64| Some(Report { wall, media });
        clocks.picture = at(1_000_000, 90_000);
        clocks.settle();
        assert_eq!(clocks.shift(), 0);
        // What is 1 s into the picture is 0.5 s into the sound.
        clocks.sound = at(1_000_000, 45_000);
        clocks.settle();
        assert_eq!(clocks.shift(), 45_000);
        // Rounding moves nothing, and a clock that was set by hours neither.
        clocks.sound = at(1_000_900, 45_000);
        clocks.settle();
        assert_eq!(clocks.shift(), 45_000);
        clocks.sound = at(1_000_000 + 3_600 * 90_000, 45_000);
        clocks.settle();
        assert_eq!(clocks.shift(), 45_000);
    }
}
