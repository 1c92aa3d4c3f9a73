//! What the fuzz targets do with their bytes: plain functions, so that the corpora replay in ordinary
//! tests too (media-core/tests/corpora.rs). A target has a file in `fuzz_targets` that calls its
//! function, and a folder of the same name in `corpus`.

pub mod bodies;
