//! The bodies of the fuzz targets. Each takes bytes as they could come from a socket and asserts what
//! must hold whatever they are, beyond not panicking.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use media_core::codec::{self, Error};
use media_core::flv::{self, Demuxed, Demuxer, Tag, TagKind};
use media_core::fmp4::{MediaTrack, init_segment};
use media_core::frame::{Codec, Frame, Params, Timescale, Timestamp, Track, TrackId};
use media_core::hls::playlist::Tail;
use media_core::hls::{Name, Query};
use media_core::rtmp::chunk;
use media_core::rtmp::server::{Config, Event, Session};
use media_core::rtp::{Depacketized, Depacketizer, Packet, Packetizer, SenderReport};
use media_core::{amf0, mpegts, relay};
use srt::stream_id::{MAX_BYTES, StreamId};
use transcode::{Options, Transcoder};

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Targets in files of their own, which the crates that they are about replay.
pub const ELSEWHERE: &[&str] = &["sdp_offer", "stun", "rtc_datagrams", "turn"];

/// Every target of this file.
pub const TARGETS: &[Target] = &[
    ("chunk_reader", chunk_reader),
    ("rtmp_session", rtmp_session),
    ("amf0", amf0),
    ("flv_reader", flv_reader),
    ("flv_demuxer", flv_demuxer),
    ("relay_decoder", relay_decoder),
    ("hls_query", hls_query),
    ("hls_tail", hls_tail),
    ("h264", h264),
    ("h265", h265),
    ("av1", av1),
    ("aac", aac),
    ("opus", opus),
    ("mp3", mp3),
    ("ts_demuxer", ts_demuxer),
    ("pes", pes),
    ("srt_stream_id", srt_stream_id),
    ("rtp", rtp),
    ("transcoder", transcoder),
];

/// The first byte says in how large pieces the rest comes; messages must not depend on it. What was
/// read is written and read again.
pub fn chunk_reader(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let read = |data: &[u8], piece: usize| {
        let mut reader = chunk::Reader::new(chunk::MAX_MESSAGE_BYTES);
        let mut messages = Vec::new();
        for mut piece in data.chunks(piece.max(1)) {
            loop {
                match reader.read(&mut piece) {
                    Ok(Some(message)) => {
                        if let (chunk::type_id::SET_CHUNK_SIZE, Some(size)) =
                            (message.header.type_id, message.body.first_chunk())
                            && let Err(error) = reader.set_chunk_size(u32::from_be_bytes(*size))
                        {
                            return (messages, Some(error.to_string()));
                        }
                        messages.push(message);
                    }
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error.to_string())),
                }
            }
        }
        (messages, None)
    };
    let (messages, error) = read(data, usize::from(piece));
    assert_eq!((messages.clone(), error), read(data, data.len()));

    let mut out = BytesMut::new();
    // Set Chunk Size would change how the rest is read.
    let media = || messages.iter().filter(|message| message.header.type_id != chunk::type_id::SET_CHUNK_SIZE);
    for message in media() {
        let written = chunk::write(&mut out, chunk::INITIAL_CHUNK_SIZE, &message.header, &[&message.body]);
        assert_eq!(written, Ok(()));
    }
    let (again, error) = read(&out, out.len());
    assert_eq!(error, None);
    assert!(again.iter().eq(media()));
}

/// What a client says after the handshake, in pieces as large as the first byte says. It is let do what it
/// asks for. It can make the server say little more than it says itself.
pub fn rtmp_session(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let now = Instant::now();
    let mut session = Session::new(Config::default(), now);
    let mut handshake = [0; 3073];
    handshake[0] = 3;
    assert!(session.handle_input(now, &handshake).is_ok());
    let mut said = 0;
    let mut heard = 0;
    for piece in data.chunks(usize::from(piece).max(1)) {
        let mut going_on = session.handle_input(now, piece).is_ok();
        while let Some(event) = session.poll_event() {
            heard += 1;
            going_on &= match event {
                Event::Publish(request) => session.accept_publish(now, request.id).is_ok(),
                Event::Play(request) => session.accept_play(request.id).is_ok(),
                _ => true,
            };
        }
        while let Some(bytes) = session.poll_output() {
            said += bytes.len();
        }
        if !going_on || session.is_closed() {
            break;
        }
    }
    // The handshake, and for a command of some ten bytes an answer of some hundred.
    assert!(said <= 8_192 + 32 * data.len(), "{said} bytes said to {}", data.len());
    assert!(heard <= 1 + data.len());
}

/// Delivery directives say the same when written back.
pub fn hls_query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(query) = Query::parse(text) else { return };
    assert!(query.part.is_none() || query.msn.is_some());
    let mut parts = Vec::new();
    parts.extend(query.msn.map(|msn| format!("_HLS_msn={msn}")));
    parts.extend(query.part.map(|part| format!("_HLS_part={part}")));
    parts.extend(query.skip.then(|| "_HLS_skip=YES".to_owned()));
    assert_eq!(Query::parse(&parts.join("&")), Ok(query));
}

/// A playlist of a stranger. What is found in it stands there, as the name of a file in the playlist's folder and
/// nowhere else; what comes before the newest object means nothing.
pub fn hls_tail(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let tail = Tail::read(text);
    for name in tail.hint.into_iter().chain(tail.newest) {
        let spelled = name.to_string();
        assert_eq!(spelled.parse(), Ok(name));
        assert!(text.contains(&spelled), "{spelled}");
    }
    if tail.hint.is_some() {
        assert_eq!(tail.newest, tail.hint);
        assert!(text.contains("#EXT-X-PRELOAD-HINT:"));
    }
    if tail.ended {
        assert!(text.contains("#EXT-X-ENDLIST"));
    }
    match tail.newest {
        None => assert_eq!((tail.epoch(), tail.msn()), (None, None)),
        Some(Name::Init { epoch, .. }) => assert_eq!((tail.epoch(), tail.msn()), (Some(epoch), None)),
        Some(Name::Segment { epoch, msn } | Name::Part { epoch, msn, .. }) => {
            assert_eq!((tail.epoch(), tail.msn()), (Some(epoch), Some(msn)));
            assert_eq!(Tail::read(&format!("#EXTM3U\n1-1.m4s\n{text}")), tail);
        }
    }
}

/// What is decoded encodes to a form that stays the same.
pub fn amf0(data: &[u8]) {
    let encode = |values: &[amf0::Value]| {
        let mut out = BytesMut::new();
        amf0::encode_all(&mut out, values);
        out
    };
    if let Ok(values) = amf0::decode(data) {
        let once = encode(&values);
        let again = amf0::decode(&once).map(|values| encode(&values));
        assert_eq!(again.as_ref(), Ok(&once));
    }
}

/// The first byte says in how large pieces the rest comes; tags must not depend on it.
pub fn flv_reader(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let read = |piece: usize| {
        let mut reader = flv::Reader::new();
        let mut tags = Vec::new();
        for piece in data.chunks(piece.max(1)) {
            reader.push(Bytes::copy_from_slice(piece));
            loop {
                match reader.next_tag() {
                    Ok(Some(tag)) => tags.push(tag),
                    Ok(None) => break,
                    Err(error) => return (tags, Some(error.to_string())),
                }
            }
        }
        (tags, None)
    };
    assert_eq!(read(usize::from(piece)), read(data.len()));
}

/// Tags without FLV's framing, so that mutations reach the bodies: kind and two bytes of length, then
/// the body. Frames must belong to the tracks that were announced, and go back into a tag.
pub fn flv_demuxer(data: &[u8]) {
    let mut demuxer = Demuxer::new();
    let mut tracks: Vec<Track> = Vec::new();
    let mut rest = data;
    let mut timestamp_ms = 0;
    while let Some((&[kind, l1, l0], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([l1, l0])).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        let kind = match kind % 3 {
            0 => TagKind::Audio,
            1 => TagKind::Video,
            _ => TagKind::Script,
        };
        timestamp_ms += 20;
        let Ok(found) = demuxer.push(Tag { kind, timestamp_ms, body: Bytes::copy_from_slice(body) }) else {
            continue;
        };
        for item in found {
            match item {
                Demuxed::Tracks(set) => {
                    set.iter().for_each(describes);
                    tracks = set;
                }
                Demuxed::Frame(frame) => {
                    let track = tracks.iter().find(|track| track.id == frame.track);
                    assert!(track.is_some(), "a frame of an unknown track");
                    assert!(!frame.data.is_empty());
                    let _ = track.map(|track| flv::frame_body(track, &frame).len());
                }
                _ => {}
            }
        }
    }
}

/// A feed reads the same in one piece and in bytes.
pub fn relay_decoder(data: &[u8]) {
    let read = |piece: usize| {
        let mut decoder = relay::Decoder::new();
        let mut events = 0;
        for piece in data.chunks(piece.max(1)) {
            decoder.push(Bytes::copy_from_slice(piece));
            loop {
                match decoder.next_event() {
                    Ok(Some(_)) => events += 1,
                    Ok(None) => break,
                    Err(error) => return (events, Some(error.to_string())),
                }
            }
        }
        (events, None)
    };
    assert_eq!(read(1), read(data.len()));
}

/// What a track says makes sense, and every output can announce it.
fn describes(track: &Track) {
    match &track.params {
        Params::Video(video) => {
            let sides = 1..=codec::MAX_PICTURE_SIDE;
            assert!(sides.contains(&video.width) && sides.contains(&video.height));
            assert!(video.frame_rate.is_none_or(|(numerator, denominator)| numerator > 0 && denominator > 0));
        }
        Params::Audio(audio) => {
            assert!(audio.sample_rate > 0 && audio.channels > 0);
            assert!(audio.frame_samples.is_none_or(|samples| samples > 0));
        }
    }
    assert!(track.rfc6381.is_ascii() && track.rfc6381.len() < 80);
    let media = MediaTrack { id: 1, track, timescale: Timescale::HZ_90K };
    let segment = init_segment(&[media]);
    assert!(segment.is_ok(), "{segment:?}");
    assert_eq!(flv::sequence_header(track).is_none(), track.codec == Codec::Mp3);
}

fn record(codec: Codec, data: &[u8]) -> Result<(), Error> {
    let id = TrackId { kind: codec.kind(), index: 0 };
    let track = codec::track(id, codec, Timescale::HZ_90K, Bytes::copy_from_slice(data))?;
    describes(&track);
    Ok(())
}

/// Bytes as a record, as a frame, and as parameter sets: what is built of them must read.
pub fn h264(data: &[u8]) {
    let _ = record(Codec::H264, data);
    let _ = codec::keyframe(Codec::H264, data);
    let _ = codec::nal::well_formed(data);
    if let Ok(built) = codec::h264::config_from_parameter_sets(&[data], &[&[0x68, 0xee]]) {
        assert_eq!(record(Codec::H264, &built), Ok(()));
    }
}

/// Bytes as a record, as a frame, and as parameter sets: what is built of them must read.
pub fn h265(data: &[u8]) {
    let _ = record(Codec::H265, data);
    let _ = codec::keyframe(Codec::H265, data);
    if let Ok(built) = codec::h265::config_from_parameter_sets(&[], &[data], &[&[0x44, 1, 0xc1]]) {
        assert_eq!(record(Codec::H265, &built), Ok(()));
    }
}

/// Bytes as a record and as a temporal unit: a record made of one must read.
pub fn av1(data: &[u8]) {
    let _ = record(Codec::Av1, data);
    let _ = codec::keyframe(Codec::Av1, data);
    if let Ok(Some(built)) = codec::av1::config_from_temporal_unit(data) {
        assert_eq!(record(Codec::Av1, &built), Ok(()));
    }
}

/// Bytes as an `AudioSpecificConfig`.
pub fn aac(data: &[u8]) {
    let _ = record(Codec::Aac, data);
}

/// Bytes as an identification header and as a packet.
pub fn opus(data: &[u8]) {
    let _ = record(Codec::Opus, data);
    let samples = codec::opus::packet_samples(data);
    assert!(samples.is_err() || samples.is_ok_and(|samples| (1..=5_760).contains(&samples)));
}

/// Bytes as a frame.
pub fn mp3(data: &[u8]) {
    if let Ok(track) = codec::mp3::track(TrackId::AUDIO, Timescale::HZ_90K, data) {
        describes(&track);
    }
}

/// The first byte chooses the codec. Then packets: two bytes of sequence number and flags, two of timestamp, two of
/// length, the payload. Frames that come out make payloads that come out as the same frames.
#[allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "that it stops here is what it is for"
)]
pub fn rtp(data: &[u8]) {
    const CODECS: [Codec; 6] = [Codec::H264, Codec::H265, Codec::Av1, Codec::Opus, Codec::Vp8, Codec::Vp9];
    let Some((&choice, mut data)) = data.split_first() else { return };
    let codec = CODECS[usize::from(choice) % CODECS.len()];
    let id = TrackId { kind: codec.kind(), index: 0 };
    let mut depacketizer = Depacketizer::new();
    assert!(depacketizer.expect(id, codec));
    let mut now = Instant::now();
    let mut tracks: Vec<Track> = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<6>() {
        let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (payload, rest) = rest.split_at(usize::from(number(4)).min(rest.len()));
        data = rest;
        let packet = Packet {
            sequence: number(0) >> 1,
            marker: head[1] & 1 == 1,
            timestamp: u32::from(number(2)) << 8,
            payload: payload.into(),
        };
        if head[0] == 0xff {
            let wall_clock_us = i64::from(number(2)) * 1_000_000;
            depacketizer.report(id, SenderReport { wall_clock_us, timestamp: packet.timestamp });
        }
        depacketizer.push(now, id, packet);
        now += std::time::Duration::from_millis(u64::from(head[2]));
        while let Some(item) = depacketizer.poll() {
            match item {
                Depacketized::Tracks(known) => tracks = known,
                Depacketized::Frame(frame) => {
                    let track = tracks.first().expect("no frame comes before its track");
                    assert!(!frame.data.is_empty());
                    let mut payloads = Vec::new();
                    Packetizer::new(track, 200).unwrap().packetize(&frame, &mut payloads);
                    assert!(codec == Codec::Opus || payloads.iter().all(|p| p.data.len() <= 200));
                }
                _ => {}
            }
        }
    }
}

/// What a demultiplexer finds, cut in pieces of so many bytes. Frames must belong to the tracks that were announced, and
/// what it keeps waiting has a bound.
fn ts_events(data: &[u8], piece: usize) -> Vec<mpegts::Demuxed> {
    let mut demuxer = mpegts::Demuxer::new();
    let mut events = Vec::new();
    for piece in data.chunks(piece.max(1)) {
        demuxer.push(piece);
        events.extend(std::iter::from_fn(|| demuxer.next_event()));
        assert!(demuxer.buffered_bytes() <= data.len());
    }
    demuxer.finish();
    events.extend(std::iter::from_fn(|| demuxer.next_event()));
    let mut tracks: &[Track] = &[];
    for event in &events {
        match event {
            mpegts::Demuxed::Tracks(set) => {
                set.iter().for_each(describes);
                tracks = set;
            }
            mpegts::Demuxed::Frame(frame) => {
                assert!(tracks.iter().any(|track| track.id == frame.track), "a frame of an unknown track");
                assert!(!frame.data.is_empty());
            }
        }
    }
    events
}

/// The first byte says in how large pieces the rest comes; what is found must not depend on it. It is written as a
/// transport stream again, which must read.
pub fn ts_demuxer(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let events = ts_events(data, usize::from(piece));
    assert_eq!(events, ts_events(data, data.len()));
    let mut muxer = mpegts::Muxer::new();
    let mut out = BytesMut::new();
    for event in &events {
        match event {
            mpegts::Demuxed::Tracks(set) => drop(muxer.set_tracks(set)),
            mpegts::Demuxed::Frame(frame) => muxer.frame(frame, &mut out),
        }
    }
    assert_eq!(out.len() % mpegts::PACKET_BYTES, 0);
    ts_events(&out, out.len());
}

/// PES packets without the framing of packets, so that mutations reach them: the first byte says which coding, then two
/// bytes of length before each.
pub fn pes(data: &[u8]) {
    /// `stream_type`, and the descriptors of Opus.
    const STREAMS: [(u8, &[u8]); 6] = [
        (0x1b, &[]),
        (0x24, &[]),
        (0x0f, &[]),
        (0x11, &[]),
        (0x03, &[]),
        (0x06, b"\x05\x04Opus\x7f\x02\x80\x02"),
    ];
    let Some((&which, mut rest)) = data.split_first() else { return };
    let Some(&(stream_type, descriptors)) = STREAMS.get(usize::from(which) % STREAMS.len()) else { return };
    let mut wire = Vec::new();
    let length = u8::try_from(descriptors.len()).unwrap_or_default();
    let map = [&[0xe1, 0, 0xf0, 0, stream_type, 0xe1, 0, 0xf0, length], descriptors].concat();
    ts_payload(&mut wire, 0, &mut 0, &[&[0], section(0, &[0, 1, 0xf0, 0]).as_slice(), &[0xff; 160]].concat());
    ts_payload(&mut wire, 0x1000, &mut 0, &[&[0], section(2, &map).as_slice(), &[0xff; 160]].concat());
    let mut counter = 0;
    while let Some((&[l1, l0], after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes([l1, l0])).min(after.len());
        let (packet, after) = after.split_at(length);
        rest = after;
        ts_payload(&mut wire, 0x100, &mut counter, packet);
    }
    ts_demuxer(&[&[188], wire.as_slice()].concat());
}

/// A section with its checksum.
fn section(table_id: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len() + 9).unwrap_or_default();
    let mut section = vec![table_id, 0xb0, length, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    let crc = section.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    });
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

/// Packets of 184 bytes of payload, the last one stuffed in front.
fn ts_payload(wire: &mut Vec<u8>, pid: u16, counter: &mut u8, payload: &[u8]) {
    let mut start = 0x40;
    for piece in payload.chunks(184) {
        let [high, low] = pid.to_be_bytes();
        let stuffing = 184 - piece.len();
        let control = if stuffing > 0 { 0x30 } else { 0x10 };
        wire.extend_from_slice(&[0x47, start | high, low, control | *counter]);
        if stuffing > 0 {
            wire.push(u8::try_from(stuffing - 1).unwrap_or_default());
            wire.extend(std::iter::once(0).chain(std::iter::repeat(0xff)).take(stuffing - 1));
        }
        wire.extend_from_slice(piece);
        (start, *counter) = (0, (*counter + 1) & 15);
    }
}

/// What is read is bounded, has no character that could forge a line of a log, and is read the same from its own query.
pub fn srt_stream_id(data: &[u8]) {
    let Ok(id) = StreamId::parse(data) else { return };
    assert!(data.len() <= MAX_BYTES);
    let query = id.query();
    assert!(query.len() <= 4 * MAX_BYTES && !query.chars().any(char::is_control));
    assert!(!id.app.chars().chain(id.name.chars()).any(char::is_control));
    assert!(id.app.len() + id.name.len() <= MAX_BYTES);
}

/// The first byte says what is decoded (from 128 on Opus, else AAC) and how long the configuration behind it is; then come
/// frames, each behind two bytes of its length and two of the milliseconds since the one before. What comes out is as much
/// as the timestamps say.
pub fn transcoder(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let (from, into) = if first < 128 { (Codec::Aac, Codec::Opus) } else { (Codec::Opus, Codec::Aac) };
    let Some((config, mut data)) = data.split_at_checked(usize::from(first & 127)) else { return };
    let config = Bytes::copy_from_slice(config);
    let Ok(track) = codec::track(TrackId::AUDIO, from, Timescale::MILLIS, config) else { return };
    let Ok((mut transcoder, made)) = Transcoder::new(&track, into, &Options::default()) else { return };
    describes(&made);
    let length = if into == Codec::Opus { 960 } else { 1_024 };
    let (mut time, mut next, mut out) = (0_i64, None, Vec::new());
    while let Some((&[l0, l1, t0, t1], rest)) = data.split_first_chunk() {
        let bytes = usize::from(u16::from_be_bytes([l0, l1])).min(rest.len());
        let (frame, rest) = rest.split_at(bytes);
        data = rest;
        time = time.saturating_add(i16::from_be_bytes([t0, t1]).into());
        let frame = Frame {
            track: TrackId::AUDIO,
            dts: Timestamp(time),
            cts: 0,
            keyframe: true,
            data: Bytes::copy_from_slice(frame),
        };
        let restarts = transcoder.counters().restarts;
        out.clear();
        transcoder.push(&frame, &mut out);
        if transcoder.counters().restarts != restarts {
            next = None;
        }
        for frame in &out {
            assert!(!frame.data.is_empty() && next.is_none_or(|next| frame.dts.0 == next));
            next = Some(frame.dts.0 + length);
        }
    }
    assert_eq!(transcoder.counters().failed, 0);
}
