//! How a stream is cut, and how much of it is kept.

use std::time::Duration;

/// How a stream is cut, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Duration of a part that is aimed at, in milliseconds. The PART-TARGET that playlists announce is this, or
    /// the nearest whole number of frames that players can be promised.
    pub part_ms: u32,
    /// Duration of a segment that is aimed at, in milliseconds.
    pub segment_ms: u32,
    /// Media that playlists list, in milliseconds.
    pub window_ms: u32,
    /// Bytes kept at most; the oldest goes first, even if the window gets shorter than it should be. A segment ends
    /// early when it has a quarter of them.
    pub max_bytes: usize,
}

impl Default for Config {
    /// 200 ms, 2 s, 30 s and 64 MiB (30 s at 16 Mbit/s, or with what is kept behind them at 7 Mbit/s).
    fn default() -> Self {
        Self { part_ms: 200, segment_ms: 2_000, window_ms: 30_000, max_bytes: 64 << 20 }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Shorter parts cost a request each for hardly any media; longer ones are no low latency.
    #[error("part_ms is {0}; it must be between 50 and 1000")]
    Part(u32),
    /// At least four parts a segment, and no segment longer than what players tolerate.
    #[error("segment_ms is {0}; it must be at least 4 × part_ms, at least 1000 and at most 10000")]
    Segment(u32),
    /// Delta updates skip what is further than 6 × TARGETDURATION from the end, so that much must be listed.
    #[error("window_ms is {given}; it must be at least {least} (6 × the target duration) and at most 600000")]
    Window {
        /// What was configured.
        given: u32,
        /// The least.
        least: u32,
    },
}

impl Config {
    /// Checks that legal playlists can come of it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(50..=1_000).contains(&self.part_ms) {
            return Err(ConfigError::Part(self.part_ms));
        }
        if self.segment_ms < 4 * self.part_ms || !(1_000..=10_000).contains(&self.segment_ms) {
            return Err(ConfigError::Segment(self.segment_ms));
        }
        let least = 6_000 * self.target_duration_s();
        if !(least..=600_000).contains(&self.window_ms) {
            return Err(ConfigError::Window { given: self.window_ms, least });
        }
        Ok(())
    }

    /// EXT-X-TARGETDURATION (RFC 8216bis §4.4.3.1) in seconds. It follows from the configuration alone, so it never
    /// changes.
    pub fn target_duration_s(&self) -> u32 {
        self.segment_ms.div_ceil(1_000).max(1)
    }

    /// The same as a span of time.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.target_duration_s()))
    }

    pub(super) fn window(&self) -> Duration {
        Duration::from_millis(u64::from(self.window_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_usable() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config::default().target_duration_s(), 2);
    }

    #[test]
    fn what_cannot_make_a_legal_playlist_is_refused() {
        let with = |part_ms, segment_ms, window_ms| Config { part_ms, segment_ms, window_ms, max_bytes: 1 };
        assert_eq!(with(10, 2_000, 30_000).check(), Err(ConfigError::Part(10)));
        assert_eq!(with(500, 1_999, 30_000).check(), Err(ConfigError::Segment(1_999)));
        assert_eq!(
            with(200, 2_001, 17_999).check(),
            Err(ConfigError::Window { given: 17_999, least: 18_000 })
        );
    }
}
