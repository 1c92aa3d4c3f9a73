//! The rules of the house, kept by looking at the workspace and its sources. Each rule stands in a file
//! of its own beside this one and is tested there on small bad inputs.

mod crates;
mod files;
mod modules;
mod routes;
mod source;
mod texts;

use std::fmt;
use std::path::Path;

use source::Source;

use crate::support::turn::{self, Load};

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Finding {
    fn new(source: &Source, at: usize, rule: &'static str, what: String) -> Self {
        Self { path: source.path.clone(), line: source.line_of(at), rule, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.what, self.rule)
    }
}

/// Folders that hold nothing of our own.
const FOREIGN: &[&str] = &[".git", "target", "node_modules", "dist", "weir-data", "corpus", "artifacts"];
/// Files that are text of our own.
const TEXTS: &[&str] =
    &["rs", "md", "toml", "sh", "ts", "vue", "js", "mjs", "css", "html", "json", "yml", "yaml", "conf"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path from the root and contents of every text of the project.
fn texts_of_the_project() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if !FOREIGN.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            let is_text = TEXTS.contains(&extension) || ["Makefile", "run"].contains(&name.as_str());
            if is_text && name != "package-lock.json" {
                let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((relative, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let texts = texts_of_the_project();
    let sources: Vec<Source> = texts
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| Source::new(path, text))
        .collect();
    assert!(sources.iter().any(|s| s.path == "src/main.rs") && sources.iter().any(|s| s.path == file!()));
    sources
}

#[track_caller]
fn assert_none(findings: &[Finding]) {
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} breaches of the rules:\n{}", findings.len(), report.join("\n"));
}

#[tokio::test]
async fn crates_use_only_what_they_may() {
    let _turn = turn::take(Load::Light).await;
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned(), "--locked".to_owned()])
        .exec()
        .unwrap();
    assert_none(&crates::check(&metadata));
}

#[tokio::test]
async fn modules_of_media_core_use_only_what_they_may() {
    let _turn = turn::take(Load::Light).await;
    assert_none(&sources().iter().flat_map(modules::check).collect::<Vec<_>>());
}

#[tokio::test]
async fn files_keep_the_rules() {
    let _turn = turn::take(Load::Light).await;
    assert_none(&sources().iter().flat_map(files::check).collect::<Vec<_>>());
}

#[tokio::test]
async fn texts_keep_the_rules() {
    let _turn = turn::take(Load::Light).await;
    let texts = texts_of_the_project();
    assert_none(&texts.iter().flat_map(|(path, text)| texts::check(path, text)).collect::<Vec<_>>());
}

#[tokio::test]
async fn routes_are_reserved() {
    let _turn = turn::take(Load::Light).await;
    let reserved = control_api::RESERVED_APPS;
    assert_none(&sources().iter().flat_map(|source| routes::check(source, reserved)).collect::<Vec<_>>());
}
