//! Who may use whom between the crates, and what each may be built with.

use cargo_metadata::{DependencyKind, Metadata, Package};

use super::Finding;

/// A crate of the workspace and the crates of the workspace that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("media-core", &[]),
    ("control-api", &[]),
    ("srt", &["control-api"]),
    ("rtc", &["media-core"]),
    ("transcode", &["media-core"]),
    ("origin", &["media-core", "control-api", "srt", "rtc", "transcode"]),
    ("edge", &["media-core", "control-api", "srt", "rtc", "transcode"]),
    ("control", &["control-api"]),
    ("turn-server", &[]),
    ("weir", &["media-core", "control-api", "srt", "rtc", "origin", "edge", "control", "turn-server"]),
];

/// What the tests of a crate may use beside that: media-core's replay the corpora of all fuzz targets.
const TESTS_MAY_USE: &[(&str, &str)] = &[("media-core", "srt"), ("media-core", "transcode")];

const RULE: &str = "who may use whom (ARCHITECTURE.md, Houses)";

/// Checks every member of the workspace.
pub fn check(metadata: &Metadata) -> Vec<Finding> {
    let members = metadata.workspace_packages();
    let names: Vec<&str> = members.iter().map(|p| p.name.as_str()).collect();
    members.iter().flat_map(|package| check_package(package, &names)).collect()
}

fn check_package(package: &Package, members: &[&str]) -> Vec<Finding> {
    let name = package.name.as_str();
    let manifest = package.manifest_path.as_str();
    let finding = |what: String| Finding { path: manifest.to_owned(), line: 1, rule: RULE, what };
    let Some((_, allowed)) = MAY_USE.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![finding(format!("`{name}` has no row in the table of tests/e2e/tidy/crates.rs"))];
    };
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        let is_of_tests =
            dependency.kind == DependencyKind::Development && TESTS_MAY_USE.contains(&(name, used));
        if members.contains(&used) && !allowed.contains(&used) && !is_of_tests {
            findings.push(finding(format!("`{name}` must not use `{used}`")));
        }
        if dependency.kind != DependencyKind::Normal {
            continue;
        }
        if let Some(why) = foreign(name, used, &dependency.features) {
            findings.push(finding(format!("`{name}` must not use `{used}`: {why}")));
        }
    }
    findings
}

/// Rules on crates from outside.
fn foreign(name: &str, used: &str, features: &[String]) -> Option<&'static str> {
    match (name, used) {
        ("media-core", "tokio") if features.iter().any(|f| f != "sync") => {
            Some("media-core has no runtime; of tokio only `sync`")
        }
        (
            "media-core",
            "hyper" | "hyper-util" | "http" | "tower" | "socket2" | "tracing" | "figment" | "toml",
        ) => Some("media-core has no socket, no configuration and says nothing"),
        ("control-api", "tokio" | "hyper" | "hyper-util" | "socket2" | "reqwest") => {
            Some("control-api does no I/O")
        }
        ("transcode", "tokio" | "hyper" | "hyper-util" | "socket2" | "reqwest" | "tracing") => {
            Some("transcode has no socket and no clock, and says nothing")
        }
        ("weir", "anyhow") => None,
        (_, "anyhow") => Some("a crate has its own error type; anyhow is for the binary"),
        _ => None,
    }
}

fn package(name: &str, dependencies: &str) -> Package {
    let json = format!(
        r#"{{"name":"{name}","version":"0.1.0","id":"{name}","license":null,"license_file":null,"description":null,
        "source":null,"dependencies":[{dependencies}],"targets":[],"features":{{}},"manifest_path":"/x/Cargo.toml",
        "metadata":null,"publish":null,"authors":[],"categories":[],"keywords":[],"readme":null,"repository":null,
        "homepage":null,"documentation":null,"edition":"2024","links":null,"default_run":null,"rust_version":null}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn dependency(name: &str, kind: &str, feature: &str) -> String {
    format!(
        r#"{{"name":"{name}","source":null,"req":"*","kind":{kind},"rename":null,"optional":false,
        "uses_default_features":false,"features":["{feature}"],"target":null,"registry":null}}"#
    )
}

#[test]
fn a_forbidden_crate_is_found() {
    let members = ["origin", "edge", "media-core", "control"];
    let bad = [
        ("edge", dependency("origin", "null", "")),
        ("edge", dependency("origin", "\"dev\"", "")),
        ("control", dependency("media-core", "null", "")),
        ("media-core", dependency("tokio", "null", "net")),
        ("media-core", dependency("hyper", "null", "server")),
        ("origin", dependency("anyhow", "null", "")),
        ("control-api", dependency("tokio", "null", "sync")),
    ];
    for (name, uses) in bad {
        let found = check_package(&package(name, &uses), &members);
        assert_eq!(found.len(), 1, "{name} uses {uses}: {found:?}");
    }
    assert_eq!(check_package(&package("novel", ""), &members).len(), 1);
}

#[test]
fn allowed_crates_are_left_alone() {
    let members = ["origin", "edge", "media-core"];
    let uses = [dependency("media-core", "null", ""), dependency("tokio", "null", "net")].join(",");
    assert_eq!(check_package(&package("edge", &uses), &members), []);
    let uses = [dependency("tokio", "null", "sync"), dependency("tokio", "\"dev\"", "rt")].join(",");
    assert_eq!(check_package(&package("media-core", &uses), &members), []);
}
