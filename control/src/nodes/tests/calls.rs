//! Calls that begin, end and follow each other while the registry is slow or away, and what is told meanwhile.

use super::*;
use crate::nodes::pass::RENEW;
use crate::nodes::{Filter, Record, SessionsError};
use crate::registry::{Expect, Registry as _};
use crate::replica::Replica;
use crate::replica::testing::Op;

const EDGE: &str = "edge-1";

/// A replica that has its lease, and the pass of an edge that has joined there.
async fn joined(cluster: &Cluster) -> (Replica, String) {
    let replica = cluster.replica();
    testing::lease(&replica).await;
    let pass = register(&replica.services(), &testing::edge(EDGE, 1), None).await.unwrap();
    (replica, pass)
}

fn state(replica: &Replica) -> Option<&'static str> {
    replica.nodes().get(EDGE).map(|known| known.state())
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Until it is forgotten, which it is when it was not heard for twice three seconds.
async fn is_let_go(replica: &Replica) {
    pause(200).await;
    assert_eq!(state(replica), Some("away"));
    assert!(replica.nodes().reports().is_empty(), "nobody hears it");
    pause(3_500).await;
    assert_eq!(state(replica), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_heard_though_orders_cannot_be_read_and_let_go_when_it_leaves() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    cluster.registry().fails(Op::List, "orders/");
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(10)).await;
    assert_eq!(state(&replica), Some("ready"));
    drop(call);
    is_let_go(&replica).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_wait_for_its_call_to_begin_is_let_go() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    cluster.registry().holds_writes("nodes/");
    let call = tokio::time::timeout(Duration::from_secs(3), Call::begin(replica.services(), &pass)).await;
    assert!(call.is_err(), "the registry has not answered");
    cluster.registry().is_well();
    is_let_go(&replica).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_while_the_next_begins_takes_nothing_from_it() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    // What the next one writes is there, and it does not know that yet.
    cluster.registry().holds_writes("nodes/");
    let (routes, shown) = (replica.services(), pass.clone());
    let next = tokio::spawn(async move { Call::begin(routes, &shown).await });
    pause(100).await;
    drop(call);
    pause(100).await;
    cluster.registry().is_well();
    let mut call = next.await.unwrap().unwrap();
    for _ in 0..10 {
        assert_eq!((state(&replica), state(&other)), (Some("ready"), Some("ready")));
        call.beats_for(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_begin_leaves_the_one_before_as_it_was() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    cluster.registry().fails(Op::Put, "nodes/");
    let refused = Call::begin(replica.services(), &pass).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(state(&replica), Some("away"), "nobody hears it");
    cluster.registry().is_well();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    assert_eq!(state(&replica), Some("ready"));
    cluster.registry().fails(Op::Put, "nodes/");
    assert!(Call::begin(replica.services(), &pass).await.is_err());
    cluster.registry().is_well();
    call.beats_for(Duration::from_secs(10)).await;
    assert_eq!(state(&replica), Some("ready"));
    assert!(replica.nodes().tell(EDGE, Command::Reload(rpc::Reload {})).await.unwrap());
    assert_eq!(call.command().await.unwrap(), Some(Command::Reload(rpc::Reload {})));
    drop(call);
    is_let_go(&replica).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_while_the_registry_is_away_is_away_here_at_once_and_elsewhere_then() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    cluster.registry().is_away();
    drop(call);
    pause(5_000).await;
    assert_eq!((state(&replica), state(&other)), (Some("away"), Some("ready")));
    assert!(replica.nodes().edges_for("live/a", &Labels::default(), 3).is_empty());
    cluster.registry().is_well();
    pause(1_000).await;
    assert_eq!((state(&replica), state(&other)), (Some("away"), Some("away")));
    pause(3_500).await;
    assert_eq!((state(&replica), state(&other)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_gone_on_to_another_replica_is_not_away_when_its_old_line_is_found_dead() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    testing::lease(&other).await;
    let mut old = Call::begin(replica.services(), &pass).await.unwrap();
    old.beats_for(Duration::from_secs(1)).await;
    let mut call = Call::begin(other.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(5)).await;
    assert!(replica.nodes().reports().is_empty(), "its old line is given up");
    assert_eq!((state(&replica), state(&other)), (Some("ready"), Some("ready")));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_record_went_with_its_lease_is_forgotten_when_it_leaves() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    assert!(cluster.registry().delete(&Record::key(EDGE), Expect::Anything).await.unwrap());
    call.beats_for(Duration::from_secs(1)).await;
    assert_eq!(state(&replica), Some("ready"), "it is heard");
    drop(call);
    pause(200).await;
    assert_eq!(state(&replica), None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_ends_sends_its_nodes_on_and_says_nothing_of_them() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    testing::lease(&other).await;
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    replica.close();
    assert_eq!(call.command().await.unwrap_err().code(), Code::Unavailable);
    assert!(replica.nodes().reports().is_empty());
    // A call that comes now is sent on as well.
    let mut late = Call::begin(replica.services(), &pass).await.unwrap();
    assert_eq!(late.command().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!((state(&replica), state(&other)), (Some("ready"), Some("ready")));
    let mut call = Call::begin(other.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(10)).await;
    assert_eq!((state(&replica), state(&other)), (Some("ready"), Some("ready")));
}

#[tokio::test(start_paused = true)]
async fn what_is_ordered_while_nobody_hears_a_node_is_told_when_it_is_heard() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    drop(call);
    pause(200).await;
    assert!(other.nodes().tell(EDGE, Command::Reload(rpc::Reload {})).await.unwrap());
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    assert_eq!(call.command().await.unwrap(), Some(Command::Reload(rpc::Reload {})));
    assert!(cluster.registry().list("orders/").await.unwrap().entries.is_empty(), "it is done");
}

#[tokio::test(start_paused = true)]
async fn an_order_is_for_the_process_that_was_there_and_not_for_the_next() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    let other = cluster.replica();
    testing::lease(&other).await;
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    cluster.registry().fails(Op::Delete, "orders/");
    assert!(other.nodes().drain(EDGE, false).await.unwrap());
    assert_eq!(call.command().await.unwrap(), Some(Command::Drain(rpc::Drain { undo: false })));
    drop(call);
    pause(200).await;
    assert!(!cluster.registry().list("orders/").await.unwrap().entries.is_empty(), "it is still there");
    let pass = register(&replica.services(), &testing::edge(EDGE, 2), None).await.unwrap();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    assert!(replica.nodes().tell(EDGE, Command::Reload(rpc::Reload {})).await.unwrap());
    assert_eq!(call.command().await.unwrap(), Some(Command::Reload(rpc::Reload {})), "no drain before it");
    assert_eq!(state(&replica), Some("ready"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_gets_another_pass_in_time() {
    let cluster = Cluster::with_token("join");
    let replica = cluster.replica();
    testing::lease(&replica).await;
    let pass = register(&replica.services(), &testing::edge(EDGE, 1), Some("join")).await.unwrap();
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    let began = tokio::time::Instant::now();
    while began.elapsed() < RENEW + Duration::from_secs(2) {
        call.beats.send(rpc::Heartbeat::default()).await.unwrap();
        pause(2_000).await;
    }
    let Some(Command::Pass(fresh)) = call.command().await.unwrap() else { panic!("no pass") };
    assert_ne!(fresh.token, pass);
    Call::begin(replica.services(), &fresh.token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_asks_who_watches_waits_for_a_turn_and_no_longer() {
    let cluster = Cluster::new();
    let (replica, pass) = joined(&cluster).await;
    // It is heard, and answers nothing.
    let mut call = Call::begin(replica.services(), &pass).await.unwrap();
    let began = tokio::time::Instant::now();
    let filter = Filter { limit: 10, ..Filter::default() };
    let asked = (0..10).map(|_| replica.nodes().sessions(&filter));
    let (said, ()) =
        tokio::join!(futures_util::future::join_all(asked), call.beats_for(Duration::from_secs(8)));
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let busy = said.iter().filter(|said| matches!(said, Err(SessionsError::Busy))).count();
    assert!((6..=8).contains(&busy), "{busy}");
}
