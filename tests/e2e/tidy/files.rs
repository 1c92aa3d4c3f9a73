//! What every Rust file keeps to.

use super::Finding;
use super::source::Source;

/// Lines of code without tests that a file may have.
const MAX_LINES: usize = 600;
/// Lines that src/main.rs may have: it parses, builds, spawns, waits and drains.
const MAX_MAIN_LINES: usize = 100;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "misc", "define", "defines", "shared", "stuff"];
/// Ways to make a queue without a bound.
const UNBOUNDED: &[&str] = &[
    "unbounded_channel",
    "UnboundedSender",
    "UnboundedReceiver",
    "unbounded",
    "unbounded_send",
    // Of std: its bounded one is `sync_channel`, and that of tokio takes a number.
    "mpsc::channel()",
];
/// What needs a socket, a file, a clock or the environment: not for media-core.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "SystemTime",
    "Instant::now",
];

/// The only files that may have unsafe code.
const UNSAFE_FILES: &[&str] = &["edge/src/shard/uring.rs", "srt/src/raw.rs", "transcode/src/fdk.rs"];

/// Every breach of these rules in a file.
pub fn check(source: &Source) -> Vec<Finding> {
    [
        head(source),
        names(source),
        bounds(source),
        allows(source),
        safety(source),
        size(source),
        purity(source),
    ]
    .concat()
}

fn head(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if first.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding::new(source, 0, "every file begins with `//!`", "say what it is".to_owned())]
}

fn names(source: &Source) -> Vec<Finding> {
    const RULE: &str = "a module is named after what it holds";
    let mut found: Vec<Finding> = source
        .path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| Finding::new(source, 0, RULE, format!("`{part}`")))
        .collect();
    for at in source.words("mod ") {
        let name: String =
            source.code[at + 4..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if EMPTY_NAMES.contains(&name.as_str()) {
            found.push(Finding::new(source, at, RULE, format!("`{name}`")));
        }
    }
    found
}

fn bounds(source: &Source) -> Vec<Finding> {
    const RULE: &str = "every queue has a bound";
    UNBOUNDED
        .iter()
        .flat_map(|word| source.words(word))
        .map(|at| {
            Finding::new(source, at, RULE, source.text[at..].lines().next().unwrap_or_default().to_owned())
        })
        .collect()
}

/// The lints deny unsafe code; nobody else may allow it to himself.
fn safety(source: &Source) -> Vec<Finding> {
    const RULE: &str = "unsafe code stands in few files";
    if UNSAFE_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    ["allow(unsafe_code", "expect(unsafe_code"]
        .iter()
        .flat_map(|word| source.words(word))
        .map(|at| Finding::new(source, at, RULE, format!("only {} may", UNSAFE_FILES.join(" and "))))
        .collect()
}

fn allows(source: &Source) -> Vec<Finding> {
    const RULE: &str = "a lint is only silenced with a reason";
    ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
        .iter()
        .flat_map(|attribute| source.code.match_indices(attribute))
        .filter(|(at, _)| {
            let end = source.code[*at..].find(']').unwrap_or_default();
            !source.code[*at..at + end].contains("reason")
        })
        .map(|(at, attribute)| {
            Finding::new(source, at, RULE, format!("{attribute}…)] without `reason = \"…\"`"))
        })
        .collect()
}

fn size(source: &Source) -> Vec<Finding> {
    let (limit, lines, rule) = if source.path == "src/main.rs" {
        (MAX_MAIN_LINES - 1, source.text.lines().count(), "src/main.rs has fewer than 100 lines")
    } else {
        (MAX_LINES, source.lines_without_tests(), "no file has more than 600 lines of code without tests")
    };
    if lines <= limit {
        return Vec::new();
    }
    vec![Finding::new(source, 0, rule, format!("{lines} lines"))]
}

fn purity(source: &Source) -> Vec<Finding> {
    const RULE: &str = "media-core has no socket, file, clock or configuration";
    if !source.path.starts_with("media-core/src/") {
        return Vec::new();
    }
    OUTSIDE
        .iter()
        .flat_map(|word| source.words(word).into_iter().map(move |at| (at, word)))
        .filter(|(at, _)| !source.is_test(*at))
        .map(|(at, word)| Finding::new(source, at, RULE, format!("`{word}`")))
        .collect()
}

#[test]
fn each_rule_finds_its_breach() {
    let long = format!("//! x\n{}", "fn f() {}\n".repeat(600));
    let main = format!("//! x\n{}", "\n".repeat(99));
    let bad = [
        ("a/src/b.rs", "fn f() {}", "every file begins"),
        ("a/src/b.rs", "//!\nfn f() {}", "every file begins"),
        ("a/src/utils.rs", "//! x", "named after"),
        ("a/src/common/b.rs", "//! x", "named after"),
        ("a/src/b.rs", "//! x\nmod helpers {}", "named after"),
        ("a/src/b.rs", "//! x\nlet (a, b) = mpsc::unbounded_channel();", "bound"),
        ("a/src/b.rs", "//! x\nlet (a, b) = mpsc::channel();", "bound"),
        ("a/src/b.rs", "//! x\nlet (a, b) = flume::unbounded();", "bound"),
        ("a/src/b.rs", "//! x\n#[allow(dead_code)]\nfn f() {}", "reason"),
        ("a/src/b.rs", "//! x\n#![allow(unsafe_code, reason = \"fast\")]", "unsafe"),
        ("a/src/b.rs", "//! x\n#[expect(unsafe_code, reason = \"fast\")]\nfn f() {}", "unsafe"),
        ("a/src/b.rs", long.as_str(), "600 lines"),
        ("src/main.rs", main.as_str(), "100 lines"),
        ("media-core/src/hub/b.rs", "//! x\nlet now = Instant::now();", "no socket"),
        ("media-core/src/hub/b.rs", "//! x\nuse std::fs;", "no socket"),
    ];
    for (path, text, rule) in bad {
        let found = check(&Source::new(path, text));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].rule.contains(rule), "{found:?}");
    }
}

#[test]
fn good_files_are_left_alone() {
    let good = [
        ("a/src/b.rs", "//! x\nmod common_name;\n// unbounded\nlet s = \"unbounded_channel\";"),
        ("a/src/b.rs", "//! x\n#[allow(\n    dead_code,\n    reason = \"why\"\n)]\nfn f() {}"),
        ("media-core/src/hub/b.rs", "//! x\nfn f(now: Instant) {}\n#[cfg(test)]\nmod tests { use std::fs; }"),
        (UNSAFE_FILES[0], "//! x\n#![allow(unsafe_code, reason = \"why\")]"),
        ("origin/src/b.rs", "//! x\nlet now = Instant::now();"),
    ];
    for (path, text) in good {
        assert_eq!(check(&Source::new(path, text)), [], "{path}");
    }
}
