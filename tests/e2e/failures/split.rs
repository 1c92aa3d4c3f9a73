//! The network between an origin and the control plane is cut, and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::STREAM;
use crate::support::clip::Clip;
use crate::support::cluster::{Control, JOIN};
use crate::support::crowd::{Count, Crowd, Directory, Plan};
use crate::support::line::Wire;
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::Weir;

/// What edges show an origin that listens beyond this machine.
const KEY: &str = "between-origin-and-edges";

/// Enough to see what viewers get.
const VIEWERS: Plan = Plan { flv: 20, rtmp: 10, hls: 10 };

/// What stands between the first origin and the control plane.
enum Way {
    /// A proxy that loses what it is given.
    Proxy(Wire),
    /// A network of the origin's own, with a link that can be taken down.
    Namespace(Namespace),
}

impl Way {
    async fn cut(&self, cut: bool) {
        match self {
            Self::Proxy(wire) => wire.cut(cut),
            Self::Namespace(namespace) => namespace.cut(cut).await,
        }
    }
}

/// A network namespace: one link leads to everybody, another to the control plane alone.
struct Namespace {
    name: String,
    number: u8,
}

impl Namespace {
    /// `None`: this machine does not let us make one.
    async fn new() -> Option<Self> {
        let number = (std::process::id() % 250) as u8;
        let namespace = Self { name: format!("weir-{}", std::process::id()), number };
        let Self { name, .. } = &namespace;
        // What is made is removed when it is dropped, whatever of it there is.
        ip(&format!("netns add {name}")).await.then_some(())?;
        let [link, control] = [namespace.link("m"), namespace.link("c")];
        let (near, far) = (namespace.address(1), namespace.address(2));
        let (control_at, from) = (namespace.address(5), namespace.address(6));
        for command in [
            format!("link add {link} type veth peer name media netns {name}"),
            format!("link add {control} type veth peer name control netns {name}"),
            format!("addr add {near}/30 dev {link}"),
            format!("addr add {control_at}/30 dev {control}"),
            format!("link set {link} up"),
            format!("link set {control} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} addr add {far}/30 dev media"),
            format!("-n {name} addr add {from}/30 dev control"),
            format!("-n {name} link set media up"),
            format!("-n {name} link set control up"),
        ] {
            assert!(ip(&command).await, "ip {command}");
        }
        Some(namespace)
    }

    fn link(&self, which: &str) -> String {
        format!("w{which}{}", std::process::id())
    }

    /// Of a network that is nobody's (RFC 2544 benchmarking).
    fn address(&self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 18, self.number, last))
    }

    async fn cut(&self, cut: bool) {
        let state = if cut { "down" } else { "up" };
        assert!(ip(&format!("link set {} {state}", self.link("c"))).await);
    }
}

impl Drop for Namespace {
    #[allow(clippy::disallowed_methods, reason = "a drop cannot await")]
    fn drop(&mut self) {
        // The links go with it.
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

async fn ip(command: &str) -> bool {
    let output = Command::new("ip").args(command.split(' ')).output().await;
    output.is_ok_and(|output| output.status.success())
}

/// Two origins, of which the first reaches the control plane by `way`; an edge; a stream that is published at the first,
/// and then, while that is cut off, at the second.
async fn viewers_get_one_epoch(way: Way, control: Control, one: Weir) {
    let (clip, other) = (Clip::small().await, Clip::large().await);
    let join = |role: &'static str, name: &'static str| {
        let url = format!("http://127.0.0.1:{}", control.grpc.port());
        let tables =
            if role == "edge" { format!("[edge.upstream]\nkey = \"{KEY}\"\n") } else { String::new() };
        let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n{tables}");
        async move { Weir::role(role, &config, &["--control", &url, "--name", name]).await }
    };
    let (two, edge) = tokio::join!(join("origin", "origin-2"), join("edge", "edge-1"));
    edge.process.line("origins of the cluster").await;
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    let first_copy = Publication::start(one.rtmp, STREAM, &clip).await;
    let before = control.until_live(STREAM).await;
    let directory = Directory::of(STREAM, std::slice::from_ref(&control));
    let crowd = Crowd::gather(&directory, VIEWERS).await;
    crowd.mark();

    // Whoever publishes there goes on, and so do those who watch that.
    way.cut(true).await;
    let cut = Instant::now();
    control.until_stream(STREAM, "dropped", |info| info["state"] == "interrupted").await;
    println!("that an origin is cut off was noticed after {:.2?}", cut.elapsed());
    crowd.all_play().await;
    assert!(!first_copy.has_ended(), "its publisher goes on");
    assert_eq!(crowd.counts().failures(), 0, "{}", crowd.troubles());

    // The encoder's second copy is let in at the other origin. From then on nobody sees the first.
    let (app, name) = STREAM.split_once('/').unwrap();
    let mut client = Client::open(two.rtmp, app).await.unwrap();
    assert!(client.publish(name).await.unwrap().says("NetStream.Publish.Start"));
    let second_copy = Publication::send(client, &other).await;
    let published = Instant::now();
    until("all to see the second copy", async || {
        crowd.other_configurations().iter().all(|others| *others > 0).then_some(())
    })
    .await;
    println!("all viewers saw the newer epoch {:.2?} after its publisher was there", published.elapsed());
    assert!(!first_copy.has_ended(), "nobody can tell it");
    crowd.play_for(Duration::from_secs(3)).await;
    // Who comes now finds the newer one, too.
    let late = Crowd::gather(&directory, VIEWERS).await;
    let after = control.until_live(STREAM).await;
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {after}");

    // The cut heals: the first origin learns that it lost the stream, and its publisher is told.
    way.cut(false).await;
    let healed = Instant::now();
    until("the end at the first origin", async || {
        (one.stream(STREAM).await.is_none() && first_copy.has_ended()).then_some(())
    })
    .await;
    println!(
        "the origin that was cut off ended its publication {:.2?} after it was not any more",
        healed.elapsed()
    );
    control.until_nodes(&[("edge-1", "ready"), ("origin-1", "ready"), ("origin-2", "ready")]).await;
    crowd.all_play().await;
    late.all_play().await;
    let now = control.until_live(STREAM).await;
    assert_eq!(now["epoch"], after["epoch"]);
    assert!(!second_copy.has_ended());
    assert!(
        crowd.other_configurations().iter().all(|others| *others == 1),
        "no viewer saw both epochs by turns"
    );
    assert!(late.other_configurations().iter().all(|others| *others == 0), "nor did who came later");
    let counts = crowd.counts();
    println!("a network cut: {counts}; longest gap {:.2?}", crowd.longest_gap());
    let wrong = counts.disconnected() + counts.of(Count::Refused) + counts.of(Count::Backwards);
    assert_eq!(wrong, 0, "{counts}\n{}", crowd.troubles());
}

#[tokio::test]
async fn an_origin_that_is_cut_off_by_a_proxy_splits_no_stream() {
    let _turn = turn::take(Load::Alone).await;
    let control = Control::start().await;
    let wire = Wire::to(control.grpc).await;
    let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n");
    let one = Weir::role("origin", &config, &["--control", &wire.url(), "--name", "origin-1"]).await;
    viewers_get_one_epoch(Way::Proxy(wire), control, one).await;
}

#[tokio::test]
async fn an_origin_in_a_network_that_is_cut_off_splits_no_stream() {
    let _turn = turn::take(Load::Alone).await;
    let Some(namespace) = Namespace::new().await else {
        println!("no network namespaces here (they take root and iproute2): not tried");
        return;
    };
    let control = Control::listening("", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await;
    let url = format!("http://{}", SocketAddr::new(namespace.address(5), control.grpc.port()));
    let config = format!("[cluster]\njoin_token = \"{JOIN}\"\n[origin.http]\nkey = \"{KEY}\"\n");
    let flags = ["--control", &url, "--name", "origin-1"];
    let one = Weir::role_in(&namespace.name, namespace.address(2), "origin", &config, &flags).await;
    viewers_get_one_epoch(Way::Namespace(namespace), control, one).await;
}
