//! MPEG-TS: one muxer a stream, whole packets a flush, and tables where viewers begin.

use media_core::frame::{Frame, Kind, Track};
use media_core::mpegts::{Demuxed, Demuxer, PACKET_BYTES};

use super::*;

/// What a player finds.
fn demux(pieces: &[Bytes]) -> (Vec<Track>, Vec<Frame>) {
    let mut demuxer = Demuxer::new();
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        demuxer.push(piece);
    }
    while let Some(event) = demuxer.next_event() {
        match event {
            Demuxed::Tracks(set) => tracks = set,
            Demuxed::Frame(frame) => frames.push(frame),
        }
    }
    assert_eq!(demuxer.counters(), media_core::mpegts::Counters::default());
    (tracks, frames)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// The pieces without the framing of HTTP/1.1.
fn unchunked(pieces: &[Bytes]) -> Vec<Bytes> {
    let one = |piece: &Bytes| {
        let at = piece.windows(2).position(|two| two == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&piece[..at]).unwrap(), 16).unwrap();
        assert_eq!(piece.len(), at + 2 + len + 2);
        piece.slice(at + 2..at + 2 + len)
    };
    pieces.iter().filter(|piece| !piece.is_empty()).map(one).collect()
}

fn media(pieces: Vec<Bytes>) -> Vec<Bytes> {
    pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
}

#[test]
fn a_viewer_gets_whole_packets_that_begin_with_the_tables_and_a_keyframe() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = studio::events(&studio::sample());
    // Somebody is there from the first frame on, somebody comes at the end, and both have the same.
    let mut viewer = fanout.enter(Format::Ts, Start::Gop);
    feed(&fanout, &tags[..5], &marks);
    let mut early = pieces(&mut viewer).0;
    feed(&fanout, &tags[5..], &marks);
    fanout.flush(Instant::now());
    early.extend(pieces(&mut viewer).0);
    let early = media(early);
    assert!(early.iter().all(|piece| piece.len() % PACKET_BYTES == 0));
    let (tracks, frames) = demux(&early);
    assert_eq!(tracks.len(), 2);
    let pictures: Vec<&Frame> = frames.iter().filter(|frame| frame.track.kind == Kind::Video).collect();
    assert_eq!(pictures.len(), 8);
    assert!(pictures[0].keyframe && pictures[4].keyframe);

    let late = media(pieces(&mut fanout.enter(Format::Ts, Start::Gop)).0);
    assert!(!late.is_empty() && early.ends_with(&late));
    assert_eq!((pid(&late[0]), pid(&late[0][PACKET_BYTES..])), (0, 0x1000));
    let (tracks, frames) = demux(&late);
    assert_eq!(tracks.len(), 2);
    assert!(frames[0].keyframe && frames[0].track.kind == Kind::Video);
}

#[test]
fn chunks_hold_the_same_packets_and_one_muxer_makes_them() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = studio::events(&studio::sample());
    let (before, after) = tags.split_at(tags.len() / 2);
    feed(&fanout, before, &marks);
    let mut plain = fanout.enter(Format::Ts, Start::Gop);
    let mut chunked = fanout.enter(Format::ChunkedTs, Start::Gop);
    feed(&fanout, after, &marks);
    fanout.flush(Instant::now());
    let (plain, chunked) = (media(pieces(&mut plain).0), unchunked(&pieces(&mut chunked).0));
    assert_eq!(plain, chunked);
    demux(&plain);
}

#[test]
fn the_muxer_works_only_while_somebody_watches() {
    let fanout = Fanout::new(&config(), Instant::now());
    let (tags, marks) = studio::events(&studio::sample());
    let working = || fanout.state.lock().transport.is_some();
    let (before, after) = tags.split_at(tags.len() / 2);
    let other = fanout.enter(Format::ChunkedFlv, Start::Gop);
    feed(&fanout, &before[..6], &marks);
    assert!(!working());
    let viewers = [Format::Ts, Format::ChunkedTs].map(|format| fanout.enter(format, Start::Gop));
    assert!(working());
    feed(&fanout, &before[6..], &marks);
    let [plain, chunked] = viewers;
    drop(plain);
    feed(&fanout, &after[..3], &marks);
    assert!(working());
    drop(chunked);
    feed(&fanout, &after[3..6], &marks);
    assert!(!working());
    // Who comes then begins with what another one makes of the past.
    let mut late = fanout.enter(Format::Ts, Start::Gop);
    feed(&fanout, &after[6..], &marks);
    let (tracks, frames) = demux(&media(pieces(&mut late).0));
    assert_eq!(tracks.len(), 2);
    assert!(frames[0].keyframe && frames.len() > 4);
    drop(other);
}

#[test]
fn sound_alone_begins_with_the_tables_wherever_it_is_joined() {
    let fanout = Fanout::new(&config(), Instant::now());
    let mut studio = Studio::audio_only();
    let frames: Vec<_> = (0..60)
        .map(|_| {
            studio.now_ms += 40;
            studio.sound(20)
        })
        .collect();
    let (tags, marks) = studio::events(&frames);
    let mut viewer = fanout.enter(Format::Ts, Start::Gop);
    feed(&fanout, &tags[..4], &marks);
    let mut early = pieces(&mut viewer).0;
    feed(&fanout, &tags[4..], &marks);
    early.extend(pieces(&mut viewer).0);
    let late = media(pieces(&mut fanout.enter(Format::Ts, Start::Gop)).0);
    assert_eq!(pid(&late[0]), 0);
    let (tracks, frames) = demux(&late);
    // Points at 0 s, 1 s and 2 s: frames 0, 25 and 50.
    assert_eq!((tracks.len(), frames.len()), (1, 10));
    assert_eq!(demux(&media(early)).1.len(), 60);
}
