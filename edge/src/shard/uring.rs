//! A flush to many sockets in one system call, by io_uring (io_uring_enter(2)).
//!
//! The only unsafe code of the crate: the kernel is given an address, and reads there until it says that it is done.
//! So nothing here returns before the kernel has said so for all that it was given. Sends don't wait for room
//! (`MSG_DONTWAIT`): each is done, or refused, while it is submitted.
#![allow(unsafe_code, reason = "entries of a submission queue hold addresses, whose life no type can tell")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::Bytes;
use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode};

use super::link::Io;

/// Sends in one system call. What completes them waits in a queue of twice that size, so it can't overflow.
const BATCH: u32 = 256;

/// How often a submission that the kernel has no room for is tried again.
const MAX_TRIES: u32 = 100;

/// A submission queue and what comes back of it. For the thread that made it.
pub(super) struct Uring {
    ring: IoUring,
    /// It failed, and is used no more.
    broken: bool,
}

impl Uring {
    /// Fails where the kernel has no io_uring, or not for us.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(BATCH)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, broken: false })
    }

    /// Sends the same to all sockets. What became of each is appended to `outcomes`, `None` where nothing was tried.
    pub(super) fn send<'fd>(
        &mut self,
        bytes: &Bytes,
        sockets: impl Iterator<Item = Option<BorrowedFd<'fd>>>,
        outcomes: &mut Vec<Option<Io>>,
    ) {
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        let mut sockets = sockets.peekable();
        while sockets.peek().is_some() {
            let mut pushed = 0;
            for socket in sockets.by_ref().take(BATCH as usize) {
                let sent = socket.is_some_and(|socket| self.push(bytes, len, socket, outcomes.len()));
                pushed += usize::from(sent);
                // Until the kernel says otherwise, nobody knows how much of it the client has.
                outcomes.push(sent.then_some(Io::Gone));
            }
            self.complete(pushed, bytes, outcomes);
        }
    }

    /// Whether the kernel is to be given this one.
    fn push(&mut self, bytes: &Bytes, len: u32, socket: BorrowedFd<'_>, at: usize) -> bool {
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), len)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(at as u64);
        // SAFETY: the descriptor is open and the bytes are there until `send` returns, for which both are borrowed.
        // It returns when `complete` has seen the kernel's answer to each entry; or, if answers can't be had, after the
        // bytes were made to stay for ever and the queue was given up.
        !self.broken && unsafe { self.ring.submission().push(&entry) }.is_ok()
    }

    /// Has the kernel do what was pushed, and notes its answers.
    fn complete(&mut self, pushed: usize, bytes: &Bytes, outcomes: &mut [Option<Io>]) {
        let (mut left, mut tries) = (pushed, 0);
        while left > 0 {
            match self.ring.submit_and_wait(left) {
                Err(error) if is_passing(&error) && tries < MAX_TRIES => tries += 1,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "io_uring failed; viewers are sent to one by one");
                    self.broken = true;
                    std::mem::forget(bytes.clone());
                    return;
                }
                _ => {}
            }
            for answer in self.ring.completion() {
                left = left.saturating_sub(1);
                let at = usize::try_from(answer.user_data()).unwrap_or(usize::MAX);
                if let Some(outcome) = outcomes.get_mut(at) {
                    *outcome = Some(outcome_of(answer.result()));
                }
            }
        }
    }
}

/// The kernel is short of memory, or wants its answers taken first (io_uring_enter(2)).
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM))
}

/// Bytes, or an error number below zero.
fn outcome_of(result: i32) -> Io {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)).into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Where there is no io_uring there is nothing to test, and `send` does the work.
    fn uring() -> Option<Uring> {
        Uring::new().inspect_err(|error| tracing::warn!(%error, "no io_uring here")).ok()
    }

    #[test]
    fn all_are_sent_the_same_and_who_can_t_take_it_is_told_apart() {
        let Some(mut uring) = uring() else { return };
        let mut pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
        // The 7th is full, the 300th gone; the 400th is not for the ring.
        pairs[7].0.set_nonblocking(true).unwrap();
        while pairs[7].0.write(&[0; 4096]).is_ok() {}
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        pairs[300].0 = near;
        let bytes = Bytes::from_static(b"a picture and the sound before it");
        let sockets = pairs.iter().enumerate().map(|(n, pair)| (n != 400).then(|| pair.0.as_fd()));
        let mut outcomes = Vec::new();
        uring.send(&bytes, sockets, &mut outcomes);
        assert_eq!(outcomes.len(), pairs.len());
        for (n, (pair, outcome)) in pairs.iter_mut().zip(outcomes).enumerate() {
            let expected = match n {
                7 => Some(Io::Later),
                300 => Some(Io::Gone),
                400 => None,
                _ => Some(Io::Done(bytes.len())),
            };
            assert_eq!(outcome, expected, "{n}");
            if let Some(Io::Done(len)) = outcome {
                let mut got = vec![0; len];
                pair.1.read_exact(&mut got).unwrap();
                assert_eq!(got, bytes);
            }
        }
    }

    #[test]
    fn who_has_room_for_a_part_is_sent_a_part() {
        let Some(mut uring) = uring() else { return };
        let (near, mut far) = UnixStream::pair().unwrap();
        let bytes: Bytes = (0..=255).cycle().take(8 << 20).collect();
        let mut outcomes = Vec::new();
        uring.send(&bytes, std::iter::once(Some(near.as_fd())), &mut outcomes);
        drop(near);
        let [Some(Io::Done(len))] = outcomes[..] else { panic!("{outcomes:?}") };
        assert!(len < bytes.len());
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert!(got == bytes[..len]);
    }
}
