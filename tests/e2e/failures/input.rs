//! What a node must not say, said to a replica's port for nodes by hand: refused or contained, said once, and counted.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control_api::rpc;
use control_api::rpc::node_service_client::NodeServiceClient;
use control_api::rpc::stream_service_client::StreamServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::{STREAM, unnoticed};
use crate::support::clip::Clip;
use crate::support::cluster::{Control, JOIN, edge, node};
use crate::support::crowd::{Crowd, Directory, Plan};
use crate::support::memory::anonymous_bytes;
use crate::support::rtmp::Publication;
use crate::support::turn::{self, Load};
use crate::support::{until, within};

/// How often each thing is said.
const TIMES: u32 = 20;

/// Memory that all of it together may cost a replica.
const FEW_MB: u64 = 8 << 20;

/// From one heartbeat of a flood to the next: fifty times as often as they are expected.
const FLOOD: Duration = Duration::from_millis(20);

const HOUR_MS: u64 = 3_600_000;

/// Whose streams and viewers are not to notice any of it.
const VIEWERS: Plan = Plan { flv: 20, rtmp: 10, hls: 10 };

/// A node made by hand.
struct Node {
    channel: Channel,
    pass: String,
}

/// A node that is heard.
struct Heard {
    beats: mpsc::Sender<rpc::Heartbeat>,
    commands: Streaming<rpc::Command>,
}

impl Node {
    /// Its first call: what it says of itself, and with which token.
    async fn join(control: &Control, node: rpc::Node, token: &str) -> Result<Self, Status> {
        let endpoint = Channel::from_shared(format!("http://{}", control.grpc)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let request = shown(rpc::RegisterRequest { node: Some(node) }, token);
        let joined = NodeServiceClient::new(channel.clone()).register(request).await?.into_inner();
        Ok(Self { channel, pass: joined.token })
    }

    async fn beat(&self) -> Result<Heard, Status> {
        let (beats, sending) = mpsc::channel(4);
        beats.send(rpc::Heartbeat::default()).await.unwrap();
        let request = shown(ReceiverStream::new(sending), &self.pass);
        let commands = NodeServiceClient::new(self.channel.clone()).beat(request).await?.into_inner();
        Ok(Heard { beats, commands })
    }

    /// Says that it has a stream under that epoch. Whether it may keep it.
    async fn holds(&self, epoch: u64) -> bool {
        let held = vec![rpc::Held { key: Some(key(STREAM)), epoch, ..rpc::Held::default() }];
        let request = shown(rpc::RenewRequest { held }, &self.pass);
        let answer = StreamServiceClient::new(self.channel.clone()).renew(request).await.unwrap();
        answer.into_inner().lost.is_empty()
    }

    async fn publish(&self, stream: &str, epoch: u64) -> Result<u64, Status> {
        let request = rpc::PublishRequest {
            key: Some(key(stream)),
            epoch,
            takeover: false,
            protocol: "rtmp".to_owned(),
            remote_addr: "192.0.2.1:1".to_owned(),
            ..rpc::PublishRequest::default()
        };
        let mut client = StreamServiceClient::new(self.channel.clone());
        Ok(client.publish(shown(request, &self.pass)).await?.into_inner().epoch)
    }
}

fn shown<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn key(stream: &str) -> rpc::StreamKey {
    let (app, name) = stream.split_once('/').unwrap();
    rpc::StreamKey { app: app.to_owned(), name: name.to_owned() }
}

/// What a node could say of itself, at an address where nobody is.
fn at(name: &str, port: u16) -> rpc::Node {
    let url = format!("http://127.0.0.1:{port}");
    rpc::Node {
        name: name.to_owned(),
        role: rpc::Role::Origin.into(),
        instance: u64::from(port),
        addresses: Some(rpc::Addresses { relay: url, ..Default::default() }),
        ..Default::default()
    }
}

/// Calls a method with these bytes, framed as a message (gRPC over HTTP/2, "Length-Prefixed-Message").
async fn raw(control: &Control, method: &str, token: &str, messages: &[&[u8]]) -> Option<String> {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(*message);
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/weir.v1.NodeService/{method}", control.grpc);
    let request = client.post(url).bearer_auth(token).header("content-type", "application/grpc");
    let answer = within("an answer", request.header("te", "trailers").body(body).send()).await.unwrap();
    answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
}

/// How often it has been refused for that reason; counted each second.
async fn refused(control: &Control, reason: &str, least: u32) {
    let sample = format!("weir_control_cluster_refusals_total{{reason=\"{reason}\"}}");
    control.until_metric(&sample, f64::from(least)).await;
    println!("refused ({reason}): {:?}", control.metric(&sample).await);
}

fn said(control: &Control, what: &str) -> usize {
    control.process.output().lines().filter(|line| line.contains(what)).count()
}

#[tokio::test]
async fn what_a_node_must_not_say_is_refused_said_once_and_counted() {
    let _turn = turn::take(Load::Light).await;
    let control = Control::start().await;
    let (origin, edge) = tokio::join!(node("origin", "origin-1", &control), edge("edge-1", &control));
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let _publication = Publication::start(origin.rtmp, STREAM, &Clip::small().await).await;
    let live = control.until_live(STREAM).await;
    let epoch = live["epoch"].as_u64().unwrap();
    let crowd = Crowd::gather(&Directory::of(STREAM, std::slice::from_ref(&control)), VIEWERS).await;
    crowd.mark();
    let memory = anonymous_bytes(control.process.pid());

    wrong_tokens_and_names(&control).await;
    malformed_messages(&control).await;
    let other = Node::join(&control, at("origin-9", 9), JOIN).await.unwrap();
    let heard = other.beat().await.unwrap();
    epochs_of_others_and_of_tomorrow(&control, &other, epoch).await;
    drop(heard);
    a_node_that_flaps(&control).await;
    a_flood_of_heartbeats(&control).await;

    // Those who are gone are forgotten; everybody else is as before.
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready")]).await;
    let after = control.until_live(STREAM).await;
    assert_eq!((after["epoch"].as_u64(), &after["started_at_ms"]), (Some(epoch), &live["started_at_ms"]));
    let more = anonymous_bytes(control.process.pid()).saturating_sub(memory);
    println!("all of it cost the replica {} KiB", more >> 10);
    assert!(more < FEW_MB, "{more}");
    crowd.all_play().await;
    unnoticed(&crowd, "bad input of nodes");
    drop(edge);
}

async fn wrong_tokens_and_names(control: &Control) {
    for _ in 0..TIMES {
        let stranger = Node::join(control, at("origin-8", 8), "guessed").await.err().unwrap();
        assert_eq!(stranger.code(), Code::Unauthenticated);
        let namesake = Node::join(control, at("origin-1", 8), JOIN).await.err().unwrap();
        assert_eq!(namesake.code(), Code::AlreadyExists, "{namesake}");
        let odd = rpc::Node { weight: f32::NAN, ..at("origin-8", 8) };
        assert_eq!(Node::join(control, odd, JOIN).await.err().unwrap().code(), Code::InvalidArgument);
    }
    for reason in ["credentials", "taken", "invalid"] {
        refused(control, reason, TIMES).await;
    }
    assert_eq!(said(control, "no join token"), 1);
    assert_eq!(said(control, "is there already"), 1);
    assert_eq!(said(control, "the weight of a node"), 1);
    // Two of one name at one address: whoever came last is heard, and the one before is told.
    let first = Node::join(control, at("origin-8", 8), JOIN).await.unwrap();
    let mut heard = first.beat().await.unwrap();
    let second = Node::join(control, rpc::Node { instance: 88, ..at("origin-8", 8) }, JOIN).await.unwrap();
    let _heard_instead = second.beat().await.unwrap();
    let told = within("the first to be told", async {
        loop {
            if let Err(status) = heard.commands.message().await {
                return status;
            }
        }
    });
    assert_eq!(told.await.code(), Code::Aborted);
    assert_eq!(first.beat().await.err().unwrap().code(), Code::Aborted);
}

async fn malformed_messages(control: &Control) {
    // A field of a length that is not there.
    const NONSENSE: &[u8] = &[0x0a, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3];
    for _ in 0..TIMES {
        assert_eq!(raw(control, "Register", JOIN, &[NONSENSE]).await.as_deref(), Some("13"));
    }
    refused(control, "malformed", TIMES).await;
    assert_eq!(said(control, "no message of this service"), 1);
    for time in 1..=3 {
        let node = Node::join(control, at("origin-7", 7), JOIN).await.unwrap();
        assert_eq!(raw(control, "Beat", &node.pass, &[&[], NONSENSE]).await, None, "it was heard before");
        // The next call of the node takes the place of this one, be it that this one has read all or not.
        refused(control, "malformed", TIMES + time).await;
    }
    assert_eq!(said(control, "is no heartbeat"), 1);
}

async fn epochs_of_others_and_of_tomorrow(control: &Control, other: &Node, epoch: u64) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for _ in 0..TIMES {
        assert!(!other.holds(epoch - 1).await, "an old epoch");
        assert!(!other.holds(now_ms + HOUR_MS).await, "an epoch of tomorrow");
        assert_eq!(other.publish(STREAM, now_ms).await.err().unwrap().code(), Code::AlreadyExists);
    }
    let given = other.publish("live/tomorrow", now_ms + HOUR_MS).await.unwrap();
    assert!(given < now_ms + HOUR_MS / 2, "{given}");
    refused(control, "outdated", TIMES).await;
    refused(control, "clock", TIMES + 1).await;
    assert_eq!(said(control, "an older epoch of a stream"), 1);
    assert_eq!(said(control, "the clock of an origin is ahead"), 1);
    // Nor does it end what it does not have.
    let why = rpc::release_request::Why::Ended.into();
    let release = rpc::ReleaseRequest { key: Some(key(STREAM)), epoch: epoch - 1, why };
    let mut client = StreamServiceClient::new(other.channel.clone());
    client.release(shown(release, &other.pass)).await.unwrap();
    assert_eq!(control.until_live(STREAM).await["epoch"], epoch);
}

async fn a_node_that_flaps(control: &Control) {
    let began = Instant::now();
    for _ in 0..TIMES {
        let node = Node::join(control, at("origin-6", 6), JOIN).await.unwrap();
        drop(node.beat().await.unwrap());
    }
    println!("a node came and went {TIMES} times in {:.2?}", began.elapsed());
    control.until_metric("weir_control_cluster_joins_total", f64::from(TIMES + 2)).await;
    assert!(said(control, "node=origin-6") <= 2 * TIMES as usize);
}

async fn a_flood_of_heartbeats(control: &Control) {
    let node = Node::join(control, at("origin-5", 5), JOIN).await.unwrap();
    let Heard { beats, mut commands } = node.beat().await.unwrap();
    let flood = tokio::spawn(async move {
        let stream = |number: u32| rpc::Report {
            app: "flood".to_owned(),
            name: number.to_string(),
            ..Default::default()
        };
        let mut ticks = tokio::time::interval(FLOOD);
        for number in 0.. {
            ticks.tick().await;
            let heartbeat = rpc::Heartbeat { reports: vec![stream(number % 100)], ..Default::default() };
            if beats.send(heartbeat).await.is_err() {
                return;
            }
        }
    });
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = commands.message().await {} });
    refused(control, "flood", 10).await;
    // Meanwhile whoever asks is answered, and the node's place is its own.
    let asked = Instant::now();
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-5", "ready")]).await;
    println!("in a flood of heartbeats the replica answered after {:.2?}", asked.elapsed());
    assert_eq!(said(control, "listened to no faster"), 1);
    flood.abort();
    reading.abort();
    let _ = (flood.await, reading.await);
    until("it to be away", async || {
        let nodes = control.nodes().await;
        nodes.iter().all(|node| node["name"] != "origin-5" || node["state"] == "away").then_some(())
    })
    .await;
}
