//! Publishers and readers of a registry, as the roles use them.

use bytes::Bytes;

use super::*;
use crate::frame::{AudioParams, Codec, Frame, Params, Timescale, Timestamp, Track, TrackId, VideoParams};
use crate::hub::{Event, Unit};

fn key(name: &str) -> StreamKey {
    StreamKey::parse("live", name, &[]).unwrap()
}

fn video(config: &'static [u8]) -> Vec<Track> {
    vec![Track {
        id: TrackId::VIDEO,
        codec: Codec::H264,
        timescale: Timescale::MILLIS,
        config: Bytes::from_static(config),
        params: Params::Video(VideoParams { width: 640, height: 360, frame_rate: None }),
        rfc6381: "avc1.42c01e".to_owned(),
    }]
}

fn frame(ms: i64, keyframe: bool) -> Frame {
    Frame { track: TrackId::VIDEO, dts: Timestamp(ms), cts: 0, keyframe, data: Bytes::from_static(&[0; 100]) }
}

fn publish(registry: &Registry, epoch: u64) -> Producer {
    let mut producer = registry.publish(&key("a"), Epoch(epoch), Takeover::Refuse).unwrap();
    producer.set_tracks(video(b"one")).unwrap();
    producer
}

fn read(consumer: &mut Consumer) -> Vec<(u64, i64)> {
    std::iter::from_fn(|| match consumer.try_next() {
        Some(Event::Unit(unit)) => Some((unit.sequence, unit.frame.dts.0)),
        _ => None,
    })
    .collect()
}

#[test]
fn a_reader_joins_at_the_newest_keyframe() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    for i in 0..10 {
        producer.push(frame(i * 40, i % 4 == 0)).unwrap();
    }
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    assert_eq!(read(&mut consumer), [(8, 320), (9, 360)]);
}

#[test]
fn the_main_picture_is_the_one_with_the_lowest_number() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let picture = |number| Track { id: TrackId::video(number), ..video(b"one").remove(0) };
    producer.set_tracks(vec![picture(7), picture(3)]).unwrap();
    for i in 0..10 {
        for (number, gop) in [(7, 1), (3, 4)] {
            producer.push(Frame { track: TrackId::video(number), ..frame(i * 40, i % gop == 0) }).unwrap();
        }
    }
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    assert_eq!(read(&mut consumer), [(17, 320), (18, 360), (19, 360)]);
    assert_eq!(registry.stream(&key("a")).unwrap().snapshot().keyframe_interval_ms, Some(160));
}

#[test]
fn a_reader_that_lags_goes_on_at_the_newest_keyframe() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let second = |i: i64| Frame { data: Bytes::from(vec![0; 40_000]), ..frame(i * 1_000, i % 4 == 0) };
    producer.push(second(0)).unwrap();
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    for i in 1..14 {
        producer.push(second(i)).unwrap();
    }
    assert_eq!(read(&mut consumer), [(12, 12_000), (13, 13_000)]);
}

#[test]
fn a_burst_of_gops_loses_nothing() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    for i in 0..200 {
        producer.push(frame(i * 40, true)).unwrap();
    }
    assert_eq!(read(&mut consumer).len(), 200);
}

#[test]
fn without_keyframes_the_cache_is_bounded_and_reading_starts_anywhere() {
    let cache = CacheLimits { bytes: 3_000, span_ms: 1_000_000 };
    let registry = Registry::new(Limits { streams: 1, cache });
    let mut producer = publish(&registry, 1);
    let mut early = registry.subscribe(&key("a")).unwrap();
    for i in 0..100 {
        producer.push(frame(i * 40, i == 0)).unwrap();
    }
    let kept = read(&mut registry.subscribe(&key("a")).unwrap());
    assert!((2..30).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&(99, 3_960)));
    assert_eq!(read(&mut early), kept);
}

#[test]
fn without_keyframes_reading_starts_close_to_the_live_edge() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    for i in 0..100 {
        producer.push(frame(i * 100, false)).unwrap();
    }
    let kept = read(&mut registry.subscribe(&key("a")).unwrap());
    assert_eq!((kept[0], kept.len()), ((79, 7_900), 21));
}

#[test]
fn tiny_frames_and_changing_configurations_count() {
    let cache = CacheLimits { bytes: 100_000, span_ms: 1_000_000 };
    let registry = Registry::new(Limits { streams: 1, cache });
    let mut producer = publish(&registry, 1);
    let tiny = |i: i64| Frame { data: Bytes::from_static(&[0]), ..frame(i, i == 0) };
    let mut early = registry.subscribe(&key("a")).unwrap();
    for i in 0..10_000 {
        producer.push(tiny(i)).unwrap();
    }
    assert!(read(&mut early).len() < 1_000);
    for i in 0..100 {
        let config: &[u8] = if i % 2 == 0 { &[0; 10_000] } else { &[1; 10_000] };
        let tracks = video(b"").into_iter().map(|t| Track { config: Bytes::copy_from_slice(config), ..t });
        producer.set_tracks(tracks.collect()).unwrap();
        producer.push(tiny(10_000 + i)).unwrap();
    }
    assert!((2..10).contains(&read(&mut early).len()));
}

#[test]
fn a_publisher_that_comes_back_goes_on_with_the_same_stream() {
    let registry = Registry::new(Limits::default());
    let mut first = publish(&registry, 1);
    first.push(frame(5_000, true)).unwrap();
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    drop(first);
    assert_eq!(registry.stream(&key("a")).unwrap().snapshot().phase, Phase::Interrupted);

    let mut second = publish(&registry, 2);
    second.push(frame(0, true)).unwrap();
    assert!(!registry.expire(&key("a"), Epoch(1)), "the grace of the first is over, but not the stream");
    assert_eq!(read(&mut consumer), [(0, 0), (1, 40)]);
    let snapshot = registry.stream(&key("a")).unwrap().snapshot();
    assert_eq!((snapshot.phase, snapshot.tracks.epoch, snapshot.jumps), (Phase::Live, Epoch(2), 0));
}

#[test]
fn a_stream_whose_grace_is_over_ends() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    producer.push(frame(0, true)).unwrap();
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    assert!(!registry.expire(&key("a"), Epoch(1)), "it is live");
    drop(producer);
    assert!(registry.expire(&key("a"), Epoch(1)));
    assert!(matches!(consumer.try_next(), Some(Event::Unit(_))), "what was there is still read");
    assert!(matches!(consumer.try_next(), Some(Event::Ended)));
    assert!(registry.stream(&key("a")).is_none());
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let registry = Registry::new(Limits::default());
    let mut first = publish(&registry, 5);
    let second = |epoch, takeover| registry.publish(&key("a"), Epoch(epoch), takeover);
    assert_eq!(second(6, Takeover::Refuse).unwrap_err(), PublishError::Busy(key("a")));
    assert!(matches!(second(5, Takeover::Allow), Err(PublishError::StaleEpoch { .. })));
    let _second = second(6, Takeover::Allow).unwrap();
    assert_eq!(first.revoked().await, Revoked::TakenOver);
    assert_eq!(first.push(frame(0, true)), Err(Revoked::TakenOver));
    drop(first);
    assert_eq!(registry.stream(&key("a")).unwrap().snapshot().phase, Phase::Live);
}

#[tokio::test]
async fn a_kicked_publisher_is_told_and_waiting_readers_see_the_end() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    let stream = registry.stream(&key("a")).unwrap();
    let changed = stream.changed();
    assert!(consumer.try_next().is_none());
    assert!(registry.end(&key("a"), Revoked::Kicked));
    assert_eq!(producer.revoked().await, Revoked::Kicked);
    changed.await;
    assert!(matches!(consumer.try_next(), Some(Event::Ended)));
    assert_eq!(producer.push(frame(0, true)), Err(Revoked::Ended));
}

#[test]
fn changed_tracks_come_with_the_units_they_belong_to() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    producer.push(frame(0, true)).unwrap();
    producer.set_tracks(video(b"one")).unwrap();
    producer.push(frame(40, false)).unwrap();
    producer.set_tracks(video(b"two")).unwrap();
    producer.push(frame(80, true)).unwrap();
    let mut versions = Vec::new();
    while let Some(Event::Unit(unit)) = consumer.try_next() {
        versions.push(unit.tracks.version);
    }
    assert_eq!(versions, [2, 2, 3]);
}

#[test]
fn frames_of_unknown_tracks_are_dropped() {
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let audio = Frame { track: TrackId::AUDIO, ..frame(0, true) };
    assert_eq!(producer.push(audio), Ok(false));
    assert_eq!(producer.push(frame(0, true)), Ok(true));
}

#[test]
fn streams_are_bounded_and_start_once() {
    let started = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&started);
    let registry = Registry::with_on_start(
        Limits { streams: 1, ..Limits::default() },
        || 7,
        move |c| {
            seen.lock().push(c.key().to_string());
        },
    );
    drop(publish(&registry, 1));
    let mut again = publish(&registry, 2);
    assert_eq!(*started.lock(), ["live/a"]);
    assert!(again.push(frame(0, true)).unwrap());
    let came = registry.subscribe(&key("a")).unwrap().try_next();
    assert!(matches!(came, Some(Event::Unit(Unit { wall_clock_ms: 7, .. }))), "{came:?}");
    assert_eq!(
        registry.publish(&key("b"), Epoch(1), Takeover::Refuse).unwrap_err(),
        PublishError::TooManyStreams(1)
    );
}

#[test]
fn a_reader_may_wait_for_a_time() {
    /// Whether it goes on waiting while `push` is done.
    fn waits(consumer: &Consumer, ms: i64, push: impl FnOnce()) -> bool {
        let mut reached = std::pin::pin!(consumer.reaches(ms));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(reached.as_mut().poll(&mut context).is_pending(), "nothing is there");
        push();
        reached.as_mut().poll(&mut context).is_pending()
    }
    let registry = Registry::new(Limits::default());
    let mut producer = publish(&registry, 1);
    let mut consumer = registry.subscribe(&key("a")).unwrap();
    assert!(!waits(&consumer, 1_000, || assert!(producer.push(frame(0, true)).unwrap())), "a keyframe");
    assert_eq!(read(&mut consumer).len(), 1);
    let push = |producer: &mut Producer, ms| assert!(producer.push(frame(ms, false)).unwrap());
    assert!(waits(&consumer, 80, || push(&mut producer, 40)), "too early");
    assert_eq!(read(&mut consumer).len(), 1);
    assert!(!waits(&consumer, 80, || push(&mut producer, 80)), "its time");
    assert_eq!(read(&mut consumer).len(), 1);
    assert!(!waits(&consumer, 1_000, || {
        producer.set_tracks(video(b"two")).unwrap();
        push(&mut producer, 120);
    }));
    assert_eq!(read(&mut consumer).len(), 1);
    assert!(!waits(&consumer, 10_000, || (121..190).for_each(|ms| push(&mut producer, ms))), "too many");
    assert_eq!(read(&mut consumer).len(), 69);
    assert!(!waits(&consumer, 1_000, || assert!(registry.end(&key("a"), Revoked::Kicked))), "the end");
}

#[test]
fn of_who_is_muted_opus_goes_on_as_silence_and_other_sound_does_not() {
    let sound = |codec, channels| Track {
        id: TrackId::AUDIO,
        codec,
        timescale: Timescale::MILLIS,
        config: Bytes::new(),
        params: Params::Audio(AudioParams { sample_rate: 48_000, channels, frame_samples: None }),
        rfc6381: String::new(),
    };
    let cases = [
        (Codec::Opus, 1, Some([0xf8, 0xff, 0xfe])),
        (Codec::Opus, 2, Some([0xfc, 0xff, 0xfe])),
        (Codec::Opus, 6, None),
        (Codec::Aac, 2, None),
    ];
    for (codec, channels, silence) in cases {
        let registry = Registry::new(Limits::default());
        let mut producer = registry.publish(&key("a"), Epoch(1), Takeover::Refuse).unwrap();
        producer.set_tracks(vec![sound(codec, channels)]).unwrap();
        let word = Frame { track: TrackId::AUDIO, ..frame(20, true) };
        registry.stream(&key("a")).unwrap().mute(true);
        let mut consumer = registry.subscribe(&key("a")).unwrap();
        assert!(producer.push(word.clone()).unwrap());
        let heard = match consumer.try_next() {
            Some(Event::Unit(unit)) => Some(unit.frame.data),
            _ => None,
        };
        assert_eq!(heard.as_deref(), silence.as_ref().map(|data| &data[..]), "{codec:?}, {channels}");
        registry.stream(&key("a")).unwrap().mute(false);
        assert!(producer.push(Frame { dts: Timestamp(40), ..word.clone() }).unwrap());
        let Some(Event::Unit(unit)) = consumer.try_next() else { panic!("it is heard again") };
        assert_eq!(unit.frame.data, word.data);
    }
}
