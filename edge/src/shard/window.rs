//! How long what there is to send may wait for more, so that one write sends it all.

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fanout::{MAX_WINDOW, Start};

/// Windows are multiples of this: viewers who ask for almost the same then share a group.
const GRAIN_MS: u16 = 10;

/// How long a flush waits for more, by a viewer's choice or the configuration's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Nothing waits: each picture is sent at once, with the sound before it.
    Frame,
    /// As `Frame` while the shard has time, longer and longer when it has not.
    Auto,
    /// Milliseconds: a multiple of ten, and not 0.
    Fixed(u16),
}

/// What is wrong with a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("can be \"frame\", \"auto\" or milliseconds up to 350")]
pub struct BadWindow;

impl Window {
    /// The window of so many milliseconds, rounded to tens; 0 waits for nothing.
    fn of_ms(ms: u64) -> Result<Self, BadWindow> {
        if Duration::from_millis(ms) > MAX_WINDOW {
            return Err(BadWindow);
        }
        let ms = u16::try_from(ms).map_err(|_| BadWindow)?;
        match (ms + GRAIN_MS / 2) / GRAIN_MS {
            0 => Ok(Self::Frame),
            grains => Ok(Self::Fixed(grains * GRAIN_MS)),
        }
    }

    /// How long flushes wait where no shard says how busy it is.
    pub(crate) fn at_rest(self) -> Duration {
        match self {
            Self::Frame | Self::Auto => Duration::ZERO,
            Self::Fixed(ms) => Duration::from_millis(u64::from(ms)),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    /// From text, or from a number of milliseconds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"frame\", \"auto\" or milliseconds up to 350")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Window, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Window, E> {
                Window::of_ms(ms).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<Window, E> {
                u64::try_from(ms).map_err(|_| BadWindow).and_then(Window::of_ms).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(ms) => serializer.serialize_u16(*ms),
            Self::Frame | Self::Auto => serializer.collect_str(self),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("frame"),
            Self::Auto => f.write_str("auto"),
            Self::Fixed(ms) => ms.fmt(f),
        }
    }
}

impl std::str::FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        match text {
            "frame" => Ok(Self::Frame),
            "auto" => Ok(Self::Auto),
            ms => Self::of_ms(ms.parse().map_err(|_| BadWindow)?),
        }
    }
}

/// What `latency` asks for in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) start: Start,
    pub(crate) window: Window,
}

/// What is wrong with a `latency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("latency can be \"low\", \"frame\", \"auto\" or milliseconds up to 350")]
pub(crate) struct BadLatency;

impl Latency {
    /// `low` starts at the live edge and waits for nothing; anything else is a window.
    pub(crate) fn parse(text: Option<&str>, default: Window) -> Result<Self, BadLatency> {
        let (start, window) = match text {
            None => (Start::Gop, default),
            Some("low") => (Start::Live, Window::Frame),
            Some(window) => (Start::Gop, window.parse().map_err(|_| BadLatency)?),
        };
        Ok(Self { start, window })
    }
}

/// How often a shard looks at how busy it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The first step of widening, and below which the window closes.
const STEP: Duration = Duration::from_millis(20);

/// How busy a shard is, and the window that follows from it.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    busy: Duration,
    window: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, busy: Duration::ZERO, window: Duration::ZERO }
    }

    /// The shard worked that long.
    pub(super) fn worked(&mut self, time: Duration, now: Instant) {
        self.busy += time;
        let span = now.saturating_duration_since(self.since);
        if span < LOOK_EVERY {
            return;
        }
        let share = self.busy.as_secs_f64() / span.as_secs_f64();
        self.window = match share {
            0.75.. => (self.window * 3 / 2).max(STEP).min(MAX_WINDOW),
            0.5..0.75 => self.window,
            _ if self.window <= STEP => Duration::ZERO,
            _ => self.window * 2 / 3,
        };
        (self.since, self.busy) = (now, Duration::ZERO);
    }

    /// How long `Auto` waits now.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// How long a viewer's flushes wait.
    pub(super) fn of(&self, window: Window) -> Duration {
        match window {
            Window::Auto => self.window,
            window => window.at_rest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read() {
        assert_eq!("frame".parse(), Ok(Window::Frame));
        assert_eq!("auto".parse(), Ok(Window::Auto));
        assert_eq!("350".parse(), Ok(Window::Fixed(350)));
        assert_eq!(Window::Fixed(20).to_string().parse(), Ok(Window::Fixed(20)));
        assert_eq!("0".parse(), Ok(Window::Frame));
        assert_eq!("4".parse(), Ok(Window::Frame));
        assert_eq!("96".parse(), Ok(Window::Fixed(100)));
        for bad in ["", "low", "351", "-1", "1.5", "99999999"] {
            assert_eq!(bad.parse::<Window>(), Err(BadWindow), "{bad}");
        }
    }

    #[test]
    fn windows_are_text_or_numbers_in_a_configuration() {
        let read = |json: &str| serde_json::from_str::<Window>(json).map_err(|error| error.to_string());
        assert_eq!(read("\"auto\""), Ok(Window::Auto));
        assert_eq!(read("\"100\""), Ok(Window::Fixed(100)));
        assert_eq!(read("100"), Ok(Window::Fixed(100)));
        for bad in ["351", "-1", "\"low\"", "true", "1.5"] {
            assert!(read(bad).unwrap_err().contains("milliseconds up to 350"), "{bad}");
        }
        for window in [Window::Frame, Window::Auto, Window::Fixed(20)] {
            assert_eq!(read(&serde_json::to_string(&window).unwrap()), Ok(window));
        }
    }

    #[test]
    fn latency_is_low_or_a_window_or_not_said() {
        let parse = |text| Latency::parse(text, Window::Fixed(100));
        let is = |start, window| Ok(Latency { start, window });
        assert_eq!(parse(None), is(Start::Gop, Window::Fixed(100)));
        assert_eq!(parse(Some("low")), is(Start::Live, Window::Frame));
        assert_eq!(parse(Some("auto")), is(Start::Gop, Window::Auto));
        assert_eq!(parse(Some("lowest")), Err(BadLatency));
    }

    #[test]
    fn the_window_widens_with_work_and_closes_without() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut seconds = |pace: &mut Pace, share: u32, seconds: u32| {
            for _ in 0..seconds * 4 {
                now += LOOK_EVERY;
                pace.worked(LOOK_EVERY * share / 100, now);
            }
        };
        seconds(&mut pace, 49, 5);
        assert_eq!(pace.of(Window::Auto), Duration::ZERO);
        seconds(&mut pace, 90, 5);
        assert_eq!(pace.of(Window::Auto), MAX_WINDOW);
        seconds(&mut pace, 60, 5);
        assert_eq!(pace.of(Window::Auto), MAX_WINDOW);
        assert_eq!(pace.of(Window::Frame), Duration::ZERO);
        assert_eq!(pace.of(Window::Fixed(100)), Duration::from_millis(100));
        seconds(&mut pace, 10, 3);
        assert_eq!(pace.of(Window::Auto), Duration::ZERO);
    }
}
