//! Who may use whom inside media-core.

use super::Finding;
use super::source::Source;

/// A folder or file of media-core and what it may use of its siblings. `frame` is free to all but `rtmp`
/// and `amf0`, which carry messages and values, not media.
const MAY_USE: &[(&str, &[&str])] = &[
    ("frame", &[]),
    ("amf0", &[]),
    ("codec", &["frame"]),
    ("flv", &["frame", "codec", "amf0"]),
    ("fmp4", &["frame", "codec"]),
    ("mpegts", &["frame", "codec"]),
    ("hls", &["frame", "codec", "fmp4"]),
    ("rtmp", &["amf0"]),
    ("rtp", &["frame", "codec"]),
    ("hub", &["frame"]),
    ("relay", &["frame", "hub", "flv", "amf0"]),
];

const RULE: &str = "who may use whom inside media-core (ARCHITECTURE.md, Houses)";

/// Every use of a sibling that the table does not allow.
pub fn check(source: &Source) -> Vec<Finding> {
    let Some(path) = source.path.strip_prefix("media-core/src/").map(module_path) else { return Vec::new() };
    let Some(top) = path.first() else { return Vec::new() };
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == top) else {
        return vec![Finding::new(
            source,
            0,
            RULE,
            format!("`{top}` has no row in the table of tests/e2e/tidy/modules.rs"),
        )];
    };
    uses_of_siblings(source, path.len())
        .into_iter()
        .filter(|(at, _)| !source.is_test(*at))
        .filter(|(_, sibling)| sibling != top && !allowed.contains(&sibling.as_str()))
        .map(|(at, sibling)| Finding::new(source, at, RULE, format!("`{top}` must not use `{sibling}`")))
        .collect()
}

/// `flv/reader.rs` is the module `flv::reader`; `lib.rs` is the root.
fn module_path(file: &str) -> Vec<&str> {
    let mut path: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(path.last(), Some(&("mod" | "lib" | "main"))) {
        path.pop();
    }
    path
}

/// Modules right under the crate's root that the code names by `crate::…` or by enough `super::`.
fn uses_of_siblings(source: &Source, depth: usize) -> Vec<(usize, String)> {
    let mut uses = Vec::new();
    let roots = source.words("crate::").into_iter().map(|at| (at, at + "crate::".len()));
    let chain = "super::".repeat(depth);
    let supers = source
        .words(&chain)
        .into_iter()
        .filter(|at| !source.code[..*at].ends_with("super::"))
        .map(|at| (at, at + chain.len()));
    for (at, rest) in roots.chain(supers) {
        for name in first_names(&source.code[rest..]) {
            // A lower-case name is a module; a macro or a re-exported type is not.
            if name.starts_with(char::is_lowercase)
                && name != "super"
                && MAY_USE.iter().any(|(m, _)| *m == name)
            {
                uses.push((at, name));
            }
        }
    }
    uses
}

/// `a::b` names `a`; `{a, b::{c, d}}` names `a` and `b`.
fn first_names(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = code.trim_start().strip_prefix('{') else { return vec![word(code.trim_start())] };
    let mut names = vec![word(group.trim_start())];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(word(group[at + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn a_forbidden_use_is_found_however_it_is_written() {
    let bad = [
        "use crate::codec::h264;",
        "use crate::{\n    amf0,\n    codec::{h264, aac},\n};",
        "use super::super::codec;",
        "fn f() { crate::codec::track() }",
    ];
    for text in bad {
        let found = check(&Source::new("media-core/src/rtmp/chunk.rs", text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].what.contains("`rtmp` must not use `codec`"));
    }
}

#[test]
fn allowed_uses_tests_and_comments_are_left_alone() {
    let good = "use crate::amf0;\nuse super::message;\n// crate::codec\n#[cfg(test)]\nmod tests { use crate::codec; }\n";
    assert_eq!(check(&Source::new("media-core/src/rtmp/chunk.rs", good)), []);
    assert_eq!(check(&Source::new("media-core/src/lib.rs", "pub use crate::codec;")), []);
}

#[test]
fn a_new_module_needs_a_row() {
    assert_eq!(check(&Source::new("media-core/src/novel.rs", "")).len(), 1);
}
