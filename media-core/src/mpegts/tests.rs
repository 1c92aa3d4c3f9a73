//! Round trips, cuts and lies.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::section::Section;
use super::*;
use crate::codec::{self, aac, opus};
use crate::flv::testing;
use crate::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};

/// What the muxer adds to timestamps.
const DELAY: i64 = 18_000;

fn demux(bytes: &[u8], piece: usize) -> (Vec<Demuxed>, Counters) {
    let mut demuxer = Demuxer::new();
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        demuxer.push(piece);
        events.extend(std::iter::from_fn(|| demuxer.next_event()));
    }
    demuxer.finish();
    events.extend(std::iter::from_fn(|| demuxer.next_event()));
    (events, demuxer.counters())
}

fn mux(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
    let mut muxer = Muxer::new();
    assert_eq!(muxer.set_tracks(tracks), []);
    let mut out = BytesMut::new();
    for frame in frames {
        muxer.frame(frame, &mut out);
        assert_eq!(out.len() % PACKET_BYTES, 0);
    }
    out.to_vec()
}

fn parts(events: &[Demuxed]) -> (Vec<Track>, Vec<Frame>) {
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Demuxed::Tracks(set) => tracks = set.clone(),
            Demuxed::Frame(frame) => {
                assert!(tracks.iter().any(|track| track.id == frame.track), "a frame of no track");
                frames.push(frame.clone());
            }
        }
    }
    (tracks, frames)
}

/// In the order of each track, and with the muxer's delay undone.
fn by_track(frames: &[Frame], delay: i64) -> Vec<Frame> {
    let mut frames = frames.to_vec();
    for frame in &mut frames {
        frame.dts.0 -= delay;
    }
    frames.sort_by_key(|frame| frame.track);
    frames
}

/// Without what TS has no place for: parameter sets that a frame repeats.
fn without_sets(track: &Track, frame: &Frame) -> Frame {
    use codec::parameter_sets::{Role, role};
    if track.codec.kind() == Kind::Audio {
        return frame.clone();
    }
    let mut data = BytesMut::new();
    for unit in codec::nal::units(&frame.data) {
        if matches!(role(track.codec, unit), Role::Picture | Role::Other) {
            data.extend_from_slice(&u32::try_from(unit.len()).unwrap().to_be_bytes());
            data.extend_from_slice(unit);
        }
    }
    Frame { data: data.freeze(), ..frame.clone() }
}

#[test]
fn what_ffmpeg_wrote_as_flv_comes_back() {
    for file in [testing::H264_AAC, testing::H264_MP3, testing::HEVC_OPUS, testing::MULTITRACK] {
        let (tracks, frames) = testing::media(file);
        let wire = mux(&tracks, &frames);
        let (events, counters) = demux(&wire, 1_316);
        let (tracks_again, again) = parts(&events);
        assert_eq!(counters, Counters::default());
        assert_eq!(tracks_again.len(), tracks.len());
        for (track, again) in tracks.iter().zip(&tracks_again) {
            assert_eq!((track.id, track.codec, &track.rfc6381), (again.id, again.codec, &again.rfc6381));
            assert_eq!(track.params, again.params);
        }
        let expected: Vec<Frame> = frames
            .iter()
            .map(|frame| without_sets(tracks.iter().find(|t| t.id == frame.track).unwrap(), frame))
            .collect();
        assert_eq!(by_track(&again, DELAY), by_track(&expected, 0));
    }
}

/// Files that ffmpeg 9 wrote, behind a byte that is the fuzz target's.
macro_rules! ffmpeg_wrote {
    ($name:literal) => {
        &include_bytes!(concat!("../../../tests/fuzz/corpus/ts_demuxer/", $name))[1..]
    };
}

#[test]
fn what_ffmpeg_writes_is_what_ffprobe_reads_of_it() {
    // Codec, how many frames ffprobe counts, decoding times of the first and the second.
    type Seen = (Codec, usize, [i64; 2]);
    let files: [(&[u8], &[Seen]); 4] = [
        (
            ffmpeg_wrote!("h264_aac"),
            &[(Codec::H264, 12, [126_000, 129_000]), (Codec::Aac, 20, [130_080, 132_000])],
        ),
        (
            ffmpeg_wrote!("h265_opus"),
            &[(Codec::H265, 12, [126_000, 129_000]), (Codec::Opus, 21, [131_415, 133_215])],
        ),
        (ffmpeg_wrote!("latm"), &[(Codec::Aac, 20, [126_000, 127_920])]),
        (ffmpeg_wrote!("mp3"), &[(Codec::Mp3, 17, [126_000, 128_351])]),
    ];
    for (file, expected) in files {
        let (events, counters) = demux(file, 1_316);
        assert_eq!(counters, Counters::default());
        let (tracks, frames) = parts(&events);
        assert_eq!(tracks.len(), expected.len());
        for (track, (codec, count, first)) in tracks.iter().zip(expected) {
            let dts: Vec<i64> = frames.iter().filter(|f| f.track == track.id).map(|f| f.dts.0).collect();
            assert_eq!((track.codec, &dts[..2]), (*codec, &first[..]));
            assert!(dts.is_sorted_by(|one, next| one < next));
            assert_eq!(dts.len(), *count, "{codec:?}");
        }
        assert!(frames.iter().find(|f| f.track.kind == Kind::Video).is_none_or(|f| f.keyframe));
    }
}

#[test]
fn av1_is_left_out_and_said() {
    let (vp9, _) = testing::media(testing::VP9_OPUS);
    assert_eq!(Muxer::new().set_tracks(&vp9), [TrackId::VIDEO]);
    let (tracks, frames) = testing::media(testing::AV1_AAC);
    let mut muxer = Muxer::new();
    assert_eq!(muxer.set_tracks(&tracks), [TrackId::VIDEO]);
    let mut out = BytesMut::new();
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    let (_, again) = parts(&demux(&out, 188).0);
    assert_eq!(again.len(), frames.iter().filter(|f| f.track == TrackId::AUDIO).count());
}

#[test]
fn tables_and_clock_references_are_as_close_as_receivers_want() {
    let (tracks, frames) = testing::media(testing::H264_AAC);
    let mut muxer = Muxer::new();
    muxer.set_tracks(&tracks);
    let (mut tables_at, mut reference_at, mut counters) = (i64::MIN / 2, i64::MIN / 2, [None::<u8>; 0x2000]);
    for frame in &frames {
        let mut out = BytesMut::new();
        muxer.frame(frame, &mut out);
        let mut pids = Vec::new();
        for packet in out.as_chunks::<PACKET_BYTES>().0 {
            let packet = packet::Packet::parse(packet).unwrap();
            pids.push(packet.pid);
            if packet.payload.is_some() {
                let last = counters[usize::from(packet.pid)].replace(packet.counter);
                assert!(last.is_none_or(|last| (last + 1) & 15 == packet.counter), "counters run on");
            }
            if let Some(pcr) = packet.pcr {
                let pcr = i64::try_from(pcr).unwrap();
                assert!(pcr <= frame.dts.0 && pcr > reference_at);
                reference_at = pcr;
            }
        }
        if pids.first() == Some(&0) {
            assert_eq!(pids[1], 0x1000);
            tables_at = frame.dts.0;
        }
        let starts = frame.keyframe && frame.track == TrackId::VIDEO;
        assert!(!starts || tables_at == frame.dts.0, "a keyframe has tables before it");
        assert!(frame.dts.0 - tables_at <= 45_000 && frame.dts.0 - reference_at <= 9_000);
    }
}

#[test]
fn a_jump_is_a_discontinuity_that_is_told() {
    let (tracks, mut frames) = testing::media(testing::H264_AAC);
    let again: Vec<Frame> = frames
        .iter()
        .cloned()
        .map(|mut f| {
            f.dts.0 += 90_000_000;
            f
        })
        .collect();
    let count = frames.len();
    frames.extend(again);
    let (events, counters) = demux(&mux(&tracks, &frames), 188);
    assert_eq!((counters.continuity_errors, counters.discontinuities), (0, 1));
    assert_eq!(parts(&events).1.len(), 2 * count);
}

#[test]
fn timestamps_go_on_behind_the_wrap() {
    let (tracks, mut frames) = testing::media(testing::H264_AAC);
    for frame in &mut frames {
        frame.dts.0 += (1 << 33) - 18_000 - 20_000;
    }
    let (events, counters) = demux(&mux(&tracks, &frames), 188);
    assert_eq!(counters, Counters::default());
    let again = parts(&events).1;
    assert_eq!(by_track(&again, DELAY), by_track(&frames, 0));
}

#[test]
fn other_parameter_sets_are_other_tracks() {
    let (tracks, frames) = testing::media(testing::H264_AAC);
    let (other, others) = testing::media(testing::HEVC_OPUS);
    let mut muxer = Muxer::new();
    let mut out = BytesMut::new();
    for (tracks, frames) in [(&tracks, &frames), (&other, &others), (&tracks, &frames)] {
        assert_eq!(muxer.set_tracks(tracks), []);
        frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    }
    let (events, counters) = demux(&out, 188);
    assert_eq!(counters.continuity_errors, 0);
    let told: Vec<Vec<Codec>> = events
        .iter()
        .filter_map(|event| match event {
            Demuxed::Tracks(set) => Some(set.iter().map(|track| track.codec).collect()),
            Demuxed::Frame(_) => None,
        })
        .collect();
    use Codec::*;
    let all = [&[H264][..], &[H264, Aac], &[H265, Aac], &[H265, Opus], &[H264, Opus], &[H264, Aac]];
    assert_eq!(told, all);
}

#[test]
fn a_track_that_comes_back_goes_on_counting() {
    let (tracks, frames) = testing::media(testing::H264_AAC);
    let mut muxer = Muxer::new();
    let mut out = BytesMut::new();
    for tracks in [&tracks[..], &tracks[..1], &tracks, &tracks[1..], &tracks] {
        muxer.set_tracks(tracks);
        frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    }
    let (events, counters) = demux(&out, 188);
    assert_eq!(counters.continuity_errors, 0);
    let count = |id| frames.iter().filter(|frame| frame.track == id).count();
    assert_eq!(parts(&events).1.len(), 4 * (count(TrackId::VIDEO) + count(TrackId::AUDIO)));
}

#[test]
fn a_lost_packet_costs_its_frame_and_is_counted() {
    let (tracks, frames) = testing::media(testing::H264_AAC);
    let wire = mux(&tracks, &frames);
    let packets = wire.len() / PACKET_BYTES;
    for lost in 2..packets {
        let mut damaged = wire.clone();
        let gone: Vec<u8> = damaged.drain(lost * PACKET_BYTES..(lost + 1) * PACKET_BYTES).collect();
        let (events, counters) = demux(&damaged, 1_316);
        let (_, again) = parts(&events);
        let on_its_pid = |bytes: &[u8]| {
            let packets = bytes.as_chunks::<PACKET_BYTES>().0.iter();
            packets
                .filter(|other| {
                    other[3] & 0x10 != 0 && other[1] & 0x1f == gone[1] & 0x1f && other[2] == gone[2]
                })
                .count()
        };
        let (before, after) =
            (on_its_pid(&wire[..lost * PACKET_BYTES]), on_its_pid(&damaged[lost * PACKET_BYTES..]));
        let has_payload = gone[3] & 0x10 != 0;
        let is_seen = has_payload && before > 0 && after > 0;
        assert_eq!(counters.continuity_errors, u64::from(is_seen), "{lost}");
        assert_eq!(counters.resyncs, 0);
        // A frame, or the one before it whose length was left open as well; before the first configuration all.
        if lost > 40 {
            assert!(again.len() + 2 >= frames.len(), "{lost}: {} of {}", again.len(), frames.len());
        }
    }
}

#[test]
fn scrambled_packets_and_those_that_were_marked_are_counted() {
    let (tracks, frames) = testing::media(testing::H264_AAC);
    let mut wire = mux(&tracks, &frames);
    let count = |wire: &[u8]| demux(wire, 188).1;
    wire[188 * 5 + 3] |= 0x80;
    assert_eq!(count(&wire).scrambled, 1);
    wire[188 * 9 + 1] |= 0x80;
    assert_eq!(count(&wire).transport_errors, 1);
    wire[188 * 20] = 0;
    assert_eq!(count(&wire).resyncs, 1);
    // An adaptation field that goes past the packet.
    let at = 188 * 30;
    wire[at + 3] = wire[at + 3] & 0x0f | 0x30;
    wire[at + 4] = 250;
    assert_eq!(count(&wire).malformed_packets, 1);
}

/// A PMT with these bytes behind its fixed part.
fn program_map(streams: &[u8], version: u8) -> BytesMut {
    let mut body = vec![0xe1, 0, 0xf0, 0];
    body.extend_from_slice(streams);
    let mut out = BytesMut::new();
    Section { table_id: 2, extension: 1, version, current: true, number: 0, body: &body }.write(&mut out);
    out
}

/// Packets with the PAT of the muxer and this section on the PMT's PID.
fn with_map(section: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let mut muxer = Muxer::new();
    muxer.set_tracks(&[]);
    muxer.tables(&mut out);
    out.truncate(PACKET_BYTES);
    let mut counter = 0;
    mux::put_section(0x1000, &mut counter, section, &mut out);
    out
}

#[test]
fn maps_that_are_bombs_take_little() {
    // As many streams as fit, all of them pictures, on PIDs of their own.
    let streams: Vec<u8> = (0..200u16)
        .flat_map(|n| [0x1b, 0xe1 + u8::try_from(n >> 8).unwrap(), n.to_be_bytes()[1], 0xf0, 0])
        .collect();
    let mut wire = with_map(&program_map(&streams, 0));
    // None of them ever ends a PES packet.
    let mut demuxer = Demuxer::new();
    for pid in 0x100..0x1c8u16 {
        let mut head = [0u8; PACKET_BYTES];
        head[..10].copy_from_slice(&[
            0x47,
            0x40 | pid.to_be_bytes()[0],
            pid.to_be_bytes()[1],
            0x10,
            0,
            0,
            1,
            0xe0,
            0,
            0,
        ]);
        wire.extend_from_slice(&head);
    }
    demuxer.push(&wire);
    assert_eq!(demuxer.next_event(), None);
    assert_eq!(demuxer.streams_followed(), 16);
    let mut counter = 0u8;
    for _ in 0..60_000u32 {
        counter = counter.wrapping_add(1);
        let mut packet = [0xaa; PACKET_BYTES];
        let pid = 0x100u16;
        packet[..4].copy_from_slice(&[
            0x47,
            pid.to_be_bytes()[0],
            pid.to_be_bytes()[1],
            0x10 | counter & 0x0f,
        ]);
        demuxer.push(&packet);
        assert_eq!(demuxer.next_event(), None);
        assert!(demuxer.buffered_bytes() <= 17 * 1024 * 1024);
    }

    // Descriptors and information that are longer than the section.
    for lie in [&[0x1b, 0xe1, 0, 0xff, 0xff][..], &[0x1b, 0xe1, 0, 0xf0, 1]] {
        let (events, counters) = demux(&with_map(&program_map(lie, 0)), 188);
        assert_eq!((events, counters.malformed_sections), (vec![], 1));
    }
    let mut wrong = program_map(&[0x1b, 0xe1, 0, 0xf0, 0], 0);
    wrong[14] ^= 1;
    assert_eq!(demux(&with_map(&wrong), 188).1.malformed_sections, 1);
}

fn audio_track(codec: Codec, config: Bytes) -> Track {
    codec::track(TrackId::AUDIO, codec, Timescale::HZ_90K, config).unwrap()
}

fn sounds(durations: impl Iterator<Item = i64>, data: &[Vec<u8>], start: i64) -> Vec<Frame> {
    let mut dts = start;
    durations
        .zip(data)
        .map(|(duration, data)| {
            let frame = Frame {
                track: TrackId::AUDIO,
                dts: Timestamp(dts),
                cts: 0,
                keyframe: true,
                data: Bytes::copy_from_slice(data),
            };
            dts += duration;
            frame
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_gives_the_same(piece in 1usize..600, garbage in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..60) {
        let (tracks, frames) = testing::media(testing::MULTITRACK);
        let mut wire = mux(&tracks, &frames);
        let at = at * PACKET_BYTES;
        wire.splice(at..at, garbage);
        prop_assert_eq!(demux(&wire, piece), demux(&wire, wire.len()));
    }

    #[test]
    fn pictures_come_back(
        shapes in prop::collection::vec((1usize..5_000, any::<bool>(), -3i32..20), 1..30),
        hevc: bool,
        start in 0i64..(1 << 33),
    ) {
        let file = if hevc { testing::HEVC_OPUS } else { testing::H264_AAC };
        let track = testing::media(file).0.remove(0);
        let frames: Vec<Frame> = shapes
            .iter()
            .enumerate()
            .map(|(index, &(bytes, keyframe, cts))| {
                let keyframe = keyframe || index == 0;
                let head: &[u8] = match (hevc, keyframe) {
                    (true, true) => &[19 << 1, 1],
                    (true, false) => &[1 << 1, 1],
                    (false, true) => &[0x65],
                    (false, false) => &[0x41],
                };
                let unit: Vec<u8> = head.iter().copied().chain((0..bytes).map(|n| u8::try_from(n % 250).unwrap() + 2)).collect();
                let mut data = u32::try_from(unit.len()).unwrap().to_be_bytes().to_vec();
                data.extend_from_slice(&unit);
                let dts = Timestamp(start + index as i64 * 3_000);
                Frame { track: TrackId::VIDEO, dts, cts: cts * 1_500, keyframe, data: data.into() }
            })
            .collect();
        let (events, counters) = demux(&mux(std::slice::from_ref(&track), &frames), 1_316);
        let (tracks, mut again) = parts(&events);
        prop_assert_eq!(counters, Counters::default());
        prop_assert_eq!(tracks.len(), 1);
        prop_assert_eq!(&tracks[0].params, &track.params);
        // The first timestamp is taken as it is on the wire.
        let wrapped = (start + DELAY).rem_euclid(1 << 33) - start;
        again.iter_mut().for_each(|frame| frame.dts.0 -= wrapped);
        prop_assert_eq!(again, frames);
    }

    #[test]
    fn aac_comes_back(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2_000), 1..40),
        rate in prop::sample::select(vec![48_000u32, 44_100, 24_000, 8_000]),
        channels in 1u8..=6,
        start in 0i64..1 << 32,
    ) {
        let track = audio_track(Codec::Aac, aac::low_complexity_config(rate, channels).unwrap());
        let frames = sounds(std::iter::repeat(1_024 * 90_000 / i64::from(rate)), &data, start);
        let (events, counters) = demux(&mux(std::slice::from_ref(&track), &frames), 188);
        prop_assert_eq!(counters, Counters::default());
        let (tracks, again) = parts(&events);
        prop_assert_eq!(tracks, vec![track]);
        prop_assert_eq!(by_track(&again, DELAY), frames);
    }

    #[test]
    fn opus_comes_back(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_500), 1..40),
        channels in 1u8..=8,
        start in 0i64..1 << 32,
    ) {
        // CELT, 20 ms, one frame.
        let data: Vec<Vec<u8>> = data.into_iter().map(|data| [&[0xfc][..], &data].concat()).collect();
        let track = audio_track(Codec::Opus, opus::identification_header(channels, 48_000).unwrap());
        let frames = sounds(std::iter::repeat(1_800), &data, start);
        let (events, counters) = demux(&mux(std::slice::from_ref(&track), &frames), 188);
        prop_assert_eq!(counters, Counters::default());
        let (tracks, again) = parts(&events);
        prop_assert_eq!(tracks, vec![track]);
        prop_assert_eq!(by_track(&again, DELAY), frames);
    }

    #[test]
    fn mp3_comes_back(padded in prop::collection::vec(any::<bool>(), 1..40), mono: bool, start in 0i64..1 << 32) {
        let data: Vec<Vec<u8>> = padded
            .iter()
            .map(|&padded| {
                let header = [0xff, 0xfb, 0x90 | u8::from(padded) << 1, if mono { 0xc4 } else { 0x44 }];
                let mut frame = header.to_vec();
                frame.resize(codec::mp3::frame_bytes(header).unwrap(), 7);
                frame
            })
            .collect();
        let track = codec::mp3::track(TrackId::AUDIO, Timescale::HZ_90K, &data[0]).unwrap();
        let frames = sounds(std::iter::repeat(1_152 * 90_000 / 44_100), &data, start);
        let (events, counters) = demux(&mux(std::slice::from_ref(&track), &frames), 188);
        prop_assert_eq!(counters, Counters::default());
        let (tracks, again) = parts(&events);
        prop_assert_eq!(tracks, vec![track]);
        prop_assert_eq!(by_track(&again, DELAY), frames);
    }

    #[test]
    fn damage_anywhere_brings_nothing_down(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        file in prop::sample::select(vec![testing::H264_AAC, testing::H264_MP3, testing::HEVC_OPUS]),
    ) {
        let (tracks, frames) = testing::media(file);
        let mut wire = mux(&tracks, &frames);
        for (at, value) in damage {
            let at = at.index(wire.len());
            wire[at] = value;
        }
        let (events, _) = demux(&wire, 1_316);
        parts(&events);
    }
}
