//! Conferences on replicas over one registry.

use std::time::Duration;

use control_api::rpc;
use control_api::rpc::publish_request::As;
use proptest::prelude::*;

use super::*;
use crate::nodes::Caller;
use crate::replica::Replica;
use crate::replica::testing::{Cluster, Node, origin};
use crate::streams::{Lease, Of, Wanted};

fn key(name: &str) -> rpc::StreamKey {
    rpc::StreamKey { app: "live".to_owned(), name: name.to_owned() }
}

async fn publish(replica: &Replica, caller: &Caller, name: &str) -> Lease {
    let wanted = Wanted {
        key: key(name),
        epoch: 1,
        takeover: false,
        protocol: "whip".to_owned(),
        remote_addr: String::new(),
        purpose: As::Publisher,
        query: String::new(),
    };
    replica.streams().publish(caller, &wanted).await.unwrap()
}

async fn join(replica: &Replica, id: &str) {
    let conferences = replica.conferences();
    conferences.change("live/room", |room, now| room.join(id, Role::Speaker, false, now)).await.unwrap();
}

/// What a follower has, without the line that says when to come back.
struct Heard {
    follower: following::Follower,
    last: Option<u64>,
    /// Whether it is told who speaks.
    speakers: bool,
}

impl Heard {
    async fn from(replica: &Replica, last: Option<u64>) -> Self {
        let conferences = replica.conferences();
        // It may not have read it yet.
        while conferences.get("live/room").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut follower = conferences.events("live/room", last, None).unwrap();
        assert!(follower.next().await.unwrap().starts_with(b"retry: "));
        Self { follower, last, speakers: false }
    }

    /// The next event's name and member.
    async fn next(&mut self) -> Option<String> {
        loop {
            let said = tokio::time::timeout(Duration::from_secs(60), self.follower.next()).await.unwrap()?;
            let text = String::from_utf8(said.to_vec()).unwrap();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            let Some(event) = field("event: ") else { continue };
            if let Some(id) = field("id: ") {
                self.last = Some(id.parse().unwrap());
            }
            let data: serde_json::Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
            let member = data["member"].as_str().unwrap_or("-");
            if event == "speaker" && !self.speakers {
                continue;
            }
            return Some(format!("{event} {member}"));
        }
    }

    async fn all(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.next().await.as_deref(), Some(*expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_replicas_tell_the_same_and_one_goes_on_where_another_died() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let node = Node::join(&one, origin("origin-1", 1)).await;
    one.conferences().create("live", "room", 3).await.unwrap();
    let (mut by_one, mut by_two) = (Heard::from(&one, None).await, Heard::from(&two, None).await);
    for heard in [&mut by_one, &mut by_two] {
        heard.all(&["snapshot -"]).await;
    }
    join(&one, "ann").await;
    publish(&one, &node.caller(), "room~ann").await;
    for heard in [&mut by_one, &mut by_two] {
        heard.all(&["joined ann", "live ann"]).await;
    }
    two.conferences().change("live/room", |room, now| room.mute("ann", true, now)).await.unwrap();
    for heard in [&mut by_one, &mut by_two] {
        heard.all(&["muted ann"]).await;
    }
    node.mutes(&["live/room~ann"]).await;
    assert_eq!(by_one.last, by_two.last);
    // Whoever followed one that is gone goes on at the other.
    let last = by_one.last;
    drop((by_one, one));
    two.conferences().change("live/room", |room, now| room.mute("ann", false, now)).await.unwrap();
    join(&two, "bob").await;
    Heard::from(&two, last).await.all(&["unmuted ann", "joined bob"]).await;
    by_two.all(&["unmuted ann", "joined bob"]).await;
    // Who knows nothing, or what never was, begins with all there is.
    Heard::from(&two, Some(7)).await.all(&["snapshot -"]).await;
    two.streams().release(&node.caller(), &key("room~ann"), Of::Any, true).await.unwrap();
    by_two.all(&["gone ann"]).await;
    two.conferences().end("live/room").await.unwrap();
    by_two.all(&["ended -"]).await;
    assert_eq!(by_two.next().await, None);
    assert!(two.conferences().get("live/room").is_none());
}

#[tokio::test(start_paused = true)]
async fn only_speakers_publish_and_who_is_let_go_is_disconnected() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let node = Node::join(&one, origin("origin-1", 1)).await;
    let admits = async |stream| two.conferences().admits(stream).await.unwrap();
    assert!(admits("live/room~ann").await, "there is no conference of that name");
    one.conferences().create("live", "room", 3).await.unwrap();
    assert!(!admits("live/room~ann").await);
    assert!(admits("live/room").await && admits("live/other~ann").await);
    join(&one, "ann").await;
    assert!(admits("live/room~ann").await && !admits("live/room~bob").await);
    publish(&two, &node.caller(), "room~ann").await;
    let (room, ()) = one.conferences().change("live/room", |room, now| room.leave("ann", now)).await.unwrap();
    one.conferences().silence(&room, "ann").await.unwrap();
    assert_eq!(node.kicked().await.0, "live/room~ann");
    assert!(!admits("live/room~ann").await);
    // What is left of it keeps grants out, and gives way to another of its name.
    one.conferences().end("live/room").await.unwrap();
    assert!(!admits("live/room~ann").await);
    let again = two.conferences().create("live", "room", 1).await.unwrap();
    assert!(again.sequence > room.sequence);
    assert!(matches!(one.conferences().create("live", "room", 1).await, Err(ConferenceError::Taken(_))));
    two.conferences().end("live/room").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    assert!(admits("live/room~ann").await, "all its grants have expired");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_let_in_a_moment_too_late_is_ended() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    let node = Node::join(&replica, origin("origin-1", 1)).await;
    replica.conferences().create("live", "room", 3).await.unwrap();
    // As if it had been asked about before the member left.
    publish(&replica, &node.caller(), "room~ann").await;
    assert_eq!(node.kicked().await.0, "live/room~ann");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_there_before_its_conference_is_ended() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    let node = Node::join(&replica, origin("origin-1", 1)).await;
    publish(&replica, &node.caller(), "room~ann").await;
    replica.conferences().create("live", "room", 3).await.unwrap();
    assert_eq!(node.kicked().await.0, "live/room~ann");
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_begins_again_and_more_than_may_follow_nowhere() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    replica.conferences().create("live", "room", 3).await.unwrap();
    join(&replica, "ann").await;
    let mut slow = Heard::from(&replica, None).await;
    slow.all(&["snapshot -"]).await;
    for n in 0..100 {
        let muted = n % 2 == 0;
        replica.conferences().change("live/room", |room, now| room.mute("ann", muted, now)).await.unwrap();
    }
    slow.all(&["snapshot -"]).await;
    let all = u32::try_from(replica.conferences().0.config.max_followers).unwrap();
    let _others = Arc::clone(&replica.conferences().0.room).try_acquire_many_owned(all - 1).unwrap();
    assert!(matches!(replica.conferences().events("live/room", None, None), Err(FollowError::Full)));
    assert!(matches!(replica.conferences().events("live/none", None, None), Err(FollowError::Full)));
    drop(slow);
    assert!(matches!(replica.conferences().events("live/none", None, None), Err(FollowError::None(_))));
    assert!(replica.conferences().events("live/room", None, None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_speaks_is_told_by_all_replicas() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let node = Node::join(&one, origin("origin-1", 1)).await;
    one.conferences().create("live", "room", 3).await.unwrap();
    for id in ["ann", "bob"] {
        join(&one, id).await;
        publish(&one, &node.caller(), &format!("room~{id}")).await;
    }
    let mut by_two = Heard::from(&two, None).await;
    by_two.speakers = true;
    let mut heard = Vec::new();
    let level = |stream: &str, level| rpc::Level { stream: stream.to_owned(), level };
    for n in 0..40_u32 {
        let (ann, bob) = if n < 20 { (20, 127) } else { (127, 25) };
        let levels = vec![level("live/room~ann", ann), level("live/room~bob", bob)];
        one.conferences().hears("origin-1", rpc::LevelReport { levels, at_ms: 0 });
        tokio::time::sleep(Duration::from_millis(250)).await;
        while let Ok(Some(said)) =
            tokio::time::timeout(Duration::from_millis(1), by_two.next()).await.map_err(|_| ())
        {
            heard.push(said);
        }
    }
    let speakers: Vec<&String> = heard.iter().filter(|said| said.starts_with("speaker")).collect();
    assert_eq!(speakers, ["speaker -", "speaker ann", "speaker bob"], "{heard:?}");
    // Nobody speaks of whom nothing is heard any more.
    assert_eq!(by_two.next().await.as_deref(), Some("speaker -"));
}

/// What is done to a conference at one of two replicas.
#[derive(Debug, Clone)]
enum Deed {
    Join(u8, bool),
    Leave(u8),
    Mute(u8, bool),
}

fn deed() -> impl Strategy<Value = (bool, Deed)> {
    let what = prop_oneof![
        (0..6_u8, any::<bool>()).prop_map(|(who, speaks)| Deed::Join(who, speaks)),
        (0..6_u8).prop_map(Deed::Leave),
        (0..6_u8, any::<bool>()).prop_map(|(who, muted)| Deed::Mute(who, muted)),
    ];
    (any::<bool>(), what)
}

async fn does(replica: &Replica, deed: &Deed) {
    let done = replica.conferences().change("live/room", |room, now| match *deed {
        Deed::Join(who, speaks) => {
            let role = if speaks { Role::Speaker } else { Role::Listener };
            room.join(&format!("m{who}"), role, false, now).map(|_| ())
        }
        Deed::Leave(who) => room.leave(&format!("m{who}"), now),
        Deed::Mute(who, muted) => room.mute(&format!("m{who}"), muted, now),
    });
    match done.await {
        Ok(_) | Err(ConferenceError::Refused(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is done at once at two replicas, both have the same in the end, and told the same events in one order.
    #[test]
    fn what_two_replicas_do_at_once_comes_in_one_order(deeds in proptest::collection::vec(deed(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::new();
            let replicas = [cluster.replica(), cluster.replica()];
            replicas[0].conferences().create("live", "room", 3).await.unwrap();
            let mut heard = [Heard::from(&replicas[0], None).await, Heard::from(&replicas[1], None).await];
            let half = |at: bool| deeds.iter().filter(move |(second, _)| *second == at);
            let run = async |at: usize| for (_, deed) in half(at == 1) { does(&replicas[at], deed).await };
            tokio::join!(run(0), run(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let rooms = [0, 1].map(|at: usize| replicas[at].conferences().get("live/room").unwrap());
            assert_eq!(rooms[0], rooms[1]);
            assert!(rooms[0].speakers() <= 3);
            let mut told = Vec::new();
            for heard in &mut heard {
                let mut all = Vec::new();
                while heard.last != Some(rooms[0].sequence) {
                    let said = heard.next().await.unwrap();
                    all.push((heard.last, said));
                }
                told.push(all);
            }
            // One may have begun again with a snapshot; what both told singly is the same.
            let shared = |one: &[(Option<u64>, String)], other: &[(Option<u64>, String)]| {
                one.iter().filter(|(id, said)| !said.starts_with("snapshot") && other.iter().any(|(at, _)| at == id)).cloned().collect::<Vec<_>>()
            };
            let both = shared(&told[0], &told[1]);
            assert!(both.iter().all(|said| told[1].contains(said) || told[1].iter().any(|(id, one)| *id == said.0 && one.starts_with("snapshot"))));
            for all in &told {
                assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:?}");
            }
        });
    }
}
