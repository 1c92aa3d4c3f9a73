//! Calling others: what pulls and pushes have in common.

mod address;
mod board;
mod retry;
mod shown;
pub(crate) mod srt;
mod trouble;

use std::time::Duration;

use control_api::Network;
use media_core::hub::{KeyError, StreamKey};
use serde::{Deserialize, Serialize};

pub(crate) use address::{Host, Reach};
pub(crate) use board::{Board, gauges};
pub(crate) use retry::Retry;
pub(crate) use shown::Shown;
pub(crate) use trouble::Trouble;

/// How others are called: how many at once, and how long they may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pulls at once, configured and ordered by the API; further ones are left out.
    pub max_pulls: usize,
    /// Pushes at once, configured and ordered by the API; further ones are left out.
    pub max_pushes: usize,
    /// Milliseconds that the other side has until it sends, or takes, media.
    pub connect_timeout_ms: u64,
    /// Milliseconds after which a source that sends no media is called anew.
    pub idle_timeout_ms: u64,
    /// Milliseconds before the first new call after a failure; each further one takes twice as long.
    pub retry_ms: u64,
    /// Milliseconds between two calls at most.
    pub max_retry_ms: u64,
    /// Milliseconds that who asks for a stream waits for its on-demand pull.
    pub on_demand_wait_ms: u64,
    /// Milliseconds for which an on-demand pull goes on without viewers.
    pub on_demand_linger_ms: u64,
    /// Networks that pulls and pushes may call whom the API orders, though they are this machine's own or link-local.
    pub allow_networks: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_pulls: 200,
            max_pushes: 200,
            connect_timeout_ms: 10_000,
            idle_timeout_ms: 10_000,
            retry_ms: 1_000,
            max_retry_ms: 30_000,
            on_demand_wait_ms: 3_500,
            on_demand_linger_ms: 10_000,
            allow_networks: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry::new(Duration::from_millis(self.retry_ms), Duration::from_millis(self.max_retry_ms))
    }
}

/// What is wrong with a pull or a push that somebody wants. Of the URL it says nothing that is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// The stream is no `app/name`.
    #[error("the stream must be app/name, such as live/camera")]
    NoStream,
    /// The stream's name cannot be used.
    #[error(transparent)]
    Stream(#[from] KeyError),
    /// The URL is none.
    #[error("the URL cannot be read: {0}")]
    Url(String),
}

/// The stream that `app/name` names.
pub(crate) fn stream(text: &str) -> Result<StreamKey, WishError> {
    let (app, name) = text.split_once('/').ok_or(WishError::NoStream)?;
    Ok(StreamKey::parse(app, name, control_api::RESERVED_APPS)?)
}
