//! Viewers by WebRTC: one thread with a socket each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use rtc::client::{Client, Said};

const WAKER: Token = Token(usize::MAX);
/// Until all are connected.
const PATIENCE: Duration = Duration::from_secs(30);

/// Viewers at work. Dropped, they are gone.
pub(crate) struct Watchers {
    counts: Arc<Counts>,
    newcomers: mpsc::SyncSender<Watcher>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    over: AtomicBool,
    connected: AtomicU64,
    packets: AtomicU64,
    failure: OnceLock<String>,
}

/// One viewer: who has no client only counts.
struct Watcher {
    socket: UdpSocket,
    client: Option<Client>,
    due: Instant,
}

impl Watchers {
    pub(crate) fn start() -> Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (newcomers, come) = mpsc::sync_channel(16);
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            if let Err(error) = run(poll, &come, &counted) {
                let _ = counted.failure.set(format!("{error:#}"));
            }
        });
        Ok(Self { counts, newcomers, waker, thread: Some(thread) })
    }

    fn add(&self, socket: std::net::UdpSocket, client: Option<Client>) -> Result<()> {
        // What a burst brings has room.
        socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket);
        self.newcomers.send(Watcher { socket, client, due: Instant::now() })?;
        Ok(self.waker.wake()?)
    }

    /// One who only counts what comes to the port.
    pub(crate) fn add_counter(&self) -> Result<u16> {
        let (socket, at) = bound()?;
        self.add(socket, None)?;
        Ok(at.port())
    }

    /// One who watches by WHEP.
    pub(crate) async fn watch(&self, http: &reqwest::Client, url: &str) -> Result<()> {
        let (socket, at) = bound()?;
        let (mut client, offer) = Client::offer(at, Instant::now())?;
        let request = http.post(url).header("content-type", "application/sdp").body(offer);
        let answer = request.send().await?.error_for_status()?.text().await?;
        client.accept(&answer)?;
        self.add(socket, Some(client))
    }

    /// One who answers an offer of this machine's; the answer. Not every server has media on the loopback interface: the
    /// viewer's address is the server's.
    pub(crate) fn answer(&self, offer: &str) -> Result<String> {
        let candidates = offer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
        let mut addresses = candidates.filter_map(|line| line.split(' ').nth(4)?.parse().ok());
        let at = addresses.find(IpAddr::is_ipv4).context("the offer has no candidate of IPv4")?;
        let (socket, at) = bound_to(at)?;
        let (client, answer) = Client::answer(at, offer, Instant::now())?;
        self.add(socket, Some(client))?;
        Ok(answer)
    }

    /// Waits until so many are connected.
    pub(crate) async fn connected(&self, count: u64) -> Result<()> {
        let began = Instant::now();
        while self.counts.connected.load(Ordering::Relaxed) < count {
            self.check()?;
            let connected = self.counts.connected.load(Ordering::Relaxed);
            anyhow::ensure!(began.elapsed() < PATIENCE, "{connected} of {count} viewers are connected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// An error if they do not work any more.
    pub(crate) fn check(&self) -> Result<()> {
        match self.counts.failure.get() {
            Some(why) => bail!("a viewer failed: {why}"),
            None => Ok(()),
        }
    }

    /// Packets of media that came to all of them: who only counts takes each datagram for one.
    pub(crate) fn received(&self) -> u64 {
        self.counts.packets.load(Ordering::Relaxed)
    }
}

fn bound() -> Result<(std::net::UdpSocket, SocketAddr)> {
    bound_to(Ipv4Addr::LOCALHOST.into())
}

fn bound_to(address: IpAddr) -> Result<(std::net::UdpSocket, SocketAddr)> {
    let socket = std::net::UdpSocket::bind((address, 0))?;
    let at = socket.local_addr()?;
    Ok((socket, at))
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.counts.over.store(true, Ordering::Relaxed);
        if self.waker.wake().is_ok() {
            self.thread.take().map(JoinHandle::join);
        }
    }
}

impl Watcher {
    /// Reads all that came.
    fn read(&mut self, room: &mut [u8], counts: &Counts) -> Result<()> {
        loop {
            let (bytes, from) = match self.socket.recv_from(room) {
                Ok(came) => came,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match &mut self.client {
                Some(client) => {
                    client.handle_datagram(Instant::now(), from, room.get(..bytes).context("a datagram")?)?;
                    self.speak(counts)?;
                }
                None => {
                    counts.packets.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn speak(&mut self, counts: &Counts) -> Result<()> {
        let Some(client) = &mut self.client else { return Ok(()) };
        loop {
            match client.poll()? {
                Said::Wait(at) => {
                    self.due = at;
                    return Ok(());
                }
                Said::Datagram { to, bytes } => match self.socket.send_to(&bytes, to) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                    _ => {}
                },
                Said::Connected => {
                    counts.connected.fetch_add(1, Ordering::Relaxed);
                }
                Said::Packet => {
                    counts.packets.fetch_add(1, Ordering::Relaxed);
                }
                Said::Closed => bail!("a viewer was let go"),
            }
        }
    }
}

fn run(mut poll: Poll, come: &mpsc::Receiver<Watcher>, counts: &Counts) -> Result<()> {
    let mut watchers: Vec<Watcher> = Vec::new();
    let mut timers = BinaryHeap::new();
    let mut events = Events::with_capacity(1_024);
    let mut room = [0; 2_048];
    while !counts.over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = timers
            .peek()
            .map(|Reverse((at, _)): &Reverse<(Instant, usize)>| at.saturating_duration_since(now));
        poll.poll(&mut events, next)?;
        for event in &events {
            if event.token() == WAKER {
                for mut watcher in come.try_iter() {
                    let token = Token(watchers.len());
                    poll.registry().register(&mut watcher.socket, token, Interest::READABLE)?;
                    if watcher.client.is_some() {
                        timers.push(Reverse((watcher.due, watchers.len())));
                    }
                    watchers.push(watcher);
                }
            } else if let Some(watcher) = watchers.get_mut(event.token().0) {
                watcher.read(&mut room, counts)?;
            }
        }
        let now = Instant::now();
        while let Some(&Reverse((at, index))) = timers.peek()
            && at <= now
        {
            timers.pop();
            let Some(watcher) = watchers.get_mut(index) else { continue };
            if watcher.due <= now
                && let Some(client) = &mut watcher.client
            {
                client.handle_timeout(now)?;
                watcher.speak(counts)?;
            }
            // Not each millisecond: a viewer's reports wait for one as well.
            timers.push(Reverse((watcher.due.max(now + Duration::from_millis(2)), index)));
        }
    }
    Ok(())
}
