//! A shard's loop: datagrams, letters and timers in; datagrams out.

mod viewers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use quinn_udp::RecvMeta;
use std::os::fd::AsRawFd;

use super::receiving::Receiving;
use super::seat::{MAX_ADDRESSES, Seat, Task};
use super::sender::Sender;
use super::viewing::Viewing;
use super::{Common, Ended, Letter, Mailbox, Newcomer, Restart, Strayed, Work, panicked};
use crate::broadcast::Sample;
use crate::directory::Found;
use crate::peer::{Counts, Event, Failed, Output};
use crate::stun;
use viewers::Group;

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: Failed) -> Ended {
    tracing::debug!(%error, "a WebRTC peer failed");
    Ended::Failed
}

const SOCKET: Token = Token(0);
/// The token of a mailbox's waker.
pub(crate) const WAKER: Token = Token(1);
/// Datagrams read in one call, each of which may be several that the kernel put together.
const BATCH: usize = 16;
/// Bytes of one of them.
const BUFFER_BYTES: usize = 64 * 1024;
/// Calls before letters and timers have their turn.
const ROUNDS: usize = 8;
/// How often peers are asked whether they may stay, and those are let go who did not become connected.
const SWEEP: Duration = Duration::from_secs(1);

/// Starts a shard on its socket.
pub(crate) fn start(
    index: usize,
    socket: UdpSocket,
    poll: Poll,
    common: Arc<Common>,
) -> io::Result<JoinHandle<()>> {
    let sender = Sender::new(&socket, common.metrics.clone())?;
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
    let mailbox = common
        .mailboxes
        .get(index)
        .map(Arc::clone)
        .ok_or_else(|| io::Error::other("a shard without a mailbox"))?;
    let shard = Shard {
        index,
        socket,
        poll,
        sender,
        common,
        mailbox,
        seats: AHashMap::new(),
        last: 0,
        by_ufrag: AHashMap::new(),
        by_address: AHashMap::new(),
        timers: BinaryHeap::new(),
        groups: AHashMap::new(),
        dirty: Vec::new(),
        samples: Vec::new(),
        swept: Instant::now(),
    };
    std::thread::Builder::new().name(format!("rtc-{index}")).spawn(move || shard.run())
}

struct Shard {
    index: usize,
    socket: UdpSocket,
    poll: Poll,
    sender: Sender,
    common: Arc<Common>,
    mailbox: Arc<Mailbox>,
    /// By a number that is never given twice, so that what refers to one who left finds nobody.
    seats: AHashMap<u64, Seat>,
    last: u64,
    by_ufrag: AHashMap<String, u64>,
    by_address: AHashMap<SocketAddr, u64>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// By the broadcast's address.
    groups: AHashMap<usize, Group>,
    dirty: Vec<u64>,
    samples: Vec<Arc<Sample>>,
    swept: Instant,
}

impl Shard {
    fn run(mut self) {
        let mut events = Events::with_capacity(8);
        let mut buffers: Vec<Vec<u8>> = (0..BATCH).map(|_| vec![0; BUFFER_BYTES]).collect();
        loop {
            let now = Instant::now();
            let sweep = self.swept + SWEEP;
            let next = self.timers.peek().map_or(sweep, |Reverse((at, _))| (*at).min(sweep));
            let timeout = next.saturating_duration_since(now);
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Of its own making: it would fail again at once. Its peers are told, and come back to another.
                tracing::error!(%error, "a WebRTC thread can't wait for datagrams, and ends");
                break;
            }
            self.receive(&mut buffers);
            if self.letters() {
                break;
            }
            let now = Instant::now();
            self.due(now);
            if now.saturating_duration_since(self.swept) >= SWEEP {
                self.swept = now;
                self.sweep(now);
            }
            self.drive_all(now);
            self.sender.flush(&self.socket);
        }
        let all: Vec<u64> = self.seats.keys().copied().collect();
        for number in all {
            self.say_goodbye(number, Ended::Draining);
        }
        self.sender.flush(&self.socket);
    }

    /// Reads what came, a few rounds of it: the socket is level-triggered by reading until it is empty or asking again.
    fn receive(&mut self, buffers: &mut [Vec<u8>]) {
        let mut metas = [RecvMeta::default(); BATCH];
        for _ in 0..ROUNDS {
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let count = match self.sender.state().recv((&self.socket).into(), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Somebody's port is closed; nothing is wrong with ours.
                Err(_) => continue,
            };
            let now = Instant::now();
            for (meta, buffer) in metas.iter().zip(buffers.iter()).take(count) {
                let Some(bytes) = buffer.get(..meta.len) else { continue };
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    self.common.metrics.received.inc();
                    self.datagram(now, meta.addr, meta.dst_ip, datagram);
                }
            }
        }
        // There is more: the next wait must not wait for it.
        let registry = self.poll.registry();
        // It is registered already, so this can't fail for another reason than that nothing works any more.
        let _ = registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), SOCKET, Interest::READABLE);
    }

    fn datagram(&mut self, now: Instant, from: SocketAddr, to: Option<IpAddr>, bytes: &[u8]) {
        let number = match stun::ufrag(bytes) {
            Some(ufrag) => self.checked(now, ufrag, (from, to), bytes),
            None => match self.by_address.get(&from) {
                Some(number) => Some(*number),
                None => {
                    let reason = if stun::is_stun(bytes) { "stun" } else { "address" };
                    self.common.metrics.dropped.with_label_values(&[reason]).inc();
                    None
                }
            },
        };
        let Some(number) = number else { return };
        // A panic of a peer's state machine ends that peer.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.hand(now, number, (from, to), bytes))) {
            tracing::error!(error = %panicked(&*panic), "a WebRTC peer's state machine panicked");
            self.end(number, Ended::Failed);
        }
    }

    /// The peer whose fragment a check names, if it is here or comes here.
    fn checked(
        &mut self,
        now: Instant,
        ufrag: &str,
        (from, to): (SocketAddr, Option<IpAddr>),
        bytes: &[u8],
    ) -> Option<u64> {
        if let Some(number) = self.by_ufrag.get(ufrag) {
            return Some(*number);
        }
        match self.common.directory.find(ufrag, self.index) {
            Found::Yours(newcomer) => Some(self.seat(now, *newcomer)),
            Found::At(shard) if shard != self.index => {
                let letter = Letter::Datagram(Box::new(Strayed { from, to, bytes: bytes.into() }));
                let taken = self.common.mailboxes.get(shard).is_some_and(|mailbox| mailbox.post(letter));
                if !taken {
                    self.common.metrics.dropped.with_label_values(&["mailbox"]).inc();
                }
                None
            }
            Found::At(_) | Found::Nobody => {
                self.common.metrics.dropped.with_label_values(&["ufrag"]).inc();
                None
            }
        }
    }

    fn hand(&mut self, now: Instant, number: u64, (from, to): (SocketAddr, Option<IpAddr>), bytes: &[u8]) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        if let Some(transaction) = stun::ufrag(bytes).and_then(|_| stun::transaction(bytes))
            && seat.is_replay(transaction, from)
        {
            self.common.metrics.dropped.with_label_values(&["replay"]).inc();
            return;
        }
        seat.local = to;
        // One of the candidates that the peer was told: behind NAT, not the address that the datagram came to.
        let addresses = &self.common.addresses;
        let own = addresses.iter().find(|address| Some(address.ip()) == to);
        let own = own.or_else(|| addresses.iter().find(|address| address.is_ipv4() == from.is_ipv4()));
        let Some(own) = own.copied().or_else(|| addresses.first().copied()) else { return };
        if seat.peer.handle_datagram(now, from, own, bytes).is_err() {
            self.end(number, Ended::Failed);
            return;
        }
        // Each packet is asked for before the next is handed in; what it answers may wait for more.
        if let Err(why) = self.listen(now, number) {
            self.say_goodbye(number, why);
            return;
        }
        self.touch(number);
    }

    /// Gives a newcomer its place.
    fn seat(&mut self, now: Instant, newcomer: Newcomer) -> u64 {
        self.last += 1;
        let number = self.last;
        let Newcomer { name, renamed, peer, work, begun, count } = newcomer;
        let common = &self.common;
        let task = match work {
            Work::Publish(sink) => {
                let expected = peer.receives();
                let receiving = Receiving::new(sink, &expected, common.keyframes, common.metrics.clone());
                Task::Receive(Box::new(receiving))
            }
            Work::Play(broadcast, watcher) => Task::View(Box::new(Viewing::new(broadcast, watcher))),
        };
        for ufrag in renamed.iter().chain([&name.ufrag]) {
            self.by_ufrag.insert(ufrag.clone(), number);
        }
        let seat = Seat {
            ufrag: name.ufrag,
            renamed,
            peer,
            task,
            count,
            begun,
            connected: false,
            dirty: false,
            due: now,
            armed: None,
            local: None,
            addresses: Vec::new(),
            checks: VecDeque::new(),
            counted: Counts::default(),
        };
        self.seats.insert(number, seat);
        number
    }

    fn touch(&mut self, number: u64) {
        if let Some(seat) = self.seats.get_mut(&number)
            && !std::mem::replace(&mut seat.dirty, true)
        {
            self.dirty.push(number);
        }
    }

    /// `true`: the server ends.
    fn letters(&mut self) -> bool {
        for letter in self.mailbox.take() {
            let now = Instant::now();
            match letter {
                Letter::News(address) => self.news(now, address),
                Letter::Datagram(strayed) => {
                    let Strayed { from, to, bytes } = *strayed;
                    self.datagram(now, from, to, &bytes);
                }
                Letter::Close(ufrag) => {
                    if let Some(number) = self.by_ufrag.get(&ufrag).copied() {
                        self.say_goodbye(number, Ended::Asked);
                    }
                }
                Letter::Candidate(ufrag, candidate) => {
                    if let Some(number) = self.by_ufrag.get(&ufrag).copied()
                        && let Some(seat) = self.seats.get_mut(&number)
                    {
                        // A candidate that can't be used costs nothing: the peer's own checks are what counts.
                        let _ = seat.peer.add_candidate(&candidate);
                        self.touch(number);
                    }
                }
                Letter::Restart(restart) => self.restart_ice(*restart),
                Letter::End => return true,
            }
        }
        false
    }

    fn restart_ice(&mut self, Restart { session, ours, theirs }: Restart) {
        let Some(number) = self.by_ufrag.get(&session).copied() else { return };
        let Some(seat) = self.seats.get_mut(&number) else { return };
        seat.peer.restart_ice(&ours, &theirs);
        if let Some(before) = seat.renamed.replace(ours.ufrag.clone()) {
            self.by_ufrag.remove(&before);
        }
        self.by_ufrag.insert(ours.ufrag, number);
        self.touch(number);
    }

    fn due(&mut self, now: Instant) {
        while let Some(Reverse((at, number))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let Some(seat) = self.seats.get_mut(&number) else { continue };
            if seat.armed == Some(at) {
                seat.armed = None;
            }
            if seat.due <= now {
                self.touch(number);
            } else {
                self.arm(number);
            }
        }
    }

    fn arm(&mut self, number: u64) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        if seat.armed.is_none_or(|armed| seat.due < armed) {
            seat.armed = Some(seat.due);
            self.timers.push(Reverse((seat.due, number)));
        }
    }

    fn drive_all(&mut self, now: Instant) {
        // Who joins makes others dirty: what is new then is for all who watch the same.
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for number in dirty.drain(..) {
                match catch_unwind(AssertUnwindSafe(|| self.drive(now, number))) {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => self.say_goodbye(number, why),
                    Err(panic) => {
                        tracing::error!(error = %panicked(&*panic), "a WebRTC peer's state machine panicked");
                        self.end(number, Ended::Failed);
                    }
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
                return;
            }
        }
    }

    fn drive(&mut self, now: Instant, number: u64) -> Result<(), Ended> {
        let Some(seat) = self.seats.get_mut(&number) else { return Ok(()) };
        seat.dirty = false;
        match &mut seat.task {
            Task::Receive(receiving) => receiving.timeout(now, seat.peer.as_mut())?,
            Task::View(viewing) => {
                if let Some(group) = self.groups.get(&(Arc::as_ptr(&viewing.broadcast) as usize)) {
                    viewing.catch_up(now, group.next, seat.peer.as_mut());
                }
            }
        }
        // What was sent waits for it, and time goes on.
        seat.peer.handle_timeout(now).map_err(failed)?;
        self.listen(now, number)
    }

    /// Takes what a peer has to say.
    fn listen(&mut self, now: Instant, number: u64) -> Result<(), Ended> {
        let Some(seat) = self.seats.get_mut(&number) else { return Ok(()) };
        let mut join = false;
        let mut restart = false;
        let due = loop {
            match seat.peer.poll().map_err(failed)? {
                Output::Wait(at) => break at,
                Output::Datagram { to, bytes } => {
                    if !seat.addresses.contains(&to) {
                        // Only who has shown that it is this peer is answered: now it is known by its address.
                        if seat.addresses.len() >= MAX_ADDRESSES {
                            let oldest = seat.addresses.remove(0);
                            if self.by_address.get(&oldest) == Some(&number) {
                                self.by_address.remove(&oldest);
                            }
                        }
                        seat.addresses.push(to);
                        self.by_address.insert(to, number);
                    } else if stun::is_stun(&bytes) {
                        // It may have been another's in between.
                        self.by_address.insert(to, number);
                    }
                    if let Task::View(viewing) = &mut seat.task {
                        viewing.bytes += bytes.len() as u64;
                    }
                    self.sender.send(&self.socket, to, seat.local, &bytes);
                }
                Output::Event(Event::Connected) => {
                    seat.connected = true;
                    join = matches!(seat.task, Task::View(_));
                }
                Output::Event(Event::Packet { kind, layer, codec, packet, level }) => {
                    if let Task::Receive(receiving) = &mut seat.task {
                        if let Some(level) = level {
                            receiving.audio_level(level);
                        }
                        receiving.packet(now, (kind, layer, codec), packet, seat.peer.as_mut())?;
                    }
                }
                Output::Event(Event::Report { kind, layer, report }) => {
                    if let Task::Receive(receiving) = &mut seat.task {
                        receiving.report(kind, layer, report);
                    }
                }
                Output::Event(Event::KeyframeWanted) => {
                    self.common.metrics.keyframes_wanted.inc();
                    restart = true;
                }
                Output::Event(Event::Closed) => return Err(Ended::Left),
            }
        };
        let media = match &seat.task {
            Task::Receive(receiving) => receiving.deadline(),
            Task::View(viewing) => viewing.deadline(),
        };
        seat.due = media.map_or(due, |media| media.min(due)).max(now + Duration::from_millis(1));
        self.arm(number);
        if join {
            self.join(now, number);
        } else if restart && self.seats.get(&number).is_some_and(|seat| seat.connected) {
            self.restart(now, number);
        }
        // What that wrote leaves in this round.
        if (join || restart) && self.seats.get(&number).is_some_and(|seat| seat.dirty) {
            self.dirty.retain(|other| *other != number);
            return self.drive(now, number);
        }
        Ok(())
    }

    fn sweep(&mut self, now: Instant) {
        let handshake = self.common.handshake;
        let mut over: Vec<(u64, Ended)> = Vec::new();
        for (number, seat) in &mut self.seats {
            let stays = match &mut seat.task {
                _ if !seat.connected && now.saturating_duration_since(seat.begun) >= handshake => {
                    Err(Ended::Handshake)
                }
                Task::Receive(receiving) => receiving.may_stay(),
                Task::View(viewing) => viewing.may_stay(),
            };
            seat.tally(&self.common.metrics);
            if let Err(why) = stays {
                over.push((*number, why));
            }
        }
        for (number, why) in over {
            self.say_goodbye(number, why);
        }
        // One of them looks after those who wait.
        if self.index == 0
            && let Some(before) = now.checked_sub(handshake)
        {
            for newcomer in self.common.directory.overdue(Some(before)) {
                newcomer.end(Ended::Handshake);
            }
        }
    }

    /// Ends a peer, which is told if it still hears us.
    fn say_goodbye(&mut self, number: u64, why: Ended) {
        if let Some(seat) = self.seats.get_mut(&number) {
            seat.peer.close();
            while let Ok(Output::Datagram { to, bytes }) = seat.peer.poll() {
                self.sender.send(&self.socket, to, seat.local, &bytes);
            }
        }
        self.end(number, why);
    }

    fn end(&mut self, number: u64, why: Ended) {
        let Some(mut seat) = self.seats.remove(&number) else { return };
        seat.tally(&self.common.metrics);
        for ufrag in seat.renamed.iter().chain([&seat.ufrag]) {
            self.by_ufrag.remove(ufrag);
        }
        self.common.directory.forget(&seat.ufrag);
        for address in &seat.addresses {
            if self.by_address.get(address) == Some(&number) {
                self.by_address.remove(address);
            }
        }
        if let Task::View(viewing) = &seat.task {
            self.leave(number, Arc::as_ptr(&viewing.broadcast) as usize);
        }
        seat.end(why);
    }
}
