//! The benches' own tools, where they could be wrong without anybody noticing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop where its input is wrong"
)]

#[allow(dead_code, reason = "the benches use it")]
mod clip;
#[allow(dead_code, unused_imports, reason = "the benches use it")]
mod load;
