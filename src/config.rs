//! The configuration: what each role owns, nested, and the keys that belong to the process.
//!
//! One TOML file, every key overridable by an environment variable (`WEIR_ORIGIN__RTMP__LISTEN`) and
//! the common ones by a flag.

mod file;
mod layers;
mod mistake;
mod semantics;

use std::path::{Path, PathBuf};

use control_api::grant;
use serde::{Deserialize, Serialize};

use crate::roles::{Role, Wish};
use crate::{admin, agent, log, traces};
use file::File;
use layers::Layers;
pub(crate) use mistake::Mistakes;
use mistake::{Mistake, Place};
use semantics::Finding;
pub(crate) use semantics::may_match;

/// The default configuration with a comment on every key; a test keeps it true.
pub(crate) const DEFAULT: &str = include_str!("config/default.toml");

/// Read where no other file is named, if it is there.
const FILE: &str = "weir.toml";

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Folder for all that is kept.
    pub(crate) data: PathBuf,
    /// Seconds after SIGTERM in which all goes on, but the process says that it is not ready.
    pub(crate) unready_s: u64,
    /// Seconds after that in which viewers get the end of their streams, at most.
    pub(crate) drain_s: u64,
    /// Logs.
    pub(crate) log: log::Config,
    /// The admin port.
    pub(crate) admin: admin::Config,
    /// Traces.
    pub(crate) traces: traces::Config,
    /// Grants, which origin and edge verify.
    pub(crate) grants: grant::Config,
    /// The origin: what takes streams in.
    pub(crate) origin: origin::Config,
    /// The edge: what serves viewers.
    pub(crate) edge: edge::Config,
    /// TURN and STUN, beside the edge.
    pub(crate) turn: turn_server::Config,
    /// The node's place in a cluster.
    pub(crate) cluster: agent::Config,
    /// The control plane: pages and API.
    pub(crate) control: control::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./weir-data"),
            unready_s: 0,
            drain_s: 20,
            log: log::Config::default(),
            admin: admin::Config::default(),
            traces: traces::Config::default(),
            grants: grant::Config::default(),
            origin: origin::Config::default(),
            edge: edge::Config::default(),
            turn: turn_server::Config::default(),
            cluster: agent::Config::default(),
            control: control::Config::default(),
        }
    }
}

impl Config {
    /// The configuration of a serving process: flags over environment over file over defaults.
    pub(crate) fn load(flags: &Wish) -> Result<Self, Mistakes> {
        let mut layers = Layers::default();
        match &flags.process.config {
            Some(path) => read(&mut layers, path)?,
            None if Path::new(FILE).exists() => read(&mut layers, Path::new(FILE))?,
            None => {}
        }
        // A variable that is not UTF-8 can't be a value of ours.
        layers.env(
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        );
        set_flags(&mut layers, flags);
        Self::extract(layers, Some(flags.role))
    }

    /// What `path` alone makes of the defaults.
    pub(crate) fn check_file(path: &Path) -> Result<Self, Mistakes> {
        let mut layers = Layers::default();
        read(&mut layers, path)?;
        Self::extract(layers, None)
    }

    /// For a process of that role, if it is known: what other roles need may be missing, and their ports may be taken.
    fn extract(mut layers: Layers, role: Option<Role>) -> Result<Self, Mistakes> {
        let config: Self = layers.extract()?;
        let mistakes: Vec<_> = semantics::check(&config, role)
            .0
            .into_iter()
            .map(|Finding { keys, what }| {
                let key = layers.first_set(&keys);
                Mistake { place: layers.place(key, true), what: format!("`{key}`: {what}") }
            })
            .collect();
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }
}

fn read(layers: &mut Layers, path: &Path) -> Result<(), Mistakes> {
    let place = Place::File { path: path.to_owned(), position: None };
    let one = |mistake| Mistakes(vec![mistake]);
    let file =
        File::read(path).map_err(|error| one(Mistake { place, what: format!("cannot read: {error}") }))?;
    layers.file(file).map_err(one)
}

fn set_flags(layers: &mut Layers, flags: &Wish) {
    let (role, process) = (flags.role, &flags.process);
    if let Some(data) = &process.data {
        layers.flag("--data", "data", data.to_string_lossy().into_owned());
    }
    if let Some(level) = &process.log {
        layers.flag("--log", "log.level", level.clone());
    }
    if let Some(format) = process.log_format {
        let name = match format {
            log::Format::Human => "human",
            log::Format::Json => "json",
        };
        layers.flag("--log-format", "log.format", name);
    }
    if !flags.origins.is_empty() {
        layers.flag("--origin", "edge.upstream.origins", flags.origins.clone());
    }
    if !flags.node.control.is_empty() {
        layers.flag("--control", "cluster.control", flags.node.control.clone());
    }
    if let Some(name) = &flags.node.name {
        layers.flag("--name", "cluster.name", name.clone());
    }
    let addresses = [
        ("--grpc", "control.cluster.listen", flags.grpc),
        ("--http", role.http_key(), flags.http),
        ("--https", "edge.tls.listen", flags.https),
        ("--rtmp", role.rtmp_key(), flags.rtmp),
        ("--srt", role.srt_key(), flags.srt),
        ("--admin", "admin.listen", process.admin),
    ];
    for (flag, key, address) in addresses {
        if let Some(address) = address {
            layers.flag(flag, key, address.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn check(text: &str) -> Result<Config, Mistakes> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.toml");
        std::fs::write(&path, text).unwrap();
        Config::check_file(&path)
    }

    /// Every key of a tree, those of tables in lists left out.
    fn keys(prefix: &str, value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    keys(&key, value, out);
                }
            }
            _ => {
                out.insert(prefix.to_owned());
            }
        }
    }

    #[test]
    fn the_default_configuration_is_the_defaults() {
        assert_eq!(check(DEFAULT).unwrap(), Config::default());
        assert_eq!(check("").unwrap(), Config::default());
    }

    #[test]
    fn every_key_is_in_the_default_configuration_with_a_comment() {
        let mut expected = BTreeSet::new();
        keys("", &serde_json::to_value(Config::default()).unwrap(), &mut expected);
        let mut found = BTreeSet::new();
        let (mut table, mut before) = (String::new(), "");
        for line in DEFAULT.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                table = format!("{name}.");
            }
            // An optional key stands in a comment of its own.
            let key = line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key);
            if let Some(key) =
                key.filter(|k| k.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
            {
                assert!(before.starts_with('#'), "{table}{key} has no comment");
                found.insert(format!("{table}{key}"));
            }
            before = line;
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn keys_that_reload_are_marked() {
        let mut table = String::new();
        let mut comment = String::new();
        for line in DEFAULT.lines() {
            if let Some(text) = line.strip_prefix('#') {
                comment.push_str(text);
            } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                table = format!("{name}.");
            } else if let Some((key, _)) = line.split_once(" = ") {
                let key = format!("{table}{key}");
                let marked = comment.contains("[reload]");
                assert_eq!(marked, crate::reload::is_at_run_time(&key), "{key}");
            }
            if !line.starts_with('#') {
                comment.clear();
            }
        }
    }

    #[test]
    fn contradictions_are_named_with_line_and_key() {
        let text = "[edge.http]\nlisten = \"0.0.0.0:1935\"\n[origin.hls]\n# too long\npart_ms = 1500\n";
        let Mistakes(list) = check(text).unwrap_err();
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(list.len(), 2, "{list:?}");
        assert!(list[0].contains("weir.toml:2:10: `edge.http.listen`: 0.0.0.0:1935 is taken by"), "{list:?}");
        assert!(list[1].contains("weir.toml:5:11: `origin.hls.part_ms`: part_ms is 1500"), "{list:?}");
    }

    #[test]
    fn contradictions_are_named_at_a_key_that_was_set() {
        let said = |text: &str| check(text).unwrap_err().to_string();
        let start = |text: &str, expected: &str| {
            let said = said(text);
            assert!(said.contains(expected), "{expected} is not in {said}");
        };
        start("drain_s = 9", "weir.toml:1:11: `drain_s`: a drain takes up to 6000 ms");
        start("[edge.http]\ndrain_ms = 20000", "weir.toml:2:12: `edge.http.drain_ms`: a drain takes");
        let long = "[edge.http]\n[origin.hls]\nsegment_ms = 10000\nwindow_ms = 60000";
        assert_eq!(
            said(long).matches("weir.toml:3:14: `origin.hls.segment_ms`: ").count(),
            3,
            "{}",
            said(long)
        );
        start("[origin.hls]\npart_ms = 600", "weir.toml:2:11: `origin.hls.part_ms`: segment_ms is 2000");
        start(
            "[origin.auth]\nkeys = [{ streams = \"live\", key = \"k\" }]\nmode = \"keys\"",
            "weir.toml:2:21: `origin.auth.keys.0.streams`: matches no stream",
        );
    }

    /// Everything that can be wrong around a publish key names its place and never the key.
    #[test]
    fn publish_keys_are_not_repeated() {
        const SECRET: &str = "20406080";
        for text in [
            "[origin.auth]\nkeys = 20406080",
            "[origin.auth]\nkeys = \"20406080\"",
            "[origin.auth]\nkeys = [20406080]",
            "[origin.auth]\nkeys = [\"20406080\"]",
            "[origin.auth]\nkeys = { \"live/*\" = 20406080 }",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = 20406080 }]",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = 20406080.5 }]",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = [20406080] }]",
            "[origin.auth]\nkeys = [{ \"live/*\" = 20406080 }]",
            "[origin.auth]\nkeys = [{ 20406080 = \"live/*\" }]",
            "[origin.auth]\nmode = 20406080",
            "[origin.auth]\nmode = \"20406080\"",
            "[origin]\nauth = 20406080",
            // Mistakes of syntax.
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = a20406080 }]",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = 20406080a }]",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = \"20406080 }]",
            "[origin.auth]\nkeys = [{ streams = \"live/*\", key = 020406080 }]",
        ] {
            let said = check(text).unwrap_err().to_string();
            assert!(said.contains("weir.toml:2:") && !said.contains(SECRET), "{text}: {said}");
        }
        for (name, value) in [
            ("WEIR_ORIGIN__AUTH__KEYS", "20406080"),
            ("WEIR_ORIGIN__AUTH__KEYS", "a20406080"),
            ("WEIR_ORIGIN__AUTH__KEYS", "[20406080]"),
            ("WEIR_ORIGIN__AUTH__KEYS", "[{streams=\"live/*\",key=20406080}]"),
            ("WEIR_ORIGIN__AUTH__KEYS", "[{20406080=\"live/*\"}]"),
            ("WEIR_ORIGIN__AUTH__KEY", "20406080"),
            ("WEIR_ORIGIN__AUTH__MODE", "20406080"),
            ("WEIR_ORIGIN__AUTH", "20406080"),
        ] {
            let mut layers = Layers::default();
            layers.env([(name.to_owned(), value.to_owned())].into_iter());
            let said = Config::extract(layers, None).unwrap_err().to_string();
            let named = said.starts_with(&format!("environment variable {name}"));
            assert!(named && !said.contains(SECRET), "{name}={value}: {said}");
        }
    }

    /// Nor are the keys of grants.
    #[test]
    fn grant_keys_are_not_repeated() {
        const SECRET: &str = "20406080";
        for text in [
            "[grants]\nkeys = 20406080",
            "[grants]\nkeys = [{ kid = \"a\", algorithm = \"HS256\", secret = \"20406080\" }]",
            "[grants]\nkeys = [{ kid = \"a\", algorithm = \"EdDSA\", secret = \"20406080\" }]",
            "[grants]\nkeys = [{ kid = \"a\", algorithm = \"HS256\", secret = 20406080 }]",
            "[grants]\nkeys = [{ kid = \"a\", algorithm = \"20406080\", secret = \"a\" }]",
            "[grants]\nkeys = [{ kid = \"a\", algorithm = \"HS256\", secret = \"20406080\", file = \"20406080\" }]",
        ] {
            let said = check(text).unwrap_err().to_string();
            assert!(said.contains("weir.toml:2:") && !said.contains(SECRET), "{text}: {said}");
        }
    }

    /// Nor is what a collector of traces is shown.
    #[test]
    fn headers_of_traces_are_not_repeated() {
        const SECRET: &str = "20406080";
        for text in [
            "[traces]\nheaders = 20406080",
            "[traces]\nheaders = \"20406080\"",
            "[traces]\nheaders = \"a b=20406080\"",
            "[traces]\nheaders = [\"20406080\"]",
        ] {
            let said = check(text).unwrap_err().to_string();
            let named = said.contains("weir.toml:2:11: `traces.headers`");
            assert!(named && !said.contains(SECRET), "{text}: {said}");
        }
        let said = check("[traces]\nendpoint = \"collector:4317\"\nplay_ratio = 2").unwrap_err().to_string();
        assert!(
            said.contains("2:12: `traces.endpoint`") && said.contains("3:14: `traces.play_ratio`"),
            "{said}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::check_file(Path::new("/nowhere/weir.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/weir.toml: cannot read:"), "{error}");
    }
}
