//! A peer as a state machine: datagrams and the time in; datagrams, events and the next deadline out.
//!
//! The contract of all of them: after each input, [`Peer::poll`] until it says [`Output::Wait`]. What implements it can be
//! exchanged; nothing beyond this folder knows which it is.

mod codecs;
mod estimate;
mod round_trips;
mod simulcast;
mod str0m;

use std::net::SocketAddr;
use std::time::Instant;

use media_core::frame::{Codec, Kind};
use media_core::rtp::{Packet, Payload, SenderReport};

pub use str0m::{Ground, Str0m};

/// The longest RTP payload that is sent: with its headers and what SRTP and a retransmission add, a datagram stays
/// below 1,200 bytes, which every path takes.
pub const MAX_PAYLOAD_BYTES: usize = 1_120;

/// What a peer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It sends, we receive.
    Publish,
    /// We send tracks of these codecs, it receives.
    Play(Vec<Sent>),
}

impl Role {
    /// Its name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play(_) => "play",
        }
    }
}

/// A track that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its codec.
    pub codec: Codec,
    /// `profile-level-id` (RFC 6184 §8.1), of H.264; `profile-id` (RFC 9628 §6.1), of VP9.
    pub profile: Option<u32>,
}

/// What connectivity checks are signed with (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The fragment of the username.
    pub ufrag: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// A layer of a picture: the index of its track (simulcast has several).
pub type Layer = u8;

/// What a peer has to say.
#[derive(Debug)]
pub enum Output {
    /// To be sent.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(Event),
    /// Nothing more before then.
    Wait(Instant),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The peer has shown who it is: media goes both ways from now on.
    Connected,
    /// A packet of media.
    Packet {
        /// Sound or picture.
        kind: Kind,
        /// Which of several pictures.
        layer: Layer,
        /// Its codec, by its payload type.
        codec: Codec,
        /// The packet.
        packet: Packet,
        /// How loud it is, in dB below the loudest, 0 to 127 (RFC 6464 §3).
        level: Option<u8>,
    },
    /// A sender report (RFC 3550 §6.4.1).
    Report {
        /// Of the sound or of a picture.
        kind: Kind,
        /// Which of several pictures.
        layer: Layer,
        /// What it says.
        report: SenderReport,
    },
    /// It can't decode without a keyframe (PLI or FIR).
    KeyframeWanted,
    /// It is gone: it said so, or was not heard for too long.
    Closed,
}

/// What a peer has counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of media that came.
    pub received: u64,
    /// Packets of media that were sent, with those that were sent again.
    pub sent: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Times that it said what it lacks (NACK), or was told so.
    pub nacks: u64,
}

impl Counts {
    /// What came since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
            resent: self.resent.saturating_sub(before.resent),
            nacks: self.nacks.saturating_sub(before.nacks),
        }
    }
}

/// A peer failed in a way that ends it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// See the module.
pub trait Peer: Send {
    /// Takes a datagram that came from `from` to our address `to`.
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Failed>;

    /// The time that [`Output::Wait`] said has come, or something was sent.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed>;

    /// What it has to say next.
    fn poll(&mut self) -> Result<Output, Failed>;

    /// Sends payloads of one frame. `timestamp` is the packets' own, `shown` the moment that it stands for on our clock.
    fn send(&mut self, kind: Kind, timestamp: u32, shown: Instant, payloads: &[Payload]);

    /// Whether it takes sound or pictures.
    fn takes(&self, kind: Kind) -> bool;

    /// What it is expected to send: of sound and of each layer of its picture the codec that it prefers.
    fn receives(&self) -> Vec<(Kind, Layer, Codec)>;

    /// Asks it for a keyframe of a picture.
    fn ask_keyframe(&mut self, layer: Layer);

    /// Takes a candidate that was learnt later (trickle ICE).
    fn add_candidate(&mut self, candidate: &str) -> Result<(), Failed>;

    /// ICE is restarted (RFC 8445 §2.4): checks are signed with others from now on. Media goes on where it went.
    fn restart_ice(&mut self, ours: &Credentials, theirs: &Credentials);

    /// How much its line takes, in bits a second, as far as that is known of one that media is sent to.
    fn estimate(&self) -> Option<u64>;

    /// What it has counted.
    fn counts(&self) -> Counts;

    /// Says goodbye; what there is to send comes by [`Peer::poll`].
    fn close(&mut self);
}
