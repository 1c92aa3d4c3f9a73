//! Whole transcoders: what goes in as ffmpeg writes it, or as they themselves do, comes out with its pitch, loudness and time.

use bytes::Bytes;
use fdk_aac::enc::{self, AudioObjectType};
use media_core::codec::{self, opus::identification_header};
use media_core::flv::{Demuxed, Demuxer, Reader};
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use proptest::prelude::*;

use crate::{Counters, Error, G711, Law, Options, Sound, Transcoder, aac, opus};

/// A second in the clock of what comes out.
const SECOND: i64 = 48_000;

/// A track and its frames of a file by ffmpeg 9: silence, and from 0.25 s on 1 kHz at half of full scale, in all channels.
fn file(flv: &'static [u8]) -> (Track, Vec<Frame>) {
    let (mut reader, mut demuxer) = (Reader::new(), Demuxer::new());
    reader.push(Bytes::from_static(flv));
    let (mut track, mut frames) = (None, Vec::new());
    while let Some(tag) = reader.next_tag().unwrap() {
        for event in demuxer.push(tag).unwrap() {
            match event {
                Demuxed::Tracks(tracks) => track = tracks.into_iter().next(),
                Demuxed::Frame(frame) => frames.push(frame),
                _ => {}
            }
        }
    }
    (track.unwrap(), frames)
}

fn clock() -> Timescale {
    Timescale::new(48_000).unwrap()
}

/// What an independent player hears: samples of the first channel, the first of them at the time that is told.
fn play(track: &Track, frames: &[Frame]) -> (i64, Vec<f32>) {
    let channels = usize::from(track.audio().unwrap().channels);
    let mut pcm = Vec::new();
    match track.codec {
        Codec::Aac => {
            let (mut decoder, _) = aac::Decoder::new(track).unwrap();
            frames.iter().for_each(|frame| assert!(!decoder.decode(&frame.data, &mut pcm).damaged));
        }
        _ => {
            let (mut decoder, _) = opus::Decoder::new(track).unwrap();
            frames.iter().for_each(|frame| assert!(!decoder.decode(&frame.data, &mut pcm).damaged));
        }
    }
    (frames[0].dts.0, pcm.iter().copied().step_by(channels).collect())
}

fn transcode(track: &Track, frames: &[Frame], into: Codec) -> (Track, Vec<Frame>, Counters) {
    let (mut transcoder, out_track) = Transcoder::new(track, into, &Options::default()).unwrap();
    let mut out = Vec::new();
    for frame in frames {
        transcoder.push(frame, &mut out);
    }
    (out_track, out, transcoder.counters())
}

/// Amplitude of 1 kHz (or another frequency) in samples at 48 kHz.
fn amplitude(pcm: &[f32], hertz: f32) -> f32 {
    let (mut re, mut im) = (0.0, 0.0);
    for (index, sample) in pcm.iter().enumerate() {
        let angle = 2.0 * std::f32::consts::PI * hertz * (index % 48_000) as f32 / 48_000.0;
        re += sample * angle.cos();
        im += sample * angle.sin();
    }
    2.0 * (re * re + im * im).sqrt() / pcm.len() as f32
}

/// When the tone begins, in samples at 48 kHz: where the mean over a period of it is half of what it will be.
fn onset((start, pcm): &(i64, Vec<f32>)) -> i64 {
    let level = |at: usize| pcm[at..at + 48].iter().map(|s| s.abs()).sum::<f32>();
    let full = level(pcm.len() - 3_000);
    let at = (0..pcm.len() - 48).find(|&at| level(at) > full / 2.0).unwrap();
    // Half a period of the window is before it.
    start + i64::try_from(at).unwrap() + 24
}

fn check_file(flv: &'static [u8], rate: u32, into: Codec, loudness: f32) {
    let (track, frames) = file(flv);
    let (out_track, out, counters) = transcode(&track, &frames, into);
    let counted = Counters { frames: u64::try_from(frames.len()).unwrap(), ..Counters::default() };
    assert_eq!(counters, counted);
    let audio = out_track.audio().unwrap();
    assert_eq!((out_track.codec, out_track.id, audio.sample_rate), (into, track.id, 48_000));
    assert_eq!(audio.channels, track.audio().unwrap().channels.min(2));
    let length = if into == Codec::Opus { 960 } else { 1024 };
    let first = frames[0].pts().rescale(track.timescale, clock());
    assert_eq!(out[0].dts, first);
    assert!(out.windows(2).all(|two| two[1].dts.0 - two[0].dts.0 == length));
    let heard = play(&out_track, &out);
    let tone = &heard.1[heard.1.len() - 9_600..];
    let (loud, elsewhere) = (amplitude(tone, 1_000.0), amplitude(tone, 1_500.0));
    assert!((loud / loudness - 1.0).abs() < 0.1, "amplitude {loud} instead of {loudness}");
    assert!(elsewhere < 0.02, "amplitude {elsewhere} where nothing is");
    // ffmpeg's first frame is the encoder's delay before the sound, which FLV has no negative times for.
    let delay = if track.codec == Codec::Aac { 1024 * SECOND / i64::from(rate) } else { 312 };
    let late = onset(&heard) - SECOND / 4 - delay;
    println!("{} {rate} Hz: {late} samples late, amplitude {loud}", track.codec.name());
    assert!(late.abs() <= SECOND / 1_000, "{late} samples late");
}

#[test]
fn aac_of_ffmpeg_becomes_opus() {
    check_file(include_bytes!("testdata/aac-8000-mono.flv"), 8_000, Codec::Opus, 0.5);
    check_file(include_bytes!("testdata/aac-22050-mono.flv"), 22_050, Codec::Opus, 0.5);
    check_file(include_bytes!("testdata/aac-44100-stereo.flv"), 44_100, Codec::Opus, 0.5);
    check_file(include_bytes!("testdata/aac-96000-stereo.flv"), 96_000, Codec::Opus, 0.5);
}

#[test]
fn opus_of_ffmpeg_becomes_aac() {
    check_file(include_bytes!("testdata/opus-stereo.flv"), 48_000, Codec::Aac, 0.5);
}

#[test]
fn five_channels_and_a_subwoofer_become_two() {
    // All but the subwoofer, through which 1 kHz does not go in AAC.
    let loudness = 0.5 * (0.529_067 + 0.374_107 + 0.458_186 + 0.264_534);
    check_file(include_bytes!("testdata/aac-48000-5.1.flv"), 48_000, Codec::Opus, loudness);
    check_file(include_bytes!("testdata/opus-5.1.flv"), 48_000, Codec::Aac, loudness + 0.5 * 0.374_107);
}

/// HE-AAC told by the configuration, and PS, whose core is mono: from 1 s on a tone, at which both ears hear it.
#[test]
fn he_aac_becomes_opus() {
    for audio_object_type in [AudioObjectType::Mpeg4HeAac, AudioObjectType::Mpeg4HeAacV2] {
        let version = format!("{}", audio_object_type as u32);
        let encoder = enc::Encoder::new(enc::EncoderParams {
            bit_rate: enc::BitRate::Cbr(48_000),
            sample_rate: 48_000,
            transport: enc::Transport::Raw,
            channels: enc::ChannelMode::Stereo,
            audio_object_type,
        });
        let encoder = encoder.unwrap();
        let info = encoder.info().unwrap();
        let config = Bytes::copy_from_slice(&info.confBuf[..info.confSize as usize]);
        let track = codec::track(TrackId::AUDIO, Codec::Aac, clock(), config).unwrap();
        assert_eq!(track.audio().unwrap().frame_samples, Some(2048), "{version}");
        let (length, delay) = (i64::from(info.frameLength), i64::from(info.nDelay));
        let mut frames = Vec::new();
        let mut coded = vec![0; 8_192];
        for index in 0..2 * SECOND / length {
            let sample = |at: i64| {
                let tone = 0.5 * (2.0 * std::f32::consts::PI * 1_000.0 * (at % 48) as f32 / 48_000.0).sin();
                #[allow(clippy::cast_possible_truncation, reason = "half of what there is room for")]
                if at < SECOND { 0 } else { (tone * 32_768.0) as i16 }
            };
            let pcm: Vec<i16> = (0..2 * length).map(|at| sample(index * length + at / 2)).collect();
            let written = encoder.encode(&pcm, &mut coded).unwrap().output_size;
            if written > 0 {
                let (dts, data) =
                    (Timestamp(index * length - delay), Bytes::copy_from_slice(&coded[..written]));
                frames.push(Frame { track: track.id, dts, cts: 0, keyframe: true, data });
            }
        }
        let (out_track, out, counters) = transcode(&track, &frames, Codec::Opus);
        assert_eq!((counters.damaged, counters.restarts, counters.filled), (0, 0, 0), "{version}");
        let heard = play(&out_track, &out);
        let late = onset(&heard) - SECOND;
        let loud = amplitude(&heard.1[heard.1.len() - 9_600..], 1_000.0);
        println!("{version}: {late} samples late, amplitude {loud}");
        assert!(late.abs() <= SECOND / 1_000, "{version}: {late} samples late");
        assert!((loud - 0.5).abs() < 0.06, "{version}: amplitude {loud}");
    }
}

/// A track of AAC-LC or Opus at 48 kHz with a tone, in frames whose timestamps are `time` of the samples before them.
fn tone(into: Codec, channels: u8, seconds: i64, time: impl Fn(i64) -> i64) -> (Track, Vec<Frame>) {
    type Encode = Box<dyn FnMut(&[f32]) -> Option<Bytes>>;
    let length = if into == Codec::Opus { 960 } else { 1024 };
    let (config, mut encode): (_, Encode) = if into == Codec::Opus {
        let mut encoder = opus::Encoder::new(channels, 64_000, 5).unwrap();
        (identification_header(channels, 48_000).unwrap(), Box::new(move |pcm| encoder.encode(pcm)))
    } else {
        let mut encoder = aac::Encoder::new(channels, 64_000).unwrap();
        (encoder.config(), Box::new(move |pcm| encoder.encode(pcm)))
    };
    let track = codec::track(TrackId::audio(3), into, clock(), config).unwrap();
    let frames = (0..seconds * SECOND / length).map(|index| {
        let sample =
            |at: i64| 0.5 * (2.0 * std::f32::consts::PI * 1_000.0 * (at % 48) as f32 / 48_000.0).sin();
        let pcm: Vec<f32> = (0..length)
            .flat_map(|at| std::iter::repeat_n(sample(index * length + at), usize::from(channels)))
            .collect();
        let data = encode(&pcm).unwrap();
        Frame { track: track.id, dts: Timestamp(time(index * length)), cts: 0, keyframe: true, data }
    });
    let frames = frames.collect();
    (track, frames)
}

#[test]
fn a_long_gap_begins_anew_and_a_short_one_is_silence() {
    for (from, into) in [(Codec::Aac, Codec::Opus), (Codec::Opus, Codec::Aac)] {
        let (track, mut frames) = tone(from, 2, 4, |at| if at < 2 * SECOND { at } else { at + SECOND });
        // Three frames are lost.
        frames.drain(20..23);
        let (_, out, counters) = transcode(&track, &frames, into);
        assert_eq!((counters.filled, counters.restarts, counters.damaged), (1, 1, 0));
        let length = if into == Codec::Opus { 960 } else { 1024 };
        let jumps: Vec<usize> =
            (1..out.len()).filter(|&i| out[i].dts.0 - out[i - 1].dts.0 != length).collect();
        let [jump] = jumps[..] else { panic!("{} jumps", jumps.len()) };
        let anew = frames.iter().find(|frame| frame.dts.0 >= 3 * SECOND).unwrap().dts;
        assert_eq!(out[jump].dts, anew);
        // As much before the gap as there was, but what was on its way.
        assert!(2 * SECOND - out[jump - 1].dts.0 < 5 * 1024, "{:?}", out[jump - 1].dts);
        assert!(out.iter().all(|frame| frame.track == TrackId::audio(3)));
    }
}

#[test]
fn sound_whose_clock_is_off_is_stretched() {
    for (from, into) in [(Codec::Aac, Codec::Opus), (Codec::Opus, Codec::Aac)] {
        for ppm in [-400, 400] {
            // To whole milliseconds, as FLV tells them.
            let (track, frames) = tone(from, 1, 30, |at| (at * (1_000_000 + ppm) / 1_000_000) / 48 * 48);
            let (_, out, counters) = transcode(&track, &frames, into);
            assert_eq!((counters.restarts, counters.filled), (0, 0));
            let length = if into == Codec::Opus { 960 } else { 1024 };
            assert!(out.windows(2).all(|two| two[1].dts.0 - two[0].dts.0 == length));
            // 400 ppm of 30 s are 576 samples: that many more (fewer) came out than went in.
            let expected = 30 * SECOND + 30 * SECOND * ppm / 1_000_000;
            let made = out.last().unwrap().dts.0 + length;
            assert!((expected - 4 * 1024..=expected + 96).contains(&made), "{made} of {expected}");
            assert!(counters.stretched.abs_diff(576) < 120, "{counters:?}");
        }
    }
}

#[test]
fn damage_is_counted_and_silent() {
    let (track, mut frames) = tone(Codec::Aac, 2, 2, |at| at);
    for frame in &mut frames[30..35] {
        frame.data = Bytes::from_static(&[0xff; 40]);
    }
    frames[36].data = Bytes::new();
    frames[37].data = vec![0; 10_000].into();
    let (out_track, out, counters) = transcode(&track, &frames, Codec::Opus);
    assert_eq!((counters.damaged, counters.failed, counters.restarts, counters.filled), (7, 0, 0, 0));
    assert!(out.windows(2).all(|two| two[1].dts.0 - two[0].dts.0 == 960));
    let (_, pcm) = play(&out_track, &out);
    assert!(amplitude(&pcm[32 * 1024..33 * 1024], 1_000.0) < 0.01);
    assert!((amplitude(&pcm[60 * 1024..70 * 1024], 1_000.0) - 0.5).abs() < 0.03);

    let (track, mut frames) = tone(Codec::Opus, 1, 1, |at| at);
    frames[10].data = Bytes::new();
    // Two frames of the same length, in an odd number of bytes.
    frames[12].data = Bytes::from_static(&[0xf9, 1, 2]);
    frames[12].data = frames[12].data.slice(..2);
    let (_, _, counters) = transcode(&track, &frames, Codec::Aac);
    assert_eq!((counters.damaged, counters.restarts), (2, 0));
}

/// It is made by one thread and may be run by another.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Transcoder>();
};

/// A tone of 1 kHz at 8 kHz has eight different samples.
#[test]
fn g711_becomes_aac_and_opus() {
    // 0.5 of full scale, and that by the root of a half: ITU-T G.711's codes that are nearest.
    let of = |law| match law {
        Law::A => [0xd5_u8, 0xb3, 0xba, 0xb3, 0xd5, 0x33, 0x3a, 0x33],
        Law::Mu => [0xff_u8, 0x98, 0x90, 0x98, 0xff, 0x18, 0x10, 0x18],
    };
    for (law, into) in [(Law::A, Codec::Aac), (Law::Mu, Codec::Aac), (Law::A, Codec::Opus)] {
        let sound = G711 { law, sample_rate: 8_000, channels: 1 };
        let options = Options::default();
        let (mut transcoder, track) =
            Transcoder::of_g711(sound, TrackId::AUDIO, Timescale::HZ_90K, into, &options).unwrap();
        let mut out = Vec::new();
        for packet in 0..100 {
            let dts = Timestamp(7 * 90_000 + packet * 1_800);
            let data = of(law).repeat(20).into();
            transcoder.push(&Frame { track: TrackId::AUDIO, dts, cts: 0, keyframe: true, data }, &mut out);
        }
        let counters = transcoder.counters();
        assert_eq!((counters.damaged, counters.restarts, counters.filled), (0, 0, 0));
        let (start, pcm) = play(&track, &out);
        assert_eq!(start, 7 * SECOND, "where the first packet was");
        assert!(pcm.len() > 90_000, "two seconds but for what the codecs hold back");
        let loud = amplitude(&pcm[48_000..86_400], 1_000.0);
        assert!((loud - 0.5).abs() < 0.04, "{law:?} into {into:?}: {loud}");
    }
    let sound = G711 { law: Law::A, sample_rate: 8_000, channels: 1 };
    let mp3 = Transcoder::of_g711(sound, TrackId::AUDIO, Timescale::HZ_90K, Codec::Mp3, &Options::default());
    assert_eq!(mp3.unwrap_err(), Error::Codecs { from: "G.711", into: "MP3" });
}

#[test]
fn a_stream_has_its_sound_replaced_and_all_else_as_it_is() {
    let (aac, frames) = tone(Codec::Aac, 2, 1, |at| at);
    let mut other = aac.clone();
    other.id = TrackId::audio(4);
    let mut sound = Sound::new(Codec::Opus, Options::default());
    let alone = std::slice::from_ref(&aac);
    assert!(Sound::is_wanted(alone, Codec::Opus) && !Sound::is_wanted(alone, Codec::Aac));
    let (tracks, problem) = sound.set_tracks(&[aac.clone(), other.clone()]);
    assert_eq!((tracks[0].codec, &tracks[1], problem), (Codec::Opus, &other, None));
    let mut out = Vec::new();
    frames[..20].iter().for_each(|frame| sound.push(frame.clone(), &mut out));
    // The same tracks again: no gap.
    assert_eq!(sound.set_tracks(&[aac, other.clone()]).0, tracks);
    frames[20..].iter().for_each(|frame| sound.push(frame.clone(), &mut out));
    assert!(out.windows(2).all(|two| two[1].dts.0 - two[0].dts.0 == 960));
    out.clear();
    sound.push(Frame { track: other.id, ..frames[0].clone() }, &mut out);
    assert_eq!(out[0].data, frames[0].data);
    // Another configuration takes another transcoder; what was counted stays.
    let (mono, more) = tone(Codec::Aac, 1, 1, |at| at + SECOND);
    sound.set_tracks(std::slice::from_ref(&mono));
    assert_eq!(sound.made().and_then(|track| track.audio()).map(|audio| audio.channels), Some(1));
    more.iter().for_each(|frame| sound.push(frame.clone(), &mut out));
    let counters = sound.counters();
    assert_eq!((counters.frames, counters.damaged), ((frames.len() + more.len()) as u64, 0));
    // Where there is Opus, nothing is made.
    let (opus, _) = tone(Codec::Opus, 1, 1, |at| at);
    let both = [mono, opus];
    assert_eq!((sound.set_tracks(&both).0.as_slice(), sound.made()), (&both[..], None));
    assert_eq!(sound.counters(), counters);
}

#[test]
fn what_is_made_goes_only_forward_though_samples_are_counted_anew() {
    for (from, into) in [(Codec::Aac, Codec::Opus), (Codec::Opus, Codec::Aac)] {
        // Each frame is for a millisecond after the one before, and lasts longer.
        let (track, mut frames) = tone(from, 2, 2, |at| at);
        frames.iter_mut().zip(0..).for_each(|(frame, number)| frame.dts = Timestamp(90 * number));
        let mut sound = Sound::new(into, Options::default());
        sound.set_tracks(std::slice::from_ref(&track));
        let mut out = Vec::new();
        frames.iter().for_each(|frame| sound.push(frame.clone(), &mut out));
        assert!(sound.counters().restarts > 0 && !out.is_empty());
        assert!(out.windows(2).all(|two| two[0].dts < two[1].dts), "{from:?} into {into:?}");
    }
}

#[test]
fn what_cannot_be_transcoded_is_told() {
    let new = |track: &Track, into| Transcoder::new(track, into, &Options::default()).map(|_| ());
    let aac = |rate, channels| {
        let config = codec::aac::low_complexity_config(rate, channels).unwrap();
        codec::track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, config).unwrap()
    };
    assert_eq!(new(&aac(37_800, 2), Codec::Opus), Err(Error::SampleRate(37_800)));
    assert_eq!(new(&aac(7_350, 2), Codec::Opus), Err(Error::SampleRate(7_350)));
    assert_eq!(new(&aac(48_000, 2), Codec::Aac), Err(Error::Codecs { from: "AAC", into: "AAC" }));
    assert_eq!(new(&aac(48_000, 2), Codec::H264), Err(Error::Codecs { from: "AAC", into: "H.264" }));
    let loud = Options { stereo_bit_rate: 5_000_000, ..Options::default() };
    let refused = Transcoder::new(&aac(48_000, 2), Codec::Opus, &loud);
    assert!(matches!(refused, Ok(_) | Err(Error::Encoder { .. })));
    for rate in
        [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000]
    {
        for channels in [1, 2, 3, 4, 5, 6, 8] {
            assert_eq!(new(&aac(rate, channels), Codec::Opus), Ok(()), "{rate} Hz, {channels} channels");
        }
    }
    for channels in 1..=8 {
        let config = identification_header(channels, 48_000).unwrap();
        let track = codec::track(TrackId::AUDIO, Codec::Opus, clock(), config).unwrap();
        assert_eq!(new(&track, Codec::Aac), Ok(()), "{channels} channels");
    }
}

/// Tracks to feed garbage to.
fn any_track() -> impl Strategy<Value = (Track, Codec)> {
    let aac = (prop_oneof![Just(8_000), Just(44_100), Just(48_000), Just(96_000)], 1..=6_u8).prop_map(
        |(rate, channels)| {
            let config = codec::aac::low_complexity_config(rate, channels).unwrap();
            (codec::track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, config).unwrap(), Codec::Opus)
        },
    );
    let opus = (1..=8_u8).prop_map(|channels| {
        let config = identification_header(channels, 48_000).unwrap();
        (codec::track(TrackId::AUDIO, Codec::Opus, Timescale::HZ_90K, config).unwrap(), Codec::Aac)
    });
    prop_oneof![aac, opus]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_at_any_time_does_no_harm(
        (track, into) in any_track(),
        frames in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..300), prop_oneof![9 => 0..4_000_i64, 1 => any::<i64>()]),
            0..40,
        ),
    ) {
        let (mut transcoder, _) = Transcoder::new(&track, into, &Options::default()).unwrap();
        let mut out = Vec::new();
        let (mut time, mut before) = (0_i64, 0);
        for (data, after) in frames {
            time = time.saturating_add(after);
            transcoder.push(
                &Frame { track: track.id, dts: Timestamp(time), cts: 0, keyframe: true, data: data.into() },
                &mut out,
            );
            // The longest packet and the longest gap that is filled.
            prop_assert!(out.len() - before <= 13);
            before = out.len();
        }
        let Counters { frames, damaged, failed, .. } = transcoder.counters();
        prop_assert!(damaged <= frames);
        prop_assert_eq!(failed, 0);
    }
}
