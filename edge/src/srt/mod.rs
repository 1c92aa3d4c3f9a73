//! SRT players. Where an origin is in the process its listener takes connections in and hands those over that want to
//! play; else the edge listens itself.

pub(crate) mod listener;
mod player;

use std::net::SocketAddr;
use std::time::Instant;

use control_api::RESERVED_APPS;
use control_api::trace::Span;
use http::StatusCode;
use media_core::hub::StreamKey;
use srt::stream_id::StreamId;
use srt::{Connection, Reject};
use tokio::sync::watch;

use crate::config::SrtConfig;
use crate::fanout::Format;
use crate::feed::Viewer;
use crate::guard::{Denial, Guard, Record, Seat};
use crate::http::{Shared, denied_with, refused_with};
use crate::places::network;
use crate::sessions::Arriving;
use crate::shard::{Latency, Leave};
use crate::sound::Wanted;
use crate::traced::Asking;

/// What they are called in the API and in the log.
const PROTOCOL: &str = "srt";

/// An SRT connection whose caller wants to play.
pub struct SrtPlay {
    /// The connection.
    pub connection: Connection,
    /// What it wants to play.
    pub stream_id: StreamId,
    /// Dropped when the player has left.
    pub hold: Box<dyn Send>,
}

/// What SRT players share.
pub(crate) struct Players {
    pub(crate) config: SrtConfig,
    /// Whether those who are left are hung up on.
    pub(crate) cut: watch::Sender<bool>,
}

impl Players {
    pub(crate) fn new(config: SrtConfig) -> Self {
        Self { config, cut: watch::Sender::new(false) }
    }
}

/// Whether a caller may play, as far as it can be said at once: its address and its grant. In words for SRT.
pub(crate) fn may(shared: &Shared, peer: SocketAddr, id: &StreamId) -> Result<(), Reject> {
    let address = peer.ip().to_canonical();
    let key = StreamKey::parse(&id.app, &id.name, RESERVED_APPS).map_err(|_| Reject::BAD_REQUEST)?;
    shared.guard.may_connect(address).map_err(|_| Reject::FORBIDDEN)?;
    shared.guard.may_play(&key, id.param("token"), address).map_err(|_| Reject::UNAUTHORIZED)?;
    Ok(())
}

/// A player who may watch.
struct Entered {
    viewer: Viewer,
    seat: Seat,
    /// When its grant expires.
    until: Option<Instant>,
}

/// One who may not: what HTTP would say, and why.
struct TurnedAway(StatusCode, String);

/// Serves a player until it leaves, or turns it away.
pub(crate) async fn serve(shared: &Shared, play: SrtPlay) {
    let SrtPlay { connection, stream_id, hold } = play;
    let peer = connection.peer();
    let mut record = shared.guard.record_srt(peer, &stream_id);
    let mut asking = None;
    let entered = enter(shared, peer, &stream_id, record.as_mut(), &mut asking).await;
    let (status, relay) = match &entered {
        Ok(entered) => (StatusCode::OK, entered.viewer.trace()),
        Err(TurnedAway(status, _)) => (*status, None),
    };
    let span: Option<Span> = asking.map(|asking: Box<Asking>| asking.answered(status, relay.as_ref()));
    if let Some(record) = &mut record {
        record.status(status.as_u16());
    }
    match entered {
        Ok(entered) => {
            let (bytes, why) = player::play(shared, &connection, entered, record.as_mut(), span).await;
            if let Some(record) = record {
                record.left(bytes, why);
            }
        }
        Err(TurnedAway(_, why)) => {
            // SRT has no word for it once the handshake is done.
            tracing::debug!(%peer, app = ?stream_id.app, name = ?stream_id.name, "SRT player refused: {why}");
            if let Some(record) = record {
                record.left(0, Leave::Done);
            }
        }
    }
    drop((connection, hold));
}

/// A seat for the player, or why there is none.
async fn enter(
    shared: &Shared,
    peer: SocketAddr,
    id: &StreamId,
    record: Option<&mut Record>,
    asking: &mut Option<Box<Asking>>,
) -> Result<Entered, TurnedAway> {
    let bad = |error: String| TurnedAway(StatusCode::BAD_REQUEST, error);
    let key = StreamKey::parse(&id.app, &id.name, RESERVED_APPS).map_err(|error| bad(error.to_string()))?;
    *asking = Asking::new(shared.feeds.tracer(), PROTOCOL, &key, None);
    let guard = &shared.guard;
    let address = peer.ip().to_canonical();
    let denied = |denial: Denial| TurnedAway(denied_with(denial), format!("{denial}"));
    guard.may_connect(address).map_err(denied)?;
    guard.may_ask(network(address)).map_err(denied)?;
    let claims = guard.may_play(&key, id.param("token"), address).map_err(denied)?;
    let name = claims.as_ref().and_then(|claims| claims.sid.as_deref());
    if let Some(record) = record {
        record.asked(PROTOCOL, Some(key.as_str()));
        record.session(name, guard.session(address, b"", key.as_str(), false));
    }
    let seat = guard.seat(shared.hls.all_viewers()).map_err(denied)?;
    let query = id.query();
    let arriving = Arriving { key: &key, protocol: PROTOCOL, address, name, query: Some(&query) };
    let session = shared.sessions.enter(arriving).await;
    let session =
        session.map_err(|turned_away| TurnedAway(denied_with(guard.turned_away()), turned_away.0))?;
    let seat = seat.of(session);
    // `low` begins at the live edge; how long a flush waits is nothing that a player of datagrams would notice.
    let latency = Latency::parse(id.param("latency"), shared.feeds.latency(&key))
        .map_err(|error| bad(error.to_string()))?;
    let sound = Wanted::parse(id.param("audio")).map_err(|error| bad(error.to_string()))?;
    let hls = shared.hls.viewers(&key);
    let joined = shared.feeds.join(&key, Format::Srt, (latency.start, sound), hls).await;
    let viewer = joined.map_err(|refusal| TurnedAway(refused_with(refusal), refusal.to_string()))?;
    let until = claims.as_deref().and_then(Guard::until);
    Ok(Entered { viewer, seat, until })
}
