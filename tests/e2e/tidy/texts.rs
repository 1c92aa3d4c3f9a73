//! What every text of the project keeps to: code, pages, documents, scripts.

use super::Finding;

/// Lines that ARCHITECTURE.md may have: a map that nobody reads helps nobody.
const MAX_ARCHITECTURE_LINES: usize = 300;

/// Words that have no place in the project, each with the reason. Written in two halves, so that this
/// file may be read by its own rule.
const BANNED: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/home", "/", "a path of one machine"),
    ("TO", "DO", "unfinished work belongs into an issue"),
    ("FIX", "ME", "unfinished work belongs into an issue"),
    ("todo", "!(", "unfinished work belongs into an issue"),
    ("unimple", "mented!(", "unfinished work belongs into an issue"),
];

/// Every breach of these rules in a file.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let finding =
        |line: usize, rule, what: &str| Finding { path: path.to_owned(), line, rule, what: what.to_owned() };
    for (number, line) in (1..).zip(text.lines()) {
        for (head, tail, why) in BANNED {
            let banned = format!("{head}{tail}");
            if line.contains(&banned) {
                found.push(finding(number, why, &format!("`{banned}`")));
            }
        }
    }
    let lines = text.lines().count();
    if path == "ARCHITECTURE.md" && lines >= MAX_ARCHITECTURE_LINES {
        found.push(finding(lines, "ARCHITECTURE.md has fewer than 300 lines", &format!("{lines} lines")));
    }
    if path.ends_with("Cargo.toml")
        && text.contains("[package]")
        && !text.contains("[lints]\nworkspace = true")
    {
        let own_workspace = path.starts_with("tests/fuzz/");
        if !own_workspace {
            found.push(finding(
                1,
                "every crate keeps the workspace's lints",
                "no `[lints] workspace = true`",
            ));
        }
    }
    found
}

#[test]
fn each_rule_finds_its_breach() {
    let long = "x\n".repeat(300);
    let bad = [
        ("README.md", ["see /wo", "rk/main"].concat()),
        ("src/a.rs", ["// TO", "DO later"].concat()),
        ("ARCHITECTURE.md", long),
        ("edge/Cargo.toml", "[package]\nname = \"edge\"\n".to_owned()),
    ];
    for (path, text) in bad {
        assert_eq!(check(path, &text).len(), 1, "{path}");
    }
}

#[test]
fn good_texts_are_left_alone() {
    assert_eq!(check("README.md", "a network path\nroot/branch\n"), []);
    assert_eq!(check("edge/Cargo.toml", "[package]\nname = \"edge\"\n[lints]\nworkspace = true\n"), []);
    assert_eq!(check("ARCHITECTURE.md", &"x\n".repeat(299)), []);
}
