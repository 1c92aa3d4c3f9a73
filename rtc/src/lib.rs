//! WebRTC peers (RFC 8825): who publishes by WHIP or watches by WHEP, on one UDP port a process.
//!
//! [`Server`] answers offers and drives peers on threads of its own (*shards*). What a peer does is a [`peer::Peer`], a
//! state machine without a socket; str0m is behind that trait and nowhere else. A publisher's packets become frames
//! ([`media_core::rtp::Depacketizer`]) and go to its [`Sink`]. What is watched is a [`Broadcast`]: payloads made once,
//! referred to by all who watch; each viewer has its own header and its own encryption, and a cursor.
//!
//! [`resource`] is what WHIP (RFC 9725) and WHEP have in common over HTTP; who may publish or watch is not known here.

#![forbid(unsafe_code)]

mod addresses;
mod broadcast;
#[cfg(feature = "client")]
pub mod client;
mod config;
mod crypto;
mod directory;
mod ice_servers;
mod metrics;
pub mod offer;
pub mod peer;
pub mod resource;
mod server;
mod shard;
pub mod stun;
#[cfg(test)]
mod tests;

pub use broadcast::{Broadcast, Unwatchable};
pub use config::Config;
pub use ice_servers::{IceServer, IceServers, Login};
pub use offer::Refused;
pub use server::{Accepted, Error, Prepared, Restarted, Server};
pub use shard::{Ended, Sink, Watcher};
