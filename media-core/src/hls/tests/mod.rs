//! The rules of low-latency HLS, each a test: a publisher in virtual time, and a player's view of the playlists.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod cutting;
#[allow(unreachable_pub, reason = "the end-to-end tests read playlists with the same file")]
mod reader;
mod rules;
mod station;
