//! Viewers on shards: at the live edge, behind it, not reading, and in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::client::{Player, Server, open};
use super::limits::metric;
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{key, until};
use crate::fanout::{Format, Over, Start};
use crate::shard::{Arrival, Guest, Leave, Link, Protocol, Transport, Window, Wish};
use crate::sound::Wanted;
use crate::{Config, Edge, FanoutBackend};

/// One shard, so that all meet there.
fn one_shard() -> Config {
    let mut config = Config::default();
    config.fanout.shards = 1;
    config
}

/// A viewer as bare bytes, whose response's head was read.
async fn watch(server: &Server, buffer_bytes: u32) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(buffer_bytes).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    // HTTP/1.0, so that the stream is not in chunks.
    socket.write_all(b"GET /live/a.flv HTTP/1.0\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    socket
}

#[tokio::test]
async fn who_stops_reading_and_goes_on_gets_every_byte_that_others_get() {
    stops_reading_and_goes_on(FanoutBackend::Send).await;
}

#[tokio::test]
async fn the_same_where_flushes_go_out_by_io_uring() {
    // Does the same where there is none.
    stops_reading_and_goes_on(FanoutBackend::Auto).await;
}

async fn stops_reading_and_goes_on(backend: FanoutBackend) {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = one_shard();
    config.fanout.backend = backend;
    config.fanout.ring_bytes = 64 << 20;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut slow = watch(&server, 64 * 1024).await;
    let mut fast = watch(&server, 1 << 20).await;
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        fast.read_to_end(&mut all).await.unwrap();
        all
    });
    // Enough of them for one submission to many.
    let crowd = [(); 3].map(|()| server.get("/live/a.flv"));
    let crowd: Vec<_> = futures_util::future::join_all(crowd).await.into_iter().map(Player::new).collect();
    let crowd: Vec<_> = crowd
        .into_iter()
        .map(|mut player| {
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                while let Some(number) = player.number().await {
                    numbers.push(number);
                }
                numbers
            })
        })
        .collect();
    let mut beginning = vec![0; 600];
    slow.read_exact(&mut beginning).await.unwrap();
    // More than sockets' buffers hold (tcp_wmem ends at 4 MiB), less than the ring. Odd sizes end at odd places.
    for n in 1..=1500 {
        relay.send(studio.picture(n % 400 == 0, 10_007 + n % 13).bytes).await;
    }
    let mut other = Player::new(server.get("/live/a.flv").await);
    while other.number().await < Some(1500) {}
    // It catches up, rides, and is there at the end.
    let mut caught = vec![0; 15_000_000];
    slow.read_exact(&mut caught).await.unwrap();
    for _ in 0..50 {
        relay.send(studio.picture(false, 1_000).bytes).await;
        assert!(other.number().await.is_some());
    }
    drop(relay);
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    let (got, expected) = ([beginning, caught, rest].concat(), reader.await.unwrap());
    assert_eq!(got.len(), expected.len());
    assert!(got == expected, "the same bytes");
    for numbers in crowd {
        assert!(numbers.await.unwrap().into_iter().eq(0..=1550));
    }
    assert_eq!(metric(&server, "weir_edge_viewer_skips_total"), "0");
}

#[tokio::test]
async fn who_falls_out_of_the_ring_goes_on_at_a_keyframe() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = one_shard();
    config.fanout.ring_bytes = 1 << 20;
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut slow = Player::new(server.get("/live/a.flv").await);
    let mut fast = Player::new(server.get("/live/a.flv").await);
    assert_eq!((slow.number().await, fast.number().await), (Some(0), Some(0)));
    for n in 1..=600 {
        relay.send(studio.picture(n % 5 == 0, 100_000).bytes).await;
        assert_eq!(fast.number().await, Some(n));
    }
    drop(relay);
    let (mut before, mut gaps) = (0, 0);
    while let Some(number) = slow.number().await {
        if number != before + 1 {
            assert!(number > before && number.is_multiple_of(5), "{before}, then {number}");
            gaps += 1;
        }
        before = number;
    }
    assert_eq!(before, 600);
    assert!(gaps > 0);
    assert_eq!(metric(&server, r#"weir_edge_viewer_skips_total{reason="lagged"}"#), gaps.to_string());
}

#[tokio::test]
async fn who_joins_in_the_middle_of_a_window_misses_nothing_and_gets_nothing_twice() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut witness = Player::new(server.get("/live/a.flv?latency=frame").await);
    assert_eq!(witness.number().await, Some(0));
    let mut players = Vec::new();
    let mut keyframe = 0;
    for number in 1..=60 {
        if number % 4 == 0 {
            let mut player = Player::new(server.get("/live/a.flv?latency=350").await);
            assert_eq!(player.number().await, Some(keyframe));
            players.push((player, keyframe));
        }
        if number % 3 == 0 {
            keyframe = number;
        }
        relay.send(studio.picture(number % 3 == 0, 100).bytes).await;
        assert_eq!(witness.number().await, Some(number));
    }
    drop(relay);
    for (mut player, first) in players {
        for number in first + 1..=60 {
            assert_eq!(player.number().await, Some(number), "of one that began with {first}");
        }
        assert_eq!(player.number().await, None);
    }
}

#[tokio::test]
async fn a_viewer_that_leaves_is_noticed_though_nothing_is_sent_to_it() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let riding = watch(&server, 1 << 20).await;
    until(|| server.edge.viewers(&key("a")).flv == 1).await;
    drop(riding);
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    until(|| metric(&server, "weir_edge_connections ") == "0").await;
    drop(relay);
}

#[tokio::test]
async fn who_floods_holds_up_nobody() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    let mut flood = watch(&server, 1 << 20).await;
    let flooded = tokio::spawn(async move { while flood.write_all(&[b'x'; 64 * 1024]).await.is_ok() {} });
    for n in 0..=100 {
        assert_eq!(player.number().await, Some(n));
        relay.send(studio.picture(false, 1000).bytes).await;
    }
    flooded.abort();
}

#[tokio::test]
async fn without_its_edge_nobody_is_served() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let edge = Edge::new(one_shard(), open(), origin.upstream(), None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = crate::Listeners { http: listener, https: None };
    let serving = tokio::spawn(async move { edge.serve_http(listeners, std::future::pending()).await });
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /live/a.flv HTTP/1.1\r\nhost: edge\r\n\r\n").await.unwrap();
    socket.read_u8().await.unwrap();
    serving.abort();
    // Ends, however.
    let _ = socket.read_to_end(&mut Vec::new()).await;
    drop(relay);
}

/// Panics when it is told something.
struct Fragile;

impl Protocol for Fragile {
    fn input(&mut self, _now: Instant, bytes: &[u8]) {
        panic!("{} bytes", bytes.len());
    }

    fn output(&mut self) -> Option<Bytes> {
        None
    }

    fn end(&mut self, _over: Over) {}

    fn wish(&mut self) -> Wish {
        Wish::Play
    }
}

/// Tells how its client left.
struct Witness(oneshot::Sender<(u64, Leave)>);

impl Guest for Witness {
    fn left(self: Box<Self>, bytes: u64, why: Leave) {
        let _ = self.0.send((bytes, why));
    }
}

/// A connection of which a shard has the other end.
async fn admit(
    server: &Server,
    protocol: impl Protocol + 'static,
) -> (TcpStream, oneshot::Receiver<(u64, Leave)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let (witness, left) = oneshot::channel();
    let shared = &server.edge.shared;
    shared.shards.admit(Arrival {
        link: Link::plain(far.into_std().unwrap()),
        transport: Transport::Http,
        head: Bytes::from_static(b"hello"),
        viewer: Some(
            shared.feeds.join(&key("a"), Format::Flv, (Start::Gop, Wanted::Published), 0).await.unwrap(),
        ),
        protocol: Box::new(protocol),
        window: Window::Frame,
        until: None,
        guard: Box::new(Witness(witness)),
    });
    (near, left)
}

#[tokio::test]
async fn a_panic_costs_one_viewer_and_his_bytes_are_told() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let (mut fragile, left) = admit(&server, Fragile).await;
    until(|| server.edge.viewers(&key("a")).flv == 2).await;
    let mut hello = [0; 5];
    fragile.read_exact(&mut hello).await.unwrap();
    fragile.write_all(b"boo").await.unwrap();
    let mut rest = Vec::new();
    let _ = fragile.read_to_end(&mut rest).await;
    let (bytes, why) = left.await.unwrap();
    assert_eq!((bytes, why), (5 + rest.len() as u64, Leave::Fault));
    assert_eq!(metric(&server, "weir_edge_viewer_faults_total"), "1");
    assert_eq!(server.edge.viewers(&key("a")).flv, 1);
    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(player.number().await, Some(1));
}

/// Is let go of by a panic.
struct Clumsy(Arc<AtomicBool>);

impl Protocol for Clumsy {
    fn input(&mut self, _now: Instant, _bytes: &[u8]) {}

    fn output(&mut self) -> Option<Bytes> {
        None
    }

    fn end(&mut self, _over: Over) {}

    fn wish(&mut self) -> Wish {
        Wish::Play
    }
}

impl Drop for Clumsy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        panic!("not to be let go");
    }
}

#[tokio::test]
async fn a_panic_at_the_end_of_one_viewer_costs_nobody_else() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut player = Player::new(server.get("/live/a.flv").await);
    assert_eq!(player.number().await, Some(0));
    let dropped = Arc::new(AtomicBool::new(false));
    let (clumsy, _left) = admit(&server, Clumsy(Arc::clone(&dropped))).await;
    drop(clumsy);
    until(|| metric(&server, "weir_edge_viewer_faults_total") == "1").await;
    assert!(dropped.load(Ordering::Relaxed));
    relay.send(studio.picture(false, 1000).bytes).await;
    assert_eq!(player.number().await, Some(1));
}

/// Writes down what it heard.
struct Hearing(Arc<Mutex<Vec<u8>>>);

impl Protocol for Hearing {
    fn input(&mut self, _now: Instant, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }

    fn output(&mut self) -> Option<Bytes> {
        None
    }

    fn end(&mut self, _over: Over) {}

    fn wish(&mut self) -> Wish {
        Wish::Play
    }
}

#[tokio::test]
async fn who_says_much_is_heard_to_the_end_a_part_at_a_time() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = one_shard();
    // What is heard between two looks at who stalls is bounded, and those are then 50 ms apart.
    config.http.write_stall_ms = 200;
    let server = Server::with(&origin, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (mut socket, _left) = admit(&server, Hearing(Arc::clone(&heard))).await;
    let words: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).take(300_000).collect();
    socket.write_all(&words).await.unwrap();
    until(|| heard.lock().len() == words.len()).await;
    assert!(*heard.lock() == words);
}

/// Is paused until it hears something. Behind its answer, before its viewer goes on, it waits for the test.
struct Resuming {
    paused: bool,
    wish: Wish,
    answer: Option<Bytes>,
    answered: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

impl Protocol for Resuming {
    fn input(&mut self, _now: Instant, _bytes: &[u8]) {
        (self.paused, self.wish) = (false, Wish::Resume);
        self.answer = Some(Bytes::from_static(b"goes on"));
    }

    fn output(&mut self) -> Option<Bytes> {
        if self.paused || self.answer.is_some() {
            return self.answer.take();
        }
        if let Some((answered, go_on)) = self.answered.take() {
            answered.send(()).unwrap();
            go_on.blocking_recv().unwrap();
        }
        None
    }

    fn end(&mut self, _over: Over) {}

    fn wish(&mut self) -> Wish {
        let next = if self.paused { Wish::Pause } else { Wish::Play };
        std::mem::replace(&mut self.wish, next)
    }
}

#[tokio::test]
async fn a_keyframe_right_behind_the_end_of_a_pause_is_not_missed() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let (answered, has_answered) = oneshot::channel();
    let (go_on, goes_on) = oneshot::channel();
    let protocol =
        Resuming { paused: true, wish: Wish::Pause, answer: None, answered: Some((answered, goes_on)) };
    let (mut socket, _left) = admit(&server, protocol).await;
    socket.write_all(b"go on").await.unwrap();
    has_answered.await.unwrap();
    let mut said = vec![0; b"hellogoes on".len()];
    socket.read_exact(&mut said).await.unwrap();
    assert_eq!(said, b"hellogoes on");

    let keyframe = |number: u64| [&[0x17, 1, 0, 0, 0], &number.to_be_bytes()[..]].concat();
    let has = |bytes: &[u8], number| bytes.windows(13).any(|window| window == keyframe(number));
    let feeds = &server.edge.shared.feeds;
    let mut viewer = feeds.join(&key("a"), Format::Flv, (Start::Gop, Wanted::Published), 0).await.unwrap();
    relay.send(studio.picture(true, 100).bytes).await;
    while !has(&std::future::poll_fn(|cx| viewer.poll_next(cx)).await.unwrap(), 1) {}
    // No other follows, so whoever misses this one is shown nothing.
    drop((relay, viewer));
    go_on.send(()).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    assert_eq!([0, 1].map(|number| has(&rest, number)), [false, true]);
}

/// Says goodbye to whoever says something.
#[derive(Default)]
struct Curt {
    goodbye: Option<Bytes>,
    over: bool,
}

impl Protocol for Curt {
    fn input(&mut self, _now: Instant, _bytes: &[u8]) {
        if !std::mem::replace(&mut self.over, true) {
            self.goodbye = Some(Bytes::from_static(b"goodbye"));
        }
    }

    fn output(&mut self) -> Option<Bytes> {
        self.goodbye.take()
    }

    fn end(&mut self, _over: Over) {}

    fn wish(&mut self) -> Wish {
        if self.over { Wish::Leave } else { Wish::Play }
    }
}

#[tokio::test]
async fn who_talks_on_under_a_goodbye_is_not_hung_up_on_before_it_has_it() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut config = one_shard();
    // Looks at its clients every 50 ms.
    config.http.write_stall_ms = 200;
    let server = Server::with(&origin, config, None).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let (mut socket, left) = admit(&server, Curt::default()).await;
    // More than is heard at once, before and after.
    socket.write_all(&[b'x'; 300_000]).await.unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();
    assert!(all.ends_with(b"goodbye"), "{} bytes", all.len());
    drop(socket);
    assert_eq!(left.await.unwrap(), (all.len() as u64, Leave::Gone), "the client hung up");
}

#[tokio::test]
async fn who_talks_on_for_ever_is_hung_up_on_when_its_time_is_over() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let (mut socket, left) = admit(&server, Curt::default()).await;
    while socket.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
    assert_eq!(left.await.unwrap().1, Leave::Done);
}

#[tokio::test]
async fn shards_that_ended_turn_everybody_away() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, one_shard(), None).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let (_here, left) = admit(&server, Hearing(Arc::default())).await;
    server.edge.shared.shards.end().await;
    assert_eq!(left.await.unwrap().1, Leave::Cut);
    let (mut late, left) = admit(&server, Hearing(Arc::default())).await;
    assert_eq!(left.await.unwrap(), (0, Leave::Cut));
    assert_eq!(late.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(server.edge.viewers(&key("a")).flv, 0);
}
