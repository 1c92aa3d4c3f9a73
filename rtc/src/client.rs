//! Who watches, without a socket: str0m in the other role, for benches. It reads all that a viewer reads, and
//! sends the checks, reports and congestion feedback that a viewer sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// What a client has to say.
#[derive(Debug)]
pub enum Said {
    /// Nothing until then, if nothing comes before.
    Wait(Instant),
    /// This is to be sent.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// ICE and DTLS are done.
    Connected,
    /// A packet of media came.
    Packet,
    /// It is over.
    Closed,
}

/// What went wrong with a client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

fn failed(error: impl std::fmt::Display) -> Failed {
    Failed(error.to_string())
}

/// See the module. Pictures in H.264 only.
pub struct Client {
    rtc: Rtc,
    own: SocketAddr,
    pending: Option<SdpPendingOffer>,
}

impl Client {
    fn new(own: SocketAddr, now: Instant) -> Result<Self, Failed> {
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(crate::crypto::provider()))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_h264(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(own, "udp").map_err(failed)?);
        Ok(Self { rtc, own, pending: None })
    }

    /// A client whose socket has that address, and its offer.
    pub fn offer(own: SocketAddr, now: Instant) -> Result<(Self, String), Failed> {
        let mut client = Self::new(own, now)?;
        let mut changes = client.rtc.sdp_api();
        changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = changes.apply().ok_or_else(|| failed("nothing to offer"))?;
        client.pending = Some(pending);
        Ok((client, offer.to_sdp_string()))
    }

    /// Takes the answer to its offer.
    pub fn accept(&mut self, answer: &str) -> Result<(), Failed> {
        let answer = SdpAnswer::from_sdp_string(answer).map_err(failed)?;
        let pending = self.pending.take().ok_or_else(|| failed("there is no offer to be answered"))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(failed)
    }

    /// A client whose socket has that address, and its answer to an offer.
    pub fn answer(own: SocketAddr, offer: &str, now: Instant) -> Result<(Self, String), Failed> {
        let mut client = Self::new(own, now)?;
        let offer = SdpOffer::from_sdp_string(offer).map_err(failed)?;
        let answer = client.rtc.sdp_api().accept_offer(offer).map_err(failed)?;
        Ok((client, answer.to_sdp_string()))
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Result<(), Failed> {
        let contents = bytes.try_into().map_err(failed)?;
        let receive = Receive { proto: Protocol::Udp, source: from, destination: self.own, contents };
        self.rtc.handle_input(Input::Receive(now, receive)).map_err(failed)
    }

    /// Time went on.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed> {
        self.rtc.handle_input(Input::Timeout(now)).map_err(failed)
    }

    /// What it has to say: until [`Said::Wait`] or [`Said::Closed`].
    pub fn poll(&mut self) -> Result<Said, Failed> {
        loop {
            match self.rtc.poll_output().map_err(failed)? {
                Output::Timeout(_) if !self.rtc.is_alive() => return Ok(Said::Closed),
                Output::Timeout(at) => return Ok(Said::Wait(at)),
                Output::Transmit(transmit) => {
                    let bytes = transmit.contents.to_vec();
                    return Ok(Said::Datagram { to: transmit.destination, bytes });
                }
                Output::Event(Event::Connected) => return Ok(Said::Connected),
                Output::Event(Event::RtpPacket(_)) => return Ok(Said::Packet),
                Output::Event(_) => {}
            }
        }
    }
}
