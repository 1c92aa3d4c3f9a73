//! Files of real encoders through packets and back, in order, out of order, with losses and lies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Depacketized, Depacketizer, Packet, Packetizer, Payload, SenderReport};
use crate::codec::nal;
use crate::flv::testing::{AV1_AAC, H264_AAC, HEVC_OPUS, VP8, VP9_OPUS, media};
use crate::frame::{Codec, Frame, Kind, Track, TrackId};

/// A track's packets, and the frames that they are made of.
struct Sent {
    track: Track,
    frames: Vec<Frame>,
    packets: Vec<Packet>,
}

fn send(file: &'static [u8], kind: Kind, max_bytes: usize) -> Sent {
    let (tracks, frames) = media(file);
    let track = tracks.into_iter().find(|t| t.id.kind == kind).unwrap();
    let mut packetizer = Packetizer::new(&track, max_bytes).unwrap();
    let mut packets = Vec::new();
    let frames: Vec<Frame> = frames.into_iter().filter(|f| f.track == track.id).collect();
    for frame in &frames {
        let mut payloads = Vec::new();
        let timestamp = packetizer.packetize(frame, &mut payloads);
        for Payload { marker, data } in payloads {
            assert!(data.len() <= max_bytes || kind == Kind::Audio, "{} bytes", data.len());
            let sequence = u16::try_from((packets.len() + 65_500) % 65_536).unwrap();
            let timestamp = u32::try_from(timestamp.rem_euclid(1 << 32)).unwrap();
            packets.push(Packet { sequence, timestamp, marker, payload: data });
        }
    }
    Sent { track, frames, packets }
}

/// What comes of packets that come a millisecond after each other.
fn receive(id: TrackId, codec: Codec, packets: impl IntoIterator<Item = Packet>) -> Vec<Depacketized> {
    let mut depacketizer = Depacketizer::new();
    assert!(depacketizer.expect(id, codec));
    let mut now = Instant::now();
    let mut all = Vec::new();
    for packet in packets {
        now += Duration::from_millis(1);
        depacketizer.push(now, id, packet);
        all.extend(std::iter::from_fn(|| depacketizer.poll()));
    }
    while let Some(at) = depacketizer.poll_timeout() {
        depacketizer.handle_timeout(at);
        all.extend(std::iter::from_fn(|| depacketizer.poll()));
    }
    all
}

fn frames(all: &[Depacketized]) -> Vec<&Frame> {
    all.iter()
        .filter_map(|item| match item {
            Depacketized::Frame(frame) => Some(frame),
            _ => None,
        })
        .collect()
}

/// The units that packets carry of a frame.
fn carried(codec: Codec, frame: &Frame) -> Vec<u8> {
    let keep: fn(u8) -> bool = match codec {
        Codec::H264 => |header| !matches!(header & 0x1f, 7..=12),
        Codec::H265 => |header| !matches!(header >> 1 & 0x3f, 32..=38),
        _ => return frame.data.to_vec(),
    };
    nal::units(&frame.data).filter(|unit| keep(unit[0])).flat_map(<[u8]>::to_vec).collect()
}

fn same(codec: Codec, sent: &Frame, got: &Frame) {
    assert_eq!(got.keyframe, sent.keyframe);
    let got = match codec {
        Codec::H264 | Codec::H265 => nal::units(&got.data).flat_map(<[u8]>::to_vec).collect(),
        _ => got.data.to_vec(),
    };
    assert_eq!(got, carried(codec, sent));
}

#[test]
fn what_is_sent_arrives() {
    for (file, kind) in [
        (H264_AAC, Kind::Video),
        (HEVC_OPUS, Kind::Video),
        (HEVC_OPUS, Kind::Audio),
        (AV1_AAC, Kind::Video),
        (VP8, Kind::Video),
        (VP9_OPUS, Kind::Video),
    ] {
        for max_bytes in [64, 100, 300, 1150] {
            let sent = send(file, kind, max_bytes);
            let codec = sent.track.codec;
            let all = receive(sent.track.id, codec, sent.packets);
            let Some(Depacketized::Tracks(tracks)) = all.first() else { panic!("{:?}", all.first()) };
            assert_eq!(tracks.len(), 1);
            if kind == Kind::Video {
                assert_eq!(tracks[0].params, sent.track.params);
                assert_eq!(tracks[0].rfc6381, sent.track.rfc6381);
            }
            let got = frames(&all);
            assert_eq!(got.len(), sent.frames.len(), "{codec:?} {max_bytes}");
            assert_eq!(all.len(), got.len() + 1, "{all:?}");
            for (got, sent) in got.iter().zip(&sent.frames) {
                same(codec, sent, got);
            }
            let span = |frames: &[&Frame]| frames.last().unwrap().pts().0 - frames[0].pts().0;
            let tolerance = if kind == Kind::Audio { 90 } else { 0 };
            assert!((span(&got) - span(&sent.frames.iter().collect::<Vec<_>>())).abs() <= tolerance);
        }
    }
}

#[test]
fn a_loss_costs_the_frames_up_to_the_next_keyframe_and_asks_for_one() {
    for file in [H264_AAC, HEVC_OPUS, AV1_AAC, VP8, VP9_OPUS] {
        let sent = send(file, Kind::Video, 300);
        let (id, codec) = (sent.track.id, sent.track.codec);
        for lost in 0..sent.packets.len() {
            let packets =
                sent.packets.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, p)| p.clone());
            let all = receive(id, codec, packets);
            let got = frames(&all);
            // Every frame is one of those that were sent, none is there whose reference is not.
            let mut left = sent.frames.iter();
            let mut usable = true;
            for got in &got {
                let mut skipped = 0;
                let found = left.by_ref().find(|sent| {
                    let found = carried(codec, sent)
                        == match codec {
                            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => got.data.to_vec(),
                            _ => nal::units(&got.data).flat_map(<[u8]>::to_vec).collect(),
                        };
                    skipped += usize::from(!found);
                    found
                });
                assert!(found.is_some(), "{codec:?} without packet {lost}: a frame that nobody sent");
                usable &= skipped == 0;
                usable |= got.keyframe;
                assert!(usable, "{codec:?} without packet {lost}: a frame without its reference");
            }
            assert!(!got.is_empty());
            if got.len() < sent.frames.len() {
                let wanted = all.iter().any(|item| matches!(item, Depacketized::KeyframeWanted(_)));
                // Nobody is asked for what comes anyway, or when nothing shows the loss.
                let next = sent.packets.get(lost + 1).map(|packet| packet.timestamp);
                let alone = next.is_none_or(|next| {
                    let keyframes = sent.frames.iter().filter(|f| f.keyframe);
                    keyframes.into_iter().any(|f| u32::try_from(f.pts().0).unwrap() == next)
                });
                assert!(wanted || alone, "{codec:?} without packet {lost}");
            }
        }
    }
}

#[test]
fn a_retransmission_repairs_a_loss() {
    let sent = send(H264_AAC, Kind::Video, 300);
    let mut packets = sent.packets.clone();
    let late = packets.remove(4);
    packets.insert(12, late);
    let all = receive(sent.track.id, sent.track.codec, packets);
    assert_eq!(frames(&all).len(), sent.frames.len());
}

#[test]
fn tracks_begin_together_and_one_that_never_comes_holds_nothing_up_for_long() {
    let (video, audio) = (send(HEVC_OPUS, Kind::Video, 1150), send(HEVC_OPUS, Kind::Audio, 1150));
    let mut depacketizer = Depacketizer::new();
    depacketizer.expect(TrackId::VIDEO, Codec::H265);
    depacketizer.expect(TrackId::AUDIO, Codec::Opus);
    let start = Instant::now();
    depacketizer.push(start, TrackId::AUDIO, audio.packets[0].clone());
    assert_eq!(depacketizer.poll(), None);
    for packet in &video.packets {
        depacketizer.push(start, TrackId::VIDEO, packet.clone());
    }
    let Some(Depacketized::Tracks(tracks)) = depacketizer.poll() else { panic!() };
    assert_eq!(tracks.iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::H265, Codec::Opus]);

    let mut depacketizer = Depacketizer::new();
    depacketizer.expect(TrackId::VIDEO, Codec::H265);
    depacketizer.expect(TrackId::AUDIO, Codec::Opus);
    for (at, packet) in audio.packets.iter().enumerate() {
        depacketizer.push(start + Duration::from_millis(at as u64 * 200), TrackId::AUDIO, packet.clone());
    }
    let Some(Depacketized::Tracks(tracks)) = depacketizer.poll() else { panic!() };
    assert_eq!(tracks.iter().map(|t| t.codec).collect::<Vec<_>>(), [Codec::Opus]);
}

#[test]
fn other_parameter_sets_are_other_tracks() {
    let (small, _) = media(H264_AAC);
    let sent = send(H264_AAC, Kind::Video, 1150);
    let other = crate::codec::h264::config_from_parameter_sets(
        &[&crate::codec::testing::hex("67640028acd940780227e5c04400000fa40003a9803c60c658")],
        &[&crate::codec::testing::hex("68ebe3cb22c0")],
    )
    .unwrap();
    let track = Track { config: other.clone(), ..small[0].clone() };
    let mut packetizer = Packetizer::new(&track, 1150).unwrap();
    let mut payloads = Vec::new();
    packetizer.packetize(&sent.frames[0], &mut payloads);
    let mut packets = sent.packets.clone();
    let last = packets.last().unwrap().clone();
    for (at, payload) in payloads.into_iter().enumerate() {
        packets.push(Packet {
            sequence: last.sequence.wrapping_add(1 + u16::try_from(at).unwrap()),
            timestamp: last.timestamp + 9_000,
            marker: payload.marker,
            payload: payload.data,
        });
    }
    let all = receive(sent.track.id, Codec::H264, packets);
    let sets: Vec<_> = all
        .iter()
        .filter_map(|item| match item {
            Depacketized::Tracks(tracks) => Some(tracks[0].config.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(sets.len(), 2);
    assert_eq!(sets[1], other);
}

#[test]
fn aac_is_not_carried() {
    let (tracks, _) = media(H264_AAC);
    assert!(Packetizer::new(&tracks[1], 1150).is_err());
    assert!(!Depacketizer::new().expect(TrackId::AUDIO, Codec::Aac));
}

const CODECS: [Codec; 6] = [Codec::H264, Codec::H265, Codec::Av1, Codec::Opus, Codec::Vp8, Codec::Vp9];

proptest! {
    #[test]
    fn reordering_within_bounds_costs_nothing(seed in any::<u64>(), file in prop::sample::select(vec![0, 1, 2, 3, 4])) {
        let sent = send([H264_AAC, HEVC_OPUS, AV1_AAC, VP8, VP9_OPUS][file], Kind::Video, 200);
        let mut packets = sent.packets.clone();
        let mut state = seed | 1;
        // The first one says where the sender began; behind it, neighbours change places.
        for at in 1..packets.len().saturating_sub(4) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            packets.swap(at, at + (state >> 62) as usize);
        }
        let all = receive(sent.track.id, sent.track.codec, packets);
        prop_assert_eq!(frames(&all).len(), sent.frames.len());
    }

    #[test]
    fn no_packets_bring_it_down(
        payloads in prop::collection::vec((any::<u16>(), any::<u32>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..60),
        near in any::<bool>(),
        codec in prop::sample::select(CODECS.to_vec()),
    ) {
        let id = TrackId { kind: codec.kind(), index: 0 };
        let packets = payloads.into_iter().enumerate().map(|(at, (sequence, timestamp, marker, payload))| Packet {
            sequence: if near { u16::try_from(at).unwrap() } else { sequence },
            timestamp: if near { timestamp & 1 } else { timestamp },
            marker,
            payload: Arc::from(payload),
        });
        for item in receive(id, codec, packets) {
            if let Depacketized::Frame(frame) = item {
                prop_assert!(!frame.data.is_empty());
            }
        }
    }

    #[test]
    fn any_report_is_survived(reports in prop::collection::vec((any::<bool>(), any::<i64>(), any::<u32>()), 0..30)) {
        let (video, audio) = (send(HEVC_OPUS, Kind::Video, 1150), send(HEVC_OPUS, Kind::Audio, 1150));
        let mut depacketizer = Depacketizer::new();
        depacketizer.expect(TrackId::VIDEO, Codec::H265);
        depacketizer.expect(TrackId::AUDIO, Codec::Opus);
        let now = Instant::now();
        let mut reports = reports.into_iter();
        let mut last = i64::MIN;
        for (video, audio) in video.packets.iter().zip(&audio.packets) {
            depacketizer.push(now, TrackId::VIDEO, video.clone());
            depacketizer.push(now, TrackId::AUDIO, audio.clone());
            if let Some((of_video, wall_clock_us, timestamp)) = reports.next() {
                let id = if of_video { TrackId::VIDEO } else { TrackId::AUDIO };
                depacketizer.report(id, SenderReport { wall_clock_us, timestamp });
            }
            while let Some(item) = depacketizer.poll() {
                if let Depacketized::Frame(frame) = item && frame.track == TrackId::VIDEO {
                    prop_assert!(frame.dts.0 > last);
                    last = frame.dts.0;
                }
            }
        }
    }
}
