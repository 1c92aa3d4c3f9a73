//! Many viewers, cheaply: two threads with a poll each. All count what they receive; a few, evenly spread over those who
//! came, also read how old each picture is, on a thread of their own, so that they don't wait for the others to be read.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::wire::{Decoder, Wire};
use super::{clock, multiplexed};

/// Viewers who read the clock.
const SAMPLES: usize = 20;

/// Read at once from one viewer's socket.
const READ_BYTES: usize = 64 << 10;

/// How soon a thread sees that it has to end.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Nothing more is on its way when nothing came for that long: more than the longest window of a flush and the time
/// that sound waits for a picture.
const QUIET: Duration = Duration::from_millis(600);

/// When there is no quiet after this, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is to watch what.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) wire: Wire,
    pub(crate) viewers: usize,
    /// The n-th viewer watches `live/s{n modulo streams}`.
    pub(crate) streams: usize,
    /// What each asks for.
    pub(crate) latency: String,
    /// In which time they all come.
    pub(crate) within: Duration,
    /// Whether everybody waits for a picture.
    pub(crate) first_pictures: bool,
    /// For HTTPS.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// Viewers at work. Dropped, they disconnect.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a thread does.
type Watch = Box<dyn FnOnce(&Arc<Shared>) -> Result<()> + Send>;

/// What the viewers' threads have in common.
pub(super) struct Shared {
    pub(super) plan: Plan,
    /// Received by each.
    bytes: Vec<AtomicU64>,
    joined: AtomicUsize,
    with_picture: AtomicUsize,
    recording: AtomicBool,
    over: AtomicBool,
    seen: Mutex<Seen>,
    problem: Mutex<Option<String>>,
}

/// What the viewers noticed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Ages of pictures as they were received.
    pub(crate) latency: Vec<Duration>,
    /// From the connection's first packet to the first picture.
    pub(crate) first_picture: Vec<Duration>,
}

impl Crowd {
    /// They begin to come.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let every = (plan.viewers / SAMPLES).max(1);
        // As `samples` says.
        let (samples, others): (Vec<usize>, Vec<usize>) =
            (0..plan.viewers).partition(|index| index % every == every / 2);
        let shared = Arc::new(Shared {
            bytes: (0..plan.viewers).map(|_| AtomicU64::new(0)).collect(),
            joined: AtomicUsize::new(0),
            with_picture: AtomicUsize::new(0),
            recording: AtomicBool::new(false),
            over: AtomicBool::new(false),
            seen: Mutex::default(),
            problem: Mutex::default(),
            plan,
        });
        let began = Instant::now();
        let mut threads = Vec::new();
        let mut spawn = |watch: Watch| {
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || {
                if let Err(error) = watch(&shared) {
                    shared.problem.lock().get_or_insert(format!("{error:#}"));
                }
            }));
        };
        if matches!(shared.plan.wire, Wire::Http2Flv | Wire::Http3Flv) {
            spawn(Box::new(move |shared| multiplexed::watch(shared, &samples, began)));
        } else {
            for (who, sampled) in [(samples, true), (others, false)] {
                if !who.is_empty() {
                    spawn(Box::new(move |shared| watch(shared, &who, sampled, began)));
                }
            }
        }
        Ok(Self { shared, threads })
    }

    /// Waits until all were let in, and have a picture if they want one.
    pub(crate) async fn joined(&self) -> Result<()> {
        let all = self.shared.plan.viewers;
        let began = Instant::now();
        loop {
            self.check()?;
            let joined = self.shared.joined.load(Ordering::Relaxed);
            let pictures = self.shared.with_picture.load(Ordering::Relaxed);
            if joined == all && (!self.shared.plan.first_pictures || pictures == all) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE + self.shared.plan.within,
                "of {all} viewers, {joined} were let in and {pictures} saw a picture"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing more comes.
    pub(crate) async fn settle(&self) -> Result<()> {
        let began = Instant::now();
        let mut last = (self.received().iter().sum::<u64>(), Instant::now());
        while last.1.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            self.check()?;
            let now = self.received().iter().sum();
            if now != last.0 {
                last = (now, Instant::now());
            }
            ensure!(began.elapsed() < PATIENCE, "viewers still receive, though nothing is sent");
        }
        Ok(())
    }

    /// Begins or ends to look at the clock.
    pub(crate) fn record(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Relaxed);
    }

    /// What was noticed since the last time.
    pub(crate) fn seen(&self) -> Seen {
        std::mem::take(&mut self.shared.seen.lock())
    }

    /// Bytes that each has received.
    pub(crate) fn received(&self) -> Vec<u64> {
        self.shared.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }

    /// Viewers who read the clock.
    pub(crate) fn samples(&self) -> impl Iterator<Item = usize> {
        let viewers = self.shared.plan.viewers;
        let every = (viewers / SAMPLES).max(1);
        (0..viewers).filter(move |index| index % every == every / 2)
    }

    /// An error if somebody lost the stream.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.shared.problem.lock() {
            Some(problem) => bail!("a viewer: {problem}"),
            None => Ok(()),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its problem, if it had one, was noted.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Whether the crowd was dismissed.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Somebody was let in.
    pub(super) fn has_joined(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, index: usize, count: usize) {
        if let Some(bytes) = self.bytes.get(index) {
            bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Somebody sees the first picture, after that time.
    pub(super) fn first_picture(&self, after: Duration) {
        self.with_picture.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().first_picture.push(after);
    }

    /// Notes how old a picture is.
    pub(super) fn picture(&self, body: &[u8]) -> Result<()> {
        if self.recording.load(Ordering::Relaxed) {
            let sent = clock::sent_ns(body).context("a picture without a clock")?;
            let age = Duration::from_nanos(clock::now_ns().saturating_sub(sent));
            self.seen.lock().latency.push(age);
        }
        Ok(())
    }
}

struct Viewer {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    decoder: Option<Decoder>,
    /// Still to be sent.
    out: Vec<u8>,
    came: Instant,
    joined: bool,
    picture: bool,
}

fn watch(shared: &Shared, who: &[usize], sampled: bool, began: Instant) -> Result<()> {
    let plan = &shared.plan;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; READ_BYTES];
    let mut viewers: Vec<Viewer> = Vec::with_capacity(who.len());
    while !shared.is_over() {
        let mut wait = LOOK;
        while let Some(index) = who.get(viewers.len()) {
            let due = began + plan.within.mul_f64(*index as f64 / plan.viewers as f64);
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                wait = wait.min(left);
                break;
            }
            let mut viewer = Viewer::connect(plan, *index)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut viewer.socket, Token(viewers.len()), interest)?;
            viewers.push(viewer);
        }
        poll.poll(&mut events, Some(wait))?;
        for event in &events {
            let id = event.token().0;
            let viewer = viewers.get_mut(id).context("a viewer")?;
            let index = *who.get(id).context("a viewer")?;
            if event.is_writable() {
                viewer.write()?;
            }
            if event.is_readable() {
                viewer
                    .read(&mut buffer, shared, index, sampled)
                    .with_context(|| format!("number {index}"))?;
            }
        }
    }
    Ok(())
}

impl Viewer {
    fn connect(plan: &Plan, index: usize) -> Result<Self> {
        let stream = format!("s{}", index % plan.streams);
        let (decoder, out) = Decoder::new(plan.wire, &plan.server.to_string(), &stream, &plan.latency)?;
        let tls = match &plan.tls {
            Some(config) if plan.wire == Wire::HttpsFlv => {
                let name = ServerName::try_from("localhost")?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name)?))
            }
            _ => None,
        };
        let mut viewer = Self {
            came: Instant::now(),
            socket: TcpStream::connect(plan.server)?,
            tls,
            decoder: Some(decoder),
            out: Vec::new(),
            joined: false,
            picture: false,
        };
        viewer.say(&out)?;
        Ok(viewer)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None => self.out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Sends what is to be sent, as far as there is room.
    fn write(&mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out)?;
            }
        }
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

    fn read(&mut self, buffer: &mut [u8], shared: &Shared, index: usize, sampled: bool) -> Result<()> {
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => bail!("the stream ended"),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            shared.received(index, count);
            if self.decoder.is_some() {
                self.decode(buffer.get(..count).unwrap_or_default(), shared)?;
                let done = self.joined && (self.picture || !shared.plan.first_pictures);
                if done && !sampled {
                    // From now on it is enough to count.
                    self.decoder = None;
                    self.tls = None;
                }
            }
            // A stream socket that gave less than there was room for is empty (epoll(7)).
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn decode(&mut self, bytes: &[u8], shared: &Shared) -> Result<()> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        match &mut self.tls {
            None => decoder.push(bytes)?,
            Some(tls) => {
                let mut bytes = bytes;
                let mut plain = [0; 16 << 10];
                while !bytes.is_empty() {
                    tls.read_tls(&mut bytes)?;
                    tls.process_new_packets()?;
                    loop {
                        match tls.reader().read(&mut plain) {
                            Ok(count) if count > 0 => decoder.push(plain.get(..count).unwrap_or_default())?,
                            Ok(_) => bail!("the stream ended"),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
            }
        }
        while let Some(body) = decoder.next_picture()? {
            if !self.picture {
                self.picture = true;
                shared.first_picture(self.came.elapsed());
            }
            shared.picture(&body)?;
        }
        if !self.joined && decoder.has_joined() {
            self.joined = true;
            shared.has_joined();
        }
        let output = decoder.output();
        self.say(&output)?;
        self.write()
    }
}
