//! A client's socket, whatever is spoken on it.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use super::sealed::Sealed;

/// How bytes get to a client and back.
pub(crate) enum Link {
    /// As they are.
    Plain(TcpStream),
    /// Under TLS.
    Sealed(Box<Sealed>),
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

impl Link {
    /// A connected socket in non-blocking mode.
    pub(crate) fn plain(socket: std::net::TcpStream) -> Self {
        Self::Plain(TcpStream::from_std(socket))
    }

    /// The same after a TLS handshake, when nothing is on its way any more between the two.
    pub(crate) fn sealed(socket: std::net::TcpStream, tls: ServerConnection) -> Self {
        Self::Sealed(Box::new(Sealed::new(socket, tls)))
    }

    /// Has the poll tell what can be read and written, each time that this changes.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Plain(socket) => registry.register(socket, token, both),
            Self::Sealed(sealed) => registry.register(&mut sealed.socket, token, both),
        }
    }

    /// The socket, where bytes go out as they are.
    pub(super) fn bare(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(socket) => Some(socket.as_fd()),
            Self::Sealed(_) => None,
        }
    }

    /// Writes once. Fewer bytes than given: there is room for no more, and the poll will say when there is.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Io {
        match self {
            Self::Plain(socket) => unbroken(|| socket.write(bytes)),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    /// The same for bytes in several places.
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Io {
        match self {
            Self::Plain(socket) => unbroken(|| socket.write_vectored(slices)),
            Self::Sealed(sealed) => sealed.write_all_of(slices),
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Io {
        match self {
            Self::Plain(socket) => unbroken(|| socket.read(buffer)),
            Self::Sealed(sealed) => sealed.read(buffer),
        }
    }

    /// Nothing more is written.
    pub(super) fn finish(&mut self) {
        match self {
            // Who is gone by now is noticed by reading.
            Self::Plain(socket) => drop(socket.shutdown(Shutdown::Write)),
            Self::Sealed(sealed) => sealed.finish(),
        }
    }
}

/// Does it again when a signal came between.
pub(super) fn unbroken(mut act: impl FnMut() -> io::Result<usize>) -> Io {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.into(),
        }
    }
}
