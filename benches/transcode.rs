//! What transcoding the sound of one stream costs: `cargo bench -p transcode`.
//!
//! Each line is a stream of 20 s, transcoded as one that runs would be: CPU time of the thread, in percent of a core, the
//! least and the median of seven times, in turns, so that what else the machine does falls on all. The sound is a chord with noise in it, since silence and pure tones cost less than
//! music.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a bench may stop where its input is wrong")]
#![allow(clippy::print_stdout, reason = "that is what it is for")]
#![allow(clippy::cast_precision_loss, reason = "sound is not exact")]

use std::time::Duration;

use bytes::Bytes;
use fdk_aac::enc;
use media_core::codec::{self, opus::identification_header};
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use transcode::{Options, Transcoder};

const SECONDS: usize = 20;
const TIMES: usize = 7;

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// Interleaved samples of a chord with noise.
fn music(rate: u32, channels: usize) -> Vec<i16> {
    let mut noise = 1_u32;
    let samples = SECONDS * usize::try_from(rate).expect("small");
    let mut out = Vec::with_capacity(samples * channels);
    for at in 0..samples {
        for channel in 0..channels {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = f64::from(noise >> 16) / 65_536.0 - 0.5;
            let beat = (at as f64 / f64::from(rate) * 4.0).fract();
            let tone = |hertz: f64| (at as f64 * hertz * std::f64::consts::TAU / f64::from(rate)).sin();
            let chord = tone(261.6) + tone(329.6 + channel as f64) + tone(392.0) + 0.5 * tone(3_000.0);
            let sample = 5_000.0 * chord + 6_000.0 * hiss * (1.0 - beat).powi(3);
            #[allow(clippy::cast_possible_truncation, reason = "some 20,000")]
            out.push(sample as i16);
        }
    }
    out
}

fn frames(track: &Track, samples: usize, coded: Vec<Bytes>) -> Vec<Frame> {
    let frame = |(index, data)| Frame {
        track: track.id,
        dts: Timestamp(i64::try_from(index * samples).expect("20 s")),
        cts: 0,
        keyframe: true,
        data,
    };
    coded.into_iter().enumerate().map(frame).collect()
}

fn aac(rate: u32, channels: usize) -> (Track, Vec<Frame>) {
    let encoder = enc::Encoder::new(enc::EncoderParams {
        bit_rate: enc::BitRate::Cbr(128_000),
        sample_rate: rate,
        transport: enc::Transport::Raw,
        channels: if channels == 1 { enc::ChannelMode::Mono } else { enc::ChannelMode::Stereo },
        audio_object_type: enc::AudioObjectType::Mpeg4LowComplexity,
    })
    .expect("an encoder");
    let config =
        codec::aac::low_complexity_config(rate, u8::try_from(channels).expect("two")).expect("usual");
    let scale = Timescale::new(rate).expect("not 0");
    let track = codec::track(TrackId::AUDIO, Codec::Aac, scale, config).expect("a track");
    let mut buffer = vec![0; 8_192];
    let sound = music(rate, channels);
    let coded = sound.chunks_exact(1024 * channels).map(|pcm| {
        let length = encoder.encode(pcm, &mut buffer).expect("a frame").output_size;
        Bytes::copy_from_slice(&buffer[..length])
    });
    let coded = coded.collect();
    let frames = frames(&track, 1024, coded);
    (track, frames)
}

fn opus(channels: usize) -> (Track, Vec<Frame>) {
    let layout = if channels == 1 { opus::Channels::Mono } else { opus::Channels::Stereo };
    let mut encoder = opus::Encoder::new(48_000, layout, opus::Application::Audio).expect("an encoder");
    encoder.set_bitrate(opus::Bitrate::Bits(128_000)).expect("usual");
    let config = identification_header(u8::try_from(channels).expect("two"), 48_000).expect("usual");
    let scale = Timescale::new(48_000).expect("not 0");
    let track = codec::track(TrackId::AUDIO, Codec::Opus, scale, config).expect("a track");
    let sound = music(48_000, channels);
    let coded = sound
        .chunks_exact(960 * channels)
        .map(|pcm| encoder.encode_vec(pcm, 1_500).expect("a packet").into());
    let coded = coded.collect();
    let frames = frames(&track, 960, coded);
    (track, frames)
}

/// Percent of a core, frames and bytes of one time.
fn once((track, frames): &(Track, Vec<Frame>), into: Codec, options: &Options) -> (f64, usize, usize) {
    let (mut transcoder, _) = Transcoder::new(track, into, options).expect("a transcoder");
    let (mut out, mut bytes, mut count) = (Vec::new(), 0, 0);
    let began = cpu();
    for frame in frames {
        transcoder.push(frame, &mut out);
        bytes += out.iter().map(|frame| frame.data.len()).sum::<usize>();
        count += out.len();
        out.clear();
    }
    let took = cpu().saturating_sub(began);
    assert_eq!(transcoder.counters().damaged, 0, "the input is whole");
    (took.as_secs_f64() * 100.0 / SECONDS as f64, count, bytes)
}

/// A line.
struct Job<'a> {
    what: String,
    sound: &'a (Track, Vec<Frame>),
    into: Codec,
    options: Options,
    times: Vec<(f64, usize, usize)>,
}

impl<'a> Job<'a> {
    fn new(what: &str, sound: &'a (Track, Vec<Frame>), into: Codec, options: Options) -> Self {
        Self { what: what.to_owned(), sound, into, options, times: Vec::new() }
    }

    fn print(&mut self) {
        self.times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((least, frames, bytes), (median, ..)) = (self.times[0], self.times[TIMES / 2]);
        let (what, frames, kilobits) = (&self.what, frames / SECONDS, bytes * 8 / SECONDS / 1_000);
        println!(
            "{what:44} {least:5.2} % of a core (median {median:.2})   {frames} frames/s, {kilobits} kbit/s"
        );
    }
}

fn main() {
    let usual = Options::default();
    let (cd, studio, mono) = (aac(44_100, 2), aac(48_000, 2), aac(48_000, 1));
    let (opus_stereo, opus_mono) = (opus(2), opus(1));
    let mut jobs = Vec::new();
    for opus_complexity in 0..=10 {
        let options = Options { opus_complexity, ..usual };
        let note = if options == usual { " (as it is)" } else { "" };
        let what = |rate: &str| format!("AAC {rate} stereo to Opus {opus_complexity}{note}");
        jobs.push(Job::new(&what("44.1 kHz"), &cd, Codec::Opus, options));
        jobs.push(Job::new(&what("48 kHz"), &studio, Codec::Opus, options));
    }
    jobs.push(Job::new("AAC 48 kHz mono to Opus", &mono, Codec::Opus, usual));
    jobs.push(Job::new("Opus stereo to AAC", &opus_stereo, Codec::Aac, usual));
    jobs.push(Job::new("Opus mono to AAC", &opus_mono, Codec::Aac, usual));
    for _ in 0..TIMES {
        for job in &mut jobs {
            job.times.push(once(job.sound, job.into, &job.options));
        }
    }
    jobs.iter_mut().for_each(Job::print);
}
