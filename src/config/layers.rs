//! Flags over environment over file over defaults, and the search for every mistake in them.

use std::collections::BTreeMap;

use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use figment::{Figment, Profile};
use serde::de::DeserializeOwned;

use super::file::File;
use super::mistake::{Mistake, Mistakes, Place, describe};

/// What stands before the name of every environment variable that is a key.
const PREFIX: &str = "WEIR_";
/// Between the parts of a key in the name of an environment variable.
const NESTING: &str = "__";

/// The sources of a configuration, without the defaults, which each type brings along.
#[derive(Default)]
pub(super) struct Layers {
    file: Option<(File, Dict)>,
    env: Dict,
    raw_env: BTreeMap<String, String>,
    flags: Dict,
    flag_names: BTreeMap<String, &'static str>,
}

impl Layers {
    /// Adds the file, if its syntax is right.
    pub(super) fn file(&mut self, file: File) -> Result<(), Mistake> {
        let values = file.values()?;
        self.file = Some((file, values));
        Ok(())
    }

    /// Adds those of the environment's variables that are keys.
    pub(super) fn env(&mut self, vars: impl Iterator<Item = (String, String)>) {
        self.raw_env = vars
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(PREFIX)?;
                (!is_kubernetes(key) && !key.is_empty() && key != "CONFIG")
                    .then(|| (key.to_ascii_lowercase().replace(NESTING, "."), value))
            })
            .collect();
        for (key, raw) in &self.raw_env {
            let value: Value = raw.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
            insert(&mut self.env, &parts(key), value);
        }
    }

    /// Adds a flag's value.
    pub(super) fn flag(&mut self, name: &'static str, key: &str, value: impl Into<Value>) {
        insert(&mut self.flags, &parts(key), value.into());
        self.flag_names.insert(key.to_owned(), name);
    }

    /// The first of `keys` that somebody set; where nobody set any, the first.
    pub(super) fn first_set<'a>(&self, keys: &'a [String]) -> &'a str {
        let file = self.file.as_ref().map(|(_, values)| values);
        let layers = [Some(&self.flags), Some(&self.env), file];
        let set = |key: &&String| layers.iter().flatten().any(|layer| get(layer, &parts(key)).is_some());
        keys.iter().find(set).or(keys.first()).map_or("", String::as_str)
    }

    /// Where `key`, or what is wrong with its value, is to be mended.
    pub(super) fn place(&self, key: &str, value: bool) -> Place {
        let path = parts(key);
        if get(&self.flags, &path).is_some() {
            return Place::Flag(self.flag_names.get(key).copied().unwrap_or(key).to_owned());
        }
        if get(&self.env, &path).is_some() {
            // Of a list, the environment has the whole.
            return Place::Env(variable(&without_index(&path).join(".")));
        }
        match &self.file {
            Some((file, values)) if get(values, path.get(..1).unwrap_or_default()).is_some() => {
                file.place(&path, value)
            }
            _ => Place::Default,
        }
    }

    /// The configuration, or all that is wrong with it.
    pub(super) fn extract<T: DeserializeOwned>(&mut self) -> Result<T, Mistakes> {
        let mut mistakes = Vec::new();
        loop {
            let error = match self.merged().extract::<T>() {
                Ok(config) if mistakes.is_empty() => return Ok(config),
                Ok(_) => return Err(Mistakes(mistakes)),
                Err(error) => error,
            };
            let key = error.path.join(".");
            if self.retry_as_text(&key, &error.kind) {
                continue;
            }
            let about_value = !matches!(error.kind, Kind::UnknownField(..));
            mistakes
                .push(Mistake { place: self.place(&key, about_value), what: describe(&key, &error.kind) });
            // The next mistake shows when this one is out of the way.
            if !self.remove(&error.path) {
                return Err(Mistakes(mistakes));
            }
        }
    }

    fn merged(&self) -> Figment {
        let mut figment = Figment::new();
        if let Some((_, values)) = &self.file {
            figment = figment.merge(Serialized::from(values, Profile::Default));
        }
        figment
            .merge(Serialized::from(&self.env, Profile::Default))
            .merge(Serialized::from(&self.flags, Profile::Default))
    }

    /// A variable that looks like a number or `true` may be meant as text (a publish key `12345`).
    fn retry_as_text(&mut self, key: &str, kind: &Kind) -> bool {
        let (Kind::InvalidType(..), Some(raw)) = (kind, self.raw_env.get(key)) else { return false };
        let path = parts(key);
        match get(&self.env, &path) {
            Some(Value::Bool(..) | Value::Num(..) | Value::Char(..) | Value::Empty(..)) => {
                insert(&mut self.env, &path, Value::from(raw.clone()));
                true
            }
            _ => false,
        }
    }

    /// Takes `path` out of the layer that it came from. Of a list only the whole can be taken.
    fn remove(&mut self, path: &[String]) -> bool {
        let path = without_index(path);
        let file = self.file.as_mut().map(|(_, values)| values);
        [Some(&mut self.flags), Some(&mut self.env), file].into_iter().flatten().any(|dict| take(dict, path))
    }
}

/// Kubernetes gives every pod variables about a service named `weir`; they are not ours.
fn is_kubernetes(key: &str) -> bool {
    key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_")
}

/// A path down to the list that it leads into, if it does.
fn without_index(path: &[String]) -> &[String] {
    let end = path.iter().position(|p| p.parse::<usize>().is_ok()).unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
}

/// The environment variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', NESTING))
}

fn parts(key: &str) -> Vec<String> {
    key.split('.').map(Into::into).collect()
}

fn get<'a>(dict: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = dict.get(first)?;
    match value {
        _ if rest.is_empty() => Some(value),
        Value::Dict(_, inner) => get(inner, rest),
        Value::Array(..) => Some(value),
        _ => None,
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let inner = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    if !matches!(inner, Value::Dict(..)) {
        *inner = Value::from(Dict::new());
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

fn take(dict: &mut Dict, path: &[String]) -> bool {
    match path.split_first() {
        None => false,
        Some((first, [])) => dict.remove(first).is_some(),
        Some((first, rest)) => match dict.get_mut(first) {
            Some(Value::Dict(_, inner)) => take(inner, rest),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        level: Level,
        origin: Origin,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        #[default]
        Open,
        Closed,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Origin {
        rtmp: Rtmp,
        keys: Vec<Key>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Rtmp {
        listen: Option<SocketAddr>,
        window: u16,
        name: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Key {
        stream: String,
        #[serde(default)]
        key: String,
    }

    fn layers(file: &str, env: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::default();
        layers.file(File::of(Path::new("weir.toml"), file.into())).unwrap();
        layers.env(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        layers
    }

    fn mistakes(file: &str, env: &[(&str, &str)]) -> Vec<String> {
        let Mistakes(list) = layers(file, env).extract::<Config>().unwrap_err();
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = "[origin.rtmp]\nwindow = 1\nname = \"file\"\nlisten = \"0.0.0.0:1\"";
        let env =
            [("WEIR_ORIGIN__RTMP__NAME", "env"), ("WEIR_ORIGIN__RTMP__LISTEN", "0.0.0.0:2"), ("PATH", "x")];
        let mut layers = layers(file, &env);
        layers.flag("--rtmp", "origin.rtmp.listen", "0.0.0.0:3");
        let config: Config = layers.extract().unwrap();
        assert_eq!(config.level, Level::Open);
        assert_eq!(config.origin.rtmp.window, 1);
        assert_eq!(config.origin.rtmp.name, "env");
        assert_eq!(config.origin.rtmp.listen, Some("0.0.0.0:3".parse().unwrap()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_a_suggestion() {
        assert_eq!(
            mistakes("level = \"open\"\n\n[origin.rmtp]\nwindow = 1\n", &[]),
            ["weir.toml:3:9: unknown key `origin.rmtp`, did you mean `rtmp`?"]
        );
        assert_eq!(
            mistakes("[origin.rtmp]\n  colour = 1\n", &[]),
            ["weir.toml:2:3: unknown key `origin.rtmp.colour`, expected one of `listen`, `window`, `name`"]
        );
    }

    #[test]
    fn all_mistakes_are_listed() {
        let file =
            "level = \"opne\"\n[origin]\nrmtp = 1\n[origin.rtmp]\nwindow = 70000\nlisten = \"nowhere\"\n";
        let all = mistakes(file, &[("WEIR_ORIGIN__RTMP__NAEM", "x"), ("WEIR_ORIGN", "1")]);
        assert_eq!(
            all,
            [
                "weir.toml:1:9: `level`: unknown value, did you mean \"open\"?",
                "weir.toml:3:1: unknown key `origin.rmtp`, did you mean `rtmp`?",
                "weir.toml:6:10: `origin.rtmp.listen`: invalid socket address syntax",
                "environment variable WEIR_ORIGIN__RTMP__NAEM: unknown key `origin.rtmp.naem`, did you mean `name`?",
                "weir.toml:5:10: `origin.rtmp.window`: expected a whole number from 0 to 65535",
                "environment variable WEIR_ORIGN: unknown key `orign`, did you mean `origin`?",
            ]
        );
    }

    #[test]
    fn wrong_types_are_named_with_line_and_column() {
        assert_eq!(
            mistakes("origin.rtmp.window = \"wide\"", &[]),
            ["weir.toml:1:22: `origin.rtmp.window`: expected a whole number from 0 to 65535, found a string"]
        );
        assert_eq!(
            mistakes("origin = 3", &[]),
            ["weir.toml:1:10: `origin`: expected a table, found a number"]
        );
        assert_eq!(
            mistakes("", &[("WEIR_ORIGIN__RTMP__WINDOW", "wide")]),
            [
                "environment variable WEIR_ORIGIN__RTMP__WINDOW: `origin.rtmp.window`: expected a whole number \
              from 0 to 65535, found a string"
            ]
        );
    }

    #[test]
    fn a_mistake_in_a_list_stands_at_its_element() {
        let file = "[[origin.keys]]\nstream = \"live/*\"\n[[origin.keys]]\nkey = \"k\"\n";
        assert_eq!(mistakes(file, &[]), ["weir.toml:3:1: `origin.keys.1`: the key `stream` is missing"]);
        let file = "[[origin.keys]]\nstream = 1\n";
        assert_eq!(
            mistakes(file, &[]),
            ["weir.toml:2:10: `origin.keys.0.stream`: expected a string, found a number"]
        );
    }

    #[test]
    fn text_in_the_environment_may_look_like_a_number() {
        let config: Config =
            layers("", &[("WEIR_ORIGIN__RTMP__NAME", "0123"), ("WEIR_ORIGIN__RTMP__WINDOW", "7")])
                .extract()
                .unwrap();
        assert_eq!(config.origin.rtmp.name, "0123");
        assert_eq!(config.origin.rtmp.window, 7);
    }

    #[test]
    fn lists_can_be_given_by_the_environment() {
        let config: Config =
            layers("", &[("WEIR_ORIGIN__KEYS", r#"[{stream="live/*",key="k"}]"#)]).extract().unwrap();
        assert_eq!(config.origin.keys, [Key { stream: "live/*".into(), key: "k".into() }]);
    }

    #[test]
    fn a_mistake_in_a_list_of_the_environment_names_the_variable() {
        let list = mistakes("", &[("WEIR_ORIGIN__KEYS", r#"[{stream="a"},{steam="b"}]"#)]);
        assert_eq!(list.len(), 1);
        let expected = "environment variable WEIR_ORIGIN__KEYS: unknown key `origin.keys.1.steam`";
        assert!(list[0].starts_with(expected), "{list:?}");
    }

    #[test]
    fn variables_of_kubernetes_are_not_keys() {
        let env =
            [("WEIR_PORT", "tcp://10.0.0.1:80"), ("WEIR_SERVICE_HOST", "10.0.0.1"), ("WEIR_CONFIG", "x")];
        assert_eq!(layers("", &env).extract::<Config>().unwrap(), Config::default());
    }

    #[test]
    fn wrong_flags_are_named() {
        let mut layers = layers("", &[]);
        layers.flag("--http", "origin.rtmp.window", "wide");
        let Mistakes(list) = layers.extract::<Config>().unwrap_err();
        assert_eq!(list[0].place, Place::Flag("--http".into()));
    }
}
