//! A listener and callers on this machine: what gets in, what comes across, and who is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what is wrong by panicking"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use srt::{Connection, Error, KeyLength, Listener, MAX_DATAGRAM_BYTES, Options, Passphrase, Reject, Terms};

const HERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

/// Streams of `secret/…` are encrypted; `down/…` are refused, and `panic/…` are worse.
fn listener() -> Listener {
    let port = UdpSocket::bind(SocketAddr::from(HERE)).unwrap();
    Listener::over(port, &Options::default(), |request| {
        assert!(request.peer.ip().is_loopback());
        let id = String::from_utf8_lossy(request.stream_id).into_owned();
        match id.split('/').next() {
            Some("secret") => Ok(Terms {
                passphrase: Some(passphrase("long enough")),
                latency: Some(Duration::from_millis(250)),
            }),
            Some("down") => Err(Reject::DOWN),
            Some("panic") => panic!("in the decision"),
            _ => Ok(Terms::default()),
        }
    })
    .unwrap()
}

async fn call(to: SocketAddr, id: &str, phrase: Option<(&str, KeyLength)>) -> Result<Connection, Error> {
    let phrase = phrase.map(|(text, length)| (passphrase(text), length));
    let encryption = phrase.as_ref().map(|(phrase, length)| (phrase, *length));
    srt::connect(to, id.as_bytes(), encryption, &Options::default()).await
}

async fn pair(listener: &Listener, id: &str, phrase: Option<(&str, KeyLength)>) -> (Connection, Connection) {
    let (called, accepted) = tokio::join!(call(listener.local_addr(), id, phrase), listener.accept());
    (called.unwrap(), accepted.unwrap())
}

async fn received(connection: &Connection) -> Vec<u8> {
    let mut room = [0; MAX_DATAGRAM_BYTES];
    let len = connection.recv(&mut room).await.unwrap();
    room[..len].to_vec()
}

fn reason(called: Result<Connection, Error>) -> i32 {
    match called {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let listener = listener();
    let (caller, accepted) = pair(&listener, "live/a", None).await;
    assert_eq!(accepted.stream_id(), b"live/a");
    for n in 0..50u8 {
        caller.send(&[n; 1316]).await.unwrap();
        accepted.send(&[n; 188]).await.unwrap();
    }
    for n in 0..50u8 {
        assert_eq!(received(&accepted).await, [n; 1316]);
        assert_eq!(received(&caller).await, [n; 188]);
    }
    let stats = accepted.stats().unwrap();
    assert_eq!((stats.received_packets, stats.sent_packets, stats.undecrypted_packets), (50, 50, 0));
    assert_eq!(stats.latency, Duration::from_millis(120));
    assert!(matches!(caller.send(&[0; 1317]).await, Err(Error::TooLong(1317))));
    // The end is told, not found out.
    drop(caller);
    let over =
        tokio::time::timeout(Duration::from_secs(3), accepted.recv(&mut [0; MAX_DATAGRAM_BYTES])).await;
    assert!(matches!(over, Ok(Err(Error::Over))));
    assert!(!accepted.is_connected());
}

#[tokio::test]
async fn keys_of_every_length_encrypt() {
    let listener = listener();
    for length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
        let (caller, accepted) = pair(&listener, "secret/a", Some(("long enough", length))).await;
        caller.send(b"there").await.unwrap();
        accepted.send(b"back").await.unwrap();
        assert_eq!(
            (received(&accepted).await, received(&caller).await),
            (b"there".to_vec(), b"back".to_vec())
        );
        assert_eq!(caller.stats().unwrap().latency, Duration::from_millis(250));
    }
}

#[tokio::test]
async fn who_may_not_is_told_why() {
    let listener = listener();
    let at = listener.local_addr();
    const BAD_SECRET: i32 = 10;
    const UNSECURE: i32 = 11;
    let long = KeyLength::Aes256;
    assert_eq!(reason(call(at, "down/a", None).await), Reject::DOWN.code());
    assert_eq!(reason(call(at, "panic/a", None).await), Reject::INTERNAL.code());
    assert_eq!(reason(call(at, "secret/a", Some(("wrong phrase", long))).await), BAD_SECRET);
    assert_eq!(reason(call(at, "secret/a", None).await), UNSECURE);
    assert_eq!(reason(call(at, "live/a", Some(("not wanted here", long))).await), UNSECURE);
    // The port serves others.
    let (caller, accepted) = pair(&listener, "live/a", None).await;
    caller.send(b"x").await.unwrap();
    assert_eq!(received(&accepted).await, b"x");
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let silent = UdpSocket::bind(SocketAddr::from(HERE)).unwrap();
    let options = Options { connect: Duration::from_millis(300), ..Options::default() };
    let called = srt::connect(silent.local_addr().unwrap(), b"live/a", None, &options).await;
    assert!(matches!(called, Err(Error::Silent { .. })), "{called:?}");
}
