//! When bytes arrived, as the kernel noted it: a reader that is late, because it shares the machine with the server and
//! with all other readers, does not count.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// Has the kernel note when what a socket receives arrives (socket(7), SO_TIMESTAMPNS).
pub(super) fn note(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
}

/// Reads once: how many bytes, and how long the last of them has been here.
pub(super) fn read(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Duration)> {
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let (flags, socket) = (MsgFlags::empty(), socket.as_raw_fd());
    let message = recvmsg::<SockaddrStorage>(socket, &mut slices, Some(&mut control), flags)?;
    let at = message.cmsgs()?.find_map(|said| match said {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    });
    // An end has none.
    let ago = at
        .and_then(|at| (SystemTime::now() - Duration::from(at)).duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok((message.bytes, ago.unwrap_or_default()))
}
