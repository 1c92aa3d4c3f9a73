//! What sending costs at least: one thread that makes the same stream itself, and for each flush calls `send` with the
//! same bytes on every socket. It reads no request and knows no second stream.

use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use media_core::flv::{self, TagKind};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use super::server::{Addresses, free_address};
use super::{Server, clock};
use crate::clip::{self, Clip};

const LISTENER: Token = Token(0);
const ORDERS: Token = Token(1);

/// Of every response.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: video/x-flv\r\ntransfer-encoding: chunked\r\n\r\n";

/// Starts this program as one: `main` hands `--floor ADDRESS MS` to [`serve`].
pub(crate) async fn floor(window: Duration) -> Result<Server> {
    let http = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--floor", &http.to_string(), &window.as_millis().to_string()]);
    Server::start(command, tempfile::tempdir()?, Addresses { http: Some(http), ..Addresses::default() }).await
}

struct Viewer {
    socket: TcpStream,
    /// What a full socket did not take.
    rest: Vec<u8>,
}

impl Viewer {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            let rest = std::mem::take(&mut self.rest);
            return self.send(&rest);
        }
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        self.rest.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        Ok(())
    }
}

/// Serves until the process is killed. A line on standard input has it stop sending, the next go on.
pub(crate) fn serve(address: SocketAddr, window: Duration) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let paused = Arc::new(AtomicBool::new(false));
    let (orders, waker) = (Arc::clone(&paused), Waker::new(poll.registry(), ORDERS)?);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            orders.fetch_xor(true, Ordering::Relaxed);
            if waker.wake().is_err() {
                return;
            }
        }
    });

    let clip = Clip::new(&clock::nal_unit());
    let bodies = clip.bodies();
    let mut head = BytesMut::from(&flv::header(true, true)[..]);
    for track in &clip.tracks {
        let body = flv::sequence_header(track).context("a sequence header")?.to_bytes();
        flv::write_tag(&mut head, clip::kind(track), 0, &[&body]);
    }
    let head = [HEAD.as_bytes(), &chunk(&head)].concat();

    let mut viewers: Vec<Viewer> = Vec::new();
    let mut events = Events::with_capacity(64);
    let mut began = Instant::now();
    let (mut at, mut round_ms) = (0, 0);
    let (mut pending, mut whole) = (BytesMut::new(), 0);
    let mut last_flush = began;
    let mut paused_since = None;
    loop {
        let now = Instant::now();
        match (paused.load(Ordering::Relaxed), paused_since) {
            (true, None) => paused_since = Some(now),
            (false, Some(since)) => {
                began += now - since;
                paused_since = None;
            }
            _ => {}
        }
        let mut wait = None;
        while paused_since.is_none() {
            let (kind, clip_ms, body): &(TagKind, u32, Bytes) = bodies.get(at).context("a frame")?;
            let timestamp_ms = round_ms + clip_ms;
            let due = began + Duration::from_millis(timestamp_ms.into());
            if due > now {
                wait = Some(due - now);
                break;
            }
            match clock::pieces(body).filter(|_| *kind == TagKind::Video) {
                Some((before, after)) => {
                    let digits = clock::digits(clock::now_ns());
                    flv::write_tag(&mut pending, *kind, timestamp_ms, &[before, &digits, after]);
                }
                None => flv::write_tag(&mut pending, *kind, timestamp_ms, &[body]),
            }
            // Sound waits for the picture behind it.
            if *kind == TagKind::Video {
                whole = pending.len();
            }
            at += 1;
            if at == bodies.len() {
                at = 0;
                round_ms += 1_000 * Clip::SECONDS as u32;
            }
        }
        if whole > 0 {
            let due = last_flush + window;
            if due <= now {
                let flush = chunk(&pending.split_to(whole));
                whole = 0;
                last_flush = now;
                viewers.retain_mut(|viewer| viewer.send(&flush).is_ok());
            } else {
                wait = Some(wait.map_or(due - now, |wait| wait.min(due - now)));
            }
        }
        poll.poll(&mut events, wait)?;
        if events.iter().any(|event| event.token() == LISTENER) {
            while let Ok((socket, _)) = listener.accept() {
                socket.set_nodelay(true)?;
                let mut viewer = Viewer { socket: socket.into(), rest: Vec::new() };
                if viewer.send(&head).is_ok() {
                    viewers.push(viewer);
                }
            }
        }
    }
}

/// One of a chunked response (RFC 9112 §7.1).
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
