//! What only a registry in etcd can get wrong: members that die, hang and come back; passwords; certificates.

use control_api::Secret;
use tokio::time::Instant;

use super::*;
use crate::engine::Network;

/// No call takes longer, with room for a busy machine.
const BOUND: Duration = Duration::from_secs(6);
/// A hanging member is noticed by its watches so soon, with room.
const NOTICED: Duration = Duration::from_secs(13);

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, RegistryError>) {
    match result {
        Err(RegistryError::Unavailable(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// Every call, while etcd is gone: each says so, in time.
async fn all_calls_are_refused_in_time(registry: &Arc<dyn Registry>, lease: LeaseId) {
    let begun = Instant::now();
    tokio::join!(
        async { assert_unavailable(registry.get("k").await) },
        async { assert_unavailable(registry.list("").await) },
        async { assert_unavailable(registry.put("k", "x".into(), Expect::Absent, None).await) },
        async { assert_unavailable(registry.delete("k", Expect::At(Revision(1))).await) },
        async { assert_unavailable(registry.lease(Duration::from_secs(5)).await) },
        async { assert_unavailable(registry.renew(lease).await) },
        async { assert_unavailable(registry.revoke(LeaseId(4711)).await) },
        async { assert_unavailable(registry.watch("", Revision(1)).await.map(|_| ())) },
    );
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

/// Waits until a call works again.
async fn back(registry: &Arc<dyn Registry>) {
    let begun = Instant::now();
    while let Err(error) = registry.get("k").await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_killed_etcd_is_told_of_and_comes_back() {
    let mut server = Server::start(1).await;
    let registry = connect(&server.config()).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let lease = registry.lease(Duration::from_secs(600)).await.unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    let begun = Instant::now();
    server.kill(0);
    assert_unavailable(watch.next().await);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    all_calls_are_refused_in_time(&registry, lease).await;

    server.restart(0).await;
    back(&registry).await;
    let found = registry.get("k").await.unwrap().unwrap();
    assert_eq!((found.value, found.revision), ("1".into(), put));
    registry.renew(lease).await.unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    registry.put("k", "2".into(), Expect::At(put), None).await.unwrap().unwrap();
    assert_eq!(read(&mut *watch, 1).await.len(), 1);
}

#[tokio::test]
async fn a_replica_may_start_before_etcd() {
    let mut server = Server::start(1).await;
    server.kill(0);
    let registry = connect(&server.config()).unwrap();
    all_calls_are_refused_in_time(&registry, LeaseId(1)).await;
    server.restart(0).await;
    back(&registry).await;
}

#[tokio::test]
async fn a_hanging_etcd_is_noticed() {
    let server = Server::start(1).await;
    let registry = connect(&server.config()).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let lease = registry.lease(Duration::from_secs(600)).await.unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    server.freeze(0);
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(
        async { (watch.next().await, begun.elapsed()) },
        all_calls_are_refused_in_time(&registry, lease)
    );
    assert_unavailable(ended.0);
    assert!(ended.1 < NOTICED, "{:?}", ended.1);
    server.thaw(0);
    back(&registry).await;
    assert!(registry.watch("", put).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_the_network_lost_is_made_anew() {
    let server = Server::start(1).await;
    let network = Network::to(server.port(0)).await;
    let config = Config { endpoints: vec![format!("http://127.0.0.1:{}", network.port)], ..server.config() };
    let registry = connect(&config).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    network.lose();
    let begun = Instant::now();
    assert_unavailable(registry.get("k").await);
    assert_eq!(registry.get("k").await.unwrap().unwrap().revision, put);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert_unavailable(watch.next().await);
    assert!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn of_three_members_one_can_go() {
    let mut server = Server::start(3).await;
    let registry = connect(&server.config()).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    // The first is the one that is spoken to.
    server.kill(0);
    assert_unavailable(watch.next().await);
    let begun = Instant::now();
    back(&registry).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    registry.put("k", "2".into(), Expect::At(put), None).await.unwrap().unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    assert_eq!(read(&mut *watch, 1).await.len(), 1);

    // One of three agrees with nobody: it must not pretend.
    server.kill(1);
    let lone = tokio::time::timeout(NOTICED, watch.next()).await;
    assert_unavailable(lone.unwrap());
    let begun = Instant::now();
    assert_unavailable(registry.put("k", "3".into(), Expect::Anything, None).await);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    server.restart(1).await;
    back(&registry).await;
    // The write that was not answered may have been done, or not.
    let value = registry.get("k").await.unwrap().unwrap().value;
    assert!(value == "2" || value == "3", "{value:?}");
}

#[tokio::test]
async fn a_hanging_member_is_left() {
    let server = Server::start(3).await;
    let registry = connect(&server.config()).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    server.freeze(0);
    let _ = registry.get("k").await;
    back(&registry).await;
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(registry.get("k").await.unwrap().unwrap().revision, put);
    }
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    server.thaw(0);
}

#[tokio::test]
async fn a_user_is_let_in_and_a_wrong_password_is_not_told() {
    let mut server = Server::start(1).await;
    let mut client = server.client().await;
    client.user_add("root", "r00t-secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let with = |password: &str| Config {
        user: Some("root".to_owned()),
        password: Some(Secret::new(password)),
        ..server.config()
    };
    let registry = connect(&with("r00t-secret")).unwrap();
    let put = registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let lease = registry.lease(Duration::from_secs(600)).await.unwrap();
    registry.renew(lease).await.unwrap();
    let mut watch = registry.watch("", put).await.unwrap();
    registry.put("k", "2".into(), Expect::At(put), None).await.unwrap().unwrap();
    assert_eq!(read(&mut *watch, 1).await.len(), 1);
    assert!(!format!("{registry:?}").contains("r00t"));

    let stranger = connect(&with("wr0ng-secret")).unwrap();
    let error = stranger.get("k").await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unavailable(_)) && !format!("{error:?}").contains("wr0ng"),
        "{error:?}"
    );
    assert_unavailable(connect(&server.config()).unwrap().get("k").await);

    // etcd forgets whom it let in; the password is shown again.
    server.kill(0);
    server.restart(0).await;
    back(&registry).await;
    registry.renew(lease).await.unwrap();
    assert!(registry.watch("", put).await.is_ok());
}

#[tokio::test]
async fn etcd_is_only_trusted_by_its_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start_tls().await;
    let registry = connect(&server.config()).unwrap();
    registry.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (other, _) = crate::engine::certificate(folder.path());
    let stranger = connect(&Config { ca_file: Some(other), ..server.config() }).unwrap();
    assert_unavailable(stranger.get("k").await);
}

#[tokio::test]
async fn clusters_share_an_etcd_by_their_prefixes() {
    let server = Server::start(1).await;
    let one = connect(&server.config()).unwrap();
    let other = connect(&Config { prefix: "weir2/".to_owned(), ..server.config() }).unwrap();
    let start = one.put("k", "1".into(), Expect::Absent, None).await.unwrap().unwrap();
    let mut watch = one.watch("", start).await.unwrap();
    other.put("k", "2".into(), Expect::Absent, None).await.unwrap().unwrap();
    // A name that is no text is none of ours.
    server.client().await.put(&b"weir/\xff"[..], "", None).await.unwrap();
    one.put("l", "3".into(), Expect::Absent, None).await.unwrap().unwrap();
    let changes = read(&mut *watch, 1).await;
    assert_eq!(changes.iter().map(Change::key).collect::<Vec<_>>(), ["l"]);
    assert_eq!(one.list("").await.unwrap().entries.len(), 2);
    assert_eq!(other.list("").await.unwrap().entries[0].key, "k");
}

#[test]
fn a_configuration_that_cannot_work_names_its_key() {
    let etcd = Config { engine: Engine::Etcd, ..Config::default() };
    let endpoints = |urls: &[&str]| Config {
        endpoints: urls.iter().map(|url| (*url).to_owned()).collect(),
        ..etcd.clone()
    };
    let bad = [
        (Config { prefix: String::new(), ..etcd.clone() }, "prefix"),
        (endpoints(&[]), "endpoints"),
        (endpoints(&["http://a:1", "https://b:1"]), "endpoints"),
        (endpoints(&["a:1"]), "endpoints"),
        (endpoints(&["ftp://a:1"]), "endpoints"),
        (endpoints(&["http://u:s3cret@a:1"]), "endpoints"),
        (Config { user: Some("u".to_owned()), ..etcd.clone() }, "password"),
        (Config { password: Some(Secret::new("s3cret")), ..etcd.clone() }, "user"),
        (Config { ca_file: Some("/nowhere.pem".into()), ..etcd.clone() }, "ca_file"),
        (Config { ca_file: Some("/nowhere.pem".into()), ..endpoints(&["https://a:1"]) }, "ca_file"),
    ];
    for (config, key) in bad {
        let error = connect(&config).unwrap_err();
        assert_eq!(error.key, key, "{error}");
        assert!(!error.to_string().contains("s3cret"));
    }
    let read = |json: &str| serde_json::from_str::<Config>(json);
    assert_eq!(read("{}").unwrap(), Config::default());
    assert_eq!(read(r#"{"engine":"etcd","password":"x"}"#).unwrap().engine, Engine::Etcd);
    assert!(read(r#"{"engin":"etcd"}"#).is_err());
    assert!(read(r#"{"engine":"zookeeper"}"#).is_err());
}
