//! Replays the corpora of the fuzz targets (tests/fuzz): real bytes, and every finding there ever was.

#[allow(unreachable_pub, reason = "it is a public module of the fuzz targets' crate")]
#[path = "../../tests/fuzz/src/bodies.rs"]
mod bodies;

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_target_has_a_program_and_a_corpus_that_replays() {
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    let here = bodies::TARGETS.iter().map(|(name, _)| *name);
    let targets: BTreeSet<String> =
        here.chain(bodies::ELSEWHERE.iter().copied()).map(str::to_owned).collect();
    assert_eq!(names(&fuzz.join("corpus")), targets);
    let programs = names(&fuzz.join("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
    for (name, run) in bodies::TARGETS {
        let corpus = fuzz.join("corpus").join(name);
        let seeds = names(&corpus);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            println!("{name}/{seed}");
            run(&std::fs::read(corpus.join(&seed)).unwrap());
        }
    }
}
