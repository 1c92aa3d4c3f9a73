//! What is written reads back: by mp4-atom box by box, and by the mp4 crate sample by sample.

use std::io::Cursor;

use mp4_atom::{Any, Codec as Entry, Decode, DecodeMaybe, Ftyp, Moof, Moov, TrunEntry};
use proptest::prelude::*;

use super::*;
use crate::codec::testing::hex;
use crate::codec::{self, mp3};
use crate::frame::{Codec, TrackId};

const AVCC: &str =
    "0164000dffe1001a6764000dacd941419f9f0110000003001000000303c0f142996001000468ef8fcbfdf8f800";
const HVCC: &str = "0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003c10a2000100074401c172b46240";
const AV1C: &str = "81010c000a0c0200000d6627fb3805f00080";
const OPUS: &str = "4f70757348656164 01 06 3801 80bb0000 0000 01 0402 000401020305";

fn track(codec: Codec, config: &str) -> Track {
    let id = TrackId { kind: codec.kind(), index: 0 };
    codec::track(id, codec, Timescale::HZ_90K, hex(config).into()).unwrap()
}

fn hz(ticks: u32) -> Timescale {
    Timescale::new(ticks).unwrap()
}

fn read_init(segment: &[u8]) -> (Ftyp, Moov) {
    let mut rest = Cursor::new(segment);
    let ftyp = Ftyp::decode(&mut rest).unwrap();
    let moov = Moov::decode(&mut rest).unwrap();
    assert_eq!(rest.position(), segment.len() as u64);
    (ftyp, moov)
}

fn init_of(track: &Track) -> Entry {
    let segment = init_segment(&[MediaTrack { id: 1, track, timescale: Timescale::HZ_90K }]).unwrap();
    let (ftyp, moov) = read_init(&segment);
    assert!(ftyp.compatible_brands.iter().any(|brand| brand.to_string() == "cmf2"));
    let mvex = moov.mvex.unwrap();
    assert_eq!((mvex.trex[0].track_id, mvex.trex[0].default_sample_description_index), (1, 1));
    let trak = moov.trak.into_iter().next().unwrap();
    assert_eq!(trak.mdia.mdhd.timescale, 90_000);
    let mut codecs = trak.mdia.minf.stbl.stsd.codecs;
    assert_eq!(codecs.len(), 1);
    codecs.remove(0)
}

fn body(atom: &impl mp4_atom::Atom) -> Vec<u8> {
    let mut out = Vec::new();
    atom.encode_body(&mut out).unwrap();
    out
}

#[test]
fn video_entries_carry_the_record_unchanged() {
    let Entry::Avc1(avc1) = init_of(&track(Codec::H264, AVCC)) else { panic!("not avc1") };
    assert_eq!((avc1.visual.width, avc1.visual.height), (320, 180));
    assert_eq!(body(&avc1.avcc), hex(AVCC));

    let Entry::Hvc1(hvc1) = init_of(&track(Codec::H265, HVCC)) else { panic!("not hvc1") };
    assert_eq!((hvc1.visual.width, hvc1.visual.height), (1280, 720));
    assert_eq!(body(&hvc1.hvcc), hex(HVCC));

    let Entry::Av01(av01) = init_of(&track(Codec::Av1, AV1C)) else { panic!("not av01") };
    assert_eq!((av01.visual.width, av01.visual.height), (640, 360));
    assert_eq!(body(&av01.av1c), hex(AV1C));
}

#[test]
fn vp8_and_vp9_have_their_record_without_the_size() {
    const VPCC: &str = "01000000000a82020202000000a0005a";
    let Entry::Vp08(vp08) = init_of(&track(Codec::Vp8, VPCC)) else { panic!("not vp08") };
    assert_eq!((vp08.visual.width, vp08.visual.height), (160, 90));
    let Entry::Vp09(vp09) = init_of(&track(Codec::Vp9, VPCC)) else { panic!("not vp09") };
    assert_eq!((vp09.visual.width, vp09.visual.height), (160, 90));
    assert_eq!((vp09.vpcc.level, vp09.vpcc.bit_depth), (10, 8));
}

#[test]
fn audio_entries_say_what_the_decoder_needs() {
    let Entry::Mp4a(aac) = init_of(&track(Codec::Aac, "119056e500")) else { panic!("not mp4a") };
    assert_eq!((aac.audio.channel_count, aac.audio.sample_rate.integer()), (2, 48_000));
    let config = aac.esds.es_desc.dec_config;
    assert_eq!((config.object_type_indication, config.stream_type), (0x40, 5));
    assert_eq!(config.dec_specific.unwrap().raw, hex("119056e500"));

    let Entry::Opus(opus) = init_of(&track(Codec::Opus, OPUS)) else { panic!("not Opus") };
    // As ffmpeg writes it.
    assert_eq!(body(&opus.dops), hex("000601380000bb800000010402000401020305"));
    assert_eq!(opus.audio.sample_rate.integer(), 48_000);

    for (header, indication) in [([0xff, 0xfb, 0x90, 0xc4], 0x6b), ([0xff, 0xf3, 0x40, 0xc4], 0x69)] {
        let track = mp3::track(TrackId::AUDIO, Timescale::HZ_90K, &header).unwrap();
        let Entry::Mp4a(mp3) = init_of(&track) else { panic!("not mp4a") };
        let config = mp3.esds.es_desc.dec_config;
        assert_eq!(config.object_type_indication, indication);
        assert!(config.dec_specific.is_none());
        assert!(track.rfc6381.eq_ignore_ascii_case(&format!("mp4a.{indication:x}")));
    }
}

#[test]
fn children_stand_in_the_usual_order() {
    let video = track(Codec::H264, AVCC);
    let segment = init_segment(&[MediaTrack { id: 1, track: &video, timescale: hz(90_000) }]).unwrap();
    let at = |kind: &[u8; 4]| segment.windows(4).position(|window| window == kind).unwrap();
    let kinds: [&[u8; 4]; 12] = [
        b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"mdia", b"mdhd", b"hdlr", b"vmhd", b"dinf", b"stsd",
        b"mvex",
    ];
    assert!(kinds.map(at).is_sorted());
}

#[test]
fn refuses_what_makes_no_segment() {
    let video = track(Codec::H264, AVCC);
    let media = |id| MediaTrack { id, track: &video, timescale: Timescale::HZ_90K };
    assert_eq!(init_segment(&[]), Err(Error::Empty));
    assert_eq!(init_segment(&[media(0)]), Err(Error::TrackId(0)));
    assert_eq!(init_segment(&[media(3), media(3)]), Err(Error::TrackId(3)));
    assert_eq!(fragment(1, &[]), Err(Error::Empty));
    assert_eq!(fragment(1, &[TrackRun { id: 1, base_decode_time: 0, samples: &[] }]), Err(Error::Empty));
    // Twenty samples share the same 200 MB: no fragment can say that.
    let sample = Sample { duration: 1, cts: 0, keyframe: true, data: Bytes::from(vec![0; 200_000_000]) };
    let samples = vec![sample; 20];
    let run = TrackRun { id: 1, base_decode_time: 0, samples: &samples };
    assert!(matches!(fragment(1, &[run]), Err(Error::TooLarge(bytes)) if bytes > 4_000_000_000));
}

fn sample(duration: u32, cts: i32, keyframe: bool, data: &'static [u8]) -> Sample {
    Sample { duration, cts, keyframe, data: Bytes::from_static(data) }
}

/// The samples that a fragment holds, as a player would find them.
fn read_fragment(bytes: &[u8], track_id: u32) -> (u64, Vec<Sample>) {
    let mut rest = Cursor::new(bytes);
    let moof = Moof::decode(&mut rest).unwrap();
    let Any::Mdat(_) = Any::decode_maybe(&mut rest).unwrap().unwrap() else { panic!("not mdat") };
    assert_eq!(rest.position(), bytes.len() as u64);
    let traf = moof.traf.iter().find(|traf| traf.tfhd.track_id == track_id).unwrap();
    assert!(traf.tfhd.default_base_is_moof);
    let mut samples = Vec::new();
    for trun in &traf.trun {
        let mut at = usize::try_from(trun.data_offset.unwrap()).unwrap();
        for TrunEntry { duration, size, flags, cts } in trun.samples.iter() {
            let end = at + usize::try_from(size.unwrap()).unwrap();
            let flags = flags.or(traf.tfhd.default_sample_flags).unwrap();
            let (sync, depends_on) = (flags & 0x01_0000 == 0, flags >> 24 & 3);
            assert_eq!(depends_on, if sync { 2 } else { 1 });
            samples.push(Sample {
                duration: duration.or(traf.tfhd.default_sample_duration).unwrap(),
                cts: i32::try_from(cts.unwrap_or(0)).unwrap(),
                keyframe: sync,
                data: Bytes::copy_from_slice(&bytes[at..end]),
            });
            at = end;
        }
    }
    (traf.tfdt.as_ref().unwrap().base_media_decode_time, samples)
}

#[test]
fn runs_are_as_short_as_their_samples_allow() {
    let flags = |samples: &[Sample]| {
        let bytes = fragment(1, &[TrackRun { id: 1, base_decode_time: 0, samples }]).unwrap().bytes();
        let at = bytes.windows(4).position(|window| window == b"trun").unwrap();
        u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) & 0xff_ffff
    };
    let audio = [sample(1024, 0, true, b"a"), sample(1024, 0, true, b"b")];
    assert_eq!(flags(&audio), TRUN_BASE);
    let gop = [sample(3000, 0, true, b"a"), sample(3000, 0, false, b"b"), sample(3000, 0, false, b"c")];
    assert_eq!(flags(&gop), TRUN_BASE | 0x004);
    let reordered = [sample(3000, 6000, true, b"a"), sample(3000, -3000, false, b"b")];
    assert_eq!(flags(&reordered), TRUN_BASE | 0x804);
    let uneven = [sample(3000, 0, false, b"a"), sample(3001, 0, true, b"b"), sample(3000, 0, false, b"c")];
    assert_eq!(flags(&uneven), TRUN_BASE | 0x500);
}

/// Data offset and sizes.
const TRUN_BASE: u32 = 0x201;

#[test]
fn a_fragment_of_sound_is_as_small_as_it_can_be() {
    let samples = [sample(1024, 0, true, b"abc"), sample(1024, 0, true, b"de")];
    let bytes = fragment(7, &[TrackRun { id: 2, base_decode_time: 48_000, samples: &samples }]).unwrap();
    let expected = "
        00000068 6d6f6f66
          00000010 6d666864 00000000 00000007
          00000050 74726166
            00000018 74666864 00020028 00000002 00000400 02000000
            00000014 74666474 01000000 000000000000bb80
            0000001c 7472756e 01000201 00000002 00000070 00000003 00000002
        0000000d 6d646174 6162636465";
    assert_eq!((bytes.bytes(), bytes.len()), (hex(expected).into(), 0x68 + 0x0d));
}

#[test]
fn what_nobody_asks_for_is_not_copied() {
    let long = |byte| Bytes::from(vec![byte; 5_000]);
    let sample = |data| Sample { duration: 3_000, cts: 0, keyframe: true, data };
    let samples = [long(1), Bytes::from_static(b"short"), long(2)].map(sample);
    let fragment = fragment(1, &[TrackRun { id: 1, base_decode_time: 0, samples: &samples }]).unwrap();
    let long = || samples.iter().filter(|s| s.data.len() > 1_000);
    assert!(long().all(|s| !s.data.is_unique()), "referred to");
    let bytes = fragment.bytes();
    assert_eq!(bytes.len(), fragment.len());
    assert!(long().all(|s| s.data.is_unique()), "let go");
    assert_eq!(fragment.bytes().as_ptr(), bytes.as_ptr(), "put together once");
    assert_eq!(read_fragment(&bytes, 1).1, samples);
}

#[test]
fn the_mp4_crate_reads_h264_and_aac() {
    let (video, audio) = (track(Codec::H264, AVCC), track(Codec::Aac, "1190"));
    let tracks = [
        MediaTrack { id: 1, track: &video, timescale: hz(90_000) },
        MediaTrack { id: 2, track: &audio, timescale: hz(48_000) },
    ];
    let pictures = [sample(3000, 3000, true, b"idr"), sample(3000, -3000, false, b"b-frame")];
    let sounds =
        [sample(1024, 0, true, b"one"), sample(1024, 0, true, b"two"), sample(1024, 0, true, b"three")];
    let media = fragment(
        1,
        &[
            TrackRun { id: 1, base_decode_time: 90_000, samples: &pictures },
            TrackRun { id: 2, base_decode_time: 48_000, samples: &sounds },
        ],
    )
    .unwrap();
    let file = [init_segment(&tracks).unwrap(), media.bytes()].concat();
    let length = file.len() as u64;
    let reader = mp4::Mp4Reader::read_header(Cursor::new(file), length).unwrap();
    assert_eq!(reader.major_brand().to_string(), "iso6");
    assert!(reader.is_fragmented());

    let picture = &reader.tracks()[&1];
    assert_eq!(picture.media_type().unwrap(), mp4::MediaType::H264);
    assert_eq!((picture.width(), picture.height(), picture.timescale()), (320, 180, 90_000));
    assert_eq!(picture.sequence_parameter_set().unwrap(), &hex(AVCC)[8..34]);
    assert_eq!(picture.sample_count(), 2);

    let sound = &reader.tracks()[&2];
    assert_eq!(sound.media_type().unwrap(), mp4::MediaType::AAC);
    assert_eq!(sound.audio_profile().unwrap(), mp4::AudioObjectType::AacLowComplexity);
    assert_eq!(sound.sample_freq_index().unwrap(), mp4::SampleFreqIndex::Freq48000);
    assert_eq!(sound.channel_config().unwrap(), mp4::ChannelConfig::Stereo);
    assert_eq!(sound.sample_count(), 3);
    let trun = reader.moofs[0].trafs[0].trun.as_ref().unwrap();
    assert_eq!(trun.sample_sizes, [3, 7]);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    // Long ones are shared.
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        (any::<u8>(), 1_000usize..1_050).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let data = data.prop_map(Bytes::from);
    (prop_oneof![Just(3000u32), any::<u32>()], prop_oneof![Just(0), any::<i32>()], any::<bool>(), data)
        .prop_map(|(duration, cts, keyframe, data)| Sample { duration, cts, keyframe, data })
}

proptest! {
    #[test]
    fn fragments_read_back(
        sequence in any::<u32>(),
        tracks in prop::collection::vec((any::<u64>(), prop::collection::vec(any_sample(), 0..8)), 1..4),
    ) {
        let runs: Vec<TrackRun<'_>> = (1..)
            .zip(&tracks)
            .map(|(id, (base_decode_time, samples))| {
                TrackRun { id, base_decode_time: *base_decode_time, samples }
            })
            .collect();
        match fragment(sequence, &runs) {
            Err(error) => {
                prop_assert_eq!(error, Error::Empty);
                prop_assert!(tracks.iter().all(|(_, samples)| samples.is_empty()));
            }
            Ok(fragment) => {
                let bytes = fragment.bytes();
                prop_assert_eq!(bytes.len(), fragment.len());
                for run in runs.iter().filter(|run| !run.samples.is_empty()) {
                    let (time, samples) = read_fragment(&bytes, run.id);
                    prop_assert_eq!(time, run.base_decode_time);
                    prop_assert_eq!(&samples[..], run.samples);
                }
            }
        }
    }
}
