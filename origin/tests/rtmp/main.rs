//! RTMP ingest over real sockets: publishers, refusals, limits, and everything a hostile client sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test reports what is wrong by panicking, and nothing outside sees its items"
)]

mod hostile;
mod media;
mod publishing;
mod support;
