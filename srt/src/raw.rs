//! libsrt's functions, each called in one place and with what it may be called with.
//!
//! The only unsafe code of the crate. Sockets are numbers that libsrt looks up: one that is closed already is an error and
//! no danger. What is handed to it lives in the calling function until the call returns; it keeps a pointer to the
//! callback only, which is a function.

#![allow(unsafe_code, reason = "libsrt is a C library")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::IntoRawFd;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::{io, mem};

use socket2::SockAddr;

/// A socket of libsrt's.
pub(crate) type Id = i32;

/// `SRT_INVALID_SOCK` and `SRT_ERROR`.
const FAILED: c_int = -1;

/// Options of sockets, `SRT_SOCKOPT`.
pub(crate) mod option {
    pub(crate) const SNDSYN: i32 = 1;
    pub(crate) const RCVSYN: i32 = 2;
    pub(crate) const LATENCY: i32 = 23;
    pub(crate) const PASSPHRASE: i32 = 26;
    pub(crate) const PBKEYLEN: i32 = 27;
    pub(crate) const TLPKTDROP: i32 = 31;
    pub(crate) const CONNTIMEO: i32 = 36;
    pub(crate) const STREAMID: i32 = 46;
    pub(crate) const PEERIDLETIMEO: i32 = 55;
}

/// What can be waited for, `SRT_EPOLL_OPT`.
pub(crate) mod event {
    pub(crate) const IN: i32 = 0x1;
    pub(crate) const OUT: i32 = 0x4;
    pub(crate) const ERR: i32 = 0x8;
    pub(crate) const EDGE: i32 = i32::MIN; // 1u << 31
}

/// States of sockets, `SRT_SOCKSTATUS`.
pub(crate) mod state {
    pub(crate) const LISTENING: i32 = 3;
    pub(crate) const CONNECTING: i32 = 4;
    pub(crate) const CONNECTED: i32 = 5;
}

/// Errors that are none: there is nothing to receive, or no room to send, at the moment.
pub(crate) const WOULD_BLOCK: [i32; 2] = [6001, 6002];

/// `LOG_CRIT` of syslog: what libsrt says beyond that is about peers, who could fill a disk with it.
const LOG_LEVEL: c_int = 2;

/// What happened to a socket, `SRT_EPOLL_EVENT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Event {
    pub(crate) id: Id,
    pub(crate) events: c_int,
}

/// `SRT_TRACEBSTATS`, as far as it is used, in the layout of libsrt 1.5.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trace {
    pub(crate) ms_time_stamp: i64,
    pub(crate) pkt_sent_total: i64,
    pub(crate) pkt_recv_total: i64,
    pub(crate) pkt_snd_loss_total: c_int,
    pub(crate) pkt_rcv_loss_total: c_int,
    pub(crate) pkt_retrans_total: c_int,
    acks_and_naks: [c_int; 4],
    us_snd_duration_total: i64,
    pub(crate) pkt_snd_drop_total: c_int,
    pub(crate) pkt_rcv_drop_total: c_int,
    pub(crate) pkt_rcv_undecrypt_total: c_int,
    pub(crate) byte_sent_total: u64,
    pub(crate) byte_recv_total: u64,
    bytes_total: [u64; 5],
    // Since the last call that cleared them.
    pkt_sent: i64,
    pkt_recv: i64,
    pkt_snd_loss: c_int,
    pkt_rcv_loss: c_int,
    pkt_retrans: c_int,
    pub(crate) pkt_rcv_retrans: c_int,
    local_acks_and_naks: [c_int; 4],
    mbps_send_rate: f64,
    mbps_recv_rate: f64,
    us_snd_duration: i64,
    pkt_reorder_distance: c_int,
    pkt_rcv_avg_belated_time: f64,
    pub(crate) pkt_rcv_belated: i64,
    local_drops: [c_int; 3],
    local_bytes: [u64; 7],
    // At the moment.
    us_pkt_snd_period: f64,
    windows: [c_int; 3],
    pub(crate) ms_rtt: f64,
    mbps_bandwidth: f64,
    byte_avail_snd_buf: c_int,
    byte_avail_rcv_buf: c_int,
    mbps_max_bw: f64,
    byte_mss: c_int,
    pkt_snd_buf: c_int,
    pub(crate) byte_snd_buf: c_int,
    pub(crate) ms_snd_buf: c_int,
    ms_snd_tsbpd_delay: c_int,
    pkt_rcv_buf: c_int,
    pub(crate) byte_rcv_buf: c_int,
    pub(crate) ms_rcv_buf: c_int,
    pub(crate) ms_rcv_tsbpd_delay: c_int,
    filters: [c_int; 9],
    unique: [u64; 8],
    /// Room for what later versions append.
    spare: [u64; 32],
}

/// Decides about a caller: gets its socket, its address and its stream id, and refuses by an `Err` with a reason.
pub(crate) type Hook = fn(hook: usize, id: Id, peer: SocketAddr, stream_id: &[u8]) -> Result<(), i32>;

type HookFn = extern "C" fn(*mut c_void, Id, c_int, *const c_void, *const c_char) -> c_int;

unsafe extern "C" {
    fn srt_startup() -> c_int;
    fn srt_cleanup() -> c_int;
    fn srt_setloglevel(level: c_int);
    fn srt_create_socket() -> Id;
    fn srt_close(id: Id) -> c_int;
    fn srt_bind_acquire(id: Id, socket: c_int) -> c_int;
    fn srt_listen(id: Id, backlog: c_int) -> c_int;
    fn srt_listen_callback(id: Id, hook: HookFn, opaque: *mut c_void) -> c_int;
    fn srt_accept(id: Id, name: *mut c_void, len: *mut c_int) -> Id;
    fn srt_connect(id: Id, name: *const c_void, len: c_int) -> c_int;
    fn srt_setsockflag(id: Id, option: c_int, value: *const c_void, len: c_int) -> c_int;
    fn srt_getsockflag(id: Id, option: c_int, value: *mut c_void, len: *mut c_int) -> c_int;
    fn srt_sendmsg(id: Id, bytes: *const c_char, len: c_int, ttl_ms: c_int, in_order: c_int) -> c_int;
    fn srt_recvmsg(id: Id, bytes: *mut c_char, len: c_int) -> c_int;
    fn srt_getsockstate(id: Id) -> c_int;
    fn srt_bistats(id: Id, trace: *mut Trace, clear: c_int, instantaneous: c_int) -> c_int;
    fn srt_getlasterror(errno: *mut c_int) -> c_int;
    fn srt_getlasterror_str() -> *const c_char;
    fn srt_getrejectreason(id: Id) -> c_int;
    fn srt_setrejectreason(id: Id, reason: c_int) -> c_int;
    fn srt_rejectreason_str(reason: c_int) -> *const c_char;
    fn srt_epoll_create() -> c_int;
    fn srt_epoll_release(epoll: c_int) -> c_int;
    fn srt_epoll_set(epoll: c_int, flags: i32) -> i32;
    fn srt_epoll_add_usock(epoll: c_int, id: Id, events: *const c_int) -> c_int;
    fn srt_epoll_remove_usock(epoll: c_int, id: Id) -> c_int;
    fn srt_epoll_uwait(epoll: c_int, events: *mut Event, len: c_int, timeout_ms: i64) -> c_int;
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{said}")]
pub(crate) struct Failed {
    pub(crate) code: i32,
    said: String,
}

impl Failed {
    /// Of the call before, in this thread.
    fn last() -> Self {
        let mut errno = 0;
        // SAFETY: it writes a number.
        let code = unsafe { srt_getlasterror(&mut errno) };
        // Nobody reads what is said of each datagram that is not there yet.
        let said = if WOULD_BLOCK.contains(&code) {
            String::new()
        } else {
            // SAFETY: a string of this thread's, which the next call may change; it is copied here.
            unsafe { text(srt_getlasterror_str()) }
        };
        Self { code, said }
    }

    /// There is nothing to do it with at the moment.
    pub(crate) fn would_block(&self) -> bool {
        WOULD_BLOCK.contains(&self.code)
    }
}

/// # Safety
/// Null, or a string that stays as it is during the call.
unsafe fn text(said: *const c_char) -> String {
    if said.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(said) }.to_string_lossy().into_owned()
}

fn done(returned: c_int) -> Result<(), Failed> {
    if returned == FAILED { Err(Failed::last()) } else { Ok(()) }
}

fn len(bytes: usize) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}

/// What libsrt asks whether a packet filter may be (`FECFilterBuiltin::verifyConfig`), which callers choose: none may. Its own
/// answer lets a caller allocate gigabytes with one handshake. The build makes libsrt's a weak symbol, so that this is the one.
#[cfg(srt_without_filters)]
#[unsafe(export_name = "_ZN3srt16FECFilterBuiltin12verifyConfigERKNS_15SrtFilterConfigERNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE")]
extern "C" fn refuse_filter(_config: *const c_void, _error: *mut c_void) -> bool {
    false
}

fn started() -> Result<(), Failed> {
    // Or the linker would not look at it.
    #[cfg(srt_without_filters)]
    std::hint::black_box(refuse_filter as extern "C" fn(*const c_void, *mut c_void) -> bool);
    static STARTED: OnceLock<Result<(), Failed>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // SAFETY: it starts threads, once for the process.
            done(unsafe { srt_startup() })?;
            // SAFETY: it takes a number.
            unsafe { srt_setloglevel(LOG_LEVEL) };
            Ok(())
        })
        .clone()
}

/// Closes all sockets and ends all threads of libsrt's. What is called afterwards fails.
pub(crate) fn cleanup() {
    // SAFETY: it takes nothing, and its threads are done when it returns.
    unsafe { srt_cleanup() };
}

pub(crate) fn create() -> Result<Id, Failed> {
    started()?;
    // SAFETY: it takes nothing.
    let id = unsafe { srt_create_socket() };
    done(id).map(|()| id)
}

/// May wait for threads of libsrt's to see that it is closed.
pub(crate) fn close(id: Id) {
    // SAFETY: it takes a number. That the socket was closed before is no failure here.
    unsafe { srt_close(id) };
}

/// Takes a UDP socket over, which is closed with the last SRT socket that uses it.
pub(crate) fn bind_over(id: Id, socket: UdpSocket) -> Result<(), Failed> {
    let file = socket.into_raw_fd();
    // SAFETY: a file that is open and nobody else's any more.
    // Where that fails nobody can tell whether libsrt has closed it: it is not closed here, as it may be another by then.
    done(unsafe { srt_bind_acquire(id, file) })
}

pub(crate) fn connect(id: Id, to: SocketAddr) -> Result<(), Failed> {
    let to = SockAddr::from(to);
    // SAFETY: an address and its length, which it copies.
    done(unsafe { srt_connect(id, to.as_ptr().cast(), c_int::try_from(to.len()).unwrap_or(0)) })
}

/// Waits for callers; `hook` is asked about each, with the number given here, in a thread of libsrt's.
pub(crate) fn listen(id: Id, backlog: i32, hook: usize) -> Result<(), Failed> {
    // SAFETY: a function that lives as long as the program, and a number in the place of a pointer.
    done(unsafe { srt_listen_callback(id, ask, std::ptr::without_provenance_mut(hook)) })?;
    // SAFETY: it takes numbers.
    done(unsafe { srt_listen(id, backlog) })
}

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Sets who is asked about callers. Once for the process.
pub(crate) fn hook(hook: Hook) {
    // Whoever is first stays; there is one.
    let _ = HOOK.set(hook);
}

/// What `listen` has libsrt call for each caller: 0 lets it in.
extern "C" fn ask(
    opaque: *mut c_void,
    id: Id,
    _version: c_int,
    peer: *const c_void,
    stream_id: *const c_char,
) -> c_int {
    // A panic must not run through frames that are not Rust's.
    let said = catch_unwind(|| {
        let peer = address(|storage, len| {
            // SAFETY: libsrt gives an address of the family that stands in it, whose length it does not tell: for one of
            // IPv4 16 bytes are there, for one of IPv6 28, and the room is larger.
            unsafe {
                let family = peer.cast::<u16>().read_unaligned();
                *len = if i32::from(family) == AF_INET6 { 28 } else { 16 };
                let bytes = usize::try_from(*len).unwrap_or(0);
                storage.cast::<u8>().copy_from_nonoverlapping(peer.cast::<u8>(), bytes);
            }
            Ok(())
        })?;
        let stream_id = if stream_id.is_null() {
            &[][..]
        } else {
            // SAFETY: a string that ends in a zero and outlives this call.
            unsafe { CStr::from_ptr(stream_id) }.to_bytes()
        };
        HOOK.get().map(|hook| hook(opaque.addr(), id, peer, stream_id))
    });
    match said {
        Ok(Some(Ok(()))) => 0,
        Ok(Some(Err(reason))) => {
            // SAFETY: it takes numbers.
            unsafe { srt_setrejectreason(id, reason) };
            FAILED
        }
        Ok(None) | Err(_) => FAILED,
    }
}

/// Linux's.
const AF_INET6: i32 = 10;

/// An address that `write` writes.
fn address(write: impl FnOnce(*mut c_void, *mut c_int) -> Result<(), Failed>) -> Option<SocketAddr> {
    // SAFETY: `write` writes an address of no more bytes than there are, and how many these are.
    let written = unsafe {
        SockAddr::try_init(|storage, length| {
            let mut bytes = c_int::try_from(*length).unwrap_or(0);
            write(storage.cast(), &mut bytes).map_err(io::Error::other)?;
            *length = u32::try_from(bytes).unwrap_or(0);
            Ok(())
        })
    };
    written.ok().and_then(|((), address)| address.as_socket())
}

/// A caller that was let in, and its address.
pub(crate) fn accept(listener: Id) -> Result<(Id, Option<SocketAddr>), Failed> {
    let mut accepted = FAILED;
    let mut failed = None;
    let peer = address(|storage, len| {
        // SAFETY: room for an address, and how much.
        accepted = unsafe { srt_accept(listener, storage, len) };
        done(accepted).inspect_err(|why| failed = Some(why.clone()))
    });
    match failed {
        Some(why) => Err(why),
        None => Ok((accepted, peer)),
    }
}

pub(crate) fn set_number(id: Id, option: i32, value: i32) -> Result<(), Failed> {
    // SAFETY: the value of an `int` option and its length.
    done(unsafe { srt_setsockflag(id, option, (&raw const value).cast(), len(mem::size_of::<c_int>())) })
}

pub(crate) fn set_switch(id: Id, option: i32, value: bool) -> Result<(), Failed> {
    // SAFETY: the value of a `bool` option and its length; a Rust `bool` is one of C.
    done(unsafe { srt_setsockflag(id, option, (&raw const value).cast(), len(mem::size_of::<bool>())) })
}

pub(crate) fn set_text(id: Id, option: i32, value: &[u8]) -> Result<(), Failed> {
    // SAFETY: the bytes of a string option and their number; they are copied.
    done(unsafe { srt_setsockflag(id, option, value.as_ptr().cast(), len(value.len())) })
}

/// The stream id: 512 bytes at most, as libsrt and the draft have it (§3.2.1.3).
pub(crate) fn stream_id(id: Id) -> Vec<u8> {
    let mut bytes = vec![0u8; 513];
    let mut length = len(bytes.len());
    // SAFETY: room for the bytes, and how much; it says how many it wrote.
    let returned = unsafe { srt_getsockflag(id, option::STREAMID, bytes.as_mut_ptr().cast(), &mut length) };
    bytes.truncate(if returned == FAILED { 0 } else { usize::try_from(length).unwrap_or(0) });
    bytes
}

/// Sends one datagram, whole or not at all.
pub(crate) fn send(id: Id, bytes: &[u8]) -> Result<(), Failed> {
    // SAFETY: bytes and their number; they are copied. No time to live beside that of live mode; in order.
    done(unsafe { srt_sendmsg(id, bytes.as_ptr().cast(), len(bytes.len()), -1, 1) })
}

/// Takes one datagram; what of it is longer than `room` is lost.
pub(crate) fn recv(id: Id, room: &mut [u8]) -> Result<usize, Failed> {
    // SAFETY: room and its length.
    let received = unsafe { srt_recvmsg(id, room.as_mut_ptr().cast(), len(room.len())) };
    done(received).map(|()| usize::try_from(received).unwrap_or(0).min(room.len()))
}

pub(crate) fn state(id: Id) -> i32 {
    // SAFETY: it takes a number.
    unsafe { srt_getsockstate(id) }
}

pub(crate) fn trace(id: Id) -> Result<Trace, Failed> {
    let mut trace = Trace::default();
    // SAFETY: room for what libsrt 1.5 writes, and more. Nothing is cleared; what is momentary is that of now.
    done(unsafe { srt_bistats(id, &mut trace, 0, 1) }).map(|()| trace)
}

/// Why a caller was refused, as a number and in words.
pub(crate) fn reject_reason(id: Id) -> (i32, String) {
    // SAFETY: it takes a number.
    let reason = unsafe { srt_getrejectreason(id) };
    // SAFETY: a string that lives as long as the program.
    (reason, unsafe { text(srt_rejectreason_str(reason)) })
}

/// `SRT_EPOLL_ENABLE_EMPTY`: waiting is no error while there is no socket.
const ENABLE_EMPTY: i32 = 1;

pub(crate) fn epoll() -> Result<i32, Failed> {
    started()?;
    // SAFETY: it takes nothing.
    let epoll = unsafe { srt_epoll_create() };
    done(epoll)?;
    // SAFETY: it takes numbers.
    done(unsafe { srt_epoll_set(epoll, ENABLE_EMPTY) })?;
    Ok(epoll)
}

/// Whoever waits fails.
pub(crate) fn epoll_release(epoll: i32) {
    // SAFETY: it takes a number.
    unsafe { srt_epoll_release(epoll) };
}

pub(crate) fn epoll_add(epoll: i32, id: Id, events: i32) -> Result<(), Failed> {
    // SAFETY: it reads a number.
    done(unsafe { srt_epoll_add_usock(epoll, id, &events) })
}

pub(crate) fn epoll_remove(epoll: i32, id: Id) {
    // SAFETY: it takes numbers. One that is closed is not there any more.
    unsafe { srt_epoll_remove_usock(epoll, id) };
}

/// What has happened, at the latest after that time. How many events were written.
pub(crate) fn epoll_wait(epoll: i32, events: &mut [Event], timeout_ms: i64) -> Result<usize, Failed> {
    // SAFETY: room for events, and for how many.
    let happened = unsafe { srt_epoll_uwait(epoll, events.as_mut_ptr(), len(events.len()), timeout_ms) };
    done(happened).map(|()| usize::try_from(happened).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of libsrt 1.5.1's `CBytePerfMon` on 64-bit machines, as `offsetof` has them.
    #[test]
    fn statistics_are_where_libsrt_writes_them() {
        assert_eq!(mem::offset_of!(Trace, byte_sent_total), OFFSETS.0);
        assert_eq!(mem::offset_of!(Trace, pkt_rcv_retrans), OFFSETS.1);
        assert_eq!(mem::offset_of!(Trace, pkt_rcv_belated), OFFSETS.2);
        assert_eq!(mem::offset_of!(Trace, ms_rtt), OFFSETS.3);
        assert_eq!(mem::offset_of!(Trace, ms_rcv_tsbpd_delay), OFFSETS.4);
        assert_eq!(mem::offset_of!(Trace, spare), OFFSETS.5);
    }

    const OFFSETS: (usize, usize, usize, usize, usize, usize) = (80, 164, 224, 328, 392, 496);
}
