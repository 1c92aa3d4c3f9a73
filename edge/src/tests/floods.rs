//! HTTP/2 clients that flood the server with frames: each is sent away, and nobody else notices.

use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Player, Server};
use super::limits::{http2_frame, metric};
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::until;
use crate::Config;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// GET, http and / are of HPACK's table (RFC 7541 appendix A); of a stream that is not there.
const REQUEST: &[u8] = b"\x82\x86\x41\x04edge\x04\x0b/live/x.flv";

/// A frame on a stream with a long number.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = http2_frame(kind, flags, 0, payload);
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

/// The n-th part of a flood.
fn part(of: &str, n: u32) -> Vec<u8> {
    let stream = 2 * n + 1;
    match of {
        "reset" => {
            [frame(HEADERS, 5, stream, REQUEST), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        }
        "ping" => frame(PING, 0, 0, &u64::from(n).to_be_bytes()),
        "settings" => frame(SETTINGS, 0, 0, &[]),
        "empty settings acks" => frame(SETTINGS, 1, 0, &[]),
        "continuation" if n == 0 => frame(HEADERS, 1, 1, REQUEST),
        "continuation" => frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y"),
        "empty continuation" if n == 0 => frame(HEADERS, 1, 1, REQUEST),
        "empty continuation" => frame(CONTINUATION, 0, 1, &[]),
        "empty data" if n == 0 => frame(HEADERS, 4, 1, REQUEST),
        "empty data" => frame(0, 0, 1, &[]),
        _ => panic!("{of}"),
    }
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_while_others_are_served() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::with(&origin, Config::default(), None).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut honest = server.http2().await;
    let request = http::Request::get("http://edge/live/a.flv").body(Empty::new()).unwrap();
    let mut player = Player::new(honest.send_request(request).await.unwrap());
    assert_eq!(player.number().await, Some(0));
    let mut n = 0;
    for flood in [
        "reset",
        "ping",
        "settings",
        "empty settings acks",
        "continuation",
        "empty continuation",
        "empty data",
    ] {
        let (mut from, mut to) = server.connect().await.into_split();
        // One at a time, so that each is served before the next comes, and never waits for an answer.
        let flooding = tokio::spawn(async move {
            to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            to.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            let mut parts = 0;
            while to.write_all(&part(flood, parts)).await.is_ok() {
                parts += 1;
                tokio::task::yield_now().await;
            }
            parts
        });
        // Answers are taken until it is over; the last of them, GOAWAY, gets lost where more was sent than read.
        let _ = from.read_to_end(&mut Vec::new()).await;
        assert!(flooding.await.unwrap() > 1, "{flood}");
        n += 1;
        relay.send(studio.picture(n % 25 == 0, 1000).bytes).await;
        assert_eq!(player.number().await, Some(n), "{flood}");
    }
    until(|| metric(&server, "weir_edge_connections ") == "1").await;
    let floods: u32 = metric(&server, "weir_edge_http2_floods_total").parse().unwrap();
    assert!(floods >= 4, "{floods}");
}
