//! What only a cache in Redis can get wrong: servers that die, hang and come back; passwords; certificates.

use control_api::Secret;
use tokio::time::Instant;

use super::server::PASSWORD;
use super::*;
use crate::engine::Network;

/// No call takes longer, with room for a busy machine.
const BOUND: Duration = Duration::from_secs(5);
/// A cache works again so soon after its server does.
const BACK: Duration = Duration::from_secs(15);

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, CacheError>) {
    match result {
        Err(CacheError::Unavailable(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// Every call, while Redis is gone: each says so, in time.
async fn all_calls_are_refused_in_time(cache: &dyn Cache) {
    let begun = Instant::now();
    tokio::join!(
        async { assert_unavailable(cache.get("k").await) },
        async { assert_unavailable(cache.set("k", "1".into(), LONG).await) },
        async { assert_unavailable(cache.remove("k").await) },
        async { assert_unavailable(cache.set_members("g", vec![("a".to_owned(), "1".into())], LONG).await) },
        async { assert_unavailable(cache.members("g").await) },
        async { assert_unavailable(cache.remove_members("g", &["a".to_owned()]).await) },
        async { assert_unavailable(cache.add("n", 1, LONG).await) },
    );
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

async fn back(cache: &dyn Cache) {
    let begun = Instant::now();
    loop {
        let mut works = true;
        // Over all servers of a cluster.
        for number in 0..20 {
            works &= cache.set(&format!("k{number}"), "2".into(), LONG).await.is_ok();
        }
        if works {
            break;
        }
        assert!(begun.elapsed() < BACK, "still gone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cache.get("k7").await.unwrap(), Some("2".into()));
}

#[tokio::test]
async fn a_killed_redis_is_told_of_and_comes_back() {
    let mut server = Server::start().await;
    let cache = connect(&server.config()).unwrap();
    cache.set("k", "1".into(), LONG).await.unwrap();
    server.kill(0);
    all_calls_are_refused_in_time(&*cache).await;
    server.restart(0).await;
    back(&*cache).await;
    // One that came back before anybody asked is not missed.
    server.kill(0);
    server.restart(0).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_replica_may_start_before_redis() {
    let mut server = Server::start().await;
    server.kill(0);
    let cache = connect(&server.config()).unwrap();
    all_calls_are_refused_in_time(&*cache).await;
    server.restart(0).await;
    back(&*cache).await;
}

#[tokio::test]
async fn a_hanging_redis_costs_each_call_a_bounded_time() {
    let server = Server::start().await;
    let cache = connect(&server.config()).unwrap();
    cache.set("k", "1".into(), LONG).await.unwrap();
    server.freeze(0);
    let begun = Instant::now();
    let many = futures_util::future::join_all((0..50).map(|_| cache.get("k"))).await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    many.into_iter().for_each(assert_unavailable);
    all_calls_are_refused_in_time(&*cache).await;
    server.thaw(0);
    back(&*cache).await;
}

#[tokio::test]
async fn a_connection_that_the_network_lost_is_made_anew() {
    let server = Server::start().await;
    let network = Network::to(server.port(0)).await;
    let url = Secret::new(format!("redis://:{PASSWORD}@127.0.0.1:{}", network.port));
    let cache = connect(&Config { urls: vec![url], ..server.config() }).unwrap();
    cache.set("k", "1".into(), LONG).await.unwrap();
    network.lose();
    assert_unavailable(cache.get("k").await);
    assert_eq!(cache.get("k").await.unwrap(), Some("1".into()));
}

#[tokio::test]
async fn a_cluster_does_without_a_node_and_takes_it_back() {
    let mut server = Server::start_cluster().await;
    let cache = connect(&server.config()).unwrap();
    back(&*cache).await;
    server.kill(1);
    let begun = Instant::now();
    let mut works = 0;
    for number in 0..60 {
        works += usize::from(cache.set(&format!("k{number}"), "1".into(), LONG).await.is_ok());
    }
    // A third of the names are of the node that is gone.
    assert!((20..60).contains(&works), "{works}");
    assert!(begun.elapsed() < BOUND * 6, "{:?}", begun.elapsed());
    server.restart(1).await;
    back(&*cache).await;
}

#[tokio::test]
async fn a_whole_cluster_may_go_and_come_back() {
    let mut server = Server::start_cluster().await;
    let cache = connect(&server.config()).unwrap();
    back(&*cache).await;
    for at in 0..3 {
        server.kill(at);
    }
    all_calls_are_refused_in_time(&*cache).await;
    for at in 0..3 {
        server.restart(at).await;
    }
    back(&*cache).await;
}

#[tokio::test]
async fn a_cluster_is_found_by_one_of_its_nodes() {
    let server = Server::start_cluster().await;
    let mut config = server.config();
    config.urls.truncate(1);
    back(&*connect(&config).unwrap()).await;
}

#[tokio::test]
async fn a_wrong_password_is_not_told() {
    for server in [Server::start().await, Server::start_cluster().await] {
        let stranger = connect(&server.config_with("wr0ng-secret")).unwrap();
        let error = stranger.get("k").await.unwrap_err();
        assert!(matches!(error, CacheError::Unavailable(_)), "{error:?}");
        assert!(!format!("{error:?} {error} {stranger:?}").contains("wr0ng"), "{error:?}");
    }
}

#[tokio::test]
async fn redis_is_only_trusted_by_its_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start_tls().await;
    let cache = connect(&server.config()).unwrap();
    cache.set("k", "1".into(), LONG).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (other, _) = crate::engine::certificate(folder.path());
    let stranger = connect(&Config { ca_file: Some(other), ..server.config() }).unwrap();
    assert_unavailable(stranger.get("k").await);
}

#[tokio::test]
async fn clusters_share_a_redis_by_their_prefixes() {
    let server = Server::start().await;
    let one = connect(&server.config()).unwrap();
    let other = connect(&Config { prefix: "weir2/".to_owned(), ..server.config() }).unwrap();
    one.set("k", "1".into(), LONG).await.unwrap();
    assert_eq!(other.get("k").await.unwrap(), None);
}

#[test]
fn a_configuration_that_cannot_work_names_its_key() {
    let redis = Config { engine: Engine::Redis, ..Config::default() };
    let urls =
        |urls: &[&str]| Config { urls: urls.iter().map(|url| Secret::new(*url)).collect(), ..redis.clone() };
    let cluster = |of: Config| Config { cluster: true, ..of };
    let bad = [
        (urls(&[]), "urls"),
        (cluster(urls(&[])), "urls"),
        (urls(&["redis://a", "redis://b"]), "urls"),
        (urls(&["http://:s3cret@a"]), "urls"),
        (urls(&["redis://:s3cret@a:port"]), "urls"),
        (cluster(urls(&["redis://:s3cret@a", "redis://b"])), "urls"),
        (cluster(urls(&["rediss://a", "redis://b"])), "urls"),
        (Config { ca_file: Some("/nowhere.pem".into()), ..redis.clone() }, "ca_file"),
        (Config { ca_file: Some("/nowhere.pem".into()), ..urls(&["rediss://a"]) }, "ca_file"),
    ];
    for (config, key) in bad {
        let error = connect(&config).unwrap_err();
        assert_eq!(error.key, key, "{error}");
        assert!(!error.to_string().contains("s3cret"));
    }
    let read = |json: &str| serde_json::from_str::<Config>(json);
    assert_eq!(read("{}").unwrap(), Config::default());
    assert!(!format!("{:?}", read(r#"{"urls":["redis://:s3cret@a"]}"#).unwrap()).contains("s3cret"));
    assert!(read(r#"{"url":"redis://a"}"#).is_err());
}
