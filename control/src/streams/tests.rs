//! Leases of streams: who gets one, who loses it, and what becomes of a stream whose publisher or origin is gone.

use std::time::Duration;

use control_api::rpc;

use super::*;
use crate::replica::Replica;
use crate::replica::testing::{self, Cluster, Node, Op};

fn wanted(name: &str, takeover: bool) -> Wanted {
    Wanted {
        key: rpc::StreamKey { app: "live".to_owned(), name: name.to_owned() },
        epoch: 7,
        takeover,
        protocol: "rtmp".to_owned(),
        remote_addr: "192.0.2.1:50000".to_owned(),
        purpose: As::Publisher,
        query: String::new(),
    }
}

/// Gets the lease: its epoch.
async fn publish(replica: &Replica, caller: &Caller, wanted: &Wanted) -> u64 {
    match replica.streams().publish(caller, wanted).await.unwrap() {
        Lease::Held(epoch) => epoch,
        Lease::Standby => panic!("it is to wait"),
    }
}

fn standby() -> rpc::Held {
    rpc::Held { key: Some(key()), standby: true, ..rpc::Held::default() }
}

fn key() -> rpc::StreamKey {
    wanted("a", false).key
}

fn held(epoch: u64, interrupted: bool) -> rpc::Held {
    rpc::Held { key: Some(key()), epoch, interrupted, ..rpc::Held::default() }
}

async fn next(news: &mut broadcast::Receiver<News>) -> (What, u64) {
    let News { what, record } = news.recv().await.unwrap();
    (what, record.epoch)
}

#[tokio::test(start_paused = true)]
async fn one_publisher_has_a_stream_and_each_epoch_is_higher() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&two, testing::origin("origin-2", 2)).await;
    let (by_a, by_b) = (a.caller(), b.caller());
    let mut news = one.streams().news();
    let first = publish(&one, &by_a, &wanted("a", false)).await;
    assert_eq!(next(&mut news).await, (What::Published, first));
    let busy = two.streams().publish(&by_b, &wanted("a", false)).await.unwrap_err();
    assert!(matches!(&busy, LeaseError::Busy { node, .. } if node == "origin-1"), "{busy}");
    // The same origin decides by itself who of its publishers goes on.
    let second = publish(&one, &by_a, &wanted("a", false)).await;
    assert!(second > first);
    let third = publish(&two, &by_b, &wanted("a", true)).await;
    assert!(third > second);
    // The one before is told, and what it still holds is none.
    assert_eq!(a.kicked().await, ("live/a".to_owned(), second));
    let lost = one.streams().renew(&by_a, vec![held(second, false)]).await.unwrap();
    assert_eq!(lost, [held(second, false)]);
    one.streams().release(&by_a, &key(), Of::Epoch(second), false).await.unwrap();
    assert_eq!(two.streams().get("live/a").unwrap().epoch, third);
    for name in ["", "a/b", "a\nb", &"x".repeat(256)] {
        assert!(matches!(one.streams().publish(&by_a, &wanted(name, false)).await, Err(LeaseError::Name(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_drops_has_its_grace_and_may_come_back_anywhere() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&one, testing::origin("origin-2", 2)).await;
    let (mut news, mut others) = (one.streams().news(), two.streams().news());
    let first = publish(&one, &a.caller(), &wanted("a", false)).await;
    one.streams().release(&a.caller(), &key(), Of::Epoch(first), true).await.unwrap();
    let second = publish(&one, &b.caller(), &wanted("a", false)).await;
    let record = one.streams().get("live/a").unwrap();
    assert_eq!((record.node.as_str(), record.is_live()), ("origin-2", true));
    one.streams().release(&b.caller(), &key(), Of::Epoch(second), true).await.unwrap();
    for expected in
        [(What::Published, first), (What::Dropped, first), (What::Resumed, second), (What::Dropped, second)]
    {
        assert_eq!(next(&mut news).await, expected);
    }
    // Its grace ends once, by whichever replica.
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert!(two.streams().get("live/a").is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(one.streams().get("live/a").is_none() && two.streams().get("live/a").is_none());
    let ended = [news.try_recv().ok(), others.try_recv().ok()];
    let ended: Vec<_> = ended.into_iter().flatten().map(|news| news.what).collect();
    assert_eq!(ended, [What::Ended]);
    // The record is kept for a while, so that the next epoch is higher.
    let third = publish(&two, &b.caller(), &wanted("a", false)).await;
    assert!(third > second);
}

#[tokio::test(start_paused = true)]
async fn streams_of_an_origin_that_is_gone_are_dropped_within_seconds() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&two, testing::origin("origin-2", 2)).await;
    let epoch = publish(&one, &a.caller(), &wanted("a", false)).await;
    let mut news = one.streams().news();
    let mut others = two.streams().news();
    a.dies().await;
    let began = tokio::time::Instant::now();
    let dropped = tokio::select! {
        dropped = next(&mut news) => dropped,
        dropped = next(&mut others) => dropped,
    };
    assert_eq!(dropped, (What::Dropped, epoch));
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    // Another one goes on with it.
    assert!(publish(&two, &b.caller(), &wanted("a", false)).await > epoch);
}

#[tokio::test(start_paused = true)]
async fn what_an_origin_holds_is_known_again_after_it_was_cut_off() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let by_a = a.caller();
    // It was let in without a lease, by the origin's clock.
    let own = testing::now_ms() + 10_000;
    assert!(one.streams().renew(&by_a, vec![held(own, false)]).await.unwrap().is_empty());
    assert_eq!(one.streams().get("live/a").unwrap().epoch, own);
    // It was thought dead, and was not.
    a.dies().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(one.streams().get("live/a").is_none());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    assert!(one.streams().renew(&a.caller(), vec![held(own, false)]).await.unwrap().is_empty());
    assert!(one.streams().get("live/a").unwrap().is_live());
    assert!(one.streams().renew(&a.caller(), vec![held(own, true)]).await.unwrap().is_empty());
    assert!(!one.streams().get("live/a").unwrap().is_live());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_an_hour_ahead_raises_no_epoch() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let ahead = testing::now_ms() + 3_600_000;
    let epoch = publish(&one, &a.caller(), &Wanted { epoch: ahead, ..wanted("a", false) }).await;
    assert!(epoch < ahead);
}

#[tokio::test(start_paused = true)]
async fn a_backup_waits_and_is_told_as_soon_as_it_is_needed() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&two, testing::origin("origin-2", 2)).await;
    let first = publish(&one, &a.caller(), &wanted("a", false)).await;
    let backup = |purpose| Wanted { purpose, ..wanted("a", false) };
    let streams = two.streams();
    assert_eq!(streams.publish(&b.caller(), &backup(As::Backup)).await.unwrap(), Lease::Standby);
    assert!(streams.publish(&b.caller(), &backup(As::Promoted)).await.is_err(), "nobody needs it");
    assert_eq!(streams.get("live/a").unwrap().epoch, first);
    assert!(streams.renew(&b.caller(), vec![standby()]).await.unwrap().is_empty());

    // Its publisher's origin dies: the other one is told, and nobody waits as long as without a backup.
    let began = tokio::time::Instant::now();
    a.dies().await;
    assert_eq!(b.promoted().await, "live/a");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let second = publish(&two, &b.caller(), &backup(As::Promoted)).await;
    assert!(second > first && streams.get("live/a").unwrap().backup);
    assert!(streams.renew(&b.caller(), vec![standby(), held(second, false)]).await.unwrap().is_empty());

    // It gives way to a publisher that is no backup, and waits again.
    let a = Node::join(&one, testing::origin("origin-1", 3)).await;
    let third = publish(&one, &a.caller(), &wanted("a", false)).await;
    assert_eq!(b.kicked().await, ("live/a".to_owned(), second));
    let record = streams.get("live/a").unwrap();
    assert_eq!((record.epoch, record.backup, record.standbys.len()), (third, false, 1));
    b.forget();
    one.streams().release(&a.caller(), &key(), Of::Epoch(third), true).await.unwrap();
    assert_eq!(b.promoted().await, "live/a");
    // Told in vain, it is told again when it says that it waits.
    b.forget();
    streams.renew(&b.caller(), vec![standby()]).await.unwrap();
    assert_eq!(b.promoted().await, "live/a");

    // One that has left is told nothing.
    streams.forget_standby(&b.caller(), "live/a").await.unwrap();
    assert!(streams.get("live/a").unwrap().standbys.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_nobody_knows_of_any_more_is_found_again() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let b = Node::join(&one, testing::origin("origin-2", 2)).await;
    one.streams().renew(&b.caller(), vec![standby()]).await.unwrap();
    assert_eq!(b.promoted().await, "live/a");
    let epoch = publish(&one, &b.caller(), &Wanted { purpose: As::Promoted, ..wanted("a", false) }).await;
    let record = one.streams().get("live/a").unwrap();
    assert_eq!((record.epoch, record.standbys.len()), (epoch, 1));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_an_hour_ahead_takes_no_stream_from_another_origin() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&one, testing::origin("origin-2", 2)).await;
    let by_clock = Wanted { epoch: testing::now_ms(), ..wanted("a", false) };
    let epoch = publish(&one, &a.caller(), &by_clock).await;
    let ahead = held(testing::now_ms() + 3_600_000, false);
    // It was cut off, and let a publisher in by its own clock.
    let lost = one.streams().renew(&b.caller(), vec![ahead.clone()]).await.unwrap();
    assert_eq!(lost, std::slice::from_ref(&ahead));
    let record = one.streams().get("live/a").unwrap();
    assert_eq!((record.node.as_str(), record.epoch), ("origin-1", epoch));
    assert_eq!(one.nodes().refusals().total(Why::Clock), 1);
    // What nobody else has it may have: viewers see it.
    one.streams().release(&a.caller(), &key(), Of::Epoch(epoch), true).await.unwrap();
    assert!(one.streams().renew(&b.caller(), vec![ahead.clone()]).await.unwrap().is_empty());
    assert!(publish(&one, &a.caller(), &wanted("a", true)).await > ahead.epoch);
    // Older than that is refused, and counted.
    assert_eq!(one.streams().renew(&b.caller(), vec![ahead.clone()]).await.unwrap(), [ahead]);
    assert_eq!(one.nodes().refusals().total(Why::Outdated), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_not_answered_is_given_back_and_none_that_was_given_since() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&one, testing::origin("origin-2", 2)).await;
    let streams = one.streams();
    let proposing = |epoch| Wanted { epoch, ..wanted("a", true) };
    let unanswered = |proposed| async move {
        streams.release(&a_caller(), &key(), Of::Proposal(proposed), false).await.unwrap();
        streams.get("live/a").map(|record| record.epoch)
    };
    fn a_caller() -> Caller {
        Caller { name: "origin-1".to_owned(), instance: 1 }
    }
    // Higher than what is proposed, as the stream had a higher epoch before.
    publish(&one, &b.caller(), &proposing(1_000)).await;
    let first = publish(&one, &a.caller(), &proposing(10)).await;
    assert!(first > 1_000);
    assert_eq!(unanswered(9).await, Some(first), "it was not given for that");
    assert_eq!(unanswered(10).await, None);
    // The encoder came again before it was given back.
    publish(&one, &a.caller(), &proposing(11)).await;
    let second = publish(&one, &a.caller(), &proposing(12)).await;
    assert_eq!(unanswered(11).await, Some(second));
    // Nor is one ended that another origin has.
    let third = publish(&one, &b.caller(), &proposing(5)).await;
    assert_eq!(unanswered(12).await, Some(third));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_not_answered_ends_no_grace() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let streams = one.streams();
    let first = publish(&one, &a.caller(), &wanted("a", false)).await;
    assert!(streams.renew(&a.caller(), vec![held(first, true)]).await.unwrap().is_empty());
    // Its publisher comes back, and the origin hears of no lease.
    let second = publish(&one, &a.caller(), &Wanted { epoch: first + 1, ..wanted("a", false) }).await;
    assert!(second > first);
    let confirm = async || streams.renew(&a.caller(), vec![held(first, true)]).await.unwrap();
    assert!(confirm().await.is_empty(), "it is another's only where another has it");
    streams.release(&a.caller(), &key(), Of::Proposal(first + 1), true).await.unwrap();
    assert!(confirm().await.is_empty());
    let record = streams.get("live/a").unwrap();
    assert_eq!((record.epoch, record.is_live(), record.is_there()), (second, false, true));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_let_in_while_its_origin_was_cut_off_gives_way_to_a_publisher() {
    let cluster = Cluster::new();
    let one = cluster.replica();
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&one, testing::origin("origin-2", 2)).await;
    let first = publish(&one, &a.caller(), &wanted("a", false)).await;
    let by_backup = rpc::Held { backup: true, ..held(first + 10, false) };
    let (streams, by_b) = (one.streams(), b.caller());
    let lost = streams.renew(&by_b, vec![by_backup.clone()]).await.unwrap();
    assert_eq!(lost, std::slice::from_ref(&by_backup), "though its epoch is higher");
    assert_eq!(streams.get("live/a").unwrap().epoch, first);
    // Of an origin that nobody hears it takes the stream.
    a.dies().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(streams.renew(&by_b, vec![by_backup]).await.unwrap().is_empty());
    let record = streams.get("live/a").unwrap();
    assert_eq!((record.epoch, record.backup, &*record.node), (first + 10, true, "origin-2"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_ended_though_one_of_its_backups_cannot_be_told() {
    use control_api::Cluster as _;
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let a = Node::join(&one, testing::origin("origin-1", 1)).await;
    let b = Node::join(&two, testing::origin("origin-2", 2)).await;
    publish(&one, &a.caller(), &wanted("a", false)).await;
    let backup = Wanted { purpose: As::Backup, ..wanted("a", false) };
    assert_eq!(one.streams().publish(&b.caller(), &backup).await.unwrap(), Lease::Standby);
    cluster.registry().fails(Op::Get, "nodes/origin-2");
    assert!(one.kick("live", "a").await.is_err());
    let kicked = tokio::time::timeout(Duration::from_secs(5), a.kicked()).await;
    assert_eq!(kicked.unwrap(), ("live/a".to_owned(), 0));
    cluster.registry().is_well();
    one.kick("live", "a").await.unwrap();
    assert_eq!(b.kicked().await, ("live/a".to_owned(), 0));
}
