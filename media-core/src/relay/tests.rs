//! What the encoder writes the decoder reads, whole or in pieces, from the beginning or from the middle.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::flv::testing::{self, H264_AAC, H264_MP3, MULTITRACK};
use crate::flv::{Demuxed, Demuxer};
use crate::frame::{Frame, Timestamp, Track, TrackId};
use crate::hub::{Epoch, TrackSet, Unit};

const NOW_MS: u64 = 1_800_000_000_000;

fn track_set(epoch: u64, tracks: Vec<Track>) -> Arc<TrackSet> {
    Arc::new(TrackSet { epoch: Epoch(epoch), version: 1, tracks })
}

/// The file's frames as units from `sequence` on.
fn units(file: &'static [u8], epoch: u64, sequence: u64) -> Vec<Unit> {
    let (tracks, frames) = testing::media(file);
    let tracks = track_set(epoch, tracks);
    let unit =
        |(sequence, frame)| Unit { sequence, tracks: Arc::clone(&tracks), frame, wall_clock_ms: NOW_MS };
    (sequence..).zip(frames).map(unit).collect()
}

/// The units' audio only.
fn sound(units: Vec<Unit>) -> Vec<Unit> {
    let tracks =
        track_set(7, units[0].tracks.tracks.iter().filter(|t| t.audio().is_some()).cloned().collect());
    let frames = units.into_iter().map(|u| u.frame).filter(|f| f.track == TrackId::AUDIO);
    let unit =
        |(sequence, frame)| Unit { sequence, tracks: Arc::clone(&tracks), frame, wall_clock_ms: NOW_MS };
    (0..).zip(frames).map(unit).collect()
}

fn encode(units: &[Unit]) -> Vec<Encoded> {
    let mut encoder = Encoder::new();
    units.iter().map(|unit| encoder.unit(unit).unwrap()).collect()
}

/// The feed of a reader that begins at the first of these.
fn feed(encoded: &[Encoded]) -> Bytes {
    let (first, rest) = encoded.split_first().unwrap();
    let mut feed = first.start.clone().unwrap().to_vec();
    feed.extend_from_slice(&first.tag);
    rest.iter().for_each(|e| feed.extend_from_slice(&e.bytes));
    feed.into()
}

fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<Event>, Error> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next_event()? {
            events.push(event);
        }
    }
    Ok(events)
}

fn tags(events: &[Event]) -> Vec<&Tag> {
    events
        .iter()
        .filter_map(|e| match e {
            Event::Tag(tag) => Some(tag),
            Event::Mark(_) => None,
        })
        .collect()
}

/// The frames in a feed, and what the feed says of each.
fn frames(events: &[Event]) -> Vec<(u64, bool, Frame)> {
    let mut demuxer = Demuxer::new();
    let mut all = Vec::new();
    for tag in tags(events) {
        let flv = crate::flv::Tag { kind: tag.kind, timestamp_ms: tag.timestamp_ms, body: tag.body.clone() };
        for item in demuxer.push(flv).unwrap() {
            if let Demuxed::Frame(frame) = item {
                all.push((tag.sequence, tag.is_keyframe, frame));
            }
        }
    }
    all
}

fn frames_of(feed: &Bytes) -> Vec<(u64, bool, Frame)> {
    frames(&decode([feed.clone()]).unwrap())
}

fn expected(units: &[Unit]) -> Vec<(u64, bool, Frame)> {
    units.iter().map(|u| (u.sequence, u.is_join_point(), u.frame.clone())).collect()
}

#[test]
fn a_feed_begins_with_header_mark_metadata_and_sequence_headers() {
    let units = units(MULTITRACK, 7, 100);
    let events = decode([feed(&encode(&units))]).unwrap();
    let Event::Mark(mark) = events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(mark, Mark { epoch: Epoch(7), sequence: 100, media_time_ms: 0, wall_clock_ms: NOW_MS });
    let tags = tags(&events);
    assert!(tags[0].is_metadata);
    assert!(tags[1..5].iter().all(|t| t.is_sequence_header && t.sequence == 100));
    assert!(!tags[5].is_sequence_header && tags[5].is_keyframe);
}

#[test]
fn a_feed_can_go_on_with_any_frame() {
    for file in testing::ALL {
        let units = units(file, 1, 0);
        let encoded = encode(&units);
        for (at, first) in encoded.iter().enumerate() {
            if let Some(start) = &first.start {
                assert_eq!(first.opening(), start);
            }
            let pieces = [first.opening(), first.tag.clone()].into_iter();
            let rest = encoded[at + 1..].iter().map(|encoded| encoded.bytes.clone());
            let events = decode(pieces.chain(rest)).unwrap();
            let Event::Mark(mark) = events[0] else { panic!("{:?}", events[0]) };
            assert_eq!(Place::from(mark), Place { epoch: Epoch(1), sequence: units[at].sequence });
            assert_eq!(frames(&events), expected(&units[at..]));
        }
    }
}

#[test]
fn frames_and_their_numbers_come_through() {
    for file in testing::ALL {
        let units = units(file, 1, 0);
        let first = units.iter().position(Unit::is_join_point).unwrap();
        let encoded = encode(&units);
        assert_eq!(frames(&decode([feed(&encoded[first..])]).unwrap()), expected(&units[first..]));
    }
}

#[test]
fn a_stream_whose_keyframes_stay_out_can_be_started_once_a_second() {
    let (tracks, frames) = testing::media(H264_AAC);
    let tracks = track_set(1, tracks);
    let picture = frames.into_iter().find(|f| f.track == TrackId::VIDEO).unwrap();
    let starts_s = |keyframe_at: Option<u64>| -> Vec<u64> {
        let unit = |i: u64| {
            let dts = Timestamp(i64::try_from(i).unwrap() * 9_000);
            let frame = Frame { dts, keyframe: keyframe_at == Some(i), ..picture.clone() };
            Unit { sequence: i, tracks: Arc::clone(&tracks), frame, wall_clock_ms: NOW_MS }
        };
        let encoded = encode(&(0..250).map(unit).collect::<Vec<_>>());
        (0..).zip(encoded).filter(|(_, e)| e.start.is_some()).map(|(i, _)| i / 10).collect()
    };
    assert_eq!(starts_s(None), (10..25).collect::<Vec<_>>());
    assert_eq!(starts_s(Some(0)), [0, 20, 21, 22, 23, 24]);
}

#[test]
fn video_that_comes_later_has_as_long_for_its_first_keyframe() {
    let (tracks, frames) = testing::media(H264_AAC);
    let both = track_set(1, tracks);
    let sound = track_set(1, both.tracks.iter().filter(|t| t.audio().is_some()).cloned().collect());
    let frame = |track| frames.iter().find(|f| f.track == track).unwrap();
    let unit = |i: u64| {
        let (tracks, frame) = match i {
            ..200 => (&sound, frame(TrackId::AUDIO)),
            _ => (&both, frame(if i.is_multiple_of(2) { TrackId::VIDEO } else { TrackId::AUDIO })),
        };
        let dts = Timestamp(i64::try_from(i).unwrap() * 9_000);
        let frame = Frame { dts, keyframe: i < 200 || i == 250, ..frame.clone() };
        Unit { sequence: i, tracks: Arc::clone(tracks), frame, wall_clock_ms: NOW_MS }
    };
    let encoded = encode(&(0..300).map(unit).collect::<Vec<_>>());
    let starts: Vec<_> = (0..300).filter(|i| encoded[*i].start.is_some() && *i >= 200).collect();
    assert_eq!(starts, [250]);
}

#[test]
fn reading_can_begin_at_every_start() {
    let units = units(H264_AAC, 1, 1_000);
    let encoded = encode(&units);
    let starts: Vec<_> = (0..encoded.len()).filter(|i| encoded[*i].start.is_some()).collect();
    assert_eq!(starts.len(), 2);
    for at in starts {
        assert!(units[at].is_join_point());
        assert_eq!(frames(&decode([feed(&encoded[at..])]).unwrap()), expected(&units[at..]));
    }
}

#[test]
fn every_keyframe_has_a_mark() {
    let units = units(H264_MP3, 3, 0);
    let events = decode([feed(&encode(&units))]).unwrap();
    let mut marked = None;
    for event in &events {
        match event {
            Event::Mark(mark) => marked = Some(mark.sequence),
            Event::Tag(tag) if tag.is_keyframe => assert_eq!(marked, Some(tag.sequence)),
            Event::Tag(_) => {}
        }
    }
}

#[test]
fn without_video_there_is_a_mark_a_second_and_every_frame_is_a_start() {
    let mut units = sound(units(H264_AAC, 7, 0));
    for (i, unit) in (0..).zip(&mut units) {
        unit.frame.dts = Timestamp(i * 90 * 100);
    }
    let encoded = encode(&units);
    let marked: Vec<_> = (0..encoded.len()).filter(|i| encoded[*i].start.is_some()).collect();
    assert_eq!(marked, [0, 10, 20, 30]);
    let events = decode([feed(&encoded)]).unwrap();
    assert!(frames(&events).iter().all(|(_, is_keyframe, _)| *is_keyframe));
    assert_eq!(frames(&events), expected(&units));
}

#[test]
fn the_main_picture_is_the_video_track_with_the_lowest_number() {
    let (tracks, frames) = testing::media(H264_AAC);
    let numbered = |numbers: &[u8]| -> Vec<Unit> {
        let of = |id: TrackId| -> Vec<TrackId> {
            if id == TrackId::VIDEO { numbers.iter().map(|n| TrackId::video(*n)).collect() } else { vec![id] }
        };
        let tracks = tracks.iter().flat_map(|t| of(t.id).into_iter().map(|id| Track { id, ..t.clone() }));
        let tracks = track_set(1, tracks.collect());
        let frames =
            frames.iter().flat_map(|f| of(f.track).into_iter().map(|id| Frame { track: id, ..f.clone() }));
        let unit =
            |(sequence, frame)| Unit { sequence, tracks: Arc::clone(&tracks), frame, wall_clock_ms: NOW_MS };
        (0..).zip(frames).map(unit).collect()
    };
    // The headers of the higher number may stand first.
    for numbers in [&[0][..], &[3], &[3, 7], &[7, 3]] {
        let units = numbered(numbers);
        let main = TrackId::video(*numbers.iter().min().unwrap());
        let joins: Vec<_> = units.iter().filter(|u| u.is_join_point()).map(|u| u.frame.track).collect();
        assert_eq!(joins, [main, main], "{numbers:?}");
        let first = units.iter().position(Unit::is_join_point).unwrap();
        let encoded = encode(&units[first..]);
        let starts = encoded.iter().filter(|e| e.start.is_some()).count();
        assert_eq!(starts, 2, "{numbers:?}");
        assert_eq!(frames_of(&feed(&encoded)), expected(&units[first..]), "{numbers:?}");
    }
}

#[test]
fn a_gap_is_marked() {
    let mut units = units(H264_AAC, 1, 0);
    units.drain(2..5);
    let events = decode([feed(&encode(&units))]).unwrap();
    assert_eq!(frames(&events), expected(&units));
}

#[test]
fn new_tracks_and_a_new_epoch_bring_new_headers() {
    let mut all = units(H264_AAC, 1, 0);
    let count = all.len() as u64;
    all.extend(units(H264_MP3, 2, count));
    let events = decode([feed(&encode(&all))]).unwrap();
    assert_eq!(frames(&events), expected(&all));
    let epochs: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            Event::Mark(mark) => Some((mark.epoch.0, mark.sequence)),
            Event::Tag(_) => None,
        })
        .collect();
    assert!(epochs.contains(&(2, count)));
    assert_eq!(tags(&events).iter().filter(|t| t.is_metadata).count(), 2);
}

#[test]
fn a_units_bytes_are_whole_tags_that_are_not_copied() {
    let encoded = encode(&units(H264_AAC, 1, 0));
    let mut decoder = Decoder::new();
    decoder.push(encoded[0].start.clone().unwrap());
    while decoder.next_event().unwrap().is_some() {}
    for e in &encoded {
        assert!(e.bytes.as_ptr_range().contains(&e.tag.as_ptr()));
        let piece = e.tag.clone();
        decoder.push(piece.clone());
        let Some(Event::Tag(tag)) = decoder.next_event().unwrap() else { panic!("no tag") };
        assert_eq!((tag.tag.as_ptr(), tag.tag.len()), (piece.as_ptr(), piece.len()));
        assert!(piece.as_ptr_range().contains(&tag.body.as_ptr()));
        assert!(decoder.next_event().unwrap().is_none());
    }
}

#[test]
fn timestamps_wrap_and_marks_do_not() {
    let mut units = units(H264_AAC, 1, 0);
    let far = (1i64 << 32) + 5;
    units.truncate(1);
    units[0].frame.dts = Timestamp(far * 90);
    let events = decode([feed(&encode(&units))]).unwrap();
    let Event::Mark(mark) = events[0] else { panic!("no mark") };
    assert_eq!(mark.media_time_ms, far);
    assert!(tags(&events).iter().all(|t| t.timestamp_ms == if t.is_metadata { 0 } else { 5 }));
}

#[test]
fn a_feed_without_marks_or_with_a_broken_one_is_refused() {
    assert!(matches!(decode([Bytes::from_static(H264_AAC)]), Err(Error::NoMark)));
    let whole = feed(&encode(&units(H264_AAC, 1, 0))).to_vec();
    let key = whole.windows(8).position(|w| w == b"sequence").unwrap();
    for bytes in [(-1f64).to_be_bytes(), 0.5f64.to_be_bytes(), f64::NAN.to_be_bytes(), 1e300f64.to_be_bytes()]
    {
        let mut broken = whole.clone();
        broken[key + 9..key + 17].copy_from_slice(&bytes);
        assert!(matches!(decode([broken.into()]), Err(Error::BadMark)));
    }
    let mut renamed = whole;
    renamed[key] = b'S';
    assert!(matches!(decode([renamed.into()]), Err(Error::BadMark)));
}

proptest! {
    #[test]
    fn any_cut_into_pieces_is_read_the_same(sizes in proptest::collection::vec(1usize..700, 1..40)) {
        let units = units(H264_AAC, 1, 0);
        let mut rest = feed(&encode(&units));
        let mut sizes = sizes.into_iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let size = sizes.next()?.min(rest.len());
            (size > 0).then(|| rest.split_to(size))
        });
        prop_assert_eq!(frames(&decode(pieces).unwrap()), expected(&units));
    }

    #[test]
    fn any_damage_ends_in_events_or_an_error(at in 0usize..9_000, to in any::<u8>()) {
        let mut bytes = feed(&encode(&units(H264_AAC, 1, 0))).to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = decode([bytes.into()]);
    }
}
