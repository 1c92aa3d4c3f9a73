//! A part of the registry as each replica has it in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::registry::{Change, Entry, Registry, RegistryError};

/// How long to wait before the registry is asked again, at first and at most.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What has become of a prefix.
pub(crate) enum Step {
    /// This is all there is.
    All(Vec<Entry>),
    /// This has changed since.
    Changes(Vec<Change>),
}

/// Hands what there is under `prefix`, and then each change, to `apply`; never ends. While the registry can't be reached
/// nothing changes.
pub(crate) async fn follow(registry: Arc<dyn Registry>, prefix: &'static str, mut apply: impl FnMut(Step)) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let Err(error) = follow_once(&*registry, prefix, &mut apply, &mut backoff).await;
        if !matches!(error, RegistryError::Compacted) {
            tracing::warn!(prefix, %error, "the registry is lost; what is known of it stays");
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

async fn follow_once(
    registry: &dyn Registry,
    prefix: &str,
    apply: &mut impl FnMut(Step),
    backoff: &mut Duration,
) -> Result<std::convert::Infallible, RegistryError> {
    let snapshot = registry.list(prefix).await?;
    let mut watch = registry.watch(prefix, snapshot.revision).await?;
    apply(Step::All(snapshot.entries));
    *backoff = MIN_BACKOFF;
    loop {
        apply(Step::Changes(watch.next().await?));
    }
}
