//! SRT in live mode (draft-sharabayko-srt-01): a listener that decides about each caller, callers, and connections that
//! carry datagrams both ways, encrypted or not.
//!
//! What stands here is this project's own interface; behind it is libsrt, the reference implementation, in one module of
//! foreign calls (`raw`). It runs threads of its own: two for each port, and one for each connection that receives. One
//! more (`reactor`) waits for all sockets and wakes the tasks that want them. A callback that panics, or a connection that
//! fails, is that connection's end and nobody else's.
//!
//! [`stream_id`] needs no network.

#![deny(unsafe_code)]

pub mod stream_id;

#[cfg(feature = "libsrt")]
mod caller;
#[cfg(feature = "libsrt")]
mod closing;
#[cfg(feature = "libsrt")]
mod connection;
#[cfg(feature = "libsrt")]
mod error;
#[cfg(feature = "libsrt")]
mod listener;
#[cfg(feature = "libsrt")]
mod options;
#[cfg(feature = "libsrt")]
mod passphrases;
#[cfg(feature = "libsrt")]
mod raw;
#[cfg(feature = "libsrt")]
mod reactor;
#[cfg(feature = "libsrt")]
mod reject;
#[cfg(feature = "libsrt")]
mod stats;

#[cfg(feature = "libsrt")]
pub use caller::connect;
#[cfg(feature = "libsrt")]
pub use connection::{Connection, MAX_DATAGRAM_BYTES, PAYLOAD_BYTES};
#[cfg(feature = "libsrt")]
pub use error::Error;
#[cfg(feature = "libsrt")]
pub use listener::{Decision, Listener, Request, Terms};
#[cfg(feature = "libsrt")]
pub use options::{KeyLength, Options, Passphrase, PassphraseLength};
#[cfg(feature = "libsrt")]
pub use passphrases::{PassphraseConfig, PassphraseError, Passphrases};
#[cfg(feature = "libsrt")]
pub use reactor::end;
#[cfg(feature = "libsrt")]
pub use reject::Reject;
#[cfg(feature = "libsrt")]
pub use stats::Stats;
