//! Replays the corpora of this crate's fuzz targets (tests/fuzz): real bytes, and every finding there ever was.

#[allow(unreachable_pub, reason = "it is a public module of the fuzz targets' crate")]
#[allow(clippy::expect_used, clippy::panic, reason = "that it stops here is what it is for")]
#[path = "../../tests/fuzz/src/webrtc.rs"]
mod webrtc;

#[test]
fn corpora_replay() {
    for (name, run) in webrtc::TARGETS {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
        for seed in std::fs::read_dir(corpus).unwrap() {
            let seed = seed.unwrap().path();
            println!("{}", seed.display());
            run(&std::fs::read(seed).unwrap());
        }
    }
}
