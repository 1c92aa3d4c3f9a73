//! How a publish gets on: one line, redrawn on a terminal, otherwise written every few seconds.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::queue::{Counts, Queue};

/// Between two drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// Between two lines of a log.
const LINE: Duration = Duration::from_secs(5);

/// Shows what goes through `queue` on standard error until it is dropped.
pub(crate) async fn show(queue: &Queue) {
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(if terminal { REDRAW } else { LINE });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let _end = terminal.then_some(EndLine(queue));
    let mut before = (Instant::now(), Counts::default());
    loop {
        ticks.tick().await;
        let now = (Instant::now(), queue.counts());
        let text = line(&now.1, &before.1, now.0 - before.0);
        before = now;
        let mut out = std::io::stderr().lock();
        // Nobody to show it to is no reason to stop.
        let _ = if terminal { write!(out, "\r\x1b[K{text}") } else { writeln!(out, "{text}") };
        let _ = out.flush();
    }
}

/// Ends a line that was being redrawn.
struct EndLine<'a>(&'a Queue);

impl Drop for EndLine<'_> {
    fn drop(&mut self) {
        if self.0.counts() != Counts::default() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// Time, bit rate, frames, drops.
pub(crate) fn line(now: &Counts, before: &Counts, passed: Duration) -> String {
    let seconds = now.timestamp_ms / 1_000;
    let (h, m, s, tenths) =
        (seconds / 3_600, seconds / 60 % 60, seconds % 60, now.timestamp_ms % 1_000 / 100);
    let bits = now.bytes.saturating_sub(before.bytes) as f64 * 8.0;
    let kbit_s = if passed.is_zero() { 0.0 } else { bits / 1_000.0 / passed.as_secs_f64() };
    format!(
        "{h:02}:{m:02}:{s:02}.{tenths}  {kbit_s:.0} kbit/s  {} frames  {} dropped",
        now.frames, now.dropped
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_time_bit_rate_frames_and_drops() {
        let before = Counts { bytes: 1_000, ..Counts::default() };
        let now = Counts { bytes: 126_000, frames: 50, dropped: 3, timestamp_ms: 3_723_456 };
        assert_eq!(
            line(&now, &before, Duration::from_secs(2)),
            "01:02:03.4  500 kbit/s  50 frames  3 dropped"
        );
        assert_eq!(line(&now, &now, Duration::ZERO), "01:02:03.4  0 kbit/s  50 frames  3 dropped");
    }
}
