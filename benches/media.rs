//! What the work on one stream costs: reading and writing RTMP chunks and MPEG-TS, writing FLV, fMP4 parts and
//! playlists. `cargo bench -p media-core --bench media`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a bench may stop where its input is wrong")]

mod clip;

use std::hint::black_box;

use bytes::BytesMut;
use clip::Clip;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use media_core::flv;
use media_core::fmp4::{Sample, TrackRun, fragment};
use media_core::frame::{Frame, Kind, Timestamp};
use media_core::hls::playlist::{self, Form};
use media_core::hls::{Config, Segmenter, Window};
use media_core::mpegts::{self, Muxer};
use media_core::rtmp::{self, CHUNK_SIZE, chunk};

/// The two seconds as a publisher's bytes.
fn chunks(clip: &Clip, chunk_size: usize) -> BytesMut {
    let mut out = BytesMut::new();
    for (kind, timestamp_ms, body) in clip.bodies() {
        let (kind, chunk_stream) = match kind {
            flv::TagKind::Video => (rtmp::Kind::Video, 6),
            _ => (rtmp::Kind::Audio, 4),
        };
        let header = chunk::Header { chunk_stream, ..kind.header(1, timestamp_ms) };
        chunk::write(&mut out, chunk_size, &header, &[&body]).expect("a message of some kilobytes");
    }
    out
}

fn rtmp_chunks(c: &mut Criterion) {
    let clip = Clip::new(&[]);
    let mut group = c.benchmark_group("rtmp");
    for chunk_size in [128, 4_096, CHUNK_SIZE] {
        let wire = chunks(&clip, chunk_size);
        let mut reader = chunk::Reader::new(chunk::MAX_MESSAGE_BYTES);
        reader.set_chunk_size(u32::try_from(chunk_size).expect("small")).expect("a legal size");
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(format!("chunk parse, chunks of {chunk_size}"), |b| {
            b.iter(|| {
                // As a socket hands them out.
                for mut piece in wire.chunks(16 << 10) {
                    while let Some(message) = reader.read(&mut piece).expect("whole messages") {
                        black_box(message);
                    }
                }
            });
        });
    }
    let wire = chunks(&clip, CHUNK_SIZE);
    let bodies = clip.bodies();
    let header = rtmp::Kind::Video.header(1, 0);
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function(format!("chunk serialize, chunks of {CHUNK_SIZE}"), |b| {
        b.iter(|| {
            for (_, timestamp_ms, body) in &bodies {
                let mut out = BytesMut::new();
                let header = chunk::Header { timestamp_ms: *timestamp_ms, ..header };
                chunk::write(&mut out, CHUNK_SIZE, &header, &[body]).expect("a message of some kilobytes");
                black_box(out.freeze());
            }
        });
    });
    group.finish();
}

fn flv_mux(c: &mut Criterion) {
    let clip = Clip::new(&[]);
    let bytes: usize = clip.frames.iter().map(|frame| frame.data.len()).sum();
    let mut group = c.benchmark_group("flv");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("mux", |b| {
        b.iter(|| {
            for frame in &clip.frames {
                let track = clip.track(frame);
                let body = flv::frame_body(track, frame);
                let kind =
                    if frame.track.kind == Kind::Video { flv::TagKind::Video } else { flv::TagKind::Audio };
                let mut out = BytesMut::with_capacity(body.len() + 15);
                flv::write_tag(&mut out, kind, flv::timestamp_ms(track, frame), &body.pieces());
                black_box(out.freeze());
            }
        });
    });
    group.finish();
}

fn transport_stream(c: &mut Criterion) {
    let clip = Clip::new(&[]);
    let bytes: usize = clip.frames.iter().map(|frame| frame.data.len()).sum();
    let mut group = c.benchmark_group("mpegts");
    group.throughput(Throughput::Bytes(bytes as u64));
    let mut muxer = Muxer::new();
    muxer.set_tracks(&clip.tracks);
    let mut wire = BytesMut::new();
    group.bench_function("mux", |b| {
        b.iter(|| {
            wire.clear();
            clip.frames.iter().for_each(|frame| muxer.frame(frame, &mut wire));
        });
    });
    group.throughput(Throughput::Bytes(wire.len() as u64));
    let mut demuxer = mpegts::Demuxer::new();
    group.bench_function("demux", |b| {
        b.iter(|| {
            // As datagrams of SRT bring them.
            for packets in wire.chunks(7 * mpegts::PACKET_BYTES) {
                demuxer.push(packets);
                while let Some(event) = demuxer.next_event() {
                    black_box(event);
                }
            }
        });
    });
    group.finish();
}

fn fmp4_part(c: &mut Criterion) {
    let clip = Clip::new(&[]);
    let samples = |kind, count, duration| -> Vec<Sample> {
        let frames = clip.frames.iter().filter(|frame| frame.track.kind == kind);
        let sample = |f: &Frame| Sample { duration, cts: f.cts, keyframe: f.keyframe, data: f.data.clone() };
        frames.take(count).map(sample).collect()
    };
    // 200 ms.
    let (pictures, sounds) = (samples(Kind::Video, 6, 3_000), samples(Kind::Audio, 9, 1_920));
    let mut group = c.benchmark_group("fmp4");
    for (name, samples) in [("part of pictures", &pictures), ("part of sound", &sounds)] {
        let run = TrackRun { id: 1, base_decode_time: 90_000, samples };
        let bytes: usize = samples.iter().map(|sample| sample.data.len()).sum();
        group.throughput(Throughput::Bytes(bytes as u64));
        // As it is handed out, frames included.
        group.bench_function(name, |b| b.iter(|| fragment(7, &[run]).expect("a part").bytes()));
    }
    group.finish();
}

/// A window as it is after a minute.
fn full_window(clip: &Clip) -> Window {
    let config = Config::default();
    let mut segmenter = Segmenter::new(&config);
    let mut window = Window::new(config);
    segmenter.set_tracks(1, &clip.tracks);
    for round in 0..60 / Clip::SECONDS {
        for frame in &clip.frames {
            let dts = Timestamp(frame.dts.0 + round * Clip::SECONDS * 90_000);
            segmenter.push(Frame { dts, ..frame.clone() }, 1_700_000_000_000 + dts.0 / 90);
            while let Some(event) = segmenter.poll_event() {
                window.apply(event);
            }
        }
    }
    assert!(window.is_ready());
    window
}

fn hls(c: &mut Criterion) {
    let clip = Clip::new(&[]);
    let window = full_window(&clip);
    let mut group = c.benchmark_group("hls");
    for (name, form) in [("playlist render", Form::Full), ("delta playlist render", Form::Delta)] {
        let bytes = playlist::media(&window, 0, form).len();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| b.iter(|| playlist::media(&window, 0, form)));
    }
    let bytes: usize = clip.frames.iter().map(|frame| frame.data.len()).sum();
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("segment two seconds", |b| {
        b.iter_batched(
            || {
                let mut segmenter = Segmenter::new(&Config::default());
                segmenter.set_tracks(1, &clip.tracks);
                segmenter
            },
            |mut segmenter| {
                for frame in &clip.frames {
                    segmenter.push(frame.clone(), 1_700_000_000_000 + frame.dts.0 / 90);
                    while let Some(event) = segmenter.poll_event() {
                        black_box(event);
                    }
                }
                segmenter
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, rtmp_chunks, flv_mux, transport_stream, fmp4_part, hls);
criterion_main!(benches);
