//! SIGHUP: what of a changed configuration can be had without a restart, and what cannot.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::Config;

/// Keys, or tables of keys, that a running process takes over.
const AT_RUN_TIME: &[&str] = &[
    "drain_s",
    "unready_s",
    "control.hooks",
    "edge.upstream.ca",
    "edge.upstream.key",
    "edge.upstream.origins",
    "log.level",
    "grants",
    "edge.guard",
    "origin.auth",
    "origin.rtmp.max_connections",
    "origin.rtmp.max_connections_per_address",
    "origin.rtmp.handshake_timeout_ms",
    "origin.rtmp.request_timeout_ms",
    "origin.rtmp.first_frame_timeout_ms",
    "origin.rtmp.idle_timeout_ms",
    "origin.srt.max_connections",
    "origin.srt.max_connections_per_address",
    "origin.srt.first_frame_timeout_ms",
    "origin.srt.idle_timeout_ms",
    "origin.srt.passphrases",
];

/// What a new configuration changes. Keys only: values may be secrets.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    /// The configuration from now on: the old one with what can change at run time.
    pub(crate) config: Config,
    /// Keys that changed.
    pub(crate) applied: Vec<String>,
    /// Keys that will change with the next start.
    pub(crate) at_restart: Vec<String>,
}

/// Compares what runs with what is wanted.
pub(crate) fn compare(running: &Config, wanted: &Config) -> serde_json::Result<Change> {
    let mut merged = serde_json::to_value(running)?;
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &merged, &mut before);
    flatten("", &serde_json::to_value(wanted)?, &mut after);
    let changed = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
    let mut changed: Vec<String> = changed.cloned().collect();
    changed.sort_unstable();
    changed.dedup();
    let (applied, at_restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(|key| is_at_run_time(key));
    for key in &applied {
        set(&mut merged, key, after.get(key).cloned().unwrap_or(Value::Null));
    }
    Ok(Change { config: serde_json::from_value(merged)?, applied, at_restart })
}

/// Whether a running process takes over a change of `key`.
pub(crate) fn is_at_run_time(key: &str) -> bool {
    AT_RUN_TIME
        .iter()
        .any(|free| key.strip_prefix(free).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Every key with its value; lists are values.
fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, out);
            }
        }
        value => {
            out.insert(prefix.to_owned(), value.clone());
        }
    }
}

fn set(tree: &mut Value, key: &str, value: Value) {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Value::Object(table) = tree else { return };
    match rest {
        None => {
            table.insert(first.to_owned(), value);
        }
        Some(rest) => {
            set(table.entry(first).or_insert_with(|| Value::Object(Default::default())), rest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_is_taken_over_and_the_rest_is_named() {
        let running = Config::default();
        let mut wanted = running.clone();
        wanted.log.level = "debug".into();
        wanted.admin.listen.set_port(1);
        wanted.data = "elsewhere".into();
        let change = compare(&running, &wanted).unwrap();
        assert_eq!(change.applied, ["log.level"]);
        assert_eq!(change.at_restart, ["admin.listen", "data"]);
        let mut expected = running;
        expected.log.level = "debug".into();
        assert_eq!(change.config, expected);
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let config = Config::default();
        let change = compare(&config, &config).unwrap();
        assert_eq!(change, Change { config, applied: vec![], at_restart: vec![] });
    }

    #[test]
    fn keys_that_can_change_exist() {
        let mut keys = BTreeMap::new();
        flatten("", &serde_json::to_value(Config::default()).unwrap(), &mut keys);
        for free in AT_RUN_TIME {
            let nested = format!("{free}.");
            assert!(keys.keys().any(|k| k == free || k.starts_with(&nested)), "{free} is no key");
        }
    }
}
