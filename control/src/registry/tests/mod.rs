//! What every registry has to do, run against each; and what only one of them can get wrong.

mod etcd;
mod memory;
mod server;
mod suite;

use std::sync::Arc;
use std::time::Duration;

use self::server::Server;
use super::memory::Limits;
use super::*;

/// A registry under test.
struct Tested {
    registry: Arc<dyn Registry>,
    /// The shortest lease it gives.
    ttl: Duration,
    /// How much later than a lease ends its values may go.
    late: Duration,
    server: Option<Server>,
}

impl Tested {
    fn memory() -> Self {
        let limits = Limits { changes: 4096, ..Limits::default() };
        Self {
            registry: Arc::new(Memory::with_limits(limits)),
            ttl: Duration::from_secs(2),
            late: Duration::from_millis(100),
            server: None,
        }
    }

    async fn etcd() -> Self {
        let server = Server::start(1).await;
        Self {
            registry: connect(&server.config()).unwrap(),
            ttl: Duration::from_secs(3),
            // It looks every half second, and this machine may be busy.
            late: Duration::from_secs(4),
            server: Some(server),
        }
    }

    /// Makes it forget its oldest changes.
    async fn forget(&self) {
        match &self.server {
            None => {
                for number in 0..5000 {
                    self.registry.put("filler", text(number), Expect::Anything, None).await.unwrap();
                }
            }
            Some(server) => {
                let now = self.registry.list("").await.unwrap().revision;
                server.client().await.compact(now.0.cast_signed(), None).await.unwrap();
            }
        }
    }
}

/// Runs every case against every engine, each with one of its own.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory_conforms {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::suite::$case(&super::Tested::memory()).await;
                }
            )*
        }
        mod etcd_conforms {
            $(
                #[tokio::test]
                async fn $case() {
                    super::suite::$case(&super::Tested::etcd().await).await;
                }
            )*
        }
    };
}

conformance!(
    values_are_kept_listed_and_deleted,
    a_write_is_only_done_if_what_it_finds_is_as_expected,
    of_many_that_write_at_once_one_wins,
    values_go_with_their_lease_and_watches_tell,
    a_lease_that_is_renewed_goes_on,
    a_value_that_is_written_anew_leaves_its_lease,
    a_lease_that_is_revoked_is_over_at_once,
    a_watch_goes_on_where_another_stopped,
    a_watch_keeps_up_with_a_busy_writer,
    a_watch_of_what_is_forgotten_is_told_so,
    long_names_and_values_are_refused,
    many_values_are_listed_as_of_one_moment,
);

fn text(number: usize) -> Bytes {
    Bytes::from(number.to_string())
}

/// Changes as they come, until there are so many.
async fn read(watch: &mut dyn Watch, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
        changes.extend(next.unwrap_or_else(|_| panic!("only {changes:?}")).unwrap());
    }
    changes
}

/// What a watch ends with, be it at once.
async fn end_of(watch: Result<Box<dyn Watch>, RegistryError>) -> RegistryError {
    match watch {
        Ok(mut watch) => loop {
            if let Err(error) = watch.next().await {
                return error;
            }
        },
        Err(error) => error,
    }
}
