//! What all replicas of the control plane agree on: named values that change one at a time, leases that end with whoever
//! does not renew them, and watches.
//!
//! Every change has a [`Revision`], which grows with each of them, over all keys. A write says what it expects to find, so
//! that of two replicas that decide at once only one does. Nothing here is asked while somebody watches a stream.

mod config;
mod etcd;
mod history;
mod memory;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use config::{Config, ConfigError, Engine, connect};
pub use etcd::Etcd;
pub use memory::Memory;

/// Bytes that a name may have. Names are of nodes and streams, whose own bounds are lower.
pub const MAX_KEY_BYTES: usize = 1024;
/// Bytes that a value may have. What is agreed on is records; the largest, a node's, is a few kilobytes.
pub const MAX_VALUE_BYTES: usize = 32 * 1024;
/// The longest lease. No lease is meant to be: it keeps times within what clocks can count.
pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a key and a value are held to before an engine sees them.
fn check(key: &str, value: &[u8]) -> Result<(), RegistryError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(RegistryError::Full("the name is too long"));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(RegistryError::Full("the value is too long"));
    }
    Ok(())
}

/// The number of a change. It grows with every change, and no two have the same: but values that go with one lease may go
/// by one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// A lease: what is stored under it is gone when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, such as `nodes/edge-1`.
    pub key: String,
    /// What is stored.
    pub value: Bytes,
    /// The change that made it what it is.
    pub revision: Revision,
}

/// What a write has to find, or it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever there is.
    Anything,
    /// Nothing of that name.
    Absent,
    /// What this change made.
    At(Revision),
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value now.
    Put(Entry),
    /// It is gone, by a deletion or the end of its lease.
    Deleted {
        /// The name.
        key: String,
        /// The change that did it.
        revision: Revision,
    },
}

impl Change {
    /// The name of what changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Deleted { key, .. } => key,
        }
    }

    /// The number of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}

/// All values whose names begin alike, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Ordered by name.
    pub entries: Vec<Entry>,
    /// The newest change that is in it.
    pub revision: Revision,
}

/// Why the registry could not do something. All of it may be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It can't be reached, or does not answer in time. Whether a write was done is not known then.
    #[error("the registry cannot be reached: {0}")]
    Unavailable(String),
    /// The lease has ended.
    #[error("the lease has ended")]
    LeaseEnded,
    /// What a watch wants to begin with is no longer kept: list and watch again.
    #[error("the registry keeps no changes as old as that")]
    Compacted,
    /// A bound of the registry: of a key, a value, or their number.
    #[error("the registry takes no more: {0}")]
    Full(&'static str),
}

/// A registry: [`Memory`] for one replica, [`Etcd`] for several.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// The value of that name.
    async fn get(&self, key: &str) -> Result<Option<Entry>, RegistryError>;

    /// All values whose names begin with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Snapshot, RegistryError>;

    /// Writes a value if what is there is as expected, under a lease if one is given: else it stays until it is deleted.
    /// `None`: it was not as expected, and nothing was done. A value that is written anew leaves the lease it was under.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>, RegistryError>;

    /// Deletes a value if it is as expected. Whether it did.
    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, RegistryError>;

    /// A new lease, which ends when it is not renewed for so long. An engine may round that up: etcd counts in seconds, and
    /// two at least.
    async fn lease(&self, ttl: Duration) -> Result<LeaseId, RegistryError>;

    /// Renews a lease; [`RegistryError::LeaseEnded`] if that is too late.
    async fn renew(&self, lease: LeaseId) -> Result<(), RegistryError>;

    /// Ends a lease, and with it what is stored under it. It is no error that it has ended already.
    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError>;

    /// All changes of names that begin with `prefix` after the change `after`, in order. That they are no longer kept is
    /// said here or by the first [`Watch::next`].
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, RegistryError>;
}

/// Changes as they come.
#[async_trait]
pub trait Watch: Send {
    /// The next changes, one at least; those that have one revision come together. A call that is dropped loses none. After
    /// an error the watch is over: list and watch again.
    async fn next(&mut self) -> Result<Vec<Change>, RegistryError>;
}
