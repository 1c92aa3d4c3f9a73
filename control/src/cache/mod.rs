//! What replicas of the control plane tell each other that can be made anew: load, presence, rankings, rate limits.
//!
//! All of it may be lost at any moment, and what reads it has to do without.

mod config;
mod memory;
mod redis;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use config::{Config, ConfigError, Engine, connect};
pub use memory::Memory;
pub use redis::Redis;

/// Bytes that a name may have, of a value, a group, a member or a counter.
pub const MAX_KEY_BYTES: usize = 1024;
/// Bytes that a value may have. The largest, a node's load, is a few kilobytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The longest time that something is kept. Nothing is meant to stay as long: it keeps times within what clocks can count.
pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What names and values are held to before an engine sees them.
fn check(key: &str, value: &[u8]) -> Result<(), CacheError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(CacheError::Full("the name is too long"));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(CacheError::Full("the value is too long"));
    }
    Ok(())
}

/// A time that every engine can count: Redis does in milliseconds, and refuses none at all.
fn countable(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(1), MAX_TTL)
}

/// Why the cache could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It can't be reached, or does not answer in time.
    #[error("the cache cannot be reached: {0}")]
    Unavailable(String),
    /// A bound of the cache: of a name, a value, a group or a counter.
    #[error("the cache takes no more: {0}")]
    Full(&'static str),
}

/// A cache: [`Memory`] for one replica, [`Redis`] (one server, or a cluster) for several.
///
/// Values, groups and counters don't meet: one of each may have the same name.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync + 'static {
    /// The value of that name.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError>;

    /// Sets a value, which is gone after `ttl`.
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError>;

    /// Deletes the value, the group and the counter of that name.
    async fn remove(&self, key: &str) -> Result<(), CacheError>;

    /// Sets members of a group, such as the load of each node. The group is gone when none of it was set for `ttl`.
    async fn set_members(
        &self,
        group: &str,
        members: Vec<(String, Bytes)>,
        ttl: Duration,
    ) -> Result<(), CacheError>;

    /// All members of a group.
    async fn members(&self, group: &str) -> Result<Vec<(String, Bytes)>, CacheError>;

    /// Removes members of a group.
    async fn remove_members(&self, group: &str, members: &[String]) -> Result<(), CacheError>;

    /// Adds to a counter, which is gone `ttl` after it was first added to. Its value now.
    async fn add(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, CacheError>;
}
