//! Many LL-HLS players, cheaply: each asks for the playlist that is to come, and fetches the parts that are new in it,
//! over one connection.

use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use super::{PartClock, arrival, clock};

const READ_BYTES: usize = 64 << 10;
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

/// Who waits for a segment looks that long after the first answer. On machines of their own players would take none of
/// the server's time; when answers arrived the kernel knows.
const LATE_LOOK: Duration = Duration::from_millis(200);

/// What players do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Reload for each part, and fetch it.
    Parts,
    /// Reload for each segment, and fetch nothing.
    Segments,
}

/// Players at work. Dropped, they disconnect.
pub(crate) struct Players {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    /// Of the stream, up to the name of a file.
    folder: String,
    task: Task,
    count: usize,
    from: Position,
    clock: PartClock,
    over: AtomicBool,
    recording: AtomicBool,
    /// Players who got an answer.
    served: AtomicUsize,
    answers: AtomicU64,
    seen: Mutex<Seen>,
    problem: Mutex<Option<String>>,
}

/// What the players noticed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What they asked for, and what playlists said would come.
    pub(crate) objects: HashSet<String>,
    /// From the picture that completed what was waited for to the answer.
    pub(crate) released: Vec<Duration>,
}

/// A segment's number, and a part's in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    msn: u64,
    part: u64,
}

/// What a playlist says of what is to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail<'a> {
    next: Position,
    hint: &'a str,
    /// From the newest on.
    parts: Vec<(Position, &'a str)>,
}

impl<'a> Tail<'a> {
    /// Reads a playlist from its end, parts down to `from`.
    pub(crate) fn of(playlist: &'a str, from: Position) -> Result<Self> {
        let mut hinted = None;
        let mut parts = Vec::new();
        for line in playlist.lines().rev() {
            let Some(name) = line.split_once("URI=\"").and_then(|(_, rest)| rest.split('"').next()) else {
                continue;
            };
            if line.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART") {
                hinted = Some((position(name)?, name));
            } else if line.starts_with("#EXT-X-PART:") {
                let at = position(name)?;
                if at < from {
                    break;
                }
                parts.push((at, name));
            }
        }
        let (next, hint) = hinted.context("no part is announced")?;
        Ok(Self { next, hint, parts })
    }

    /// What comes next.
    pub(crate) fn next(&self) -> Position {
        self.next
    }
}

/// Of a part's name, `epoch-msn.part.m4s`.
fn position(name: &str) -> Result<Position> {
    let numbers = || {
        let (_, rest) = name.rsplit('/').next()?.split_once('-')?;
        let (msn, rest) = rest.split_once('.')?;
        let (part, _) = rest.split_once('.')?;
        Some(Position { msn: msn.parse().ok()?, part: part.parse().ok()? })
    };
    numbers().with_context(|| format!("{name:?} is no part's name"))
}

impl Players {
    /// They come at once, and begin at `from` with files in the `folder`.
    pub(crate) fn start(
        server: SocketAddr,
        folder: &str,
        task: Task,
        count: usize,
        from: Position,
        clock: PartClock,
    ) -> Self {
        let shared = Arc::new(Shared {
            server,
            folder: folder.to_owned(),
            task,
            count,
            from,
            clock,
            over: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            served: AtomicUsize::new(0),
            answers: AtomicU64::new(0),
            seen: Mutex::default(),
            problem: Mutex::default(),
        });
        let watched = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if let Err(error) = play(&watched) {
                watched.problem.lock().get_or_insert(format!("{error:#}"));
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Waits until each got its first answer.
    pub(crate) async fn served(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.check()?;
            let served = self.shared.served.load(Ordering::Relaxed);
            if served == self.shared.count {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "of {} players, {served} got an answer", self.shared.count);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Begins or ends to note how late answers are.
    pub(crate) fn record(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Relaxed);
    }

    /// Answers so far.
    pub(crate) fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// What was noticed since the last time.
    pub(crate) fn seen(&self) -> Seen {
        std::mem::take(&mut self.shared.seen.lock())
    }

    /// An error if somebody was not served.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.shared.problem.lock() {
            Some(problem) => bail!("a player: {problem}"),
            None => Ok(()),
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its problem, if it had one, was noted.
            let _ = thread.join();
        }
    }
}

struct Player {
    socket: TcpStream,
    out: Vec<u8>,
    input: BytesMut,
    /// What it has of the stream ends before that.
    at: Position,
    /// Parts to be fetched before the playlist.
    parts: VecDeque<String>,
    reloading: bool,
    served: bool,
    /// What came, and how late it was.
    came: Option<(Bytes, Duration)>,
}

/// The playlist that was read last, which all who wait for the same get.
#[derive(Default)]
struct Reload {
    playlist: Bytes,
    at: Option<Position>,
    next: Option<Position>,
    hint: String,
    /// Oldest first.
    parts: Vec<String>,
}

impl Reload {
    /// Reads a playlist, if it is not the one before.
    fn read(&mut self, playlist: &Bytes, at: Position) -> Result<Position> {
        if let Some(next) = self.next
            && self.at == Some(at)
            && self.playlist == playlist
        {
            return Ok(next);
        }
        let tail = Tail::of(std::str::from_utf8(playlist)?, at)?;
        ensure!(tail.next > at, "a reload for {at:?} brought nothing new");
        (self.at, self.next) = (Some(at), Some(tail.next));
        tail.hint.clone_into(&mut self.hint);
        self.parts = tail.parts.iter().rev().map(|(_, name)| (*name).to_owned()).collect();
        self.playlist = playlist.clone();
        Ok(tail.next)
    }
}

fn play(shared: &Shared) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; READ_BYTES];
    let mut players = Vec::with_capacity(shared.count);
    let mut answered: Vec<usize> = Vec::with_capacity(shared.count);
    let mut last = Reload::default();
    while !shared.over.load(Ordering::Relaxed) {
        // Some at a time, so that no queue of connections runs over.
        for _ in 0..100 {
            if players.len() == shared.count {
                break;
            }
            let mut player = Player::connect(shared)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut player.socket, Token(players.len()), interest)?;
            players.push(player);
        }
        let wait = if !answered.is_empty() {
            Duration::ZERO
        } else if players.len() == shared.count {
            LOOK
        } else {
            Duration::from_millis(1)
        };
        poll.poll(&mut events, Some(wait))?;
        let all_wait = players.len() == shared.count && answered.is_empty();
        if shared.task == Task::Segments && all_wait && events.iter().any(mio::event::Event::is_readable) {
            look_later();
        }
        // They share a thread, so nobody goes on before all have what came: another's next question is not what makes an
        // answer late. Players elsewhere take longer to ask again than this does.
        if events.is_empty() {
            for index in answered.drain(..) {
                players.get_mut(index).context("a player")?.go_on(shared, &mut last)?;
            }
        }
        for event in &events {
            let player = players.get_mut(event.token().0).context("a player")?;
            if event.is_writable() {
                player.write()?;
            }
            if event.is_readable() {
                let waited = player.came.is_none();
                player.read(&mut buffer, shared)?;
                if waited && player.came.is_some() {
                    answered.push(event.token().0);
                }
            }
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the event that is waited for is the time itself")]
fn look_later() {
    std::thread::sleep(LATE_LOOK);
}

impl Player {
    fn connect(shared: &Shared) -> Result<Self> {
        let mut player = Self {
            socket: TcpStream::connect(shared.server)?,
            out: Vec::new(),
            input: BytesMut::new(),
            at: shared.from,
            parts: VecDeque::new(),
            reloading: false,
            served: false,
            came: None,
        };
        arrival::note(&player.socket)?;
        player.ask(shared);
        Ok(player)
    }

    fn ask(&mut self, shared: &Shared) {
        let Position { msn, part } = self.at;
        let next = self.parts.pop_front();
        self.reloading = next.is_none();
        let name = next.unwrap_or_else(|| match shared.task {
            Task::Parts => format!("media.m3u8?_HLS_msn={msn}&_HLS_part={part}"),
            Task::Segments => format!("media.m3u8?_HLS_msn={msn}"),
        });
        let request = format!("GET {}{name} HTTP/1.1\r\nHost: {}\r\n\r\n", shared.folder, shared.server);
        self.out.extend_from_slice(request.as_bytes());
        let mut seen = shared.seen.lock();
        if !seen.objects.contains(&name) {
            seen.objects.insert(name);
        }
    }

    fn write(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(sent) => {
                    self.out.drain(..sent);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], shared: &Shared) -> Result<()> {
        loop {
            let (count, ago) = match arrival::read(&self.socket, buffer) {
                Ok((0, _)) => bail!("the server hung up"),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
            // One question at a time, so there is no second answer.
            if let Some(body) = response(&mut self.input)? {
                let since = match shared.task {
                    Task::Parts => shared.clock.part_ns(),
                    Task::Segments => shared.clock.key_ns(),
                };
                let late = Duration::from_nanos(clock::now_ns().saturating_sub(since)).saturating_sub(ago);
                self.came = Some((body, late));
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Notes what came, and asks for what comes next.
    fn go_on(&mut self, shared: &Shared, last: &mut Reload) -> Result<()> {
        let (body, late) = self.came.take().context("an answer")?;
        shared.answers.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.served, true) {
            shared.served.fetch_add(1, Ordering::Relaxed);
        }
        if self.reloading {
            let next = last.read(&body, self.at)?;
            let mut seen = shared.seen.lock();
            if shared.recording.load(Ordering::Relaxed) {
                seen.released.push(late);
            }
            if !seen.objects.contains(&last.hint) {
                seen.objects.insert(last.hint.clone());
            }
            drop(seen);
            if shared.task == Task::Parts {
                self.parts.extend(last.parts.iter().cloned());
            }
            self.at = next;
        }
        self.ask(shared);
        self.write()
    }
}

/// The body of the next response, when all of it is there. Anything but a 200 is an error.
fn response(input: &mut BytesMut) -> Result<Option<Bytes>> {
    const LENGTH: &str = "content-length:";
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(input.get(..end).unwrap_or_default())?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut lines = head.lines().filter_map(|line| line.split_at_checked(LENGTH.len()));
    let length = lines.find_map(|(name, value)| name.eq_ignore_ascii_case(LENGTH).then_some(value));
    let length: usize = length.with_context(|| format!("no length: {head}"))?.trim().parse()?;
    let whole = end + 4 + length;
    if input.len() < whole {
        return Ok(None);
    }
    Ok(Some(input.split_to(whole).freeze().slice(end + 4..)))
}

/// Where a playlist ends.
pub(crate) fn end_of(playlist: &str) -> Result<Position> {
    Ok(Tail::of(playlist, Position { msn: u64::MAX, part: 0 })?.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYLIST: &str = "#EXTM3U\n#EXT-X-MAP:URI=\"init-1-1.mp4\"\n\
        #EXT-X-PART:DURATION=0.2,URI=\"1-6.9.m4s\"\n#EXTINF:2.0,\n1-6.m4s\n\
        #EXT-X-PART:DURATION=0.2,INDEPENDENT=YES,URI=\"1-7.0.m4s\"\n#EXT-X-PART:DURATION=0.2,URI=\"1-7.1.m4s\"\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1-7.2.m4s\"\n";

    fn at(msn: u64, part: u64) -> Position {
        Position { msn, part }
    }

    #[test]
    fn what_is_new_in_a_playlist_is_found() {
        let tail = Tail::of(PLAYLIST, at(6, 10)).unwrap();
        assert_eq!((tail.next, tail.hint), (at(7, 2), "1-7.2.m4s"));
        assert_eq!(tail.parts, [(at(7, 1), "1-7.1.m4s"), (at(7, 0), "1-7.0.m4s")]);
        assert_eq!(Tail::of(PLAYLIST, at(6, 9)).unwrap().parts.len(), 3);
        assert_eq!(end_of(PLAYLIST).unwrap(), at(7, 2));
        assert!(end_of("#EXTM3U\n").is_err());
        assert!(position("1-7.m4s").is_err());
    }

    #[test]
    fn responses_are_taken_one_by_one() {
        let all =
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let mut input = BytesMut::new();
        let mut bodies = Vec::new();
        for byte in all {
            input.extend_from_slice(&[*byte]);
            bodies.extend(response(&mut input).unwrap());
        }
        assert_eq!(bodies, [&b"abc"[..], b""]);
        assert!(response(&mut BytesMut::from("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")).is_err());
    }
}
