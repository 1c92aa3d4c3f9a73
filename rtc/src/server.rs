//! All WebRTC peers of a process.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use media_core::frame::Kind;
use mio::{Poll, Waker};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::broadcast::Broadcast;
use crate::config::Config;
use crate::directory::{Directory, Name, random};
use crate::ice_servers::{IceServer, IceServers};
use crate::metrics::Metrics;
use crate::offer::{self, Refused};
use crate::peer::{Credentials, Failed, Ground, Peer, Role, Sent, Str0m};
use crate::shard::{self, Common, Count, Ended, Letter, Mailbox, Newcomer, Restart, Sink, Watcher, Work};

/// Bytes that the kernel holds for a shard: a burst of a keyframe to hundreds of viewers, and of as many publishers.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Why WebRTC can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port can't be had.
    #[error("rtc.listen: {address} can't be listened on: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The machine has no address to tell peers.
    #[error("no address to tell WebRTC peers: name one in `rtc.advertise`")]
    NoAddress,
    /// Something that threads or sockets need.
    #[error("WebRTC can't be served: {0}")]
    Io(#[from] io::Error),
    /// The state machine can't be prepared.
    #[error("WebRTC can't be served: {0}")]
    Peer(#[from] Failed),
    /// Its metrics are there already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The session's name: whoever has it may end it.
    pub session: String,
    /// SDP.
    pub answer: String,
}

/// What a client is told that restarts ICE.
#[derive(Debug, Clone)]
pub struct Restarted {
    /// Ours from now on.
    pub credentials: Credentials,
    /// Our addresses, as before.
    pub addresses: Arc<[SocketAddr]>,
}

/// See the module. Clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: Config,
    common: Arc<Common>,
    ground: Ground,
    address: SocketAddr,
    draining: AtomicBool,
    /// Servers that are given out for a time.
    lender: OnceLock<Box<dyn IceServers>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Listens, and puts its metrics (`weir_rtc_…`) into `registry`.
    pub fn new(config: &Config, registry: &prometheus::Registry) -> Result<Self, Error> {
        let metrics = Metrics::register(registry)?;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if config.threads == 0 { cores() } else { config.threads };
        if config.listen.port() != 0 {
            // Another process of ours could share the port, and would take half of what comes.
            drop(bind(config.listen, false)?);
        }
        let mut sockets = vec![bind(config.listen, true)?];
        let address = sockets.first().map_or(Ok(config.listen), UdpSocket::local_addr)?;
        for _ in 1..threads {
            sockets.push(bind(address, true)?);
        }
        let addresses = crate::addresses::advertised(config, address)?;
        if addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let (mut polls, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in &sockets {
            let poll = Poll::new()?;
            mailboxes.push(Arc::new(Mailbox::new(Waker::new(poll.registry(), shard::WAKER)?)));
            polls.push(poll);
        }
        let ground = Ground::new(addresses)?;
        let (handshake, keyframes) = Common::times(config);
        let common = Arc::new(Common {
            directory: Directory::new(config.max_peers),
            metrics,
            mailboxes: mailboxes.into(),
            addresses: Arc::clone(&ground.addresses),
            handshake,
            keyframes,
        });
        let threads = sockets.into_iter().zip(polls).enumerate();
        let threads = threads
            .map(|(index, (socket, poll))| shard::start(index, socket, poll, Arc::clone(&common)))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            common,
            ground,
            address,
            draining: AtomicBool::new(false),
            lender: OnceLock::new(),
            threads: Mutex::new(threads),
        })))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The addresses that peers are told to send to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.ground.addresses
    }

    /// Clients are told of what `lender` gives out, beside what is configured. Only the first time counts.
    pub fn lend_by(&self, lender: Box<dyn IceServers>) {
        // Whoever calls it is the only one.
        let _ = self.0.lender.set(lender);
    }

    /// The STUN and TURN servers that a client at that address is told of.
    pub fn ice_servers(&self, client: IpAddr) -> Vec<IceServer> {
        let configured = self.0.config.ice_servers.iter();
        let mut servers: Vec<_> = configured.map(|url| IceServer { url: url.clone(), login: None }).collect();
        servers.extend(self.0.lender.get().map(|lender| lender.lend(client)).unwrap_or_default());
        servers
    }

    /// Looks at an offer as far as its lines say something, before anything is done for it.
    pub fn check(&self, offer: &str) -> Result<(), Refused> {
        offer::check(offer).inspect_err(|refused| self.count_refused(refused.reason()))
    }

    /// Counts an offer that others refused.
    pub fn count_refused(&self, reason: &str) {
        self.0.common.metrics.refused.with_label_values(&[reason]).inc();
    }

    /// Something to watch, without frames yet.
    pub fn broadcast(&self) -> Arc<Broadcast> {
        Broadcast::new(Arc::clone(&self.0.common.mailboxes))
    }

    /// Answers the offer of a publisher, which begins with [`Prepared::publish`].
    pub fn prepare_publish(&self, offer: &str) -> Result<Prepared, Refused> {
        self.prepare(offer, Role::Publish)
    }

    /// Answers the offer of a viewer, who is told of the tracks that are `sent` and begins with [`Prepared::play`].
    pub fn prepare_play(&self, offer: &str, sent: Vec<Sent>) -> Result<Prepared, Refused> {
        self.prepare(offer, Role::Play(sent))
    }

    /// Ends a session.
    pub fn close(&self, session: &str) -> Result<(), Refused> {
        let name = Name::parse(session).ok_or(Refused::Unknown)?;
        match self.0.common.directory.visit(&name, |_| false)? {
            None => Ok(()),
            Some(shard) => self.post(shard, Letter::Close(name.ufrag)),
        }
    }

    /// The fragment of the username that a session's checks have: another one after each restart of ICE.
    pub fn fragment(&self, session: &str) -> Result<String, Refused> {
        let name = Name::parse(session).ok_or(Refused::Unknown)?;
        self.0.common.directory.fragment(&name)
    }

    /// Restarts ICE for a session whose client has other credentials now, as we do then.
    pub fn restart_ice(&self, session: &str, theirs: Credentials) -> Result<Restarted, Refused> {
        let name = Name::parse(session).ok_or(Refused::Unknown)?;
        let (Some(ufrag), Some(password)) = (random(), random()) else { return Err(Refused::Busy) };
        let ours = Credentials { ufrag, password };
        let directory = &self.0.common.directory;
        // Checks find it from now on, and are refused until it knows.
        directory.rename(&name, &ours.ufrag)?;
        let here = directory.visit(&name, |newcomer| {
            newcomer.peer.restart_ice(&ours, &theirs);
            newcomer.renamed = Some(ours.ufrag.clone());
            true
        })?;
        if let Some(shard) = here {
            let restart = Restart { session: name.ufrag, ours: ours.clone(), theirs };
            self.post(shard, Letter::Restart(Box::new(restart)))?;
        }
        Ok(Restarted { credentials: ours, addresses: Arc::clone(&self.0.ground.addresses) })
    }

    /// Takes candidates that a session's client learnt after its offer.
    pub fn trickle(&self, session: &str, candidates: &[&str]) -> Result<(), Refused> {
        let name = Name::parse(session).ok_or(Refused::Unknown)?;
        let here = self.0.common.directory.visit(&name, |newcomer| {
            for candidate in candidates {
                // One that can't be used costs nothing: the client's own checks are what counts.
                let _ = newcomer.peer.add_candidate(candidate);
            }
            true
        })?;
        let Some(shard) = here else { return Ok(()) };
        for candidate in candidates {
            self.post(shard, Letter::Candidate(name.ufrag.clone(), (*candidate).to_owned()))?;
        }
        Ok(())
    }

    /// Accepts nobody any more; who is there stays.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Ends all peers and waits until their sinks and watchers know. Blocks for some milliseconds.
    pub fn end(&self) {
        self.drain();
        for newcomer in self.0.common.directory.overdue(None) {
            newcomer.end(Ended::Draining);
        }
        let threads = std::mem::take(&mut *self.0.threads.lock());
        for mailbox in &*self.0.common.mailboxes {
            mailbox.post(Letter::End);
        }
        for thread in threads {
            if let Err(panic) = thread.join() {
                tracing::error!(error = %shard::panicked(&*panic), "a WebRTC thread panicked");
            }
        }
    }

    fn prepare(&self, offer: &str, role: Role) -> Result<Prepared, Refused> {
        let accepted = self.try_accept(offer, &role);
        let ((name, peer, begun), answer) =
            accepted.inspect_err(|refused| self.count_refused(refused.reason()))?;
        Ok(Prepared { server: self.clone(), role, name, peer, begun, answer })
    }

    fn try_accept(&self, offer: &str, role: &Role) -> Result<((Name, Str0m, Instant), String), Refused> {
        if self.0.draining.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        offer::check(offer)?;
        if !self.0.common.directory.has_room() {
            return Err(Refused::Full);
        }
        let (Some(name), Some(password)) = (Name::random(), random()) else { return Err(Refused::Busy) };
        let now = Instant::now();
        let ours = Credentials { ufrag: name.ufrag.clone(), password };
        // A parser's panic is one offer's.
        let accepted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Str0m::accept(&self.0.ground, offer, role, &ours, now)
        }));
        let (peer, answer) = accepted.unwrap_or_else(|panic| {
            tracing::error!(error = %shard::panicked(&*panic), "an SDP offer made its parser panic");
            Err(Refused::Malformed("it can't be parsed".to_owned()))
        })?;
        Ok(((name, peer, now), answer))
    }

    fn post(&self, shard: usize, letter: Letter) -> Result<(), Refused> {
        let mailbox = self.0.common.mailboxes.get(shard).ok_or(Refused::Unknown)?;
        if mailbox.post(letter) { Ok(()) } else { Err(Refused::Busy) }
    }
}

/// An offer that was answered, by a peer that nobody can reach yet.
pub struct Prepared {
    server: Server,
    role: Role,
    name: Name,
    peer: Str0m,
    begun: Instant,
    answer: String,
}

impl Prepared {
    /// The session's name.
    pub fn session(&self) -> String {
        self.name.text()
    }

    /// Whether sound or pictures are sent to it.
    pub fn takes(&self, kind: Kind) -> bool {
        self.peer.takes(kind)
    }

    /// It begins; its frames go to `sink`.
    pub fn publish(self, sink: Box<dyn Sink>) -> Result<Accepted, Refused> {
        self.begin(Work::Publish(sink))
    }

    /// It begins to watch `broadcast`.
    pub fn play(self, broadcast: &Arc<Broadcast>, watcher: Box<dyn Watcher>) -> Result<Accepted, Refused> {
        self.begin(Work::Play(Arc::clone(broadcast), watcher))
    }

    fn begin(self, work: Work) -> Result<Accepted, Refused> {
        let Self { server, role, name, peer, begun, answer } = self;
        let common = &server.0.common;
        let session = name.text();
        let count = Count::new(&common.metrics, &role);
        let newcomer = Newcomer { name, renamed: None, peer: Box::new(peer), work, begun, count };
        match common.directory.wait(Box::new(newcomer)) {
            Ok(()) => Ok(Accepted { session, answer }),
            Err((refused, newcomer)) => {
                newcomer.end(Ended::Failed);
                Err(refused)
            }
        }
    }
}

/// A socket on the port, which shards share.
fn bind(address: SocketAddr, shared: bool) -> Result<UdpSocket, Error> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        // As much as the system allows.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    bound().map_err(|source| Error::Bind { address, source })
}
