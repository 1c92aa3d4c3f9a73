//! What the project promises, tested from outside: the real binary against real clients, a module a story.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test reports what is wrong by panicking, and nothing outside sees its items"
)]

mod hostile_rtmp;
mod ll_hls;
#[allow(dead_code, reason = "the stories come with the roles that they are about")]
mod support;
mod tidy;
