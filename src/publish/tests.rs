//! A publish against a server on a socket: the project's own session, driven by hand.

use std::future::pending;
use std::io::Cursor;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use media_core::flv;
use media_core::rtmp::server::{self, Event};
use media_core::rtmp::{Kind, Message, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// The first `tags` tags of the demo clip, as a file.
fn file(tags: usize) -> Input {
    let mut reader = flv::Reader::new();
    reader.push(Bytes::from_static(crate::demo::CLIP));
    let mut out = BytesMut::from(&flv::header(true, true)[..]);
    for _ in 0..tags {
        let tag = reader.next_tag().unwrap().unwrap();
        flv::write_tag(&mut out, tag.kind, tag.timestamp_ms, &[&tag.body]);
    }
    Box::new(Cursor::new(out.freeze()))
}

/// A publisher's connection as its server sees it.
struct Peer {
    socket: TcpStream,
    session: server::Session,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().await.unwrap();
        Self { socket, session: server::Session::new(server::Config::default(), Instant::now()) }
    }

    async fn flush(&mut self) {
        while let Some(bytes) = self.session.poll_output() {
            self.socket.write_all(&bytes).await.unwrap();
        }
    }

    /// The next event; `None` when the publisher has closed.
    async fn event(&mut self) -> Option<Event> {
        loop {
            self.flush().await;
            if let Some(event) = self.session.poll_event() {
                return Some(event);
            }
            let mut input = [0; 4096];
            let n = self.socket.read(&mut input).await.unwrap();
            if n == 0 {
                return None;
            }
            self.session.handle_input(Instant::now(), &input[..n]).unwrap();
        }
    }

    /// The id of the publish that is asked for.
    async fn asked(&mut self) -> u32 {
        loop {
            if let Event::Publish(request) = self.event().await.unwrap() {
                assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "a"));
                return request.id;
            }
        }
    }

    async fn consent(&mut self) {
        let id = self.asked().await;
        self.session.accept_publish(Instant::now(), id).unwrap();
        self.flush().await;
    }

    async fn message(&mut self) -> Message {
        loop {
            if let Event::Media(message) = self.event().await.unwrap() {
                return message;
            }
        }
    }

    /// Everything until the end: the messages, and whether the publisher said that it ends.
    async fn rest(&mut self) -> (Vec<Message>, bool) {
        let (mut messages, mut ended) = (Vec::new(), false);
        while let Some(event) = self.event().await {
            match event {
                Event::Media(message) => messages.push(message),
                Event::Unpublished => ended = true,
                _ => {}
            }
        }
        (messages, ended)
    }
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/live/a?key=k", listener.local_addr().unwrap());
    (listener, Target::parse(&url).unwrap())
}

fn is_header(message: &Message) -> bool {
    message.kind == Kind::Data || message.body.get(1) == Some(&0)
}

#[tokio::test]
async fn a_file_arrives_whole_and_ends_in_good_order() {
    let (listener, target) = listen().await;
    let queue = Arc::default();
    let publishing = publish(file(20), &target, false, &queue, pending());
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        peer.consent().await;
        peer.rest().await
    };
    let (result, (messages, ended)) = tokio::join!(publishing, serving);
    result.unwrap();
    assert!(ended, "FCUnpublish and deleteStream");
    let kinds: Vec<Kind> = messages.iter().filter(|m| is_header(m)).map(|m| m.kind).collect();
    assert!(kinds.contains(&Kind::Data) && kinds.contains(&Kind::Video) && kinds.contains(&Kind::Audio));
    // Of the clip's first 20 tags, three are onMetaData and the two sequence headers.
    assert_eq!(messages.iter().filter(|m| !is_header(m)).count(), 17);
    assert_eq!(queue.counts().dropped, 0);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let (listener, target) = listen().await;
    let queue = Arc::default();
    // Even a publisher that would come back does not when it never was let in.
    let publishing = publish(file(20), &target, true, &queue, pending());
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        let id = peer.asked().await;
        peer.session.refuse(id, &Refusal::publish_denied("Wrong key.")).unwrap();
        peer.flush().await;
        peer.socket.shutdown().await.unwrap();
        peer
    };
    let (result, _peer) = tokio::join!(publishing, serving);
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("refused: NetStream.Publish.Denied: Wrong key."), "{text}");
    assert_eq!(error.exit_code(), 4);
}

#[tokio::test]
async fn a_loop_survives_a_broken_connection_and_goes_on_in_time() {
    let (listener, target) = listen().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let queue = Arc::default();
    let publishing = publish(file(20), &target, true, &queue, async { stopped.await.unwrap() });
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        peer.consent().await;
        let mut latest = 0;
        // More than one round of the file.
        while latest < 400 {
            latest = peer.message().await.timestamp_ms;
        }
        drop(peer);
        let mut peer = Peer::accept(&listener).await;
        peer.consent().await;
        let mut headers = 0;
        let first_picture = loop {
            let message = peer.message().await;
            if is_header(&message) {
                headers += 1;
            } else if message.kind == Kind::Video {
                break message;
            }
        };
        assert_eq!(headers, 3, "what a server must know comes first");
        assert_eq!(first_picture.body[0] >> 4, 1, "a keyframe");
        assert!(first_picture.timestamp_ms > latest);
        stop.send(()).unwrap();
        peer.rest().await.1
    };
    let (result, ended) = tokio::join!(publishing, serving);
    result.unwrap();
    assert!(ended);
}

#[tokio::test]
async fn without_a_loop_a_broken_connection_is_an_error() {
    let (listener, target) = listen().await;
    let queue = Arc::default();
    let publishing = publish(file(200), &target, false, &queue, pending());
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        peer.consent().await;
        peer.message().await;
    };
    let (result, ()) = tokio::join!(publishing, serving);
    assert_eq!(result.unwrap_err().exit_code(), 3);
}

#[tokio::test]
async fn what_is_no_media_file_is_refused_before_anybody_is_called() {
    let nowhere = Target::parse("rtmp://127.0.0.1:1/live/a").unwrap();
    let text = Box::new(Cursor::new(b"not a media file at all".to_vec()));
    let error = publish(text, &nowhere, false, &Arc::default(), pending()).await.unwrap_err();
    assert!(matches!(error, Error::File(source::Error::Format)), "{error}");
}

#[test]
fn who_may_come_back_is_told_by_the_code() {
    let refused =
        |code: &str| Error::Refused { server: "s".into(), code: code.into(), description: String::new() };
    assert!(refused("NetConnection.Connect.AppShutdown").is_passing());
    assert!(!refused("NetStream.Publish.Denied").is_passing());
    assert!(refused("NetStream.Publish.Denied").is_final());
    assert!(!refused("NetStream.Publish.BadName").is_final());
}
