//! What the fuzz targets do with their bytes: plain functions, so that the corpora replay in ordinary
//! tests too (tests/corpora.rs of the crates that they are about). A target has a file in `fuzz_targets` that calls its
//! function, and a folder of the same name in `corpus`.

pub mod bodies;
pub mod turn;
pub mod webrtc;
