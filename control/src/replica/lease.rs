//! The lease of a replica, under which it keeps what it alone knows: which nodes it hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::registry::{LeaseId, Registry, RegistryError};

/// How long what a replica keeps outlives it.
const TTL: Duration = Duration::from_secs(10);

/// How often the lease is renewed, and how soon that is tried again.
const RENEW: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(500);

/// The replica's lease. Whoever keeps something under it writes it again when it changes.
pub(crate) type Current = watch::Receiver<Option<LeaseId>>;

/// Takes a lease and renews it for ever; when one has ended, takes another. The flag says whether the registry answered last.
pub(crate) fn keep(registry: Arc<dyn Registry>) -> (Current, Arc<AtomicBool>) {
    let (tell, current) = watch::channel(None);
    let is_up = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&is_up);
    tokio::spawn(async move {
        while !tell.is_closed() {
            let lease = *tell.borrow();
            let renewed = renew(&*registry, lease).await;
            answered.store(!matches!(renewed, Err(RegistryError::Unavailable(_))), Ordering::Relaxed);
            let wait = match renewed {
                Ok(None) => RENEW,
                Ok(fresh) => {
                    tell.send_replace(fresh);
                    RENEW
                }
                Err(RegistryError::LeaseEnded) => {
                    tracing::warn!(
                        "the registry was out of reach for so long that it forgot this replica's nodes"
                    );
                    tell.send_replace(None);
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(%error, "the lease of this replica cannot be renewed");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
        // It is not revoked: what is kept under it is for the replica that goes on.
    });
    (current, is_up)
}

/// A lease, if it is another one.
async fn renew(registry: &dyn Registry, lease: Option<LeaseId>) -> Result<Option<LeaseId>, RegistryError> {
    match lease {
        Some(lease) => registry.renew(lease).await.map(|()| None),
        None => registry.lease(TTL).await.map(Some),
    }
}
