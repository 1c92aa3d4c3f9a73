//! What the project promises, tested from outside: the real binary against real clients, a module a story.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    unreachable_pub,
    reason = "a test reports by panicking and printing, runs few futures, and nothing outside sees its items"
)]

mod apart;
mod api;
mod cluster;
mod coming_back;
mod conferences;
mod elsewhere;
mod ending;
mod failures;
mod guarded;
mod hooks;
mod hostile_media;
mod hostile_rtmp;
mod hostile_viewers;
mod ll_hls;
mod low_latency;
mod on_disk;
mod operating;
mod pages;
mod publish_command;
mod pulls;
mod redundant;
mod secure;
mod srt;
mod studio;
mod support;
mod tidy;
mod traces;
mod transport_stream;
mod turn;
mod unusual_media;
mod watching;
mod webrtc;
mod webrtc_browsers;
