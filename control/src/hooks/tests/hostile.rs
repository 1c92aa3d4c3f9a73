//! Endpoints that hang, talk without end, lead elsewhere or turn into somebody else.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::server::{raw, read_request, read_to_end, write};
use super::*;

#[tokio::test]
async fn an_endpoint_that_hangs_holds_nobody_else_and_no_connection_beyond_its_time() {
    let hanging = raw(|mut stream, _| async move { read_to_end(&mut stream).await }).await;
    let well = Server::start(|_| answer(200, "")).await;
    let bench = Bench::new(&config(vec![
        Endpoint { timeout_ms: 300, ..endpoint(hanging.url()) },
        endpoint(well.url()),
    ]));
    let began = Instant::now();
    for stream in 0..50 {
        bench.hooks.tell(&dropped(&stream.to_string())).await.unwrap();
    }
    well.hits(50).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    bench.until("attempts_total", &["timeout"], 8.0).await;
    // As many at once as there are slots, those that follow until the third has failed, then one at a time; each is
    // hung up on.
    let hung_up = async {
        while hanging.over.load(Ordering::Relaxed) < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap();
    let (begun, over) = (hanging.begun.load(Ordering::Relaxed), hanging.over.load(Ordering::Relaxed));
    assert!(begun <= over + 2 && begun < 13, "{begun} {over}");
    assert_eq!(bench.value("queue_events", &[&hanging.at.to_string()]), 50.0);
}

#[tokio::test]
async fn an_answer_that_trickles_is_hung_up_on() {
    let trickling = raw(|mut stream, _| async move {
        read_request(&mut stream).await;
        let mut goes = write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while goes {
            goes = write(&mut stream, b"{").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let trickler = Endpoint { admission_timeout_ms: 300, timeout_ms: 300, ..endpoint(trickling.url()) };
    let bench = Bench::new(&config(vec![trickler]));
    let began = Instant::now();
    assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, Err(Refused::Unanswered));
    assert!(began.elapsed() < Duration::from_secs(1));
    // Of a delivery the status is all that counts.
    bench.hooks.tell(&dropped("a")).await.unwrap();
    bench.until("deliveries_total", &["delivered"], 1.0).await;
    let hung_up = async {
        while trickling.over.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap();
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_cut_off() {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let talker = raw(|mut stream, _| async move {
        read_request(&mut stream).await;
        write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n").await;
        for _ in 0..10_240 {
            if !write(&mut stream, &[b'{'; 1024]).await {
                return;
            }
            WRITTEN.fetch_add(1024, Ordering::Relaxed);
        }
    })
    .await;
    let bench = Bench::new(&config(vec![endpoint(talker.url())]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    bench.until("deliveries_total", &["delivered"], 1.0).await;
    assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, Err(Refused::Unanswered));
    let hung_up = async {
        while talker.over.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap();
    // Two answers; the rest is what sockets hold.
    assert!(WRITTEN.load(Ordering::Relaxed) < 14 << 20, "{WRITTEN:?}");
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let talker = raw(|mut stream, _| async move {
        read_request(&mut stream).await;
        let mut goes = write(&mut stream, b"HTTP/1.1 200 OK\r\n").await;
        while goes {
            goes = write(&mut stream, &[b"x-more: ".as_slice(), &[b'y'; 1000], b"\r\n"].concat()).await;
        }
    })
    .await;
    let bench = Bench::new(&config(vec![endpoint(talker.url())]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    bench.until("attempts_total", &["broken"], 1.0).await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let inside = Server::start(|_| answer(200, r#"{"allow": true}"#)).await;
    let url = inside.url();
    let outside = Server::start(move |n| {
        let status = StatusCode::from_u16([301, 302, 307, 308][n % 4]).unwrap();
        (status, [("location", url.clone())]).into_response()
    })
    .await;
    // Even to where another endpoint may lead.
    let bench = Bench::new(&config(vec![endpoint(outside.url())]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    for _ in 0..4 {
        assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, Err(Refused::Unanswered));
    }
    bench.until("attempts_total", &["3xx"], 5.0).await;
    assert_eq!(bench.value("deliveries_total", &[]), 0.0);
    assert!(inside.hits(0).await.is_empty());
}

/// Answers with these addresses, one after the other; the last one stays.
#[derive(Debug)]
struct Turning(Vec<IpAddr>, AtomicUsize);

#[async_trait]
impl Resolve for Turning {
    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let n = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        Ok(vec![SocketAddr::new(self.0[n], port)])
    }
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_followed_there() {
    // 127.0.0.1 stands for the endpoint's public address; where it turns to, a server listens as well.
    let public = Server::start(|_| (StatusCode::OK, [("connection", "close")], "").into_response()).await;
    let inside = SocketAddr::from(([127, 0, 0, 2], public.at().port()));
    let inside = Server::start_at(inside, |_| answer(200, "")).await;
    let turning = ["127.0.0.1", "127.0.0.2", "169.254.169.254", "::ffff:127.0.0.2"];
    let turning = Turning(turning.iter().map(|ip| ip.parse().unwrap()).collect(), AtomicUsize::new(0));
    let url = format!("http://hooks.example:{}/", public.at().port());
    let bench = Bench::with(&config(vec![endpoint(url)]), Arc::new(turning), tls().unwrap());
    bench.hooks.admit(&event(Happening::OnPlay, "a")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, Err(Refused::Unanswered));
    }
    bench.hooks.tell(&dropped("a")).await.unwrap();
    bench.until("attempts_total", &["address_refused"], 4.0).await;
    assert_eq!(public.hits(0).await.len(), 1);
    assert!(inside.hits(0).await.is_empty());
}

/// Never answers.
#[derive(Debug)]
struct Stuck(AtomicUsize);

#[async_trait]
impl Resolve for Stuck {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_resolver_that_hangs_is_asked_so_often_at_once_and_no_more() {
    let stuck = Arc::new(Stuck(AtomicUsize::new(0)));
    let slow = Endpoint { admission_timeout_ms: 200, ..endpoint("http://hooks.example/") };
    let bench = Bench::with(&config(vec![slow]), Arc::clone(&stuck) as _, tls().unwrap());
    let asked = (0..30).map(|_| async { bench.hooks.admit(&event(Happening::OnPlay, "a")).await });
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| *answer == Err(Refused::Unanswered)));
    assert_eq!(stuck.0.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn https_is_spoken_with_who_shows_a_certificate_that_is_trusted() {
    let made = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let server = raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_request(&mut stream).await;
            write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = config(vec![endpoint(format!("https://hooks.example:{}/", server.at.port()))]);
    let local = || Arc::new(Turning(vec![server.at.ip()], AtomicUsize::new(0)));
    let bench = Bench::with(&config, local(), trusting);
    bench.hooks.admit(&event(Happening::OnPlay, "a")).await.unwrap();
    let bench = Bench::with(&config, local(), tls().unwrap());
    assert_eq!(bench.hooks.admit(&event(Happening::OnPlay, "a")).await, Err(Refused::Unanswered));
    assert_eq!(bench.value("attempts_total", &["connect"]), 1.0);
}
