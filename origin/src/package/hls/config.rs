//! How HLS is packaged.

use media_core::hls;
use serde::{Deserialize, Serialize};

/// How HLS is packaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HlsConfig {
    /// Milliseconds of a part, which is what low-latency players wait for.
    pub part_ms: u32,
    /// Milliseconds of a segment. Segments begin at keyframes where the publisher's keyframe interval allows.
    pub segment_ms: u32,
    /// Milliseconds of media that playlists list.
    pub window_ms: u32,
    /// Bytes of media kept per stream, at most. Less than the window needs makes the window shorter.
    pub max_bytes: usize,
    /// Whether a stream's Opus becomes AAC in HLS, for players that know no Opus there: about a hundredth of a core for each
    /// stream that has no AAC.
    pub opus_as_aac: bool,
}

/// The configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin.hls: {0}")]
pub struct HlsConfigError(#[from] hls::ConfigError);

impl Default for HlsConfig {
    fn default() -> Self {
        let hls::Config { part_ms, segment_ms, window_ms, max_bytes } = hls::Config::default();
        Self { part_ms, segment_ms, window_ms, max_bytes, opus_as_aac: false }
    }
}

impl HlsConfig {
    /// Checks that legal playlists can come of it.
    pub fn check(&self) -> Result<(), HlsConfigError> {
        self.checked().map(|_| ())
    }

    pub(super) fn checked(&self) -> Result<hls::Config, HlsConfigError> {
        let config = hls::Config {
            part_ms: self.part_ms,
            segment_ms: self.segment_ms,
            window_ms: self.window_ms,
            max_bytes: self.max_bytes,
        };
        config.check()?;
        Ok(config)
    }
}
