//! A live response leaves hyper's hands: what came before and behind its request on the same connection.

use std::io::{Read, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Server;
use super::limits::metric;
use super::origin::Origin;
use super::studio::{self, Studio, opening};
use super::{key, until};

const LIVE: &str = "GET /live/a.flv HTTP/1.1\r\nhost: edge\r\n\r\n";
const ABSENT: &str = "GET /live/b.flv HTTP/1.1\r\nhost: edge\r\n\r\n";

/// Reads a response's head, as text.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads a chunked body to its last chunk (RFC 9112 §7.1), and the connection to its end.
async fn chunks(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    let mut rest = rest.as_slice();
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let data = &rest[line + 2..];
        assert_eq!(&data[len..len + 2], b"\r\n");
        rest = &data[len + 2..];
        if len == 0 {
            assert!(rest.is_empty(), "nothing follows the last chunk: {rest:?}");
            return body;
        }
        body.extend_from_slice(&data[..len]);
    }
}

/// The numbers of the frames in a whole FLV file.
fn numbers(flv: Vec<u8>) -> Vec<u64> {
    let mut reader = media_core::flv::Reader::new();
    reader.push(flv.into());
    let mut numbers = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        if tag.kind != media_core::flv::TagKind::Script && tag.body[1] != 0 {
            numbers.push(studio::number(&tag.body));
        }
    }
    numbers
}

#[tokio::test]
async fn requests_before_a_live_one_are_answered_first_and_those_behind_it_never() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 1000))).await;
    let mut socket = server.connect().await;
    // All in one packet.
    socket.write_all([ABSENT, ABSENT, LIVE, ABSENT, LIVE].concat().as_bytes()).await.unwrap();
    for _ in 0..2 {
        let head = head(&mut socket).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        let len = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        socket.read_exact(&mut vec![0; len.unwrap().parse().unwrap()]).await.unwrap();
    }
    let head = head(&mut socket).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert!(head.contains("connection: close\r\n"), "nothing is asked for behind it: {head}");
    relay.send(studio.picture(false, 1000).bytes).await;
    drop(relay);
    assert_eq!(numbers(chunks(&mut socket).await), [0, 1]);
}

#[tokio::test]
async fn a_request_that_comes_in_pieces_behind_others_is_answered() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let mut socket = server.connect().await;
    socket.set_nodelay(true).unwrap();
    let (first, rest) = LIVE.split_at(20);
    // The first answer says that the piece of the second request behind it has been read, too.
    socket.write_all([ABSENT, first].concat().as_bytes()).await.unwrap();
    let refused = head(&mut socket).await;
    let len = refused.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    socket.read_exact(&mut vec![0; len.unwrap().parse().unwrap()]).await.unwrap();
    for byte in rest.as_bytes() {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 200 "));
    drop(relay);
    assert_eq!(numbers(chunks(&mut socket).await), [0]);
}

#[tokio::test]
async fn what_a_websocket_client_says_behind_its_handshake_is_heard() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let handshake = "GET /live/a.flv HTTP/1.1\r\nhost: edge\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = server.connect().await;
    // A ping with a mask of zeros, in the same packet.
    let said = [handshake.as_bytes(), b"\x89\x82\0\0\0\0hi"].concat();
    socket.write_all(&said).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    let mut pong = [0; 4];
    socket.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x02hi");
    drop(relay);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_by_the_drain() {
    let origin = Origin::default();
    let mut server = Server::start(&origin).await;
    let mut sockets = Vec::new();
    for beginning in ["", "PRI * HT", "GET / HT"] {
        let mut socket = server.connect().await;
        socket.write_all(beginning.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    until(|| metric(&server, "weir_edge_connections ") == "3").await;
    server.drain();
    for mut socket in sockets {
        // However it is said.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    server.stopped().await;
}

#[tokio::test]
async fn who_says_goodbye_has_no_seat_any_more_though_he_stays() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 1000))).await;
    let address = server.address;
    let connect = move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{address}/live/a.flv"), stream).unwrap();
        socket.read().unwrap();
        socket.close(None).unwrap();
        let mut stream = socket.get_ref();
        stream.read_to_end(&mut Vec::new()).unwrap();
        socket
    };
    let socket = tokio::task::spawn_blocking(connect).await.unwrap();
    assert_eq!(server.edge.viewers(&key("a")).ws_flv, 0);
    // Much more than is read over of somebody who should go.
    let flood = move || {
        let mut stream = socket.get_ref();
        while stream.write_all(&[0; 64 * 1024]).is_ok() {}
    };
    tokio::task::spawn_blocking(flood).await.unwrap();
    until(|| metric(&server, "weir_edge_connections ") == "0").await;
    drop(relay);
}
