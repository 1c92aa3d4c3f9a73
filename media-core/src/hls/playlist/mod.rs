//! Playlists as text (RFC 8216bis §4), a file a tag family.

mod edge;
mod header;
mod multivariant;
mod segments;
mod tail;

pub use multivariant::multivariant;
pub use tail::Tail;

use super::Window;

/// Which media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All listed segments.
    Full,
    /// Without those further from the end than CAN-SKIP-UNTIL (§6.2.5.1); the full one if there are none, or if the
    /// stream is over.
    Delta,
}

/// The media playlist of a rendition, as it is now.
pub fn media(window: &Window, rendition: usize, form: Form) -> String {
    // About what 30 s of segments and 6 s of parts need.
    let mut out = String::with_capacity(4 << 10);
    header::write(&mut out, window);
    segments::write(&mut out, window, rendition, form);
    edge::write(&mut out, window, rendition);
    out
}

/// Seconds with so many decimals that a part's duration comes back to 10 µs.
struct Seconds(std::time::Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Rounded from the same sum that players make, half up.
        let hundredths_of_ms = (self.0.as_nanos() + 5_000) / 10_000;
        write!(f, "{}.{:05}", hundredths_of_ms / 100_000, hundredths_of_ms % 100_000)
    }
}

/// Appends a line.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        // Writing to a String can't fail.
        let _ = writeln!($out, $($arg)*);
    }};
}
use line;
