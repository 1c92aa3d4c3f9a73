//! Nodes that join, are heard and fall silent, by the services that they call.

mod calls;

use std::time::Duration;

use control_api::rpc;
use control_api::rpc::command::Command;
use control_api::rpc::node_service_client::NodeServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Request, Status, Streaming};

use crate::replica::testing::{self, Cluster};
use crate::schedule::Labels;

/// A node's call, which beats when told to.
struct Call {
    beats: mpsc::Sender<rpc::Heartbeat>,
    commands: Streaming<rpc::Command>,
}

impl Call {
    async fn begin(routes: Routes, token: &str) -> Result<Self, Status> {
        let (beats, sending) = mpsc::channel(16);
        beats.send(rpc::Heartbeat::default()).await.unwrap();
        let request = testing::with_token(Request::new(ReceiverStream::new(sending)), token);
        let commands = NodeServiceClient::new(routes).beat(request).await?.into_inner();
        Ok(Self { beats, commands })
    }

    /// The next command that is not about keys, origins or what is asked.
    async fn command(&mut self) -> Result<Option<Command>, Status> {
        loop {
            match self.commands.message().await? {
                Some(rpc::Command {
                    command: Some(Command::Keys(_) | Command::Origins(_) | Command::Policy(_)),
                }) => {}
                Some(rpc::Command { command }) => return Ok(command),
                None => return Ok(None),
            }
        }
    }

    async fn beats_for(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            self.beats.send(rpc::Heartbeat::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn register(routes: &Routes, node: &rpc::Node, token: Option<&str>) -> Result<String, Status> {
    let mut request = Request::new(rpc::RegisterRequest { node: Some(node.clone()) });
    if let Some(token) = token {
        request = testing::with_token(request, token);
    }
    Ok(NodeServiceClient::new(routes.clone()).register(request).await?.into_inner().token)
}

#[tokio::test(start_paused = true)]
async fn who_has_no_join_token_or_another_does_not_join() {
    let cluster = Cluster::with_token("join");
    let replica = cluster.replica();
    let (routes, node) = (replica.services(), testing::edge("edge-1", 1));
    for token in [None, Some("wrong"), Some("")] {
        assert_eq!(register(&routes, &node, token).await.unwrap_err().code(), Code::Unauthenticated);
    }
    testing::lease(&replica).await;
    let pass = register(&routes, &node, Some("join")).await.unwrap();
    // What lets it join does not let it speak, and the other way about.
    assert_eq!(Call::begin(routes.clone(), "join").await.err().unwrap().code(), Code::Unauthenticated);
    assert_eq!(register(&routes, &node, Some(&pass)).await.unwrap_err().code(), Code::Unauthenticated);
    let _call = Call::begin(routes.clone(), &pass).await.unwrap();
    assert_eq!(
        register(&routes, &rpc::Node::default(), Some("join")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_sent_nobody_and_then_forgotten() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    let routes = replica.services();
    testing::lease(&replica).await;
    let pass = register(&routes, &testing::edge("edge-1", 1), None).await.unwrap();
    let mut call = Call::begin(routes.clone(), &pass).await.unwrap();
    let there = || replica.nodes().get("edge-1").map(|known| known.takes());
    let edges = || replica.nodes().edges_for("live/a", &Labels::default(), 3).len();
    call.beats_for(Duration::from_secs(20)).await;
    assert_eq!((there(), edges()), (Some(true), 1));
    // Its line is up, but nothing comes.
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    assert_eq!((there(), edges()), (Some(false), 0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((there(), edges()), (None, 0));
    // It has to register again, and is as it was.
    assert_eq!(Call::begin(routes.clone(), &pass).await.err().unwrap().code(), Code::Aborted);
    let pass = register(&routes, &testing::edge("edge-1", 1), None).await.unwrap();
    let mut call = Call::begin(routes.clone(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    assert_eq!((there(), edges()), (Some(true), 1));
    // One that hangs up may come back in a moment, at another replica.
    drop(call);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((there(), edges()), (Some(false), 0));
    let other = cluster.replica();
    testing::lease(&other).await;
    let mut call = Call::begin(other.services(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(10)).await;
    assert_eq!((there(), edges()), (Some(true), 1));
    assert_eq!(other.nodes().edges_for("live/a", &Labels::default(), 3).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namesake_elsewhere_is_refused_and_a_successor_taken_in() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    let routes = replica.services();
    testing::lease(&replica).await;
    let pass = register(&routes, &testing::edge("edge-1", 1), None).await.unwrap();
    let mut call = Call::begin(routes.clone(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    let mut elsewhere = testing::edge("edge-1", 2);
    elsewhere.addresses.as_mut().unwrap().http = "http://10.9.9.9:8080".to_owned();
    let refused = register(&routes, &elsewhere, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("http://10.0.0.1:8080"), "{refused}");
    // A process that was started anew listens where the one before did.
    let pass = register(&routes, &testing::edge("edge-1", 3), None).await.unwrap();
    let mut successor = Call::begin(routes.clone(), &pass).await.unwrap();
    assert_eq!(call.command().await.unwrap_err().code(), Code::Aborted);
    successor.beats_for(Duration::from_secs(10)).await;
    assert_eq!(replica.nodes().get("edge-1").unwrap().record.instance, 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_told_and_holds_for_that_process() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    testing::lease(&one).await;
    testing::lease(&two).await;
    let routes = one.services();
    let pass = register(&routes, &testing::edge("edge-1", 1), None).await.unwrap();
    let mut call = Call::begin(routes.clone(), &pass).await.unwrap();
    call.beats_for(Duration::from_secs(1)).await;
    // By the replica that does not hear it.
    assert!(two.nodes().drain("edge-1", false).await.unwrap());
    assert_eq!(call.command().await.unwrap(), Some(Command::Drain(rpc::Drain { undo: false })));
    for replica in [&one, &two] {
        assert!(replica.nodes().edges_for("live/a", &Labels::default(), 3).is_empty());
    }
    assert!(two.nodes().drain("edge-1", true).await.unwrap());
    assert_eq!(call.command().await.unwrap(), Some(Command::Drain(rpc::Drain { undo: true })));
    assert_eq!(one.nodes().edges_for("live/a", &Labels::default(), 3).len(), 1);
    assert!(two.nodes().drain("edge-1", false).await.unwrap());
    call.beats_for(Duration::from_secs(1)).await;
    let pass = register(&routes, &testing::edge("edge-1", 2), None).await.unwrap();
    let mut successor = Call::begin(routes, &pass).await.unwrap();
    successor.beats_for(Duration::from_secs(1)).await;
    assert_eq!(one.nodes().edges_for("live/a", &Labels::default(), 3).len(), 1);
    assert!(!two.nodes().drain("edge-2", false).await.unwrap(), "there is none");
}

#[tokio::test(start_paused = true)]
async fn replicas_know_the_load_of_each_others_nodes() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    testing::lease(&one).await;
    let routes = one.services();
    let pass = register(&routes, &testing::edge("edge-1", 1), None).await.unwrap();
    let mut call = Call::begin(routes, &pass).await.unwrap();
    let viewers = Some(rpc::Viewers { flv: 5, ..Default::default() });
    let report = rpc::Report { app: "live".into(), name: "a".into(), viewers, ..Default::default() };
    let load = Some(rpc::Load { out_bps: 7_000_000, ..Default::default() });
    call.beats
        .send(rpc::Heartbeat { load, reports: vec![report], ..rpc::Heartbeat::default() })
        .await
        .unwrap();
    let seen = |replica: &crate::Replica| {
        let load = replica.nodes().get("edge-1").unwrap().load.out_bps;
        let viewers: u32 = replica
            .nodes()
            .all_reports()
            .iter()
            .flat_map(|reports| {
                reports.lock().values().map(|r| r.viewers.unwrap_or_default().flv).collect::<Vec<_>>()
            })
            .sum();
        (load, viewers)
    };
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((seen(&one), seen(&two)), ((7_000_000, 5), (7_000_000, 5)));
    call.beats_for(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_heartbeats_waits_in_the_nodes_own_connection() {
    let cluster = Cluster::new();
    let replica = cluster.replica();
    testing::lease(&replica).await;
    let (routes, node) = (replica.services(), testing::edge("edge-1", 1));
    let pass = register(&routes, &node, None).await.unwrap();
    let call = Call::begin(routes, &pass).await.unwrap();
    let flood = async {
        let mut sent = 0;
        loop {
            call.beats.send(rpc::Heartbeat::default()).await.unwrap();
            sent += 1;
            if sent == 1_000 {
                return;
            }
        }
    };
    let began = tokio::time::Instant::now();
    flood.await;
    // Four a second are taken; a few are in the channel and on their way.
    assert!(began.elapsed() > Duration::from_secs(200), "{:?}", began.elapsed());
    assert!(replica.nodes().refusals().total(super::Why::Flood) > 900);
    assert_eq!(replica.nodes().get("edge-1").unwrap().state(), "ready");
}
