//! What a demuxer makes of bodies, good and bad.

use super::*;

fn video(body: &[u8]) -> Tag {
    Tag { kind: TagKind::Video, timestamp_ms: 40, body: Bytes::copy_from_slice(body) }
}

#[test]
fn a_frame_before_its_sequence_header_is_dropped_and_told() {
    let mut demuxer = Demuxer::new();
    let out: Vec<_> = demuxer.push(video(&[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65])).unwrap().collect();
    assert_eq!(out, [Demuxed::Dropped(Dropped::NoSequenceHeader(TrackId::VIDEO))]);
}

#[test]
fn an_unknown_codec_is_refused_by_its_name() {
    let mut demuxer = Demuxer::new();
    let error = demuxer.push(video(b"\x90vp09\x00\x01")).unwrap_err();
    assert_eq!(error.to_string(), "codec vp09 is not supported");
    let error = demuxer.push(video(&[0x12, 0])).unwrap_err();
    assert_eq!(error.to_string(), "video codec 2 of FLV is not supported");
}
