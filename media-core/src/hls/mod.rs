//! HTTP Live Streaming with low latency (RFC 8216bis): frames in; parts, segments and playlists out.
//!
//! A [`Segmenter`] is handed the frames of a stream and cuts them into parts and segments, for all renditions of
//! the stream at the same moments. After each input, drain [`Segmenter::poll_event`] into the [`Window`], which
//! keeps what players may ask for: it answers by object [`Name`], tells a blocking reload ([`Query`]) whether it
//! is ready, and [`playlist`] renders it. Nothing here waits, compresses or knows the time.
//!
//! Latency: a video sample's duration is the distance to the next frame, so one frame of look-ahead is held. A
//! part is published when the frame *behind* it arrives: one frame's duration (33 ms at 30 frames a second) after
//! its last frame did. Audio durations are known from the coding and cost nothing.

mod audio_clock;
mod config;
mod lane;
mod name;
mod pace;
mod part;
pub mod playlist;
mod presence;
mod query;
mod reload;
mod rendition;
mod segment;
mod segmenter;
mod settle;
mod window;

pub use config::{Config, ConfigError};
pub use name::{Name, NameError};
pub use part::{Media, Part};
pub use query::{Query, QueryError};
pub use reload::{Position, Reload};
pub use rendition::{Rendition, plan};
pub use segment::{Layout, LayoutRendition, Segment};
pub use segmenter::{Event, Problem, Segmenter};
pub use window::{Bandwidth, Object, Window};

#[cfg(test)]
mod tests;
