//! What a demuxer makes of bodies, good and bad.

use proptest::prelude::*;

use super::super::testing::{self, ALL, AV1_AAC, H264_AAC, H264_MP3, HEVC_OPUS, MULTITRACK, VP8, VP9_OPUS};
use super::super::{frame_body, metadata, sequence_header, timestamp_ms};
use super::*;

fn video(body: impl AsRef<[u8]>) -> Tag {
    Tag { kind: TagKind::Video, timestamp_ms: 40, body: Bytes::copy_from_slice(body.as_ref()) }
}

fn audio(body: impl AsRef<[u8]>) -> Tag {
    Tag { kind: TagKind::Audio, timestamp_ms: 40, body: Bytes::copy_from_slice(body.as_ref()) }
}

fn one(demuxer: &mut Demuxer, tag: Tag) -> Demuxed {
    let mut out: Vec<_> = demuxer.push(tag).unwrap().collect();
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

fn frame(demuxer: &mut Demuxer, tag: Tag) -> Frame {
    match one(demuxer, tag) {
        Demuxed::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

fn config(file: &'static [u8], codec: Codec) -> Bytes {
    testing::media(file).0.into_iter().find(|t| t.codec == codec).unwrap().config
}

/// A slice of an IDR picture, and one of another.
const IDR: &[u8] = &[0, 0, 0, 2, 0x65, 0x88];
const INTER: &[u8] = &[0, 0, 0, 2, 0x41, 0x9a];

/// A demuxer that knows H.264 and AAC.
fn ready() -> Demuxer {
    let mut demuxer = Demuxer::new();
    one(&mut demuxer, video([&[0x17, 0, 0, 0, 0], config(H264_AAC, Codec::H264).as_ref()].concat()));
    one(&mut demuxer, audio([&[0xaf, 0], config(H264_AAC, Codec::Aac).as_ref()].concat()));
    demuxer
}

fn described(tracks: &[Track]) -> Vec<String> {
    tracks.iter().map(|t| format!("{} {}", t.id, t.codec.name())).collect()
}

#[test]
fn files_of_ffmpeg_5_and_9_are_read() {
    let files: [(&'static [u8], &[&str], &[usize]); 7] = [
        (H264_AAC, &["v0 H.264", "a0 AAC"], &[8, 36]),
        (H264_MP3, &["v0 H.264", "a0 MP3"], &[8, 32]),
        (HEVC_OPUS, &["v0 H.265", "a0 Opus"], &[8, 41]),
        (AV1_AAC, &["v0 AV1", "a0 AAC"], &[8, 36]),
        (VP9_OPUS, &["v0 VP9", "a0 Opus"], &[8, 41]),
        (VP8, &["v0 VP8"], &[8]),
        (MULTITRACK, &["v0 H.264", "v1 H.265", "a0 AAC", "a1 Opus"], &[8, 8, 36, 41]),
    ];
    for (file, names, counts) in files {
        let (tracks, frames) = testing::media(file);
        assert_eq!(described(&tracks), names);
        for (track, count) in tracks.iter().zip(counts) {
            let of_track: Vec<_> = frames.iter().filter(|f| f.track == track.id).collect();
            assert_eq!(of_track.len(), *count, "{} of {names:?}", track.id);
            assert!(of_track.windows(2).all(|f| f[0].dts < f[1].dts));
            if let Some(video) = track.video() {
                assert_eq!((video.width, video.height), (64, 64));
                let keyframes: Vec<_> = (0..of_track.len()).filter(|i| of_track[*i].keyframe).collect();
                assert_eq!(keyframes[0], 0);
                assert!(keyframes.len() >= 2, "{} of {names:?}: {keyframes:?}", track.id);
            }
        }
    }
}

#[test]
fn times_and_keyframes_are_those_that_ffprobe_shows() {
    let (_, frames) = testing::media(H264_AAC);
    let shown: Vec<_> = frames
        .iter()
        .filter(|f| f.track == TrackId::VIDEO)
        .map(|f| {
            (f.pts().millis(Timescale::HZ_90K), f.dts.millis(Timescale::HZ_90K), f.data.len(), f.keyframe)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (200, 0, 1397, true),
            (500, 100, 41, false),
            (300, 200, 30, false),
            (400, 300, 12, false),
            (600, 400, 826, true),
            (900, 500, 52, false),
            (700, 600, 15, false),
            (800, 700, 12, false),
        ]
    );
}

#[test]
fn the_encoder_is_told_once() {
    let encoders: Vec<_> =
        testing::demux(testing::tags(H264_AAC).into_iter().flat_map(|tag| [tag.clone(), tag]))
            .into_iter()
            .filter(|d| matches!(d, Demuxed::Encoder(_)))
            .collect();
    assert_eq!(encoders, [Demuxed::Encoder("Lavf59.27.100".to_owned())]);
}

#[test]
fn what_is_muxed_is_demuxed_to_the_same() {
    for file in ALL {
        let (tracks, frames) = testing::media(file);
        let mut demuxer = Demuxer::new();
        let mut got = (Vec::new(), Vec::new());
        let headers = tracks.iter().filter_map(|t| Some((t, 0, sequence_header(t)?)));
        let bodies = frames.iter().map(|f| {
            let track = tracks.iter().find(|t| t.id == f.track).unwrap();
            (track, timestamp_ms(track, f), frame_body(track, f))
        });
        for (track, timestamp_ms, body) in headers.chain(bodies) {
            let kind = match track.codec.kind() {
                Kind::Video => TagKind::Video,
                Kind::Audio => TagKind::Audio,
            };
            for item in demuxer.push(Tag { kind, timestamp_ms, body: body.to_bytes() }).unwrap() {
                match item {
                    Demuxed::Tracks(t) => got.0 = t,
                    Demuxed::Frame(f) => got.1.push(f),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(got, (tracks, frames));
    }
}

proptest! {
    #[test]
    fn any_times_survive_the_round_trip(
        which in 0usize..4, dts_ms in any::<u32>(), cts_ms in -0x80_0000i32..0x80_0000,
        nal in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let (tracks, _) = testing::media(MULTITRACK);
        let track = &tracks[which];
        let (data, cts) = match track.codec.kind() {
            Kind::Video => {
                let length = u32::try_from(nal.len()).unwrap().to_be_bytes();
                ([&length, nal.as_slice()].concat(), cts_ms * 90)
            }
            Kind::Audio => (nal, 0),
        };
        let keyframe = codec::keyframe(track.codec, &data);
        let sent = Frame { track: track.id, dts: dts(dts_ms, 0), cts, keyframe, data: data.into() };
        let kind = if which < 2 { TagKind::Video } else { TagKind::Audio };
        let mut demuxer = Demuxer::new();
        let header = Tag { kind, timestamp_ms: 0, body: sequence_header(track).unwrap().to_bytes() };
        one(&mut demuxer, header);
        let body = frame_body(track, &sent).to_bytes();
        let got = frame(&mut demuxer, Tag { kind, timestamp_ms: timestamp_ms(track, &sent), body });
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn any_body_ends_in_frames_or_an_error(
        kind in 0u8..3, first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let kind = [TagKind::Audio, TagKind::Video, TagKind::Script][usize::from(kind)];
        let body = [&[first][..], &body].concat().into();
        let _ = ready().push(Tag { kind, timestamp_ms: 0, body }).map(Iterator::count);
    }

    #[test]
    fn any_enhanced_body_ends_in_frames_or_an_error(
        is_video in any::<bool>(), packet_type in 0u8..8, fourcc in 0usize..6,
        body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let fourcc = [b"avc1", b"hvc1", b"av01", b"mp4a", b"Opus", b".mp3"][fourcc];
        let tag = if is_video {
            video([&[0x90 | packet_type][..], fourcc, &body].concat())
        } else {
            audio([&[0x90 | packet_type][..], fourcc, &body].concat())
        };
        let _ = ready().push(tag).map(Iterator::count);
    }
}

#[test]
fn every_truncation_ends_in_frames_or_an_error() {
    for file in ALL {
        for tag in testing::tags(file) {
            let mut demuxer = ready();
            for length in 0..tag.body.len().min(120) {
                let _ =
                    demuxer.push(Tag { body: tag.body.slice(..length), ..tag.clone() }).map(Iterator::count);
            }
        }
    }
}

#[test]
fn a_frame_before_its_sequence_header_is_dropped_and_told() {
    let mut demuxer = Demuxer::new();
    let dropped = one(&mut demuxer, video([&[0x17, 1, 0, 0, 0], IDR].concat()));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::NoSequenceHeader(TrackId::VIDEO)));
    let dropped = one(&mut demuxer, audio([0xaf, 1, 0x21, 0x10]));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::NoSequenceHeader(TrackId::AUDIO)));
    // A configuration of another codec is none.
    one(&mut demuxer, video([b"\x90hvc1", config(HEVC_OPUS, Codec::H265).as_ref()].concat()));
    let dropped = one(&mut demuxer, video([&[0x17, 1, 0, 0, 0], IDR].concat()));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::NoSequenceHeader(TrackId::VIDEO)));
}

#[test]
fn a_repeated_sequence_header_changes_nothing_and_a_new_one_tells_all_tracks() {
    let mut demuxer = ready();
    let same = [&[0x17, 0, 0, 0, 0], config(H264_AAC, Codec::H264).as_ref()].concat();
    assert_eq!(demuxer.push(video(&same)).unwrap().count(), 0);
    let stereo = audio([0xaf, 0, 0x12, 0x10]);
    let Demuxed::Tracks(tracks) = one(&mut demuxer, stereo) else { panic!("no tracks") };
    assert_eq!(described(&tracks), ["v0 H.264", "a0 AAC"]);
    assert_eq!(tracks[1].audio().unwrap().channels, 2);
}

#[test]
fn empty_messages_and_configurations_say_nothing() {
    let mut demuxer = ready();
    for tag in [
        video([]),
        audio([]),
        video([0x17, 0, 0, 0, 0]),
        audio([0xaf, 0]),
        video([0x17, 2, 0, 0, 0]),
        video([0x57]),
    ] {
        assert_eq!(demuxer.push(tag).unwrap().count(), 0);
    }
    let dropped = one(&mut demuxer, audio([0xaf, 1]));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::Empty(TrackId::AUDIO)));
}

#[test]
fn lengths_that_lie_drop_the_frame() {
    let mut demuxer = ready();
    let dropped = one(&mut demuxer, video([0x17, 1, 0, 0, 0, 0, 0, 1, 0, 0x65]));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::Malformed(TrackId::VIDEO)));
    // Annex B.
    let dropped = one(&mut demuxer, video([0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65, 0x88, 0x84]));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::Malformed(TrackId::VIDEO)));
}

#[test]
fn keyframes_are_told_by_content_not_by_the_frame_type() {
    let mut demuxer = ready();
    assert!(frame(&mut demuxer, video([&[0x27, 1, 0, 0, 0], IDR].concat())).keyframe);
    assert!(!frame(&mut demuxer, video([&[0x17, 1, 0, 0, 0], INTER].concat())).keyframe);
}

#[test]
fn composition_times_are_signed() {
    let mut demuxer = ready();
    let got = frame(&mut demuxer, video([&[0x27, 1, 0xff, 0xff, 0xfe], INTER].concat()));
    assert_eq!((got.dts, got.cts), (Timestamp(3600), -180));
}

#[test]
fn hevc_under_codec_id_12_is_read() {
    let mut demuxer = Demuxer::new();
    let hvcc = config(HEVC_OPUS, Codec::H265);
    let Demuxed::Tracks(tracks) = one(&mut demuxer, video([&[0x1c, 0, 0, 0, 0], hvcc.as_ref()].concat()))
    else {
        panic!("no tracks")
    };
    assert_eq!(described(&tracks), ["v0 H.265"]);
    assert!(frame(&mut demuxer, video([0x1c, 1, 0, 0, 80, 0, 0, 0, 3, 0x26, 0x01, 0xaf])).keyframe);
}

#[test]
fn nal_unit_lengths_of_two_bytes_become_four() {
    let mut demuxer = Demuxer::new();
    let four = config(H264_AAC, Codec::H264);
    let mut two = four.to_vec();
    two[4] = 0xfd;
    let Demuxed::Tracks(tracks) = one(&mut demuxer, video([&[0x17, 0, 0, 0, 0][..], &two].concat())) else {
        panic!("no tracks")
    };
    assert_eq!(tracks[0].config, four);
    let got = frame(&mut demuxer, video([0x17, 1, 0, 0, 0, 0, 2, 0x09, 0xf0, 0, 2, 0x65, 0x88]));
    assert_eq!(got.data.as_ref(), [0, 0, 0, 2, 0x09, 0xf0, 0, 0, 0, 2, 0x65, 0x88]);
    assert!(got.keyframe);
    let length = got.data.len();
    assert_eq!(got.data.try_into_mut().unwrap().capacity(), length, "no room that nothing knows of");
    let error = demuxer.push(video([0x17, 1, 0, 0, 0, 0, 9, 0x65])).unwrap_err();
    assert_eq!(error.to_string(), "NAL unit ends early");
    // Lengths that make it more than twice as long must not make a tag that no reader takes.
    let empty = [&[0x17, 1, 0, 0, 0][..], &[0; 5 << 20]].concat();
    assert!(matches!(demuxer.push(video(empty)), Err(Error::TagTooLarge(_))));
}

#[test]
fn what_is_taken_fits_in_a_tag_again() {
    let mut demuxer = Demuxer::new();
    one(&mut demuxer, video([b"\x90hvc1", config(HEVC_OPUS, Codec::H265).as_ref()].concat()));
    // As a legacy body it has 5 bytes before its frame; ours has 8.
    let largest = |bytes: usize| {
        let length = u32::try_from(bytes - 4).unwrap().to_be_bytes();
        video([&[0x1c, 1, 0, 0, 40][..], &length, &[0x26, 0x01], &vec![0xaf; bytes - 6]].concat())
    };
    let taken = frame(&mut demuxer, largest(MAX_FRAME_BYTES));
    let (tracks, _) = testing::media(HEVC_OPUS);
    assert!(frame_body(&tracks[0], &taken).len() <= MAX_BODY_BYTES);
    let dropped = one(&mut demuxer, largest(MAX_BODY_BYTES - 5));
    assert_eq!(dropped, Demuxed::Dropped(Dropped::Malformed(TrackId::VIDEO)));
}

#[test]
fn mod_ex_moves_the_frame_by_nanoseconds() {
    let mut demuxer = ready();
    // Half a millisecond, behind a block of an unknown type and one of 300 bytes.
    let nanos = [0x97, 2, 0x07, 0xa1, 0x20, 0x01];
    let tag = video([&nanos[..], b"avc1\x00\x00\x00", IDR].concat());
    assert_eq!(frame(&mut demuxer, tag).dts, Timestamp(3600 + 45));
    let long = [&[0x97, 255, 1, 43][..], &[0xee; 300], &[0xf7, 0, 0xee, 0xf3], b"avc1", IDR].concat();
    assert_eq!(frame(&mut demuxer, video(&long)).dts, Timestamp(3600));
    for length in 1..=310 {
        assert!(demuxer.push(video(&long[..length])).is_err(), "{length}");
    }
    // An offset of a millisecond or more is none.
    let huge = [&[0x97, 2, 0xff, 0xff, 0xff, 0x03], &b"avc1"[..], IDR].concat();
    assert_eq!(frame(&mut demuxer, video(huge)).dts, Timestamp(3600 + 90));
}

#[test]
fn many_tracks_of_one_codec_and_of_many_are_read() {
    let mut demuxer = Demuxer::new();
    let aac = config(H264_AAC, Codec::Aac);
    let opus = config(HEVC_OPUS, Codec::Opus);
    let sized =
        |id: u8, payload: &[u8]| [&[id, 0, 0, u8::try_from(payload.len()).unwrap()], payload].concat();
    // ManyTracks.
    let body = [&b"\x95\x10mp4a"[..], &sized(0, &aac), &sized(3, &aac)].concat();
    let out: Vec<_> = demuxer.push(audio(body)).unwrap().collect();
    let [_, Demuxed::Tracks(tracks)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(described(tracks), ["a0 AAC", "a3 AAC"]);
    // ManyTracksManyCodecs.
    let body = [&b"\x95\x20mp4a"[..], &sized(1, &aac), b"Opus", &sized(2, &opus)].concat();
    let out: Vec<_> = demuxer.push(audio(body)).unwrap().collect();
    let [_, Demuxed::Tracks(tracks)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(described(tracks), ["a0 AAC", "a1 AAC", "a2 Opus", "a3 AAC"]);
    // Frames.
    let body = [&b"\x95\x21mp4a"[..], &sized(3, b"three"), b"Opus", &sized(2, b"two")].concat();
    let out: Vec<_> = demuxer.push(audio(body)).unwrap().collect();
    let [Demuxed::Frame(three), Demuxed::Frame(two)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((three.track, three.data.as_ref()), (TrackId::audio(3), &b"three"[..]));
    assert_eq!((two.track, two.data.as_ref()), (TrackId::audio(2), &b"two"[..]));
}

#[test]
fn a_bad_packet_leaves_the_others_of_its_body_good() {
    let aac = config(H264_AAC, Codec::Aac);
    let sized =
        |id: u8, payload: &[u8]| [&[id, 0, 0, u8::try_from(payload.len()).unwrap()], payload].concat();
    let bad = sized(1, &[0xff]);
    let malformed = Demuxed::Dropped(Dropped::Malformed(TrackId::audio(1)));
    for (body, expected) in [
        ([&b"\x95\x10mp4a"[..], &sized(0, &aac), &bad].concat(), vec!["a0 AAC"]),
        ([&b"\x95\x10mp4a"[..], &bad, &sized(0, &aac)].concat(), vec!["a0 AAC"]),
        ([&b"\x95\x10mp4a"[..], &sized(0, &aac), &bad, &sized(2, &aac)].concat(), vec!["a0 AAC", "a2 AAC"]),
    ] {
        let mut demuxer = Demuxer::new();
        let out: Vec<_> = demuxer.push(audio(&body)).unwrap().collect();
        let [.., Demuxed::Tracks(tracks), last] = out.as_slice() else { panic!("{out:?}") };
        assert_eq!(
            (described(tracks), last),
            (expected.iter().map(|s| (*s).to_owned()).collect(), &malformed)
        );
    }
    // So does one of a codec that is not carried, or that lacks its composition time.
    let video_of = |fourcc: &[u8], id: u8, payload: &[u8]| [fourcc, &sized(id, payload)].concat();
    let good = video_of(b"avc1", 0, &[&[0, 0, 0], IDR].concat());
    for bad in [video_of(b"vvc1", 1, b"xxxx"), video_of(b"avc1", 1, b"x")] {
        for packets in [[&*bad, &good], [&*good, &bad]] {
            let mut demuxer = ready();
            let body = [&b"\x96\x21"[..], &packets.concat()].concat();
            let out: Vec<_> = demuxer.push(video(body)).unwrap().collect();
            let [Demuxed::Frame(frame), Demuxed::Dropped(dropped)] = out.as_slice() else {
                panic!("{out:?}")
            };
            assert_eq!((frame.data.as_ref(), *dropped), (IDR, Dropped::Malformed(TrackId::video(1))));
        }
        assert!(ready().push(video([&b"\x96\x21"[..], &bad].concat())).is_err());
    }
    // What comes before the place where a body ends early is good, too.
    let body = [&b"\x95\x10mp4a"[..], &sized(0, &aac), &[1, 0xff]].concat();
    let mut demuxer = Demuxer::new();
    let out: Vec<_> = demuxer.push(audio(body)).unwrap().collect();
    assert!(matches!(out.as_slice(), [Demuxed::Tracks(_), Demuxed::Dropped(_)]), "{out:?}");
}

#[test]
fn multitrack_bodies_that_lie_are_refused() {
    let cases: [(&[u8], &str); 5] = [
        (b"\x95\x30mp4a\x00", "multitrack type 3 of Enhanced RTMP is unknown"),
        (b"\x95\x10mp4a\x00\xff\xff\xff\x12", "track of a multitrack body ends early"),
        (b"\x95\x10mp4a\x00\x00", "enhanced header ends early"),
        (b"\x95\x01mp4a", "enhanced header ends early"),
        (b"\x95\x05mp4a\x00", "audio packet type 5 of Enhanced RTMP is unknown"),
    ];
    for (body, expected) in cases {
        assert_eq!(ready().push(audio(body)).unwrap_err().to_string(), expected);
    }
    // As many packets as fit in a message: an error, not as many events.
    let flood = [&b"\x95\x11mp4a"[..], &[0, 0, 0, 0].repeat(100_000)].concat();
    assert!(matches!(ready().push(audio(flood)), Err(Error::TooManyTracks(_))));
}

#[test]
fn tracks_and_configurations_have_limits() {
    let mut demuxer = ready();
    let aac = config(H264_AAC, Codec::Aac);
    let track = |id: u8| audio([&b"\x95\x00mp4a"[..], &[id], &aac].concat());
    for id in 1..15 {
        one(&mut demuxer, track(id));
    }
    assert!(matches!(demuxer.push(track(15)), Err(Error::TooManyTracks(_))));
    let big = [&[0x17, 0, 0, 0, 0][..], &[1; MAX_CONFIG_BYTES + 1]].concat();
    assert!(matches!(demuxer.push(video(big)), Err(Error::ConfigTooLarge(_))));
}

#[test]
fn a_configuration_does_not_keep_its_message_in_memory() {
    let (tracks, _) = testing::media(H264_AAC);
    for track in tracks {
        assert!(!H264_AAC.as_ptr_range().contains(&track.config.as_ptr()));
    }
}

#[test]
fn frames_are_slices_of_their_message() {
    let mut demuxer = ready();
    let tag = video([&[0x17, 1, 0, 0, 0, 0, 0, 0, 102, 0x65, 0x88][..], &[7; 100]].concat());
    let range = tag.body.as_ptr_range();
    assert!(range.contains(&frame(&mut demuxer, tag).data.as_ptr()));
}

#[test]
fn a_small_frame_does_not_keep_its_message_in_memory() {
    let mut demuxer = ready();
    let aac = config(H264_AAC, Codec::Aac);
    let (length, second) = (u8::try_from(aac.len()).unwrap(), [1, 0, 0, 200]);
    let track = [&b"\x95\x10mp4a\x01\x00\x00"[..], &[length], &aac].concat();
    one(&mut demuxer, audio(track));
    let tag = audio([&b"\x95\x11mp4a\x00\x00\x00\x01x"[..], &second, &[7; 200]].concat());
    let range = tag.body.as_ptr_range();
    let out: Vec<_> = demuxer.push(tag).unwrap().collect();
    let [Demuxed::Frame(small), Demuxed::Frame(large)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(small.data.as_ref(), b"x");
    assert!(!range.contains(&small.data.as_ptr()) && range.contains(&large.data.as_ptr()));
    // Nor does one that is the larger half of it.
    let tag = audio([&b"\x95\x11mp4a\x00\x00\x00\x96"[..], &[7; 150], &[1, 0, 0, 50], &[7; 50]].concat());
    let range = tag.body.as_ptr_range();
    let frames: Vec<_> = demuxer.push(tag).unwrap().collect();
    assert_eq!(frames.len(), 2);
    for item in frames {
        let Demuxed::Frame(frame) = item else { panic!("{item:?}") };
        assert!(!range.contains(&frame.data.as_ptr()));
    }
}

#[test]
fn an_av1_sequence_header_may_come_with_the_first_keyframe() {
    let (tracks, frames) = testing::media(AV1_AAC);
    let keyframe = &frames.iter().find(|f| f.track == TrackId::VIDEO).unwrap().data;
    let coded = |data: &[u8]| video([b"\x90av01", data].concat().as_slice()).with_packet_type(1);
    for header in [Some(&b"\x81\x3f\x00\x00"[..]), None] {
        let mut demuxer = Demuxer::new();
        if let Some(header) = header {
            assert_eq!(demuxer.push(video([b"\x90av01", header].concat())).unwrap().count(), 0);
        }
        let inter = one(&mut demuxer, coded(&[0x32, 2, 0x30, 0]));
        assert_eq!(inter, Demuxed::Dropped(Dropped::NoSequenceHeader(TrackId::VIDEO)));
        let delimited = [&[0x12, 0], keyframe.as_ref()].concat();
        let out: Vec<_> = demuxer.push(coded(&delimited)).unwrap().collect();
        let [Demuxed::Tracks(got), Demuxed::Frame(frame)] = out.as_slice() else { panic!("{out:?}") };
        assert_eq!(got[0].params, tracks[0].params);
        assert!(frame.keyframe);
        assert_eq!(&frame.data, keyframe);
        if let Some(header) = header {
            assert_eq!(demuxer.push(video([b"\x90av01", header].concat())).unwrap().count(), 0);
        }
        assert!(matches!(one(&mut demuxer, coded(keyframe)), Demuxed::Frame(_)));
    }
}

#[test]
fn the_size_of_vp8_and_vp9_is_that_of_the_newest_keyframe() {
    for (file, name) in [(VP8, b"vp08"), (VP9_OPUS, b"vp09")] {
        let (tracks, frames) = testing::media(file);
        let keyframe = &frames.iter().find(|f| f.track == TrackId::VIDEO).unwrap().data;
        let coded = |data: &[u8]| video([&b"\x90"[..], name, data].concat()).with_packet_type(1);
        let mut demuxer = Demuxer::new();
        // Without a record, and with one as others write it: without the box's version.
        let record = crate::codec::vpx::record(&tracks[0].config);
        for record in [None, Some(&record[..]), Some(&record[4..])] {
            if let Some(record) = record {
                demuxer = Demuxer::new();
                assert_eq!(demuxer.push(video([&b"\x90"[..], name, record].concat())).unwrap().count(), 0);
            }
            let out: Vec<_> = demuxer.push(coded(keyframe)).unwrap().collect();
            let [Demuxed::Tracks(got), Demuxed::Frame(frame)] = out.as_slice() else { panic!("{out:?}") };
            assert_eq!(got[0], tracks[0]);
            assert!(frame.keyframe);
            assert!(matches!(one(&mut demuxer, coded(keyframe)), Demuxed::Frame(_)));
        }
        let mut wider = keyframe.to_vec();
        // In the lower byte of VP8's width, and in the upper bits of VP9's height.
        let at = if name == b"vp08" { 6 } else { 7 };
        wider[at] ^= 0x10;
        let out: Vec<_> = demuxer.push(coded(&wider)).unwrap().collect();
        let [Demuxed::Tracks(got), Demuxed::Frame(_)] = out.as_slice() else { panic!("{out:?}") };
        assert_ne!(got[0].video(), tracks[0].video());
        // What is written of it is read again.
        let header = super::super::sequence_header(&got[0]).unwrap();
        assert_eq!(header.len(), 5 + crate::codec::vpx::RECORD_BYTES);
    }
}

impl Tag {
    /// The same with another packet type in its enhanced header.
    fn with_packet_type(self, packet_type: u8) -> Self {
        let mut body = self.body.to_vec();
        body[0] = body[0] & 0xf0 | packet_type;
        Self { body: body.into(), ..self }
    }
}

#[test]
fn opus_without_a_header_is_taken_for_stereo() {
    let mut demuxer = Demuxer::new();
    let out: Vec<_> = demuxer.push(audio(b"\x91Opus\xfc\x01\x02")).unwrap().collect();
    let [Demuxed::Tracks(tracks), Demuxed::Frame(_)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(tracks[0].audio().unwrap().channels, 2);
}

#[test]
fn mp3_describes_itself_and_may_change() {
    let mut demuxer = Demuxer::new();
    let mut tracks_after = |header: [u8; 4]| {
        let body = [&[0x2f][..], &header, &[0; 100]].concat();
        let out: Vec<_> = demuxer.push(audio(body)).unwrap().collect();
        assert!(matches!(out.last(), Some(Demuxed::Frame(_))));
        out.into_iter().find_map(|d| match d {
            Demuxed::Tracks(tracks) => tracks[0].audio().map(|a| (a.sample_rate, a.channels)),
            _ => None,
        })
    };
    assert_eq!(tracks_after([0xff, 0xfb, 0x90, 0x00]), Some((44_100, 2)));
    // Another bit rate, padding, joint stereo: the same track.
    assert_eq!(tracks_after([0xff, 0xfb, 0xa2, 0x40]), None);
    assert_eq!(tracks_after([0xff, 0xfb, 0x94, 0xc0]), Some((48_000, 1)));
    assert!(demuxer.push(audio([0x2f, 1, 2, 3, 4, 5])).is_err());
}

#[test]
fn an_unknown_codec_is_refused_by_its_name() {
    let mut demuxer = ready();
    for (tag, expected) in [
        (video(b"\x90vvc1\x00\x01"), "codec vvc1 is not supported"),
        (audio(b"\x91ac-3\x0b\x77"), "codec ac-3 is not supported"),
        (video(b"\x90mp4a\x00\x01"), "codec mp4a is not supported"),
        (video(b"\x90\xff\x00\n\"\x00\x01"), "codec \\xff\\x00\\n\\\" is not supported"),
        (video([0x12, 0]), "video codec 2 of FLV is not supported"),
        (audio([0x7f, 0]), "audio codec 7 of FLV is not supported"),
    ] {
        assert_eq!(demuxer.push(tag).unwrap_err().to_string(), expected);
    }
}

#[test]
fn packets_without_frames_are_tolerated() {
    let mut demuxer = ready();
    for tag in [
        video(b"\x92avc1"),
        video(b"\x94avc1\x02\x00\x09colorInfo\x05"),
        video(b"\x95av01\x80\x04"),
        video(b"\xd1\x00"), // a command: seek begins
        audio(b"\x94mp4a\x01\x02\x00"),
        audio(b"\x92mp4a"),
    ] {
        assert_eq!(demuxer.push(tag).unwrap().count(), 0);
    }
}

#[test]
fn script_data_that_is_not_metadata_is_not_looked_at() {
    let script =
        |body: &[u8]| Tag { kind: TagKind::Script, timestamp_ms: 0, body: Bytes::copy_from_slice(body) };
    let mut demuxer = Demuxer::new();
    assert_eq!(demuxer.push(script(b"\x02\x00\x04onFI\xff\xff")).unwrap().count(), 0);
    assert_eq!(demuxer.push(script(&[])).unwrap().count(), 0);
    assert!(matches!(demuxer.push(script(b"\x02\x00\x0aonMetaData\xff")), Err(Error::ScriptData(_))));
}

#[test]
fn an_encoders_name_is_made_fit_to_be_shown() {
    let name = format!(" OBS\u{7}\n{}", "x".repeat(1000));
    let body = metadata::script("onMetaData", vec![("encoder".to_owned(), crate::amf0::Value::String(name))]);
    let mut demuxer = Demuxer::new();
    let Demuxed::Encoder(shown) = one(&mut demuxer, Tag { kind: TagKind::Script, timestamp_ms: 0, body })
    else {
        panic!("no encoder")
    };
    assert!(shown.starts_with("OBSxxx") && shown.chars().count() < 200);
}

#[test]
fn our_own_metadata_describes_the_first_tracks() {
    let (tracks, _) = testing::media(MULTITRACK);
    let body = metadata(&tracks, &[("bitrate", 1e6)]);
    let values = crate::amf0::decode(&body).unwrap();
    let number = |key| values[1].get(key).and_then(crate::amf0::Value::as_f64);
    assert_eq!(values[0].as_str(), Some("onMetaData"));
    assert_eq!(
        (number("width"), number("height"), number("framerate")),
        (Some(64.0), Some(64.0), Some(10.0))
    );
    assert_eq!((number("videocodecid"), number("audiocodecid")), (Some(7.0), Some(10.0)));
    assert_eq!((number("audiosamplerate"), number("bitrate")), (Some(44_100.0), Some(1e6)));
    assert_eq!(values[1].get("stereo").and_then(crate::amf0::Value::as_bool), Some(false));
    let (tracks, _) = testing::media(HEVC_OPUS);
    let values = crate::amf0::decode(&metadata(&tracks, &[])).unwrap();
    let hvc1 = f64::from(u32::from_be_bytes(*b"hvc1"));
    assert_eq!(values[1].get("videocodecid").and_then(crate::amf0::Value::as_f64), Some(hvc1));
}
