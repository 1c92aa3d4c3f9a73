//! [`Peer`] by str0m, in its RTP mode: ICE-lite, DTLS, SRTP, NACK and retransmission, reports, congestion feedback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use media_core::frame::{Codec, Kind};
use media_core::rtp::{Packet, Payload, SenderReport};
use str0m::bwe::BweKind;
use str0m::change::SdpOffer;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::{Codec as Named, PayloadParams};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{
    Candidate, Event as Happened, IceConnectionState, IceCreds, Input, Output as Said, Rtc, RtcConfig,
};

use super::codecs::{enable, named, ours};
use super::estimate::Estimate;
use super::round_trips::RoundTrips;
use super::simulcast;
use super::{Counts, Credentials, Event, Failed, Layer, Output, Peer, Role, Sent};
use crate::offer::Refused;

/// Packets of a viewer's that can be sent again: a second of 4 Mbit/s, and no older ones, which would come too late. Their
/// payloads are shared, so it is their headers that a viewer costs.
const RESEND_VIDEO: usize = 512;
const RESEND_AUDIO: usize = 100;
const RESEND_AGE: Duration = Duration::from_secs(1);
/// What of all that is sent may be what is sent again: a viewer who asks for more has no line for it, or means harm.
const RESEND_SHARE: f32 = 0.25;
/// Layers of a picture that a publisher may send at once.
const MAX_LAYERS: usize = 3;
/// Streams whose counts are kept: more than those that are taken make no sense.
const MAX_STREAMS: usize = 8;
/// How often str0m says what it has counted.
const STATISTICS: Duration = Duration::from_secs(2);
/// Candidates that a peer may tell later.
const MAX_TRICKLED: usize = 64;

/// What all peers of a server share.
#[derive(Debug, Clone)]
pub struct Ground {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    /// Our addresses, which are the candidates.
    pub(crate) addresses: Arc<[SocketAddr]>,
}

impl Ground {
    /// With a new certificate, for peers that are told of these addresses.
    pub fn new(addresses: Vec<SocketAddr>) -> Result<Self, Failed> {
        let certificate = crate::crypto::certificate().map_err(|error| Failed(error.to_string()))?;
        Ok(Self { crypto: Arc::new(crate::crypto::provider()), certificate, addresses: addresses.into() })
    }
}

/// A peer by str0m.
pub struct Str0m {
    rtc: Rtc,
    /// What is sent.
    lanes: Vec<Lane>,
    /// The layers that were said, and then those that were seen, in the order they came.
    layers: Vec<(Mid, Option<Rid>)>,
    /// What is expected of it.
    received: Vec<(Kind, Layer, Codec)>,
    trickled: usize,
    connected: bool,
    counts: Counts,
    /// The NACKs of each stream, as it last said.
    nacks: Vec<((Mid, Option<Rid>), u64)>,
    estimate: Estimate,
    /// The share of what was sent that the peer said it lacks (RFC 3550 §6.4.1).
    lost: Option<f32>,
}

/// A track that is sent to the peer.
struct Lane {
    kind: Kind,
    mid: Mid,
    pt: Pt,
    /// What is sent again has that one (RFC 4588).
    resend: Option<Pt>,
    /// The number of the next packet. Begins below 65,536, since the receiver counts SRTP's rollovers from 0.
    next: u64,
}

impl Str0m {
    /// Answers an offer under our ICE credentials.
    pub fn accept(
        ground: &Ground,
        offer: &str,
        role: &Role,
        ours: &Credentials,
        now: Instant,
    ) -> Result<(Self, String), Refused> {
        let malformed = |error: &dyn std::fmt::Display| Refused::Malformed(error.to_string());
        let text = offer;
        let offer = SdpOffer::from_sdp_string(text).map_err(|error| malformed(&error))?;
        let config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&ground.crypto))
            .set_dtls_cert(ground.certificate.clone())
            .set_local_ice_credentials(creds(ours))
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_stats_interval(Some(STATISTICS));
        let mut rtc = enable(config, role, text).build(now);
        for address in &*ground.addresses {
            let candidate = Candidate::host(*address, "udp").map_err(|error| malformed(&error))?;
            rtc.add_local_candidate(candidate);
        }
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| malformed(&error))?;
        let mut peer = Self {
            rtc,
            lanes: Vec::new(),
            layers: Vec::new(),
            received: Vec::new(),
            trickled: 0,
            connected: false,
            counts: Counts::default(),
            nacks: Vec::new(),
            estimate: Estimate::default(),
            lost: None,
        };
        let answer = RoundTrips::of(text).agreed(&answer.to_sdp_string());
        // Its m-lines, of which str0m tells by events that come only once it is driven.
        let mids = answer.lines().filter_map(|line| line.strip_prefix("a=mid:")).map(Mid::from);
        let mids: Vec<Mid> = mids.collect();
        match role {
            Role::Publish => {
                for (mid, rids) in simulcast::layers(&answer) {
                    let layers =
                        rids.into_iter().take(MAX_LAYERS).map(|rid| (Mid::from(mid), Some(Rid::from(rid))));
                    if peer.layers.is_empty() {
                        peer.layers.extend(layers);
                    }
                }
                peer.find_received(&mids)?;
            }
            Role::Play(sent) => peer.find_lanes(&mids, sent)?,
        }
        Ok((peer, answer))
    }

    fn find_received(&mut self, mids: &[Mid]) -> Result<(), Refused> {
        for &mid in mids {
            let Some(media) = self.rtc.media(mid).filter(|media| media.direction().is_receiving()) else {
                continue;
            };
            // In the order in which the peer prefers them.
            let codecs = media
                .remote_pts()
                .iter()
                .filter_map(|pt| self.rtc.codec_config().params().iter().find(|params| params.pt() == *pt));
            let Some(codec) = codecs.filter_map(|params| ours(params.spec().codec)).next() else {
                return Err(nothing_taken());
            };
            if self.received.iter().any(|(kind, ..)| *kind == codec.kind()) {
                continue;
            }
            let layers = self.layers.iter().filter(|(of, _)| *of == mid).count().max(1);
            let layers = (0..layers).filter_map(|layer| Layer::try_from(layer).ok());
            self.received.extend(layers.map(|layer| (codec.kind(), layer, codec)));
        }
        if self.received.is_empty() { Err(nothing_taken()) } else { Ok(()) }
    }

    fn find_lanes(&mut self, mids: &[Mid], sent: &[Sent]) -> Result<(), Refused> {
        let names: Vec<&str> = sent.iter().map(|sent| sent.codec.name()).collect();
        let names = names.join(" and ");
        let refused =
            || Refused::NothingInCommon(format!("the stream has {names}, which the offer does not receive"));
        for &mid in mids {
            let Some(media) = self.rtc.media(mid) else { continue };
            let kind = match media.kind() {
                MediaKind::Audio => Kind::Audio,
                MediaKind::Video => Kind::Video,
            };
            let sends = matches!(media.direction(), Direction::SendOnly | Direction::SendRecv);
            if !sends || self.lanes.iter().any(|lane| lane.kind == kind) {
                continue;
            }
            let pts = media.remote_pts().to_vec();
            let Some(sent) = sent.iter().find(|sent| sent.codec.kind() == kind) else { continue };
            let (pt, resend) = self.payload_type(&pts, sent).ok_or_else(refused)?;
            self.lanes.push(Lane { kind, mid, pt, resend, next: 1 });
            if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
                let most = if kind == Kind::Video { RESEND_VIDEO } else { RESEND_AUDIO };
                stream.set_rtx_cache(most, RESEND_AGE, Some(RESEND_SHARE));
            }
        }
        if self.lanes.is_empty() { Err(refused()) } else { Ok(()) }
    }

    fn parameters<'a>(&'a self, pts: &'a [Pt]) -> impl Iterator<Item = &'a PayloadParams> {
        self.rtc.codec_config().params().iter().filter(|params| pts.contains(&params.pt()))
    }

    /// The payload type for a track, and that of what is sent again: of H.264 the one whose profile is nearest, since decoders take more than they say.
    fn payload_type(&self, pts: &[Pt], sent: &Sent) -> Option<(Pt, Option<Pt>)> {
        let codec = named(sent.codec)?;
        let fits = self.parameters(pts).filter(|params| params.spec().codec == codec);
        let fits =
            fits.filter(|params| codec != Named::H264 || params.spec().format.packetization_mode == Some(1));
        // Of VP9, another profile has samples of other sizes.
        let fits = fits.filter(|params| {
            codec != Named::Vp9 || sent.profile == params.spec().format.profile_id.or(Some(0))
        });
        let profile = |id: u32| id >> 16;
        fits.min_by_key(|params| {
            let (own, theirs) =
                (sent.profile.map(profile), params.spec().format.profile_level_id.map(profile));
            own.unwrap_or(0).abs_diff(theirs.unwrap_or(0))
        })
        .map(|params| (params.pt(), params.resend()))
    }

    fn happened(&mut self, event: Happened) -> Option<Event> {
        match event {
            Happened::Connected => {
                self.connected = true;
                Some(Event::Connected)
            }
            Happened::RtpPacket(packet) => self.packet(packet),
            Happened::SenderFeedback(feedback) => {
                let (kind, layer) = self.place(feedback.mid, feedback.rid)?;
                let info = feedback.sender_info;
                let wall_clock = info.ntp_time.duration_since(UNIX_EPOCH).unwrap_or_default();
                let wall_clock_us = i64::try_from(wall_clock.as_micros()).ok()?;
                let timestamp = low_bits(info.rtp_time.numer());
                Some(Event::Report { kind, layer, report: SenderReport { wall_clock_us, timestamp } })
            }
            Happened::MediaIngressStats(stats) => self.asked_again(stats.mid, stats.rid, stats.nacks),
            Happened::MediaEgressStats(stats) => {
                self.lost = stats.loss.or(self.lost);
                self.asked_again(stats.mid, stats.rid, stats.nacks)
            }
            Happened::PeerStats(stats) => {
                let lost = stats.egress_loss_fraction.or(self.lost.take());
                self.estimate.measured(stats.timestamp, stats.bytes_tx, lost);
                None
            }
            Happened::EgressBitrateEstimate(BweKind::Remb { estimate, .. }) => {
                self.estimate.said(estimate.as_u64());
                None
            }
            Happened::KeyframeRequest(_) => Some(Event::KeyframeWanted),
            Happened::Closed => Some(Event::Closed),
            // Before it was connected, this only says that none of the candidates that it told has checked yet.
            Happened::IceConnectionStateChange(IceConnectionState::Disconnected) if self.connected => {
                Some(Event::Closed)
            }
            _ => None,
        }
    }

    /// Takes how often a stream's packets were asked for again.
    fn asked_again(&mut self, mid: Mid, rid: Option<Rid>, nacks: u64) -> Option<Event> {
        if let Some((_, before)) = self.nacks.iter_mut().find(|(stream, _)| *stream == (mid, rid)) {
            *before = nacks;
        } else if self.nacks.len() < MAX_STREAMS {
            self.nacks.push(((mid, rid), nacks));
        }
        self.counts.nacks = self.nacks.iter().map(|(_, nacks)| nacks).sum();
        None
    }

    /// Counts what leaves, by its payload type, which SRTP leaves readable (RFC 3711 §3.1).
    fn leaves(&mut self, bytes: &[u8]) {
        let (Some(0x80..=0xbf), Some(second)) = (bytes.first(), bytes.get(1)) else { return };
        let pt = second & 0x7f;
        if self.lanes.iter().any(|lane| *lane.pt == pt) {
            self.counts.sent += 1;
        } else if self.lanes.iter().any(|lane| lane.resend.is_some_and(|resend| *resend == pt)) {
            self.counts.sent += 1;
            self.counts.resent += 1;
        }
    }

    fn packet(&mut self, packet: RtpPacket) -> Option<Event> {
        self.counts.received += 1;
        // Padding, which probes bandwidth.
        if packet.payload.is_empty() {
            return None;
        }
        let (mid, rid) = {
            let mut api = self.rtc.direct_api();
            let stream = api.stream_rx(&packet.header.ssrc)?;
            (stream.mid(), stream.rid())
        };
        let pt = packet.header.payload_type;
        let params = self.rtc.codec_config().find(|params| params.pt() == pt)?;
        let codec: Codec = ours(params.spec().codec)?;
        let (kind, layer) = self.place(mid, rid)?;
        // Said as so many dB of full scale, which is below zero.
        let level = packet.header.ext_vals.audio_level.map(|level| level.unsigned_abs());
        let packet = Packet {
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload,
        };
        Some(Event::Packet { kind, layer, codec, packet, level })
    }

    /// Whether an m-line is sound or pictures, and which of several pictures a stream of it is.
    fn place(&mut self, mid: Mid, rid: Option<Rid>) -> Option<(Kind, Layer)> {
        if self.rtc.media(mid)?.kind() == MediaKind::Audio {
            return Some((Kind::Audio, 0));
        }
        let at = match self.layers.iter().position(|layer| *layer == (mid, rid)) {
            Some(at) => at,
            None if self.layers.len() >= MAX_LAYERS => return None,
            None => {
                self.layers.push((mid, rid));
                self.layers.len() - 1
            }
        };
        Some((Kind::Video, Layer::try_from(at).ok()?))
    }
}

impl Peer for Str0m {
    fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Failed> {
        // What is no packet at all is nobody's mistake here: anybody can send it.
        let Ok(contents) = bytes.try_into() else { return Ok(()) };
        let receive = Receive { proto: Protocol::Udp, source: from, destination: to, contents };
        self.rtc.handle_input(Input::Receive(now, receive)).map_err(failed)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Failed> {
        self.rtc.handle_input(Input::Timeout(now)).map_err(failed)
    }

    fn poll(&mut self) -> Result<Output, Failed> {
        loop {
            match self.rtc.poll_output().map_err(failed)? {
                Said::Timeout(at) if self.rtc.is_alive() => return Ok(Output::Wait(at)),
                Said::Timeout(_) => return Ok(Output::Event(Event::Closed)),
                Said::Transmit(transmit) => {
                    let bytes: Vec<u8> = transmit.contents.into();
                    self.leaves(&bytes);
                    return Ok(Output::Datagram { to: transmit.destination, bytes });
                }
                Said::Event(event) => {
                    if let Some(event) = self.happened(event) {
                        return Ok(Output::Event(event));
                    }
                }
            }
        }
    }

    fn send(&mut self, kind: Kind, timestamp: u32, shown: Instant, payloads: &[Payload]) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.kind == kind) else { return };
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(lane.mid, None) else { return };
        for payload in payloads {
            let write = RtpWrite::new(lane.pt, lane.next.into(), timestamp, shown, Arc::clone(&payload.data))
                .marker(payload.marker)
                .nackable(kind == Kind::Video);
            stream.write_rtp(write);
            lane.next += 1;
        }
    }

    fn takes(&self, kind: Kind) -> bool {
        self.lanes.iter().any(|lane| lane.kind == kind)
    }

    fn receives(&self) -> Vec<(Kind, Layer, Codec)> {
        self.received.clone()
    }

    fn ask_keyframe(&mut self, layer: Layer) {
        let Some(&(mid, rid)) = self.layers.get(usize::from(layer)) else { return };
        let mut api = self.rtc.direct_api();
        if let Some(stream) = api.stream_rx_by_mid(mid, rid) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    fn add_candidate(&mut self, candidate: &str) -> Result<(), Failed> {
        self.trickled += 1;
        if self.trickled > MAX_TRICKLED {
            return Err(Failed(format!("more than {MAX_TRICKLED} candidates")));
        }
        let candidate = Candidate::from_sdp_string(candidate).map_err(|error| Failed(error.to_string()))?;
        self.rtc.add_remote_candidate(candidate);
        Ok(())
    }

    fn restart_ice(&mut self, ours: &Credentials, theirs: &Credentials) {
        let mut api = self.rtc.direct_api();
        api.set_local_ice_credentials(creds(ours));
        api.set_remote_ice_credentials(creds(theirs));
    }

    fn estimate(&self) -> Option<u64> {
        self.estimate.bits()
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn close(&mut self) {
        // It is over either way.
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }
}

fn creds(Credentials { ufrag, password }: &Credentials) -> IceCreds {
    IceCreds { ufrag: ufrag.clone(), pass: password.clone() }
}

fn nothing_taken() -> Refused {
    Refused::NothingInCommon(
        "the offer sends sound or pictures of which nothing is taken: H.264, H.265, AV1, VP8, VP9 and Opus are"
            .to_owned(),
    )
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: str0m::RtcError) -> Failed {
    Failed(error.to_string())
}

fn low_bits(number: u64) -> u32 {
    let [.., a, b, c, d] = number.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
