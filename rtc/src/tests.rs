//! A server and clients that are str0m in the other role, over the loopback: what is published arrives, what is watched
//! begins at once, who does not finish is let go.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::codec;
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use media_core::rtp::{Depacketized, Depacketizer, Packet, Packetizer};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::{Config, Ended, Server, Sink, Watcher};

const PATIENCE: Duration = Duration::from_secs(20);

fn server() -> (Server, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        threads: 2,
        handshake_timeout_ms: 1_000,
        ..Config::default()
    };
    (Server::new(&config, &registry).unwrap(), registry)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// A track as x264 describes it.
fn track() -> Track {
    let sps = hex("6764000dacd941419f9f0110000003001000000303c0f1429960");
    let config = codec::h264::config_from_parameter_sets(&[&sps], &[&hex("68ef8fcb")]).unwrap();
    codec::track(TrackId::VIDEO, Codec::H264, Timescale::HZ_90K, config).unwrap()
}

/// The `n`th picture; each tenth is a keyframe.
fn picture(n: u8) -> Frame {
    let keyframe = n.is_multiple_of(10);
    let mut unit = vec![if keyframe { 0x65 } else { 0x41 }, 0x88];
    unit.extend(vec![n | 0x80; 3_000]);
    let length = u32::try_from(unit.len()).unwrap().to_be_bytes();
    let data = Bytes::from([&length[..], &unit].concat());
    Frame { track: TrackId::VIDEO, dts: Timestamp(i64::from(n) * 3_600), cts: 0, keyframe, data }
}

struct Client {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    connected: bool,
    /// The peer said goodbye.
    closed: bool,
    packets: Vec<(Codec, Packet)>,
    keyframes_wanted: usize,
    /// Every so many datagrams one of the client's is lost.
    loses: Option<usize>,
    /// Every so many datagrams one that comes to it is lost.
    deaf: Option<usize>,
    sent: usize,
    came: usize,
    /// The checks that it sent.
    checks: Vec<Vec<u8>>,
}

impl Client {
    fn new(direction: Direction) -> (Self, String, SdpPendingOffer, Mid) {
        Self::of(direction, |config| config.enable_h264(true), None)
    }

    /// With those codecs and layers.
    fn of(
        direction: Direction,
        codecs: fn(RtcConfig) -> RtcConfig,
        layers: Option<Simulcast>,
    ) -> (Self, String, SdpPendingOffer, Mid) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let config = RtcConfig::new()
            .set_crypto_provider(Arc::new(crate::crypto::provider()))
            .set_rtp_mode(true)
            .clear_codecs();
        let mut rtc = codecs(config).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut changes = rtc.sdp_api();
        let mid = changes.add_media(MediaKind::Video, direction, None, None, layers);
        let (offer, pending) = changes.apply().unwrap();
        let client = Self {
            rtc,
            socket,
            address,
            connected: false,
            closed: false,
            packets: Vec::new(),
            keyframes_wanted: 0,
            loses: None,
            deaf: None,
            sent: 0,
            came: 0,
            checks: Vec::new(),
        };
        (client, offer.to_sdp_string(), pending, mid)
    }

    fn accept(&mut self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    }

    /// Runs until `done`.
    #[track_caller]
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < PATIENCE, "{what}");
            self.step();
        }
    }

    fn step(&mut self) {
        let at = loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => break at,
                Output::Transmit(transmit) => {
                    self.sent += 1;
                    if crate::stun::ufrag(&transmit.contents).is_some() {
                        self.checks.push(transmit.contents.to_vec());
                    }
                    if self.loses.is_none_or(|every| !self.sent.is_multiple_of(every)) {
                        self.socket.send_to(&transmit.contents, transmit.destination).unwrap();
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(Event::KeyframeRequest(_)) => self.keyframes_wanted += 1,
                Output::Event(Event::RtpPacket(packet)) => {
                    let header = packet.header;
                    let packet = Packet {
                        sequence: header.sequence_number,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        payload: packet.payload,
                    };
                    self.packets.push((Codec::H264, packet));
                }
                Output::Event(_) => {}
            }
        };
        let wait = at
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(1), Duration::from_millis(5));
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 2_000];
        let now = Instant::now;
        let input = match self.socket.recv_from(&mut buffer) {
            Ok(_)
                if {
                    self.came += 1;
                    self.deaf.is_some_and(|every| self.came.is_multiple_of(every))
                } =>
            {
                Input::Timeout(now())
            }
            Ok((length, source)) => {
                let contents = buffer[..length].try_into().unwrap();
                Input::Receive(
                    now(),
                    Receive { proto: Protocol::Udp, source, destination: self.address, contents },
                )
            }
            Err(_) => Input::Timeout(now()),
        };
        self.rtc.handle_input(input).unwrap();
    }

    fn payload_type(&self, mid: Mid) -> Pt {
        let pts = self.rtc.media(mid).unwrap().remote_pts().to_vec();
        let params = self.rtc.codec_config().params().iter().find(|params| {
            let mode = params.spec().format.packetization_mode;
            pts.contains(&params.pt()) && mode != Some(0)
        });
        params.unwrap().pt()
    }
}

#[derive(Debug)]
enum Heard {
    Item(Depacketized),
    Ended(Ended),
}

struct Ear(mpsc::SyncSender<Heard>);

impl Sink for Ear {
    fn media(&mut self, item: Depacketized) -> Result<(), Ended> {
        self.0.send(Heard::Item(item)).map_err(|_| Ended::Revoked)
    }

    fn ended(self: Box<Self>, why: Ended) {
        let _ = self.0.send(Heard::Ended(why));
    }
}

struct Eye(mpsc::SyncSender<(Ended, u64)>);

impl Watcher for Eye {
    fn may_stay(&mut self, _: u64) -> Result<(), Ended> {
        Ok(())
    }

    fn ended(self: Box<Self>, why: Ended, bytes: u64) {
        let _ = self.0.send((why, bytes));
    }
}

/// Publishes a hundred pictures; those that arrived, and the client.
fn publish(server: &Server, loses: Option<usize>) -> (Vec<Frame>, Client, mpsc::Receiver<Heard>) {
    let (mut client, offer, pending, mid) = Client::new(Direction::SendOnly);
    let (sender, receiver) = mpsc::sync_channel(4_096);
    let prepared = server.prepare_publish(&offer).unwrap();
    let accepted = prepared.publish(Box::new(Ear(sender))).unwrap();
    assert!(accepted.answer.contains("a=ice-lite"), "{}", accepted.answer);
    client.accept(pending, &accepted.answer);
    client.run("connected", |client| client.connected);
    client.loses = loses;
    let pt = client.payload_type(mid);
    let mut packetizer = Packetizer::new(&track(), 1_100).unwrap();
    let mut sequence = 100_u64;
    let mut frames = Vec::new();
    for n in 0..100 {
        let mut payloads = Vec::new();
        let timestamp = packetizer.packetize(&picture(n), &mut payloads);
        for payload in payloads {
            let write = RtpWrite::new(
                pt,
                sequence.into(),
                u32::try_from(timestamp).unwrap(),
                Instant::now(),
                payload.data,
            )
            .marker(payload.marker)
            .nackable(true);
            client.rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(write);
            sequence += 1;
        }
        client.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        let next = Instant::now() + Duration::from_millis(8);
        client.run("a picture's time", |_| Instant::now() >= next);
    }
    let until = Instant::now() + Duration::from_millis(700);
    client.run("the last ones", |_| Instant::now() >= until);
    while let Ok(Heard::Item(item)) = receiver.try_recv() {
        if let Depacketized::Frame(frame) = item {
            frames.push(frame);
        }
    }
    (frames, client, receiver)
}

#[test]
fn what_is_published_arrives() {
    let (server, registry) = server();
    let (frames, mut client, receiver) = publish(&server, None);
    assert_eq!(frames.len(), 100);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame.data, picture(u8::try_from(n).unwrap()).data, "{n}");
    }
    client.rtc.close().unwrap();
    client.run("goodbye", |client| !client.rtc.is_alive());
    let ended = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(ended, Heard::Ended(Ended::Left)), "{ended:?}");
    server.end();
    let peers = registry.gather().into_iter().find(|family| family.name() == "weir_rtc_peers").unwrap();
    assert!(peers.get_metric().iter().all(|metric| metric.get_gauge().get_value() == 0.0));
}

#[test]
fn losses_on_the_way_in_are_repaired() {
    let (server, _) = server();
    let (frames, _client, _receiver) = publish(&server, Some(20));
    assert_eq!(frames.len(), 100, "5 % of all that the client sent was lost once");
}

#[test]
fn a_viewer_begins_with_the_cached_keyframe_and_gets_what_follows() {
    let (server, _) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    (0..15).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    let (sent, left_out) = broadcast.tracks().unwrap();
    assert_eq!((sent.len(), left_out.len()), (1, 0));
    let (mut client, offer, pending, mid) = Client::new(Direction::RecvOnly);
    let (sender, receiver) = mpsc::sync_channel(4_096);
    let prepared = server.prepare_play(&offer, sent).unwrap();
    let accepted = prepared.play(&broadcast, Box::new(Eye(sender))).unwrap();
    client.accept(pending, &accepted.answer);
    client.run("pictures 10 to 14", |client| client.packets.iter().filter(|(_, p)| p.marker).count() == 5);
    (15..25).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    client.run("pictures to 24", |client| client.packets.iter().filter(|(_, p)| p.marker).count() == 15);
    let frames = |client: &mut Client| {
        let mut depacketizer = Depacketizer::new();
        depacketizer.expect(TrackId::VIDEO, Codec::H264);
        for (_, packet) in client.packets.drain(..) {
            depacketizer.push(Instant::now(), TrackId::VIDEO, packet);
        }
        let mut frames = Vec::new();
        while let Some(item) = depacketizer.poll() {
            if let Depacketized::Frame(frame) = item {
                frames.push(frame);
            }
        }
        frames
    };
    let got = frames(&mut client);
    assert_eq!(got.len(), 15);
    for (frame, n) in got.iter().zip(10..) {
        assert_eq!(frame.data, picture(n).data, "{n}");
    }
    // All that is cached is of about one moment, then time goes on as it was.
    assert!(got[4].pts().0 - got[0].pts().0 < 90);
    assert_eq!(got[14].pts().0 - got[5].pts().0, 9 * 3_600);

    // Whoever can't decode gets the cached keyframe again.
    let mut next = Instant::now();
    client.run("pictures 20 to 24 again", |client| {
        // As browsers do, until it is given one.
        if Instant::now() >= next {
            next += Duration::from_millis(200);
            let mut api = client.rtc.direct_api();
            api.stream_rx_by_mid(mid, None).unwrap().request_keyframe(KeyframeRequestKind::Pli);
        }
        client.packets.iter().filter(|(_, p)| p.marker).count() == 5
    });
    assert!(frames(&mut client)[0].keyframe);

    server.close(&accepted.session).unwrap();
    client.run("goodbye", |client| client.closed || !client.rtc.is_alive());
    let (why, bytes) = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why, Ended::Asked);
    assert!(bytes > 20 * 3_000, "{bytes}");
    assert!(server.close(&accepted.session).is_err());
}

#[test]
fn tracks_that_come_later_end_nobody_who_was_not_told_of_them() {
    let (server, _) = server();
    let broadcast = server.broadcast();
    let head = [&b"OpusHead"[..], &[1, 2, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0]].concat();
    let sound = codec::track(TrackId::AUDIO, Codec::Opus, Timescale::HZ_90K, head.into()).unwrap();
    broadcast.set_tracks(std::slice::from_ref(&sound));
    broadcast.set_tracks(&[sound.clone(), track()]);
    assert_eq!(broadcast.tracks().unwrap().0.len(), 2);
    assert!(!broadcast.is_over());
    broadcast.set_tracks(&[sound]);
    assert!(broadcast.is_over() && broadcast.tracks().is_err());
}

#[test]
fn the_end_of_what_is_watched_ends_who_watches() {
    let (server, _) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    broadcast.push(Instant::now(), &picture(0));
    let (mut client, offer, pending, _) = Client::new(Direction::RecvOnly);
    let (sender, receiver) = mpsc::sync_channel(4_096);
    let prepared = server.prepare_play(&offer, broadcast.tracks().unwrap().0).unwrap();
    let accepted = prepared.play(&broadcast, Box::new(Eye(sender))).unwrap();
    client.accept(pending, &accepted.answer);
    client.run("a picture", |client| client.packets.iter().any(|(_, p)| p.marker));
    broadcast.end(Ended::Stream);
    client.run("goodbye", |client| client.closed || !client.rtc.is_alive());
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().0, Ended::Stream);
    assert!(broadcast.tracks().is_err());
}

#[test]
fn who_does_not_come_or_does_not_finish_is_let_go() {
    let (server, _) = server();
    let (sender, receiver) = mpsc::sync_channel(4_096);
    // One never sends anything; another checks and never begins DTLS.
    let (_silent, offer, _pending, _) = Client::new(Direction::SendOnly);
    server.prepare_publish(&offer).unwrap().publish(Box::new(Ear(sender.clone()))).unwrap();
    let (mut half, offer, pending, _) = Client::new(Direction::SendOnly);
    let accepted = server.prepare_publish(&offer).unwrap().publish(Box::new(Ear(sender))).unwrap();
    half.accept(pending, &accepted.answer);
    let mut steps = 0;
    half.run("a check", |_| {
        steps += 1;
        steps > 2
    });
    for _ in 0..2 {
        let ended = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(ended, Heard::Ended(Ended::Handshake)), "{ended:?}");
    }
}

#[test]
fn what_is_not_carried_is_said() {
    let (server, _) = server();
    let (_, offer, ..) = Client::new(Direction::SendOnly);
    let Err(refused) = server.prepare_publish(&offer.replace("H264", "H999")) else { panic!() };
    assert_eq!(refused.status(), 406, "{refused}");
    let Err(refused) = server.prepare_publish("v=0\r\nm=x\r\n") else { panic!() };
    assert_eq!(refused.status(), 400, "{refused}");
    server.drain();
    let Err(refused) = server.prepare_publish(&offer) else { panic!() };
    assert_eq!(refused.status(), 503, "{refused}");
}

fn metric(registry: &prometheus::Registry, name: &str, label: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
    let found = metrics.iter().find(|metric| metric.get_label().iter().all(|pair| pair.value() == label));
    found.map_or(0.0, |metric| metric.get_counter().get_value())
}

/// Somebody who watches, and the rest of what there is to it.
fn watch(
    server: &Server,
    broadcast: &Arc<crate::Broadcast>,
) -> (Client, Mid, crate::Accepted, mpsc::Receiver<(Ended, u64)>) {
    let (mut client, offer, pending, mid) = Client::new(Direction::RecvOnly);
    let (sender, receiver) = mpsc::sync_channel(4_096);
    let prepared = server.prepare_play(&offer, broadcast.tracks().unwrap().0).unwrap();
    let accepted = prepared.play(broadcast, Box::new(Eye(sender))).unwrap();
    client.accept(pending, &accepted.answer);
    client.run("a picture", |client| client.packets.iter().any(|(_, p)| p.marker));
    (client, mid, accepted, receiver)
}

#[test]
fn who_asks_for_keyframes_all_the_time_waits_for_the_next() {
    let (server, registry) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    (0..5).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    let (mut client, mid, ..) = watch(&server, &broadcast);
    let asking = Instant::now() + Duration::from_millis(2_000);
    let mut next = Instant::now();
    client.run("two seconds of asking", |client| {
        // The last word is heard before the next picture comes: one between two of them would cost the second.
        if Instant::now() >= next && next + Duration::from_millis(300) < asking {
            next += Duration::from_millis(20);
            let mut api = client.rtc.direct_api();
            api.stream_rx_by_mid(mid, None).unwrap().request_keyframe(KeyframeRequestKind::Pli);
        }
        Instant::now() >= asking
    });
    assert!(metric(&registry, "weir_rtc_keyframes_wanted_total", "") > 10.0);
    let restarts = |reason| metric(&registry, "weir_rtc_restarts_total", reason);
    // Once it is given the same again: more of that would not help it.
    assert_eq!((restarts("asked"), restarts("skipped")), (1.0, 1.0));
    client.packets.clear();
    (5..10).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    (10..12).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    client.run("pictures 10 and 11", |client| client.packets.iter().filter(|(_, p)| p.marker).count() >= 2);
    // Nothing of what came before the keyframe, which is of three packets.
    assert_eq!(client.packets.iter().filter(|(_, p)| p.marker).count(), 2);
}

#[test]
fn a_viewer_that_loses_much_is_sent_little_again() {
    let (server, registry) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    broadcast.push(Instant::now(), &picture(0));
    let (mut client, ..) = watch(&server, &broadcast);
    client.deaf = Some(2);
    for n in 1..200_u8 {
        // No keyframe is among them: what it asks for is packets.
        let n = if n % 10 == 0 { 1 } else { n };
        broadcast.push(Instant::now(), &picture(n));
        let next = Instant::now() + Duration::from_millis(10);
        client.run("a picture's time", |_| Instant::now() >= next);
    }
    // Counts come once in two seconds.
    let until = Instant::now() + Duration::from_millis(3_500);
    client.run("the counts", |_| Instant::now() >= until);
    let (sent, resent) = (
        metric(&registry, "weir_rtc_packets_total", "sent"),
        metric(&registry, "weir_rtc_resent_packets_total", ""),
    );
    assert!(metric(&registry, "weir_rtc_nacks_total", "play") > 0.0);
    // Half of all is lost: all of it again, and what of that is lost, would be as much once more.
    assert!(sent >= 600.0 && resent > 0.0 && resent < sent * 0.4, "{resent} of {sent} again");
}

#[test]
fn a_restart_of_ice_gives_other_credentials_and_ends_nothing() {
    let (server, _) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    broadcast.push(Instant::now(), &picture(0));
    let (mut client, _, accepted, receiver) = watch(&server, &broadcast);
    let mut changes = client.rtc.sdp_api();
    let theirs = changes.ice_restart(false);
    let theirs = crate::peer::Credentials { ufrag: theirs.ufrag, password: theirs.pass };
    let before = server.fragment(&accepted.session).unwrap();
    let ours = server.restart_ice(&accepted.session, theirs).unwrap().credentials;
    assert_eq!(server.fragment(&accepted.session).unwrap(), ours.ufrag);
    assert_ne!(ours.ufrag, before);
    client.packets.clear();
    (1..4).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    client.run("pictures where they went", |client| client.packets.iter().any(|(_, p)| p.marker));
    assert!(receiver.try_recv().is_err(), "it is still there");
    server.close(&accepted.session).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().0, Ended::Asked);
}

#[test]
fn a_viewer_that_is_gone_without_a_word_is_let_go() {
    let (server, _) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    broadcast.push(Instant::now(), &picture(0));
    let (client, .., receiver) = watch(&server, &broadcast);
    drop(client);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().0, Ended::Left);
}

#[test]
fn checks_of_strangers_are_neither_answered_nor_followed() {
    let (server, registry) = server();
    let broadcast = server.broadcast();
    broadcast.set_tracks(&[track()]);
    broadcast.push(Instant::now(), &picture(0));
    let (mut client, ..) = watch(&server, &broadcast);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // One that was recorded, and the same with another transaction, which makes its signature wrong.
    let recorded = client.checks.last().unwrap().clone();
    let mut forged = recorded.clone();
    forged[10] ^= 1;
    for check in [&recorded, &forged] {
        stranger.send_to(check, server.address()).unwrap();
    }
    client.packets.clear();
    (1..6).for_each(|n| broadcast.push(Instant::now(), &picture(n)));
    client.run("pictures", |client| client.packets.iter().filter(|(_, p)| p.marker).count() == 5);
    assert!(stranger.recv(&mut [0; 100]).is_err(), "a stranger is answered");
    assert_eq!(metric(&registry, "weir_rtc_datagrams_dropped_total", "replay"), 1.0);
}

/// Keyframes of VP8 and VP9, of pictures as wide and high as `side`.
fn key(codec: Codec, side: u8) -> (Track, Frame) {
    let head = match codec {
        Codec::Vp8 => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, side, 0, side, 0],
        // Behind marker and sync code come the colours' four bits and two times sixteen of size less one.
        _ => {
            let size = (u32::from(side - 1) << 16 | u32::from(side - 1)).to_be_bytes();
            let mut bits = vec![0x82, 0x49, 0x83, 0x42];
            let mut carry = 0;
            for byte in size {
                bits.push(carry << 4 | byte >> 4);
                carry = byte & 0x0f;
            }
            bits.push(carry << 4);
            bits
        }
    };
    let data = Bytes::from([head, vec![side; 3_000]].concat());
    let config = codec::vpx::config_from_frame(codec, &data).unwrap().unwrap();
    let track = codec::track(TrackId::VIDEO, codec, Timescale::HZ_90K, config).unwrap();
    assert_eq!(track.video().unwrap().width, u32::from(side));
    (track, Frame { track: TrackId::VIDEO, dts: Timestamp(0), cts: 0, keyframe: true, data })
}

#[test]
fn vp8_and_vp9_are_watched() {
    let (server, _) = server();
    for codec in [Codec::Vp8, Codec::Vp9] {
        let (track, frame) = key(codec, 64);
        let broadcast = server.broadcast();
        broadcast.set_tracks(&[track]);
        broadcast.push(Instant::now(), &frame);
        let (mut client, offer, pending, _) =
            Client::of(Direction::RecvOnly, |config| config.enable_vp8(true).enable_vp9(true), None);
        let (sender, _receiver) = mpsc::sync_channel(4_096);
        let prepared = server.prepare_play(&offer, broadcast.tracks().unwrap().0).unwrap();
        let accepted = prepared.play(&broadcast, Box::new(Eye(sender))).unwrap();
        client.accept(pending, &accepted.answer);
        client.run("a picture", |client| client.packets.iter().any(|(_, p)| p.marker));
        let mut depacketizer = Depacketizer::new();
        depacketizer.expect(TrackId::VIDEO, codec);
        for (_, packet) in client.packets.drain(..) {
            depacketizer.push(Instant::now(), TrackId::VIDEO, packet);
        }
        let came = std::iter::from_fn(|| depacketizer.poll());
        let frames: Vec<Frame> = came
            .filter_map(|item| match item {
                Depacketized::Frame(frame) => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(frames.len(), 1, "{codec:?}");
        assert!(frames[0].keyframe && frames[0].data == frame.data);
    }
}

#[test]
fn layers_come_as_tracks_of_which_the_largest_is_the_main_one() {
    let (server, _) = server();
    let mut layers = Simulcast::new();
    ["l", "h"].iter().for_each(|rid| layers.add_send_layer(SimulcastLayer::new(rid)));
    let (mut client, offer, pending, mid) =
        Client::of(Direction::SendOnly, |config| config.enable_vp8(true), Some(layers));
    let (sender, receiver) = mpsc::sync_channel(4_096);
    let accepted = server.prepare_publish(&offer).unwrap().publish(Box::new(Ear(sender))).unwrap();
    assert!(accepted.answer.contains("a=simulcast:recv l;h"), "{}", accepted.answer);
    client.accept(pending, &accepted.answer);
    client.run("connected", |client| client.connected);
    let pt = client.payload_type(mid);
    let mut sequences = [100_u64; 2];
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); 2];
    let mut named = Vec::new();
    for n in 0..8_u32 {
        for ((rid, side), sequence) in [("l", 16), ("h", 64)].into_iter().zip(&mut sequences) {
            let (track, frame) = key(Codec::Vp8, side);
            let mut payloads = Vec::new();
            Packetizer::new(&track, 1_100).unwrap().packetize(&frame, &mut payloads);
            for payload in payloads {
                let mut api = client.rtc.direct_api();
                let stream = api.stream_tx_by_mid(mid, Some(Rid::from(rid))).unwrap();
                let write = RtpWrite::new(pt, (*sequence).into(), n * 3_000, Instant::now(), payload.data);
                stream.write_rtp(write.marker(payload.marker).nackable(true));
                *sequence += 1;
            }
        }
        client.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        let next = Instant::now() + Duration::from_millis(20);
        client.run("a picture's time", |_| Instant::now() >= next);
        while let Ok(Heard::Item(item)) = receiver.try_recv() {
            match item {
                Depacketized::Tracks(tracks) => named = tracks,
                Depacketized::Frame(frame) => {
                    got[usize::from(frame.track.index)].push(*frame.data.last().unwrap());
                }
                _ => {}
            }
        }
    }
    let widths: Vec<u32> = named.iter().map(|track| track.video().unwrap().width).collect();
    assert_eq!(widths, [64, 16]);
    for (layer, side) in got.iter().zip([64, 16]) {
        assert!(layer.len() >= 4 && layer.iter().all(|found| *found == side), "{got:?}");
    }
}

#[test]
fn what_repairs_losses_is_offered_and_not_taken() {
    let (server, _) = server();
    let (_, offer, ..) = Client::new(Direction::SendOnly);
    let line = offer.lines().find(|line| line.starts_with("m=video")).unwrap().to_owned();
    let more = "a=rtpmap:60 red/90000\r\na=rtpmap:61 ulpfec/90000\r\na=rtpmap:62 flexfec-03/90000\r\n\
        a=fmtp:62 repair-window=10000000\r\na=rtpmap:63 rtx/90000\r\na=fmtp:63 apt=60\r\n";
    let offer = offer.replace(&line, &format!("{line} 60 61 62 63")) + more;
    let prepared = server.prepare_publish(&offer).unwrap();
    let (sender, _receiver) = mpsc::sync_channel(16);
    let answer = prepared.publish(Box::new(Ear(sender))).unwrap().answer;
    assert!(answer.contains("H264/90000") && !answer.contains("fec") && !answer.contains("red/"), "{answer}");
}
