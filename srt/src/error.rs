//! What goes wrong with listeners, callers and connections.

use std::net::SocketAddr;

use crate::raw::Failed;

/// Why there is no socket, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libsrt cannot do it: a port in use, too many sockets, no memory.
    #[error("SRT at {at}: {why}")]
    Local {
        /// Where it listens, or whom it calls.
        at: SocketAddr,
        /// What libsrt says.
        why: String,
    },
    /// The UDP port that is to be listened at is none.
    #[error("a UDP port for SRT: {0}")]
    Port(std::io::Error),
    /// The other side refuses the call: a wrong passphrase, a wrong stream id, or what it decides by.
    #[error("{peer} refuses the SRT connection: {why} (reason {reason})")]
    Refused {
        /// Who was called.
        peer: SocketAddr,
        /// The reason as SRT numbers it: 1000 to 1999 are SRT's, and among those from 1400 on it is an HTTP status and 1000.
        reason: i32,
        /// The same in words.
        why: String,
    },
    /// Nobody answers within the time for it.
    #[error("{peer} does not answer by SRT")]
    Silent {
        /// Who was called.
        peer: SocketAddr,
    },
    /// The connection is closed, or the peer has not been heard for too long.
    #[error("the SRT connection is over")]
    Over,
    /// A datagram is longer than the connection takes.
    #[error("a datagram of {0} bytes is too long for SRT")]
    TooLong(usize),
}

impl Error {
    pub(crate) fn local(at: SocketAddr, failed: &Failed) -> Self {
        Self::Local { at, why: failed.to_string() }
    }
}
