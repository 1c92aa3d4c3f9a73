//! Logs: lines for people or JSON on standard error, with a level that can change at run time.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How a log line is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,origin=debug`.
    pub(crate) level: String,
    /// For people or for machines.
    pub(crate) format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Human }
    }
}

/// A level that cannot be understood. It is not repeated: as any value, it may be a secret in the wrong place.
#[derive(Debug, thiserror::Error)]
#[error("expected error, warn, info, debug or trace, or a filter such as info,origin=debug")]
pub(crate) struct BadLevel;

/// Understands a level: a single word, or the filter directives of `tracing-subscriber`.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, BadLevel> {
    // A word that is no level would be taken as the name of a module, and silence the log.
    let mut directives = level.split(',').map(str::trim);
    let known =
        |l: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&l.to_lowercase().as_str());
    if directives.any(|d| !d.contains(['=', '[']) && !known(d)) {
        return Err(BadLevel);
    }
    EnvFilter::try_new(level).map_err(|_| BadLevel)
}

/// Changes the level of a running process.
#[derive(Clone)]
pub(crate) struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// From now on only what `level` lets through is logged.
    pub(crate) fn set(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

/// Starts logging, panics included. Once a process.
pub(crate) fn start(config: &Config) -> anyhow::Result<Level> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = match config.format {
        Format::Human => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).boxed()
        }
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("panic");
        tracing::error!(place, "a task panicked: {what}");
    }));
    Ok(Level(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_understood() {
        for good in ["info", "WARN", "info,origin=debug", "off", "weir[publish]=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,verbose", "origin=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        for secret in ["s3cret", "origin=s3cret"] {
            let error = filter(secret).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
