//! RTMP players. Where an origin is in the process its listener takes connections in and hands those over that want to
//! play; else the edge listens itself.

mod forward;
pub(crate) mod listener;

pub use forward::Ingests;

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use control_api::RESERVED_APPS;
use control_api::grant::Refused;
use control_api::trace::Span;
use http::StatusCode;
use media_core::hub::StreamKey;
use media_core::rtmp::Refusal;
use media_core::rtmp::server::{Event, Request, Session};
use tokio::net::TcpStream;

use crate::fanout::{Format, Over, RTMP_MESSAGE_STREAM};
use crate::feed::{self, Viewer};
use crate::guard::{Denial, Guard, Record, Seat};
use crate::http::{Shared, denied_with, refused_with};
use crate::places::network;
use crate::sessions::Arriving;
use crate::shard::{Arrival, Guest, Latency, Leave, Link, Protocol, Transport, Window, Wish};
use crate::sound::Wanted;
use crate::traced::Asking;

/// An RTMP connection whose client asked to play, and waits for the answer.
pub struct Play {
    /// Its socket. All that was read of it has been given to the session.
    pub socket: TcpStream,
    /// Who it is.
    pub peer: SocketAddr,
    /// The session, with what it still has to send.
    pub session: Session,
    /// What it wants to play.
    pub request: Request,
    /// Dropped when the player has left.
    pub hold: Box<dyn Send>,
}

/// What is held for a player until it has left.
struct Held {
    hold: Box<dyn Send>,
    seat: Option<Seat>,
    record: Option<Record>,
    /// Its span, until it was sent something.
    play: Option<Span>,
}

impl Guest for Held {
    fn begun(&mut self) {
        self.play = None;
    }

    fn so_far(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.so_far(bytes);
        }
    }

    fn left(self: Box<Self>, bytes: u64, why: Leave) {
        let Self { hold, seat, record, .. } = *self;
        if let Some(record) = record {
            record.left(bytes, why);
        }
        drop((seat, hold));
    }
}

/// Lets a player in, or tells it why not.
pub(crate) async fn serve(shared: &Shared, play: Play) {
    let Play { socket, peer, mut session, request, hold } = play;
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY can't be set");
    }
    let mut record = shared.guard.record_rtmp(peer, &request);
    let mut asking = None;
    let entered = enter(shared, peer, &request, record.as_mut(), &mut asking).await;
    let (status, relay) = match &entered {
        Ok(entered) => (StatusCode::OK, entered.viewer.trace()),
        Err(TurnedAway { status, .. }) => (*status, None),
    };
    let play = asking.map(|asking| asking.answered(status, relay.as_ref()));
    let (viewer, (window, until), said) = match entered {
        Ok(entered) => {
            if let Some(record) = &mut record {
                record.status(StatusCode::OK.as_u16());
            }
            let said = session.accept_play(request.id);
            (Some((entered.viewer, entered.seat)), (entered.window, entered.until), said)
        }
        Err(TurnedAway { status, refusal }) => {
            if let Some(record) = &mut record {
                record.status(status.as_u16());
            }
            (None, (Window::Frame, None), session.refuse(request.id, &refusal))
        }
    };
    let (viewer, seat) = viewer.unzip();
    let protocol = Box::new(Player::new(session, request.id, said.is_err()));
    match socket.into_std() {
        Ok(socket) => {
            let transport = Transport::Rtmp;
            shared.shards.admit(Arrival {
                link: Link::plain(socket),
                transport,
                head: Bytes::new(),
                viewer,
                protocol,
                window,
                until,
                guard: Box::new(Held { hold, seat, record, play }),
            });
        }
        Err(error) => tracing::warn!(%peer, %error, "a player's socket can't be moved"),
    }
}

/// A player who may watch.
struct Entered {
    viewer: Viewer,
    seat: Seat,
    window: Window,
    /// When its grant expires.
    until: Option<Instant>,
}

/// One who may not.
struct TurnedAway {
    /// What HTTP would say, and the access log does.
    status: StatusCode,
    refusal: Refusal,
}

impl TurnedAway {
    fn bad(refusal: Refusal) -> Self {
        Self { status: StatusCode::BAD_REQUEST, refusal }
    }
}

impl From<Denial> for TurnedAway {
    fn from(denial: Denial) -> Self {
        let missing = denial == Denial::Grant(Refused::Missing);
        let how = if missing { ": add ?token=… to the stream name" } else { "" };
        Self { status: denied_with(denial), refusal: Refusal::play_failed(format!("{denial}{how}")) }
    }
}

impl From<feed::Refusal> for TurnedAway {
    fn from(refusal: feed::Refusal) -> Self {
        let said = match refusal {
            feed::Refusal::Absent => Refusal::not_found(refusal.to_string()),
            feed::Refusal::Unavailable | feed::Refusal::Away | feed::Refusal::Full => {
                Refusal::play_failed(refusal.to_string())
            }
        };
        Self { status: refused_with(refusal), refusal: said }
    }
}

/// A seat for the player, or what it is told.
async fn enter(
    shared: &Shared,
    peer: SocketAddr,
    request: &Request,
    record: Option<&mut Record>,
    asking: &mut Option<Box<Asking>>,
) -> Result<Entered, TurnedAway> {
    if request.id != RTMP_MESSAGE_STREAM {
        let refusal = Refusal::play_failed("Play on the first message stream of a connection.");
        return Err(TurnedAway::bad(refusal));
    }
    let key = StreamKey::parse(&request.app, &request.name, RESERVED_APPS)
        .map_err(|error| TurnedAway::bad(Refusal::not_found(error.to_string())))?;
    *asking = Asking::new(shared.feeds.tracer(), "rtmp", &key, None);
    let guard = &shared.guard;
    // Where an origin takes in publishers by the same listener, players were not asked before.
    guard.may_connect(peer.ip())?;
    guard.may_ask(network(peer.ip()))?;
    let claims = guard.may_play(&key, request.param("token").as_deref(), peer.ip())?;
    if let Some(record) = record {
        record.asked("rtmp", Some(key.as_str()));
        let number = guard.session(peer.ip(), request.connect.flash_ver.as_bytes(), key.as_str(), false);
        record.session(claims.as_ref().and_then(|claims| claims.sid.as_deref()), number);
    }
    let seat = guard.seat(shared.hls.all_viewers())?;
    let name = claims.as_ref().and_then(|claims| claims.sid.as_deref());
    let query = Some(&*request.query);
    let arriving = Arriving { key: &key, protocol: "rtmp", address: peer.ip(), name, query };
    let session = shared.sessions.enter(arriving).await.map_err(|turned_away| {
        let status = denied_with(shared.guard.turned_away());
        TurnedAway { status, refusal: Refusal::play_failed(turned_away.0) }
    })?;
    let seat = seat.of(session);
    let latency = Latency::parse(request.param("latency").as_deref(), shared.feeds.latency(&key))
        .map_err(|error| TurnedAway::bad(Refusal::play_failed(error.to_string())))?;
    let sound = Wanted::parse(request.param("audio").as_deref())
        .map_err(|error| TurnedAway::bad(Refusal::play_failed(error.to_string())))?;
    let hls = shared.hls.viewers(&key);
    let viewer = shared.feeds.join(&key, Format::Rtmp, (latency.start, sound), hls).await?;
    let until = claims.as_deref().and_then(Guard::until);
    Ok(Entered { viewer, seat, window: latency.window, until })
}

/// The session of a player who watches, or who is being refused.
struct Player {
    session: Session,
    id: u32,
    /// The client broke the protocol or wants no more.
    over: bool,
    paused: bool,
    resumed: bool,
}

impl Player {
    fn new(session: Session, id: u32, over: bool) -> Self {
        Self { session, id, over, paused: false, resumed: false }
    }
}

impl Protocol for Player {
    fn input(&mut self, now: Instant, bytes: &[u8]) {
        if let Err(error) = self.session.handle_input(now, bytes) {
            tracing::debug!(%error, "RTMP player");
            self.over = true;
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Stopped => self.over = true,
                Event::Paused(paused) => {
                    self.resumed |= self.paused && !paused;
                    self.paused = paused;
                }
                _ => {}
            }
        }
    }

    fn output(&mut self) -> Option<Bytes> {
        self.session.poll_output()
    }

    fn end(&mut self, over: Over) {
        let why = match over {
            Over::Ended => None,
            Over::Lagged | Over::Stalled => Some("The line is too slow for the stream."),
            Over::Paused => Some("The pause was too long."),
            Over::Expired => Some("The grant has expired."),
        };
        let said = match why {
            None => self.session.end_play(),
            Some(why) => self.session.refuse(self.id, &Refusal::play_failed(why)),
        };
        self.over |= said.is_err();
    }

    fn wish(&mut self) -> Wish {
        if self.over || self.session.is_closed() {
            Wish::Leave
        } else if self.paused {
            Wish::Pause
        } else if std::mem::take(&mut self.resumed) {
            Wish::Resume
        } else {
            Wish::Play
        }
    }
}
