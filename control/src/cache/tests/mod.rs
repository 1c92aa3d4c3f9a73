//! What every cache has to do, run against each; and what only one of them can get wrong.

mod memory;
mod redis;
mod server;
mod suite;

use std::sync::Arc;
use std::time::Duration;

use self::server::Server;
use super::memory::Limits;
use super::*;

/// A cache under test.
struct Tested {
    cache: Arc<dyn Cache>,
    /// Runs as long as the cache is tested.
    _server: Option<Server>,
}

impl Tested {
    fn memory() -> Self {
        Self { cache: connect(&Config::default()).unwrap(), _server: None }
    }

    async fn redis() -> Self {
        let server = Server::start().await;
        Self { cache: connect(&server.config()).unwrap(), _server: Some(server) }
    }

    async fn cluster() -> Self {
        let server = Server::start_cluster().await;
        Self { cache: connect(&server.config()).unwrap(), _server: Some(server) }
    }
}

/// Runs every case against every engine, each with one of its own.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory_conforms {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::suite::$case(&*super::Tested::memory().cache).await;
                }
            )*
        }
        mod redis_conforms {
            $(
                #[tokio::test]
                async fn $case() {
                    let tested = super::Tested::redis().await;
                    super::suite::$case(&*tested.cache).await;
                }
            )*
        }
        mod cluster_conforms {
            $(
                #[tokio::test]
                async fn $case() {
                    let tested = super::Tested::cluster().await;
                    super::suite::$case(&*tested.cache).await;
                }
            )*
        }
    };
}

conformance!(
    values_are_kept_until_their_time_is_over,
    groups_are_kept_while_some_of_them_is_set,
    counters_count_and_begin_anew_after_their_time,
    kinds_of_one_name_do_not_meet_and_go_together,
    long_names_and_values_are_refused,
    many_names_are_kept_apart,
);

/// Long enough for everything else in a test.
const LONG: Duration = Duration::from_secs(600);
