//! How long a client may take.

use std::time::Duration;

/// How long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From the connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the handshake, or from the end of a publish, to the next publish or play command.
    pub request_timeout: Duration,
    /// From the consent to a publish to its first audio or video message.
    pub first_frame_timeout: Duration,
    /// Between any two bytes of a publisher, after its first frame.
    pub idle_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            first_frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(15),
        }
    }
}
