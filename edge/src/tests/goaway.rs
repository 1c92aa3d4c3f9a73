//! What clients of HTTP/2 and HTTP/3 are told, to the byte, when the server drains: to ask nothing more, and that what
//! they watch goes on.

use quinn::TransportConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Server;
use super::h3::dial;
use super::limits::http2_frame;
use super::origin::Origin;
use super::secure::Secure;
use super::studio::{Studio, opening};
use crate::Config;

#[tokio::test]
async fn http2_says_goaway_and_a_live_stream_goes_on() {
    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut socket = server.connect().await;
    // HEADERS with END_STREAM and END_HEADERS; GET and http are of HPACK's table (RFC 7541 appendix A).
    let request = http2_frame(1, 5, 1, b"\x82\x86\x04\x0b/live/a.flv\x41\x04edge");
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http2_frame(SETTINGS, 0, 0, &[]), request];
    socket.write_all(&opening.concat()).await.unwrap();
    let (mut last, mut data_before, mut data_after) = (None, false, 0);
    let mut relay = Some(relay);
    loop {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).await.is_err() {
            break;
        }
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; len];
        socket.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4]) {
            (DATA, _) if last.is_none() && !data_before => {
                data_before = true;
                server.drain();
            }
            (DATA, _) if last.is_some() => {
                data_after += len;
                // The stream ends once more of it was seen.
                relay = None;
            }
            (GOAWAY, _) => {
                assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
                let id = u32::from_be_bytes(payload[..4].try_into().unwrap());
                assert!(id >= 1, "what is being answered is not given up");
                last = Some(id);
                if let Some(relay) = &relay {
                    relay.send(studio.picture(false, 100).bytes).await;
                }
            }
            (PING, 0) => socket.write_all(&http2_frame(PING, 1, 0, &payload)).await.unwrap(),
            _ => {}
        }
    }
    // First that it will end, then after which request (RFC 9113 §6.8).
    assert_eq!(last, Some(1));
    assert!(data_after > 100 && relay.is_none());
    server.stopped().await;
}

#[tokio::test]
async fn http3_names_the_first_request_that_is_not_answered() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let mut secure = Secure::start(&origin, Config::default()).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let (quic, _endpoint) = dial(&secure, TransportConfig::default()).await;
    // Two requests, the streams 0 and 4: HEADERS (1) in QPACK (RFC 9204 §4.5), GET and https of its static table.
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (mut stream, answer) = quic.open_bi().await.unwrap();
        let fields = [&b"\x00\x00\xd1\xd7\x51\x0b/live/a.flv\x50\x09localhost"[..]].concat();
        let frame = [&[1, u8::try_from(fields.len()).unwrap()], &fields[..]].concat();
        stream.write_all(&frame).await.unwrap();
        stream.finish().unwrap();
        answers.push(answer);
    }
    for answer in &mut answers {
        answer.read_exact(&mut [0; 100]).await.unwrap();
    }
    secure.server.drain();
    // The server's control stream (0): SETTINGS (4), then GOAWAY (7) with a request's number.
    let mut control = loop {
        let mut stream = quic.accept_uni().await.unwrap();
        let mut kind = [0];
        stream.read_exact(&mut kind).await.unwrap();
        if kind == [0] {
            break stream;
        }
    };
    let mut head = [0; 2];
    control.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 4);
    control.read_exact(&mut vec![0; usize::from(head[1])]).await.unwrap();
    let mut goaway = [0; 3];
    control.read_exact(&mut goaway).await.unwrap();
    assert_eq!(goaway, [7, 1, 8], "0 and 4 are being answered, 8 is not");
    relay.send(studio.picture(false, 1000).bytes).await;
    drop(relay);
    for mut answer in answers {
        let rest = answer.read_to_end(1 << 20).await.expect("to its regular end");
        assert!(rest.len() > 1000);
    }
    secure.server.stopped().await;
}
