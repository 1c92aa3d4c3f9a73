//! Calls a listener elsewhere.

use std::net::SocketAddr;

use crate::options::{self, KeyLength, Options, Passphrase};
use crate::raw::{self, Failed, option, state};
use crate::reactor::Socket;
use crate::{Connection, Error};

/// SRT's number for a call that nobody answered in time, `SRT_REJ_TIMEOUT`.
const NO_ANSWER: i32 = 16;

/// Calls `peer` with a stream id. Within [`Options::connect`] it is connected or is told why not.
pub async fn connect(
    peer: SocketAddr,
    stream_id: &[u8],
    encryption: Option<(&Passphrase, KeyLength)>,
    options: &Options,
) -> Result<Connection, Error> {
    let failed = |failed: Failed| Error::local(peer, &failed);
    let socket = Socket::new(raw::create().map_err(failed)?).map_err(failed)?;
    options.set(socket.id).map_err(failed)?;
    if !stream_id.is_empty() {
        raw::set_text(socket.id, option::STREAMID, stream_id).map_err(failed)?;
    }
    if let Some((passphrase, length)) = encryption {
        options::set_passphrase(socket.id, passphrase).map_err(failed)?;
        options::set_key_length(socket.id, length).map_err(failed)?;
    }
    raw::connect(socket.id, peer).map_err(failed)?;
    let connecting = async {
        loop {
            match raw::state(socket.id) {
                state::CONNECTED => return true,
                state::CONNECTING => socket.written().await,
                _ => return false,
            }
        }
    };
    // libsrt keeps that time, too, and says more; but a lost wake-up must not be for ever.
    let connected = tokio::time::timeout(options.connect * 2, connecting).await;
    if connected == Ok(true) {
        return Ok(Connection::new(socket, peer, stream_id.to_owned()));
    }
    match raw::reject_reason(socket.id) {
        (0 | NO_ANSWER, _) => Err(Error::Silent { peer }),
        (reason, why) => Err(Error::Refused { peer, reason, why }),
    }
}
