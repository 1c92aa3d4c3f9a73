//! The configuration: what each role owns, nested, and the keys that belong to the process.
//!
//! One TOML file, every key overridable by an environment variable (`WEIR_ORIGIN__RTMP__LISTEN`) and
//! the common ones by a flag.

mod file;
mod layers;
mod mistake;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::Serve;
use crate::{admin, log};
use file::File;
use layers::Layers;
pub(crate) use mistake::Mistakes;
use mistake::{Mistake, Place};

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
    /// Seconds that viewers and publishers get to end by themselves after SIGTERM.
    pub(crate) drain_s: u64,
    /// Logs.
    pub(crate) log: log::Config,
    /// The admin port.
    pub(crate) admin: admin::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./weir-data"),
            drain_s: 20,
            log: log::Config::default(),
            admin: admin::Config::default(),
        }
    }
}

/// A day: longer than any restart should wait, and far from where times overflow.
const MAX_DRAIN_S: u64 = 86_400;

impl Config {
    /// The configuration of a serving process: flags over environment over file over defaults.
    pub(crate) fn load(flags: &Serve) -> Result<Self, Mistakes> {
        let mut layers = Layers::default();
        match &flags.config {
            Some(path) => read(&mut layers, path)?,
            None if Path::new(FILE).exists() => read(&mut layers, Path::new(FILE))?,
            None => {}
        }
        // A variable that is not UTF-8 can't be a value of ours.
        layers.env(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
        set_flags(&mut layers, flags);
        Self::extract(layers)
    }

    /// What `path` alone makes of the defaults.
    pub(crate) fn check_file(path: &Path) -> Result<Self, Mistakes> {
        let mut layers = Layers::default();
        read(&mut layers, path)?;
        Self::extract(layers)
    }

    fn extract(mut layers: Layers) -> Result<Self, Mistakes> {
        let config: Self = layers.extract()?;
        let mistakes: Vec<_> = config
            .semantics()
            .into_iter()
            .map(|(key, what)| Mistake { place: layers.place(&key, true), what: format!("`{key}`: {what}") })
            .collect();
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }

    /// What no type can say: (key, what is wrong with it).
    fn semantics(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: &str, what: String| wrong.push((key.to_owned(), what));
        if let Err(error) = log::filter(&self.log.level) {
            say("log.level", error.to_string());
        }
        if self.drain_s > MAX_DRAIN_S {
            say("drain_s", format!("{} is more than a day ({MAX_DRAIN_S})", self.drain_s));
        }
        wrong
    }
}

fn read(layers: &mut Layers, path: &Path) -> Result<(), Mistakes> {
    let place = Place::File { path: path.to_owned(), position: None };
    let one = |mistake| Mistakes(vec![mistake]);
    let file = File::read(path).map_err(|error| one(Mistake { place, what: format!("cannot read: {error}") }))?;
    layers.file(file).map_err(one)
}

fn set_flags(layers: &mut Layers, flags: &Serve) {
    if let Some(data) = &flags.data {
        layers.flag("--data", "data", data.to_string_lossy().into_owned());
    }
    if let Some(level) = &flags.log {
        layers.flag("--log", "log.level", level.clone());
    }
    if let Some(format) = flags.log_format {
        let name = match format {
            log::Format::Human => "human",
            log::Format::Json => "json",
        };
        layers.flag("--log-format", "log.format", name);
    }
    let addresses = [
        ("--http", "edge.http.listen", flags.http),
        ("--rtmp", "origin.rtmp.listen", flags.rtmp),
        ("--admin", "admin.listen", flags.admin),
    ];
    for (flag, key, address) in addresses {
        if let Some(address) = address {
            layers.flag(flag, key, address.to_string());
        }
    }
}
