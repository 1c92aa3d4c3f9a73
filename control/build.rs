//! Sees to it that the pages in `web/dist`, which npm builds, are part of what cargo builds.

use std::path::Path;
use std::process::exit;

/// What to do about missing pages.
const HINT: &str =
    "control/web/dist is missing: run `make web` (npm with Node 18 or newer) to build the pages";

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
    if Path::new("web/dist/index.html").exists() {
        return;
    }
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo::error={HINT}");
        exit(1);
    }
    println!("cargo::warning={HINT}; this build goes on without them");
}
