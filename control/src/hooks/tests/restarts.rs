//! What a restart, a reload, a full journal and the end do to events.

use super::*;

/// A port at which nobody is, and at which a server can begin later.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn ids(hits: &[server::Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.header("x-weir-delivery").to_owned()).collect()
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart_in_order() {
    let at = nobody().await;
    let config = config(vec![endpoint(format!("http://{at}/hooks"))]);
    let bench = Bench::new(&config);
    let told: Vec<_> = (0..20).map(|_| dropped("a")).collect();
    for event in &told {
        bench.hooks.tell(event).await.unwrap();
    }
    bench.until("attempts_total", &["connect"], 1.0).await;
    assert_eq!(bench.value("queue_events", &[]), 20.0);
    assert!(bench.value("queue_bytes", &[]) > 20.0 * 150.0);
    let server = Server::start_at(at, |_| answer(200, "")).await;
    let bench = bench.restart(&config).await;
    let told: Vec<_> = told.iter().map(|event| event.id.to_string()).collect();
    // The old process may have got some of them out at its end.
    bench.until("queue_events", &[], 0.0).await;
    let mut came = ids(&server.hits(20).await);
    came.dedup();
    assert_eq!(came, told);
    // And after another restart nothing is left.
    let bench = bench.restart(&config).await;
    bench.hooks.tell(&dropped("b")).await.unwrap();
    let hits = server.hits(21).await;
    assert!(!told.contains(&ids(&hits)[hits.len() - 1]));
}

#[tokio::test]
async fn a_journal_that_is_full_drops_the_oldest() {
    let at = nobody().await;
    let small = Config {
        segment_bytes: 64 << 10,
        journal_bytes: 64 << 10,
        ..config(vec![endpoint(format!("http://{at}/hooks"))])
    };
    let bench = Bench::new(&small);
    let told: Vec<_> = (0..600).map(|i| dropped(&(i % 7).to_string())).collect();
    for event in &told {
        bench.hooks.tell(event).await.unwrap();
    }
    let lost = bench.value("dropped_total", &["full"]);
    assert!(lost > 100.0, "{lost}");
    assert_eq!(bench.value("queue_events", &[]), 600.0 - lost);
    assert!(bench.value("queue_bytes", &[]) <= f64::from(64 << 10));
    assert!(bench.value("journal_bytes", &[]) <= f64::from(5 * (64 << 10)));
    let server = Server::start_at(at, |_| answer(200, "")).await;
    bench.until("deliveries_total", &["delivered"], 600.0 - lost).await;
    let mut came = ids(&server.hits(1).await);
    let mut kept: Vec<_> = told.iter().rev().take(came.len()).map(|event| event.id.to_string()).collect();
    came.sort();
    kept.sort();
    assert_eq!(came, kept, "the newest are kept");
}

#[tokio::test]
async fn an_endpoint_that_stays_keeps_its_events_and_one_that_goes_loses_them() {
    let (stays, goes) = (nobody().await, nobody().await);
    let url = |at: SocketAddr| format!("http://{at}/hooks");
    let bench = Bench::new(&config(vec![endpoint(url(stays)), endpoint(url(goes))]));
    let told = dropped("a");
    bench.hooks.tell(&told).await.unwrap();
    let new = Server::start(|_| answer(200, "")).await;
    let secret = Secret::new("another secret, as long");
    let renewed = Endpoint { secret, ..endpoint(url(stays)) };
    bench.hooks.reload(&config(vec![renewed, endpoint(new.url())])).await.unwrap();
    bench.until("dropped_total", &["unconfigured"], 1.0).await;
    let server = Server::start_at(stays, |_| answer(200, "")).await;
    let hit = server.hits(1).await.remove(0);
    assert_eq!(hit.header("x-weir-delivery"), told.id.to_string());
    let (t, v1) = hit.header("x-weir-signature").strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let signed = [t.as_bytes(), b".", &hit.body].concat();
    assert_eq!(v1, hmac_by_hand(b"another secret, as long", &signed));
    bench.until("deliveries_total", &["delivered"], 1.0).await;
    bench.hooks.tell(&dropped("b")).await.unwrap();
    assert_eq!(new.hits(1).await.len(), 1, "what was told before it came is not for it");
    assert_eq!(bench.value("queue_events", &[&goes.to_string()]), 0.0);
}

#[tokio::test]
async fn events_for_an_endpoint_that_is_gone_at_the_next_start_are_dropped() {
    let at = nobody().await;
    let bench = Bench::new(&config(vec![endpoint(format!("http://{at}/hooks"))]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    let bench = bench.restart(&config(vec![])).await;
    assert_eq!(bench.value("dropped_total", &["unconfigured"]), 1.0);
    assert_eq!(bench.value("queue_bytes", &[]), 0.0);
}

#[tokio::test]
async fn the_end_waits_for_what_is_on_its_way_and_not_for_who_is_away() {
    let slow = server::raw(|mut stream, _| async move {
        server::read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        server::write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let away = nobody().await;
    let bench = Bench::new(&config(vec![endpoint(slow.url()), endpoint(format!("http://{away}/"))]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    let began = Instant::now();
    bench.hooks.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(bench.value("deliveries_total", &["delivered"]), 1.0);
    assert!(matches!(bench.hooks.tell(&dropped("a")).await, Err(Error::Closed)));
    assert!(matches!(bench.hooks.reload(&config(vec![])).await, Err(Error::Closed)));
}

#[tokio::test]
async fn the_end_does_not_wait_longer_than_it_is_told() {
    let (_port, url) = server::silent().await;
    let bench = Bench::new(&config(vec![Endpoint { timeout_ms: 30_000, ..endpoint(url) }]));
    bench.hooks.tell(&dropped("a")).await.unwrap();
    let began = Instant::now();
    bench.hooks.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn hooks_that_are_let_go_release_their_folder() {
    let (_port, url) = server::silent().await;
    let config = config(vec![endpoint(url)]);
    let bench = Bench::new(&config);
    let other = Hooks::open(&config, bench.folder.path(), &prometheus::Registry::new());
    assert!(matches!(other, Err(Error::Journal { .. })), "by one at a time");
    let folder = Arc::clone(&bench.folder);
    drop(bench);
    let released = async {
        while Hooks::open(&config, folder.path(), &prometheus::Registry::new()).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, released).await.unwrap();
}

#[tokio::test]
async fn a_torn_journal_is_no_obstacle() {
    let at = nobody().await;
    let config = config(vec![endpoint(format!("http://{at}/hooks"))]);
    let bench = Bench::new(&config);
    let told = [dropped("a"), dropped("b")];
    for event in &told {
        bench.hooks.tell(event).await.unwrap();
    }
    bench.hooks.shutdown(Duration::from_secs(1)).await;
    let segment = bench.folder.path().join("00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[0xf5, b'w', b'h', 0xfe, 9, 9]);
    std::fs::write(&segment, bytes).unwrap();
    let server = Server::start_at(at, |_| answer(200, "")).await;
    let _bench = bench.restart(&config).await;
    let mut came = ids(&server.hits(2).await);
    let mut told: Vec<_> = told.iter().map(|event| event.id.to_string()).collect();
    came.sort();
    told.sort();
    assert_eq!(came, told);
}
