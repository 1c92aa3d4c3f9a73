//! One client's socket, and what is on its way to it.

use std::io::{self, Read, Write};
use std::time::Instant;

use bytes::{Buf, Bytes};
use mio::net::TcpStream;

use super::{Protocol, Transport};
use crate::feed::Viewer;

/// Where a client stands in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// With those of its group who have all there is, at that index.
    Riding(usize),
    /// With those of its group who wait for something else than room in their socket, at that index.
    Waiting(usize),
    /// Its socket is full, since then.
    Blocked(Instant),
    /// It was given as much as one may have at once, and goes on in the next round.
    Queued,
    /// All is said; it has until then to hang up.
    Leaving(Instant),
}

/// A client of a shard.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) transport: Transport,
    /// What is left of what is being sent.
    pub(super) sending: Bytes,
    pub(super) viewer: Option<Viewer>,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) group: Option<usize>,
    pub(super) place: Place,
    /// What its last words made the protocol answer.
    pub(super) reply: Option<Bytes>,
    /// What is being sent answers the client, who is not listened to until it was sent.
    pub(super) replying: bool,
    /// It may have sent something that was not read yet.
    pub(super) readable: bool,
    pub(super) paused_since: Option<Instant>,
    /// No more of the stream comes.
    pub(super) over: bool,
    /// Dropped last.
    pub(super) _guard: Box<dyn Send>,
}

/// What became of a write or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Io {
    /// So many bytes.
    Done(usize),
    /// Not now.
    Later,
    /// The client is gone.
    Gone,
}

impl From<io::Result<usize>> for Io {
    fn from(result: io::Result<usize>) -> Self {
        match result {
            Ok(0) => Self::Gone,
            Ok(len) => Self::Done(len),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Self::Later,
                _ => Self::Gone,
            },
        }
    }
}

impl Client {
    /// Writes once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Io {
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.into(),
            }
        }
    }

    /// Writes of what is left once.
    pub(super) fn write_on(&mut self) -> Io {
        loop {
            match self.socket.write(&self.sending) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let io = result.into();
                    if let Io::Done(len) = io {
                        self.sending.advance(len);
                    }
                    return io;
                }
            }
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Io {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.into(),
            }
        }
    }
}
