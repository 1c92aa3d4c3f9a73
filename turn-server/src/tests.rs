//! The server between the turn crate's client and a peer.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use super::*;

const SECRET: &str = "north";

/// A username and its password, good for a minute.
fn credentials(user: &str, secret: &str) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let username = format!("{}:{user}", now.as_secs() + 60);
    let password = credentials::password(&secret.to_owned().into(), &username);
    (username, password)
}

struct Running {
    server: TurnServer,
    udp: SocketAddr,
    tcp: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(config: Config) -> Self {
        let secret = SECRET.to_owned().into();
        let config = Config { external_ip: Some([127, 0, 0, 1].into()), secret, ..config };
        let server = TurnServer::new(config, &prometheus::Registry::new()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.clone();
        let ended = tokio::spawn(async move {
            let drain = async {
                let _ = stopped.await;
            };
            serving.serve(Listeners { udp, tcp, tls: None }, drain).await;
        });
        Self { server, udp: udp_at, tcp: tcp_at, stop: Some(stop), ended }
    }

    async fn client(&self, user: &str) -> Client {
        self.client_at(user, Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap())).await
    }

    async fn client_at(&self, user: &str, conn: Arc<UdpSocket>) -> Client {
        let (username, password) = credentials(user, SECRET);
        let client = Client::new(ClientConfig {
            stun_serv_addr: self.udp.to_string(),
            turn_serv_addr: self.udp.to_string(),
            username,
            password,
            realm: "weir".to_owned(),
            software: String::new(),
            rto_in_ms: 0,
            conn,
            vnet: None,
        });
        let client = client.await.unwrap();
        client.listen().await.unwrap();
        client
    }

    fn refusals(&self, reason: &str) -> u64 {
        self.server.shared.metrics.refusals(reason)
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.ended.await.unwrap();
    }
}

fn open() -> Config {
    Config { allow_peers: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() }
}

#[tokio::test]
async fn what_a_client_sends_reaches_its_peer_and_what_that_answers_comes_back() {
    let running = Running::start(open()).await;
    let client = running.client("ann").await;
    let relay = client.allocate().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    relay.send_to(b"hello", peer.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 64];
    let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"hello"[..], relay.local_addr().unwrap()));
    peer.send_to(b"welcome", from).await.unwrap();
    let (len, from) = relay.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"welcome"[..], peer.local_addr().unwrap()));
    assert_eq!(running.server.shared.metrics.allocations.get(), 1);
    client.close().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_relayed_to_an_inner_network_that_is_not_allowed() {
    let running = Running::start(Config::default()).await;
    let client = running.client("ann").await;
    let relay = client.allocate().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    relay.send_to(b"hello", peer.local_addr().unwrap()).await.unwrap();
    // Nor does what comes from there.
    peer.send_to(b"hello", relay.local_addr().unwrap()).await.unwrap();
    while running.refusals("peer") < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.try_recv_from(&mut [0; 64]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(running.server.shared.metrics.bytes_out.get(), 0);
    client.close().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_user_has_so_many_allocations_and_strangers_none() {
    let running = Running::start(Config { max_allocations_per_user: 1, ..open() }).await;
    let first = running.client("ann").await;
    let relay = first.allocate().await.unwrap();
    let second = running.client("ann").await;
    assert!(second.allocate().await.is_err());
    assert_eq!(running.refusals("quota"), 1);
    let other = running.client("ben").await;
    let others = other.allocate().await.unwrap();
    drop((relay, others));

    let (username, password) = credentials("ann", "another");
    let conn = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let client = Client::new(ClientConfig {
        stun_serv_addr: String::new(),
        turn_serv_addr: running.udp.to_string(),
        username,
        password,
        realm: "weir".to_owned(),
        software: String::new(),
        rto_in_ms: 0,
        conn,
        vnet: None,
    });
    let client = client.await.unwrap();
    client.listen().await.unwrap();
    assert!(client.allocate().await.is_err(), "another secret");
    running.stop().await;
}

#[tokio::test]
async fn an_allocation_ends_however_often_it_is_refreshed() {
    let running = Running::start(Config { max_lifetime_s: 0, ..open() }).await;
    let client = running.client("ann").await;
    let _relay = client.allocate().await.unwrap();
    while running.server.shared.metrics.allocations.get() != 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.server.shared.quota.take("ann").unwrap();
    running.stop().await;
}

#[tokio::test]
async fn floods_are_answered_so_often_and_nonsense_never() {
    let running = Running::start(Config { requests_per_second: 5, ..open() }).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(running.udp).await.unwrap();
    let mut binding = [0; 20];
    binding[..8].copy_from_slice(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let began = Instant::now();
    for _ in 0..100 {
        client.send(&binding).await.unwrap();
        client.send(&[0xff; 40]).await.unwrap();
        // It says that more follows than does.
        let mut lying = binding;
        lying[3] = 0xfc;
        client.send(&lying).await.unwrap();
    }
    while running.refusals("malformed") < 100 || running.refusals("rate") < 180 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
    let mut answers = 0;
    while client.try_recv(&mut [0; 200]).is_ok() {
        answers += 1;
    }
    let periods = began.elapsed().as_secs() + 2;
    assert!((1..=5 * periods).contains(&answers), "{answers} answers in {periods} periods");
    running.stop().await;
}

#[tokio::test]
async fn a_stream_is_answered_message_by_message_and_ends_with_nonsense() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let running = Running::start(open()).await;
    let mut client = tokio::net::TcpStream::connect(running.tcp).await.unwrap();
    let mut binding = [0; 20];
    binding[..8].copy_from_slice(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    // Two in one, and one in two.
    client.write_all(&[binding, binding].concat()).await.unwrap();
    client.write_all(&binding[..7]).await.unwrap();
    client.write_all(&binding[7..]).await.unwrap();
    for _ in 0..3 {
        let mut head = [0; 20];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..2], [0x01, 0x01], "a success");
        let mut body = vec![0; usize::from(head[3])];
        client.read_exact(&mut body).await.unwrap();
    }
    client.write_all(&[0xff; 20]).await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(running.refusals("malformed"), 1);
    running.stop().await;
}

#[tokio::test]
async fn nobody_does_anything_with_the_allocation_of_another() {
    let running = Running::start(open()).await;
    let conn = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let owner = running.client_at("ann", Arc::clone(&conn)).await;
    let _relay = owner.allocate().await.unwrap();
    // As if by the address of another: a request that names somebody else.
    let mut refresh = stun::message::Message::new();
    let name = stun::textattrs::Username::new(stun::attributes::ATTR_USERNAME, "9999999999:ben".to_owned());
    let kind = stun::message::MessageType::new(stun::message::METHOD_REFRESH, stun::message::CLASS_REQUEST);
    refresh.build(&[Box::new(stun::agent::TransactionId::new()), Box::new(kind), Box::new(name)]).unwrap();
    tokio::net::UdpSocket::send_to(&conn, &refresh.raw, running.udp).await.unwrap();
    while running.refusals("user") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.server.shared.metrics.allocations.get(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_allocation_has_so_many_permissions_and_an_address_so_many_connections() {
    let config = Config { requests_per_second: 1_000, max_connections_per_address: 2, ..open() };
    let running = Running::start(config).await;
    let client = running.client("ann").await;
    let relay = client.allocate().await.unwrap();
    for n in 0..u32::from(u8::MAX) {
        let peer = SocketAddr::from((std::net::Ipv4Addr::from(0x7f00_0100 + n), 9));
        // What is refused is not answered: the client would ask again and again.
        if tokio::time::timeout(Duration::from_millis(200), relay.send_to(b"x", peer)).await.is_err() {
            break;
        }
    }
    assert!(running.refusals("grants") > 0);

    let mut connections = Vec::new();
    while running.refusals("connections") == 0 {
        connections.push(tokio::net::TcpStream::connect(running.tcp).await.unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(connections.len() >= 3);
    running.stop().await;
}
