//! From tags to what viewers are sent, without sockets.

mod beside;
mod late;
mod rest;
mod transport;

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::amf0;
use media_core::flv::{self, TagKind};

use super::*;
use crate::tests::studio::{self, Studio, WALL_MS, number};

fn config() -> FanoutConfig {
    FanoutConfig::default()
}

fn feed(fanout: &Fanout, tags: &[Tag], marks: &[Mark]) {
    let now = Instant::now();
    let mut marked = None;
    for tag in tags {
        let mark = marks.iter().find(|mark| mark.sequence == tag.sequence && marked != Some(mark.sequence));
        if let Some(mark) = mark {
            fanout.mark(*mark, now);
            marked = Some(mark.sequence);
        }
        fanout.push(tag.clone(), now);
    }
}

/// All that a reader can have without waiting, as it was handed out.
fn pieces(reader: &mut super::Reader) -> (Vec<Bytes>, Option<Over>) {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let mut pieces = Vec::new();
    loop {
        match reader.poll_next(&mut cx, Instant::now()) {
            std::task::Poll::Ready(Ok(bytes)) => pieces.push(bytes),
            std::task::Poll::Ready(Err(over)) => return (pieces, Some(over)),
            std::task::Poll::Pending => return (pieces, None),
        }
    }
}

fn read(pieces: &[Bytes]) -> Vec<flv::Tag> {
    let mut reader = flv::Reader::new();
    pieces.iter().for_each(|piece| reader.push(piece.clone()));
    let mut tags = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        tags.push(tag);
    }
    tags
}

fn is_header(tag: &flv::Tag) -> bool {
    tag.kind == TagKind::Script || tag.body[1] == 0
}

/// The numbers of the frames among these tags.
fn numbers(tags: &[flv::Tag]) -> Vec<u64> {
    tags.iter().filter(|tag| !is_header(tag)).map(|tag| number(&tag.body)).collect()
}

/// Two GOPs of three pictures, each picture followed by a frame of sound.
fn two_gops(studio: &mut Studio) -> (Vec<Tag>, Vec<Mark>) {
    let mut frames = Vec::new();
    for n in 0..6 {
        frames.push(studio.picture(n % 3 == 0, 100));
        frames.push(studio.sound(20));
    }
    studio::events(&frames)
}

#[test]
fn a_viewer_starts_with_headers_and_the_newest_keyframe() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    let (sent, over) = pieces(&mut viewer);
    assert_eq!(over, None);
    assert!(sent[0].starts_with(b"FLV\x01\x05"));
    let tags = read(&sent);
    let kinds: Vec<_> = tags.iter().take(3).map(|tag| tag.kind).collect();
    assert_eq!(kinds, [TagKind::Script, TagKind::Video, TagKind::Audio]);
    assert!(tags[..3].iter().all(is_header));
    assert_eq!(tags[0].timestamp_ms, flv::METADATA_TIMESTAMP_MS);
    assert!(tags[1..3].iter().all(|tag| tag.timestamp_ms == 120));
    // The last frame of sound still waits for a picture.
    assert_eq!(numbers(&tags), [6, 7, 8, 9, 10]);

    let metadata = amf0::decode(&tags[0].body).unwrap();
    let get = |key| metadata[1].get(key).and_then(amf0::Value::as_f64);
    assert_eq!(metadata[0].as_str(), Some("onMetaData"));
    assert_eq!(get("mediaTimeMs"), Some(120.0));
    assert_eq!(get("wallClockMs"), Some(WALL_MS as f64));
    assert!(get("width").is_some());
}

#[test]
fn a_viewer_at_the_live_edge_starts_with_the_next_keyframe() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let (tags, marks) = two_gops(&mut studio);
    let (before, after) = tags.split_at(9);
    feed(&fanout, before, &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Live);
    assert_eq!(pieces(&mut viewer).0.len(), 0);
    feed(&fanout, after, &marks);
    assert_eq!(numbers(&read(&pieces(&mut viewer).0)), [6, 7, 8, 9, 10]);
}

#[test]
fn a_flush_is_a_picture_and_the_sound_before_it() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags[..4], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(numbers(&read(&pieces(&mut viewer).0)), [0]);
    feed(&fanout, &tags[4..], &marks);
    let flushes: Vec<_> =
        pieces(&mut viewer).0.iter().map(|piece| numbers(&read(&header_and(piece)))).collect();
    // Keyframes go alone, so that viewers can start with them.
    assert_eq!(flushes, [vec![1, 2], vec![3, 4], vec![5], vec![6], vec![7, 8], vec![9, 10]]);
}

fn header_and(piece: &Bytes) -> [Bytes; 2] {
    [Bytes::copy_from_slice(&flv::header(true, true)), piece.clone()]
}

#[test]
fn sound_waits_no_longer_than_configured() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let (tags, _) = studio::events(&[studio.picture(true, 100), studio.sound(20)]);
    let now = Instant::now();
    tags.iter().for_each(|tag| fanout.push(tag.clone(), now));
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(numbers(&read(&pieces(&mut viewer).0)), [0]);
    let deadline = fanout.deadline().unwrap();
    assert_eq!(deadline, now + Duration::from_millis(100));
    fanout.handle_timeout(deadline - Duration::from_millis(1));
    assert!(pieces(&mut viewer).0.is_empty());
    fanout.handle_timeout(deadline);
    assert_eq!(numbers(&read(&header_and(&pieces(&mut viewer).0[0]))), [1]);
    assert_eq!(fanout.deadline(), None);
}

#[test]
fn sound_alone_is_sent_at_once_and_can_be_joined_once_a_second() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::audio_only();
    let frames: Vec<_> = (0..60)
        .map(|_| {
            studio.now_ms += 40;
            studio.sound(20)
        })
        .collect();
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags, &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    let sent = pieces(&mut viewer).0;
    assert!(sent[0].starts_with(b"FLV\x01\x04"));
    // Points at 0 s, 1 s and 2 s: frames 0, 25 and 50.
    assert_eq!(numbers(&read(&sent)), (50..60).collect::<Vec<_>>());
}

#[test]
fn one_encoding_is_shared_by_all_viewers() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    for format in Format::ALL {
        let mut one = fanout.enter(format, Start::Gop);
        let mut two = fanout.enter(format, Start::Gop);
        let (one, two) = (pieces(&mut one).0, pieces(&mut two).0);
        assert_eq!(one.len(), two.len());
        assert!(one.iter().zip(&two).all(|(one, two)| one.as_ptr() == two.as_ptr()), "{format:?}");
    }
}

#[test]
fn nothing_is_encoded_for_formats_that_nobody_uses() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags[..8], &marks);
    assert!(fanout.state.lock().outlets.iter().all(Option::is_none));
    let viewer = fanout.enter(Format::Rtmp, Start::Gop);
    feed(&fanout, &tags[8..9], &marks);
    assert_eq!(fanout.state.lock().outlets.iter().flatten().count(), 1);
    drop(viewer);
    feed(&fanout, &tags[9..], &marks);
    assert!(fanout.state.lock().outlets.iter().all(Option::is_none));
}

#[test]
fn websocket_messages_hold_the_same_bytes() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    let plain = pieces(&mut fanout.enter(Format::Flv, Start::Gop)).0;
    let framed = pieces(&mut fanout.enter(Format::WsFlv, Start::Gop)).0;
    assert_eq!(plain.len(), framed.len());
    for (plain, framed) in plain.iter().zip(&framed) {
        let mut cursor = std::io::Cursor::new(&framed[..]);
        let (header, len) = tungstenite::protocol::frame::FrameHeader::parse(&mut cursor).unwrap().unwrap();
        assert!(header.is_final && header.mask.is_none());
        assert_eq!(u8::from(header.opcode), 2);
        assert_eq!(usize::try_from(len).unwrap(), plain.len());
        assert_eq!(&framed[usize::try_from(cursor.position()).unwrap()..], plain);
    }
}

#[test]
fn rtmp_chunks_hold_the_same_messages() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    let plain = read(&pieces(&mut fanout.enter(Format::Flv, Start::Gop)).0);
    let chunks = pieces(&mut fanout.enter(Format::Rtmp, Start::Gop)).0.concat();
    let mut reader = media_core::rtmp::chunk::Reader::new(1 << 20);
    reader.set_chunk_size(60_000).unwrap();
    let mut input = &chunks[..];
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut input).unwrap() {
        messages.push(message);
    }
    assert!(input.is_empty());
    assert_eq!(messages.len(), plain.len());
    for (message, tag) in messages.iter().zip(&plain) {
        assert_eq!(message.header.type_id, tag.kind.number());
        assert_eq!(message.header.timestamp_ms, tag.timestamp_ms);
        assert_eq!(message.header.stream_id, 1);
        assert_eq!(message.body, tag.body);
    }
}

#[test]
fn new_tracks_are_announced_in_midstream_and_to_new_viewers() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let mut frames = vec![studio.picture(true, 100), studio.picture(false, 100)];
    studio.republish(|tracks| {
        tracks.remove(1);
    });
    frames.push(studio.picture(true, 100));
    frames.push(studio.picture(false, 100));
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags[..5], &marks);
    let mut old = fanout.enter(Format::Flv, Start::Gop);
    let mut sent = pieces(&mut old).0;
    feed(&fanout, &tags[5..], &marks);
    sent.extend(pieces(&mut old).0);
    let seen: Vec<_> = read(&sent).iter().map(|tag| (tag.kind, is_header(tag))).collect();
    let (script, video, audio) = (TagKind::Script, TagKind::Video, TagKind::Audio);
    assert_eq!(
        seen,
        [
            (script, true),
            (video, true),
            (audio, true),
            (video, false),
            (video, false),
            (script, true),
            (video, true),
            (video, false),
            (video, false)
        ]
    );
    let mut new = fanout.enter(Format::Flv, Start::Gop);
    let sent = pieces(&mut new).0;
    assert!(sent[0].starts_with(b"FLV\x01\x01"));
    let seen: Vec<_> = read(&sent).iter().map(|tag| (tag.kind, is_header(tag))).collect();
    assert_eq!(seen, [(script, true), (video, true), (video, false), (video, false)]);
}

#[test]
fn equal_headers_of_a_publisher_that_came_back_are_no_news() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let mut frames = vec![studio.picture(true, 100)];
    studio.republish(|_| {});
    frames.push(studio.picture(true, 100));
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags[..4], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    feed(&fanout, &tags[4..], &marks);
    assert_eq!(read(&pieces(&mut viewer).0).iter().filter(|tag| is_header(tag)).count(), 3);
}

#[test]
fn a_viewer_that_falls_behind_skips_to_the_newest_keyframe() {
    let fanout = Fanout::new(&FanoutConfig { ring_bytes: 20_000, ..config() }, Instant::now());
    let mut studio = Studio::new();
    let gop = |studio: &mut Studio| (0..5).map(|n| studio.picture(n == 0, 1_000)).collect::<Vec<_>>();
    let mut frames = gop(&mut studio);
    let first = frames.len();
    for _ in 0..9 {
        frames.extend(gop(&mut studio));
    }
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags[..3 + first], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    let before = numbers(&read(&pieces(&mut viewer).0));
    feed(&fanout, &tags[3 + first..], &marks);
    let after = pieces(&mut viewer).0;
    let after: Vec<_> = after.iter().flat_map(|piece| numbers(&read(&header_and(piece)))).collect();
    assert_eq!(before, [0, 1, 2, 3, 4]);
    assert_eq!(after, [45, 46, 47, 48, 49], "a keyframe is the first after a gap");
    assert_eq!(viewer.skips(), Skips { lagged: 1, late: 0 });
}

#[test]
fn a_skip_over_new_tracks_announces_them() {
    let fanout = Fanout::new(&FanoutConfig { ring_bytes: 20_000, ..config() }, Instant::now());
    let mut studio = Studio::new();
    let mut frames = vec![studio.picture(true, 1_000)];
    studio.republish(|tracks| {
        tracks.remove(1);
    });
    frames.extend((0..50).map(|n| studio.picture(n % 5 == 0, 1_000)).collect::<Vec<_>>());
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags[..4], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    pieces(&mut viewer);
    feed(&fanout, &tags[4..], &marks);
    let mut after = vec![Bytes::copy_from_slice(&flv::header(true, true))];
    after.extend(pieces(&mut viewer).0);
    let tags = read(&after);
    assert!(is_header(&tags[0]) && tags[0].kind == TagKind::Video);
    assert_eq!(numbers(&tags), [46, 47, 48, 49, 50]);
}

#[test]
fn who_skips_too_often_is_dropped() {
    let fanout = Fanout::new(
        &FanoutConfig { ring_bytes: 10_000, max_skips_per_minute: 2, ..config() },
        Instant::now(),
    );
    let mut studio = Studio::new();
    let frames: Vec<_> = (0..100).map(|n| studio.picture(n % 5 == 0, 1_000)).collect();
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags[..8], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(pieces(&mut viewer).1, None);
    feed(&fanout, &tags[8..33], &marks);
    assert_eq!(pieces(&mut viewer).1, None);
    feed(&fanout, &tags[33..58], &marks);
    assert_eq!(pieces(&mut viewer).1, None);
    feed(&fanout, &tags[58..83], &marks);
    assert_eq!(pieces(&mut viewer).1, Some(Over::Lagged));
}

#[test]
fn a_stream_without_keyframes_within_the_limits_is_joined_at_the_live_edge() {
    let fanout = Fanout::new(&FanoutConfig { ring_bytes: 10_000, ..config() }, Instant::now());
    let mut studio = Studio::new();
    let frames: Vec<_> = (0..100).map(|n| studio.picture(n == 0, 1_000)).collect();
    let (tags, marks) = studio::events(&frames);
    for start in [Start::Gop, Start::Live] {
        let half = Fanout::new(&FanoutConfig { ring_bytes: 10_000, ..config() }, Instant::now());
        feed(&half, &tags[..60], &marks);
        let mut viewer = half.enter(Format::Flv, start);
        let head = pieces(&mut viewer).0;
        assert_eq!(head.len(), 1);
        feed(&half, &tags[60..64], &marks);
        let tags = read(&[head, pieces(&mut viewer).0].concat());
        assert!(tags[..3].iter().all(is_header));
        assert_eq!(numbers(&tags)[0], 57, "the first that came after it");
    }
    // Whoever watches already goes on.
    feed(&fanout, &tags[..4], &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    pieces(&mut viewer);
    for tag in &tags[4..] {
        feed(&fanout, std::slice::from_ref(tag), &[]);
        assert_eq!(pieces(&mut viewer).0.len(), 1);
    }
    assert_eq!(viewer.skips(), Skips::default());
}

#[test]
fn a_keyframe_long_ago_is_no_place_to_start() {
    for start in [Start::Gop, Start::Live] {
        for early in [false, true] {
            let fanout = Fanout::new(&config(), Instant::now());
            let mut studio = Studio::new();
            let frames: Vec<_> = (0..1_000).map(|n| studio.picture(n == 0, 1_000)).collect();
            let (tags, _) = studio::events(&frames);
            let (headers, pictures) = tags.split_at(3);
            let began = Instant::now();
            headers.iter().for_each(|tag| fanout.push(tag.clone(), began));
            // What the viewer is sent after that many pictures in real time; nobody or somebody watched from the start.
            let at = |n: u32| began + Duration::from_millis(40) * n;
            let send = |from: usize, to: usize| {
                for (n, tag) in (0u32..).zip(pictures).take(to).skip(from) {
                    fanout.push(tag.clone(), at(n));
                }
            };
            send(0, 1);
            let other = early.then(|| fanout.enter(Format::Flv, Start::Gop));
            // Not older than what an origin waits for: 20 s are 500 pictures.
            send(1, 501);
            let mut viewer = fanout.enter(Format::Flv, start);
            let seen = numbers(&read(&pieces(&mut viewer).0));
            assert_eq!(seen, if start == Start::Gop { (0..501).collect() } else { Vec::new() });
            // Whoever waits for a keyframe waits no longer.
            send(501, 503);
            let seen = pieces(&mut viewer).0;
            assert!(start == Start::Gop || seen[0].starts_with(b"FLV"));
            let viewer = early.then_some(viewer);
            send(503, 600);
            // Whoever comes now gets headers at once and then what comes.
            let mut newest = fanout.enter(Format::Flv, start);
            let head = pieces(&mut newest).0;
            send(600, 602);
            let seen = read(&[head, pieces(&mut newest).0].concat());
            assert_eq!(seen.iter().filter(|tag| is_header(tag)).count(), 3);
            assert_eq!(numbers(&seen), [600, 601]);
            assert!(fanout.state.lock().gop.len() <= 1);
            // Nor is it kept for those who are behind.
            let bytes = fanout.state.lock().outlets[0].as_ref().unwrap().bytes();
            assert!(bytes < 300 * 1_500, "{bytes} bytes, of 10 s at most");
            drop((viewer, other));
        }
    }
}

#[test]
fn a_keyframe_far_behind_is_no_place_to_start_however_fast_it_came() {
    // Timestamps wrap on the way, or not.
    for shift in [0, u32::MAX - 10_000] {
        for early in [false, true] {
            let fanout = Fanout::new(&config(), Instant::now());
            let mut studio = Studio::new();
            let frames: Vec<_> = (0..502).map(|n| studio.picture(n == 0, 1_000)).collect();
            let (mut tags, _) = studio::events(&frames);
            for tag in &mut tags[3..] {
                tag.timestamp_ms = tag.timestamp_ms.wrapping_add(shift);
            }
            feed(&fanout, &tags[..4], &[]);
            let first = early.then(|| fanout.enter(Format::Flv, Start::Gop));
            // All of 20 s at one instant: headers, and pictures 0 to 500.
            let now = Instant::now();
            let push = |tags: &[Tag]| tags.iter().for_each(|tag| fanout.push(tag.clone(), now));
            push(&tags[4..504]);
            let at_once = read(&pieces(&mut fanout.enter(Format::Flv, Start::Gop)).0);
            assert_eq!(numbers(&at_once), (0..501).collect::<Vec<_>>());
            push(&tags[504..]);
            let head = read(&pieces(&mut fanout.enter(Format::Flv, Start::Gop)).0);
            assert!(head.len() == 3 && head.iter().all(is_header), "{} tags", head.len());
            drop(first);
        }
    }
}

#[test]
fn a_ring_holds_no_more_than_its_bytes_whatever_comes() {
    let fanout = Fanout::new(&FanoutConfig { ring_bytes: 50_000, ..config() }, Instant::now());
    let mut studio = Studio::new();
    let mut frames = vec![studio.picture(true, 10)];
    for n in 1..2_000 {
        frames.push(if n % 3 == 0 { studio.picture(n % 300 == 0, 900) } else { studio.sound(8) });
    }
    let (tags, marks) = studio::events(&frames);
    // Never reads.
    let viewer = fanout.enter(Format::Flv, Start::Gop);
    feed(&fanout, &tags, &marks);
    let state = fanout.state.lock();
    assert!(state.outlets[0].as_ref().unwrap().bytes() <= 50_000);
    assert!(state.gop_bytes <= 50_000);
    drop(state);
    drop(viewer);
}

#[test]
fn the_end_comes_after_the_last_frame() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    fanout.end(Instant::now());
    let (sent, over) = pieces(&mut viewer);
    assert_eq!(numbers(&read(&sent)), [6, 7, 8, 9, 10, 11]);
    assert_eq!(over, Some(Over::Ended));
    let mut late = fanout.enter(Format::WsFlv, Start::Gop);
    assert_eq!(pieces(&mut late).1, Some(Over::Ended));
}

#[test]
fn a_follower_knows_the_tracks_of_what_is_before_it() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    let early = fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(early.outlet().follow().version(), 0);
    feed(&fanout, &tags, &marks);
    assert_eq!(early.outlet().follow().version(), 1);
    let mut follower = early.outlet().follow();
    assert!(!follower.read(Waker::noop(), None, Instant::now(), &mut Vec::new()).lost);
    assert_eq!(follower.version(), 1);
}

#[test]
fn units_ahead_are_found_up_to_a_bound_and_sent_once() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = two_gops(&mut Studio::new());
    feed(&fanout, &tags, &marks);
    let mut viewer = fanout.enter(Format::Flv, Start::Gop);
    let all = pieces(&mut fanout.enter(Format::Flv, Start::Gop)).0;
    let now = Instant::now();
    let find = |viewer: &super::Reader, until, bytes| {
        let mut ahead = Vec::new();
        viewer.ahead(until, bytes, &mut ahead);
        ahead.into_iter().map(|unit| unit.bytes).collect::<Vec<_>>()
    };
    assert!(find(&viewer, u64::MAX, 1000).is_empty(), "it has not begun");
    assert_eq!(viewer.step(u64::MAX, now), Step::Send(all[0].clone()));
    assert_eq!(find(&viewer, u64::MAX, usize::MAX), all[1..]);
    assert_eq!(find(&viewer, u64::MAX, 1), all[1..2]);
    assert!(find(&viewer, u64::MAX, 0).is_empty());
    assert_eq!(find(&viewer, 2, usize::MAX), all[1..3], "the rest comes with its group");
    viewer.advance(1);
    assert!(find(&viewer, 1, usize::MAX).is_empty());
    assert_eq!(viewer.step(u64::MAX, now), Step::Send(all[2].clone()));
}

/// What an edge reads of a relay that this one serves.
fn relayed(pieces: &[Bytes]) -> (Vec<Tag>, Vec<Mark>) {
    let mut decoder = media_core::relay::Decoder::new();
    pieces.iter().for_each(|piece| decoder.push(piece.clone()));
    let (mut tags, mut marks) = (Vec::new(), Vec::new());
    while let Some(event) = decoder.next_event().unwrap() {
        match event {
            media_core::relay::Event::Tag(tag) => tags.push(tag),
            media_core::relay::Event::Mark(mark) => marks.push(mark),
        }
    }
    (tags, marks)
}

#[test]
fn an_edge_behind_this_one_gets_the_same_tags_under_the_same_numbers() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let mut edge = fanout.enter(Format::Relay, Start::Gop);
    let mut frames = Vec::new();
    for n in 0..6 {
        frames.push(studio.picture(n % 3 == 0, 100));
        frames.push(studio.sound(20));
    }
    studio.republish(|tracks| tracks.truncate(1));
    frames.extend((0..4).map(|n| studio.picture(n == 0, 50)));
    let (tags, marks) = studio::events(&frames);
    // The headers and the first picture: a reader begins when it first reads.
    let (first, rest) = tags.split_at(4);
    feed(&fanout, first, &marks);
    let mut sent = pieces(&mut edge).0;
    feed(&fanout, rest, &marks);
    sent.extend(pieces(&mut edge).0);
    let (got, got_marks) = relayed(&sent);
    let media = |tags: &[Tag]| -> Vec<Tag> {
        tags.iter().filter(|tag| !tag.is_metadata && !tag.is_sequence_header).cloned().collect()
    };
    assert_eq!(media(&got), media(&tags));
    for mark in &marks {
        assert!(got_marks.contains(mark), "{mark:?} is not among {got_marks:?}");
    }
    // Whoever comes later finds the newest keyframe, with its headers and number.
    let (late, late_marks) = relayed(&pieces(&mut fanout.enter(Format::Relay, Start::Gop)).0);
    assert_eq!(late_marks.first(), marks.last());
    assert_eq!(media(&late), media(&tags)[12..]);
    assert_eq!(late.iter().filter(|tag| tag.is_sequence_header).count(), 1);
}

#[test]
fn an_edge_that_comes_back_misses_no_frame() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::new();
    let (tags, marks) = two_gops(&mut studio);
    // It was here before; nobody else is while it is away.
    drop(fanout.enter(Format::Relay, Start::Gop));
    feed(&fanout, &tags, &marks);
    let back = |epoch: u64, sequence: u64| {
        let place = media_core::relay::Place { epoch: media_core::hub::Epoch(epoch), sequence };
        let (tags, marks) = relayed(&pieces(&mut fanout.enter(Format::Relay, Start::After(place))).0);
        let frames = tags.iter().filter(|tag| !tag.is_metadata && !tag.is_sequence_header);
        let frames: Vec<u64> = frames.map(|tag| tag.sequence).collect();
        assert_eq!(marks[0].sequence, frames[0]);
        assert_eq!(tags.iter().filter(|tag| tag.is_sequence_header).count(), 2, "once");
        frames
    };
    for sequence in 0..=10 {
        let frames = back(1, sequence);
        // With the flush that has it: a picture and the sound before it.
        assert!((sequence.saturating_sub(1)..=sequence).contains(&frames[0]), "{sequence}: {frames:?}");
        assert_eq!(frames, (frames[0]..=10).collect::<Vec<_>>());
    }
    for (epoch, sequence) in [(1, 11), (1, u64::MAX), (0, 3), (2, 3)] {
        assert_eq!(back(epoch, sequence), (6..=10).collect::<Vec<_>>(), "the newest keyframe");
    }
}

#[test]
fn an_edge_is_told_the_numbers_of_sound_alone() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::audio_only();
    let frames: Vec<_> = (0..200)
        .map(|_| {
            let frame = studio.sound(20);
            studio.now_ms += 23;
            frame
        })
        .collect();
    let (tags, marks) = studio::events(&frames);
    feed(&fanout, &tags, &marks);
    let (got, _) = relayed(&pieces(&mut fanout.enter(Format::Relay, Start::Gop)).0);
    let frames: Vec<_> = got.iter().filter(|tag| !tag.is_metadata && !tag.is_sequence_header).collect();
    assert!(!frames.is_empty());
    assert!(frames.iter().all(|tag| tag.sequence == number(&tag.body)), "{frames:?}");
}
