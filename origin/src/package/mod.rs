//! What is made of each stream for its viewers: a packager reads a [`media_core::hub::Consumer`] that
//! [`crate::Origin`] hands it when the stream starts, and answers requests for what it made.

pub mod hls;
