//! What sending costs at least: one thread that makes the same streams itself, and for each flush calls `send` with the
//! same bytes on every socket of the stream. It reads no request: who comes gets the next stream in turn.

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

/// Of the clip.
const FRAME: Duration = Duration::from_millis(33);

/// One of the clip's.
type Tag = (TagKind, u32, Bytes);

/// Of every response.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: video/x-flv\r\ntransfer-encoding: chunked\r\n\r\n";

/// Starts this program as one: `main` hands `--floor ADDRESS MS STREAMS` to [`serve`].
pub(crate) async fn floor(window: Duration, streams: usize) -> Result<Server> {
    let http = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--floor", &http.to_string(), &window.as_millis().to_string(), &streams.to_string()]);
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

/// One stream: the clip, again and again.
struct Stream {
    /// After the others, so that they don't all have a frame at once.
    offset: Duration,
    /// Of the clip's frames, the next.
    at: usize,
    /// When the clip began the last time, in the stream's time.
    round_ms: u32,
    pending: BytesMut,
    /// Of what is pending, up to the end of a picture: sound waits for the picture behind it.
    whole: usize,
    last_flush: Instant,
    viewers: Vec<Viewer>,
}

impl Stream {
    fn new(offset: Duration, now: Instant) -> Self {
        let (pending, viewers) = (BytesMut::new(), Vec::new());
        Self { offset, at: 0, round_ms: 0, pending, whole: 0, last_flush: now, viewers }
    }

    /// Sends what is due. When it is to be called again.
    fn go_on(&mut self, bodies: &[Tag], began: Instant, window: Duration, now: Instant) -> Result<Instant> {
        let next = loop {
            let (kind, clip_ms, body) = bodies.get(self.at).context("a frame")?;
            let timestamp_ms = self.round_ms + clip_ms;
            let due = began + self.offset + Duration::from_millis(timestamp_ms.into());
            if due > now {
                break due;
            }
            match clock::pieces(body).filter(|_| *kind == TagKind::Video) {
                Some((before, after)) => {
                    let digits = clock::digits(clock::now_ns());
                    flv::write_tag(&mut self.pending, *kind, timestamp_ms, &[before, &digits, after]);
                }
                None => flv::write_tag(&mut self.pending, *kind, timestamp_ms, &[body]),
            }
            if *kind == TagKind::Video {
                self.whole = self.pending.len();
            }
            self.at += 1;
            if self.at == bodies.len() {
                self.at = 0;
                self.round_ms += 1_000 * Clip::SECONDS as u32;
            }
        };
        if self.whole == 0 {
            return Ok(next);
        }
        let due = self.last_flush + window;
        if due > now {
            return Ok(next.min(due));
        }
        let flush = chunk(&self.pending.split_to(self.whole));
        self.whole = 0;
        self.last_flush = now;
        self.viewers.retain_mut(|viewer| viewer.send(&flush).is_ok());
        Ok(next)
    }
}

/// Serves until the process is killed. A line on standard input has it stop sending, the next go on.
pub(crate) fn serve(address: SocketAddr, window: Duration, streams: usize) -> Result<()> {
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

    let mut events = Events::with_capacity(64);
    let mut began = Instant::now();
    let mut streams: Vec<Stream> =
        (0..streams).map(|index| Stream::new(FRAME * index as u32 / streams as u32, began)).collect();
    let mut came = 0;
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
        let mut next = None;
        for stream in streams.iter_mut().filter(|_| paused_since.is_none()) {
            let due = stream.go_on(&bodies, began, window, now)?;
            next = Some(next.map_or(due, |next: Instant| next.min(due)));
        }
        poll.poll(&mut events, next.map(|next| next.saturating_duration_since(Instant::now())))?;
        if events.iter().any(|event| event.token() == LISTENER) {
            while let Ok((socket, _)) = listener.accept() {
                socket.set_nodelay(true)?;
                let mut viewer = Viewer { socket: socket.into(), rest: Vec::new() };
                let turn = came % streams.len();
                if let Some(stream) = streams.get_mut(turn).filter(|_| viewer.send(&head).is_ok()) {
                    stream.viewers.push(viewer);
                    came += 1;
                }
            }
        }
    }
}

/// One of a chunked response (RFC 9112 §7.1).
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
