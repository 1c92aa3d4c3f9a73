//! A connection: datagrams both ways.

use std::net::SocketAddr;

use crate::raw;
use crate::reactor::Socket;
use crate::{Error, Stats};

/// What is sent at once: seven packets of MPEG-TS, as live mode has it (`SRT_LIVE_DEF_PLSIZE`).
pub const PAYLOAD_BYTES: usize = 1316;

/// No datagram that is received is longer: an Ethernet frame less the headers of IPv4, UDP and SRT
/// (`SRT_LIVE_MAX_PLSIZE`), rounded up.
pub const MAX_DATAGRAM_BYTES: usize = 1500;

/// An SRT connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    peer: SocketAddr,
    stream_id: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(socket: Socket, peer: SocketAddr, stream_id: Vec<u8>) -> Self {
        Self { socket, peer, stream_id }
    }

    /// Whose it is.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The caller's stream id, as it sent it: 512 bytes at most, of any kind.
    pub fn stream_id(&self) -> &[u8] {
        &self.stream_id
    }

    /// Takes the next datagram, when its time has come; how many bytes. Cancel it as you like. One task may wait at a time.
    pub async fn recv(&self, room: &mut [u8; MAX_DATAGRAM_BYTES]) -> Result<usize, Error> {
        self.socket.reading(|id| raw::recv(id, room)).await.map_err(|_| Error::Over)
    }

    /// Takes a datagram that is there already; `None`: none is.
    pub fn try_recv(&self, room: &mut [u8; MAX_DATAGRAM_BYTES]) -> Result<Option<usize>, Error> {
        match raw::recv(self.socket.id, room) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(failed) if failed.would_block() => Ok(None),
            Err(_) => Err(Error::Over),
        }
    }

    /// Sends a datagram of at most [`PAYLOAD_BYTES`], as soon as there is room. What the receiver takes too slowly is
    /// dropped before it is sent, and counted.
    pub async fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        if datagram.len() > PAYLOAD_BYTES {
            return Err(Error::TooLong(datagram.len()));
        }
        self.socket.writing(|id| raw::send(id, datagram)).await.map_err(|_| Error::Over)
    }

    /// Whether it goes on.
    pub fn is_connected(&self) -> bool {
        raw::state(self.socket.id) == raw::state::CONNECTED
    }

    /// What is known of its line; nothing of a connection that is over.
    pub fn stats(&self) -> Option<Stats> {
        raw::trace(self.socket.id).ok().map(Stats::from)
    }
}
