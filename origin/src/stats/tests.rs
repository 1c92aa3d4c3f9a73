//! Rates, clocks and totals from samples.

use std::time::Duration;

use media_core::hub::{Limits, Registry, Takeover};

use super::*;
use crate::testing::{clip, key, publisher};

const WALL_MS: u64 = 1_800_000_000_000;

fn hls(_: &StreamKey) -> HlsState {
    HlsState { ready: false, problem: None }
}

#[test]
fn rates_and_clock_follow_the_samples() {
    let (stats, metrics, registry) =
        (Stats::new(10), Metrics::new().unwrap(), Registry::new(Limits::default()));
    let mut producer = registry.publish(&key(), Epoch(1), Takeover::Refuse).unwrap();
    let begin = Instant::now();
    stats.published(&producer, publisher(), begin, WALL_MS, &metrics);
    let fresh = stats.stream(&key(), hls).unwrap();
    assert_eq!((fresh.bitrate_bps, fresh.frame_rate, fresh.clock), (0, 0.0, None));

    let (tracks, frames) = clip();
    producer.set_tracks(tracks).unwrap();
    producer.set_encoder("OBS").unwrap();
    let bytes: usize = frames.iter().map(|f| f.data.len()).sum();
    for frame in frames {
        producer.push(frame).unwrap();
    }
    assert_eq!(stats.sample(begin + Duration::from_secs(2), WALL_MS + 2_000, &metrics), 1);
    let info = stats.stream(&key(), hls).unwrap();
    assert_eq!(info.bitrate_bps, bytes as u64 * 8 / 2);
    assert_eq!(info.frame_rate, 4.0);
    assert_eq!(info.keyframe_interval_ms, Some(400));
    assert_eq!(info.bytes_in, bytes as u64);
    assert_eq!(info.publisher.encoder.as_deref(), Some("OBS"));
    assert_eq!(info.publisher.remote_addr.as_deref(), Some("192.0.2.1:5000"));
    let clock = info.clock.unwrap();
    assert_eq!(clock, MediaClock { media_ms: 989, wall_ms: WALL_MS + 2_000 });
    let described: Vec<_> =
        info.tracks.iter().map(|t| (t.id.as_str(), t.codec.as_str(), t.width, t.channels)).collect();
    assert_eq!(described, [("v0", "H.264", Some(64), None), ("a0", "AAC", None, Some(1))]);

    // Nothing comes any more: the rates fall to zero, and the clock stays with the sample that was fresh.
    for second in 3..10 {
        let now = begin + Duration::from_secs(second);
        stats.sample(now, WALL_MS + second * 1_000, &metrics);
        if second < 8 {
            assert_eq!(stats.stream(&key(), hls).unwrap().clock, Some(clock), "{second}");
        }
    }
    let idle = stats.stream(&key(), hls).unwrap();
    assert_eq!((idle.bitrate_bps, idle.frame_rate), (0, 0.0));
    assert_eq!(metrics.received_bytes.get(), bytes as u64);
    assert_eq!((metrics.video_frames.get(), metrics.audio_frames.get()), (8, 36));
}

#[test]
fn a_stream_that_ended_is_forgotten_and_a_new_one_counts_anew() {
    let (stats, metrics, registry) =
        (Stats::new(10), Metrics::new().unwrap(), Registry::new(Limits::default()));
    let now = Instant::now();
    let publish = |epoch| {
        let mut producer = registry.publish(&key(), Epoch(epoch), Takeover::Refuse).unwrap();
        let wall_ms = WALL_MS + epoch;
        stats.published(&producer, publisher(), now, wall_ms, &metrics);
        let (tracks, frames) = clip();
        producer.set_tracks(tracks).unwrap();
        for frame in frames {
            producer.push(frame).unwrap();
        }
        producer
    };
    drop(publish(1));
    assert_eq!(stats.streams(hls)[0].state, StreamState::Interrupted);
    // It goes on: the same stream, since the same time.
    drop(publish(2));
    assert_eq!(stats.streams(hls)[0].started_at_ms, WALL_MS + 1);
    assert_eq!(stats.streams(hls)[0].epoch, 2);
    // Another one of the same name.
    registry.end(&key(), media_core::hub::Revoked::Kicked);
    assert!(stats.streams(hls).is_empty());
    let _third = publish(3);
    assert_eq!(stats.streams(hls)[0].started_at_ms, WALL_MS + 3);
    registry.end(&key(), media_core::hub::Revoked::Kicked);
    assert_eq!(stats.sample(now, WALL_MS, &metrics), 0);
    assert!(stats.records.lock().is_empty());
    // What came in between samples is counted all the same.
    assert_eq!(metrics.video_frames.get(), 24);
}

#[test]
fn a_publisher_that_lost_the_stream_takes_nothing_from_the_one_that_has_it() {
    let (stats, metrics, registry) =
        (Stats::new(10), Metrics::new().unwrap(), Registry::new(Limits::default()));
    let now = Instant::now();
    let told = |producer: &Producer, port: u16| {
        let publisher = Publisher { remote_addr: format!("192.0.2.1:{port}"), ..publisher() };
        let wall_ms = WALL_MS + u64::from(port);
        stats.published(producer, publisher, now, wall_ms, &metrics);
    };
    let seen = || {
        let info = stats.stream(&key(), hls).unwrap();
        (info.publisher.remote_addr.unwrap(), info.epoch, info.started_at_ms, info.bytes_in)
    };
    // The one that took the stream over is told of first.
    let first = registry.publish(&key(), Epoch(1), Takeover::Allow).unwrap();
    let second = registry.publish(&key(), Epoch(2), Takeover::Allow).unwrap();
    told(&second, 2);
    told(&first, 1);
    assert_eq!(seen(), ("192.0.2.1:2".to_owned(), 2, WALL_MS + 2, 0));
    drop(first);
    assert_eq!(seen().1, 2);

    // The stream ended in between, and the one that is told of late had the one before.
    registry.end(&key(), media_core::hub::Revoked::Kicked);
    let mut third = registry.publish(&key(), Epoch(3), Takeover::Allow).unwrap();
    told(&third, 3);
    let (tracks, frames) = clip();
    third.set_tracks(tracks).unwrap();
    let bytes: usize = frames.iter().map(|f| f.data.len()).sum();
    for frame in frames {
        third.push(frame).unwrap();
    }
    stats.sample(now, WALL_MS, &metrics);
    told(&second, 2);
    assert_eq!(seen(), ("192.0.2.1:3".to_owned(), 3, WALL_MS + 3, bytes as u64));
    assert_eq!(metrics.received_bytes.get(), bytes as u64);
}

#[test]
fn a_live_stream_has_a_record_whatever_epoch_ended_before_it() {
    let (stats, metrics, registry) =
        (Stats::new(10), Metrics::new().unwrap(), Registry::new(Limits::default()));
    let told =
        |producer: &Producer| stats.published(producer, publisher(), Instant::now(), WALL_MS, &metrics);
    let seen = || stats.stream(&key(), hls).map(|info| info.epoch);
    // Epoch 1 was given first, and published last.
    let second = registry.publish(&key(), Epoch(2), Takeover::Refuse).unwrap();
    told(&second);
    registry.end(&key(), media_core::hub::Revoked::Kicked);
    let first = registry.publish(&key(), Epoch(1), Takeover::Refuse).unwrap();
    told(&first);
    assert_eq!(seen(), Some(1));
    // The one that ended is told of late.
    told(&second);
    assert_eq!(seen(), Some(1));
}

#[test]
fn records_of_streams_that_ended_are_bounded() {
    let (stats, metrics, registry) =
        (Stats::new(10), Metrics::new().unwrap(), Registry::new(Limits::default()));
    let now = Instant::now();
    let publish = |name: &str| {
        let key = StreamKey::parse("live", name, &[]).unwrap();
        let producer = registry.publish(&key, Epoch(1), Takeover::Refuse).unwrap();
        stats.published(&producer, publisher(), now, WALL_MS, &metrics);
        producer
    };
    let _stays = publish("stays");
    for n in 0..100 {
        let producer = publish(&format!("s{n}"));
        registry.end(producer.key(), media_core::hub::Revoked::Kicked);
        assert!(stats.records.lock().len() <= 20);
    }
    assert_eq!(stats.streams(hls).len(), 1);
}
