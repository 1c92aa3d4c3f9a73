//! What is written is read back, however the bytes are cut; hostile chunks are refused at little cost.

use bytes::BytesMut;
use proptest::prelude::*;

use super::reader::MIN_BODY_CAPACITY;
use super::*;

fn header(chunk_stream: u32, type_id: u8, timestamp_ms: u32) -> Header {
    Header { chunk_stream, type_id, stream_id: 1, timestamp_ms }
}

fn read_all(reader: &mut Reader, mut input: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut input)? {
        messages.push(message);
    }
    assert!(input.is_empty(), "everything is taken");
    Ok(messages)
}

fn any_header() -> impl Strategy<Value = Header> {
    let chunk_stream = prop_oneof![2u32..64, 64u32..320, 320u32..65_600, Just(65_599), Just(319), Just(320)];
    let timestamp_ms = prop_oneof![any::<u32>(), Just(0xff_fffe), Just(0xff_ffff), Just(0x100_0000)];
    (chunk_stream, any::<u8>(), any::<u32>(), timestamp_ms).prop_map(
        |(chunk_stream, type_id, stream_id, timestamp_ms)| Header {
            chunk_stream,
            type_id,
            stream_id,
            timestamp_ms,
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    (any_header(), prop::collection::vec(any::<u8>(), 0..700))
        .prop_map(|(header, body)| Message { header, body: body.into() })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(
        messages in prop::collection::vec(any_message(), 1..12),
        chunk_size in prop_oneof![1usize..300, Just(128), Just(4096)],
        cuts in prop::collection::vec(1usize..60, 1..200),
    ) {
        let mut wire = BytesMut::new();
        for message in &messages {
            write(&mut wire, chunk_size, &message.header, &[&message.body]).unwrap();
        }
        let mut reader = Reader::default();
        reader.set_chunk_size(u32::try_from(chunk_size).unwrap()).unwrap();
        let mut got = Vec::new();
        let mut rest = &wire[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            got.extend(read_all(&mut reader, piece).unwrap());
            rest = tail;
        }
        prop_assert_eq!(&got, &messages);
        prop_assert_eq!(reader.reserved, 0);
    }

    #[test]
    fn random_bytes_never_panic_and_stay_bounded(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut reader = Reader::default();
        let mut input = &bytes[..];
        while let Ok(Some(_)) = reader.read(&mut input) {}
        prop_assert!(reader.reserved <= 2 * MAX_INTERLEAVED_BYTES);
    }

    #[test]
    fn messages_interleaved_over_many_ids_come_out_whole(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 1..MAX_CHUNK_STREAMS),
        cut in 1usize..40,
    ) {
        // One chunk of each message in turn.
        let mut wires: Vec<Vec<Vec<u8>>> = Vec::new();
        for (index, body) in bodies.iter().enumerate() {
            let mut chunks = Vec::new();
            let id = u32::try_from(index).unwrap() + 3;
            for (n, piece) in body.chunks(INITIAL_CHUNK_SIZE).enumerate() {
                let mut chunk = BytesMut::new();
                let h = header(id, type_id::VIDEO, 40);
                write(&mut chunk, INITIAL_CHUNK_SIZE, &h, &[body]).unwrap();
                let basic = if id < 64 { 1 } else { 2 };
                let head = if n == 0 {
                    chunk[..basic + 11].to_vec()
                } else {
                    let mut head = chunk[..basic].to_vec();
                    head[0] |= 0xc0;
                    head
                };
                chunks.push([&head[..], piece].concat());
            }
            wires.push(chunks);
        }
        let rounds = wires.iter().map(Vec::len).max().unwrap();
        let mut wire = Vec::new();
        for round in 0..rounds {
            for chunks in &wires {
                wire.extend(chunks.get(round).into_iter().flatten());
            }
        }
        let mut reader = Reader::default();
        let mut got = Vec::new();
        for piece in wire.chunks(cut) {
            got.extend(read_all(&mut reader, piece).unwrap());
        }
        prop_assert_eq!(got.len(), bodies.len());
        for message in got {
            let index = usize::try_from(message.header.chunk_stream - 3).unwrap();
            prop_assert_eq!(&message.body[..], &bodies[index][..]);
        }
    }
}

#[test]
fn the_bytes_are_those_of_an_independent_serializer() {
    use rml_rtmp::chunk_io::ChunkSerializer;
    use rml_rtmp::messages::MessagePayload;
    use rml_rtmp::time::RtmpTimestamp;

    for timestamp_ms in [0, 1234, 0xff_fffe] {
        for len in [1, 127, 128, 129, 1000] {
            let body = Bytes::from(vec![7; len]);
            let payload = MessagePayload {
                timestamp: RtmpTimestamp::new(timestamp_ms),
                type_id: type_id::VIDEO,
                message_stream_id: 1,
                data: body.clone(),
            };
            let theirs = ChunkSerializer::new().serialize(&payload, false, false).unwrap().bytes;
            let mut ours = BytesMut::new();
            let h = header(u32::from(theirs[0] & 0x3f), type_id::VIDEO, timestamp_ms);
            write(&mut ours, INITIAL_CHUNK_SIZE, &h, &[&body]).unwrap();
            assert_eq!(ours, theirs, "timestamp {timestamp_ms}, {len} bytes");
        }
    }
}

#[test]
fn a_compressing_serializer_is_understood() {
    use rml_rtmp::chunk_io::ChunkSerializer;
    use rml_rtmp::messages::MessagePayload;
    use rml_rtmp::time::RtmpTimestamp;

    // Differences, equal lengths and equal differences: formats 0, 1, 2 and 3 at message starts.
    let times = [0, 0, 20, 40, 60, 61, 1000, 0x0100_0000, 0x0100_0014, 0x0100_0028];
    let lens = [300, 300, 300, 300, 300, 10, 10, 300, 300, 300];
    let mut serializer = ChunkSerializer::new();
    let mut wire = Vec::new();
    for (time, len) in times.iter().zip(lens) {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(*time),
            type_id: type_id::AUDIO,
            message_stream_id: 1,
            data: Bytes::from(vec![9; len]),
        };
        wire.extend(serializer.serialize(&payload, false, false).unwrap().bytes);
    }
    for cut in [1, 2, 3, 5, 7, 100, wire.len()] {
        let mut reader = Reader::default();
        let got: Vec<_> = wire.chunks(cut).flat_map(|c| read_all(&mut reader, c).unwrap()).collect();
        assert_eq!(got.iter().map(|m| m.header.timestamp_ms).collect::<Vec<_>>(), times);
        assert_eq!(got.iter().map(|m| m.body.len()).collect::<Vec<_>>(), lens);
    }
}

#[test]
fn continuations_with_and_without_the_extended_timestamp_are_both_read() {
    let body: Vec<u8> = (0..=255).collect();
    for repeat in [true, false] {
        let mut wire = vec![0x04, 0xff, 0xff, 0xff, 0, 1, 0, type_id::VIDEO, 1, 0, 0, 0];
        wire.extend(0x0123_4567u32.to_be_bytes());
        wire.extend(&body[..128]);
        wire.push(0xc4);
        if repeat {
            wire.extend(0x0123_4567u32.to_be_bytes());
        }
        wire.extend(&body[128..]);
        for cut in 1..wire.len() {
            let mut reader = Reader::default();
            let got: Vec<_> = wire.chunks(cut).flat_map(|c| read_all(&mut reader, c).unwrap()).collect();
            assert_eq!(got.len(), 1, "repeated: {repeat}, pieces of {cut}");
            assert_eq!(got[0].header.timestamp_ms, 0x0123_4567);
            assert_eq!(&got[0].body[..], &body[..]);
        }
    }
}

#[test]
fn differences_wrap_at_32_bits() {
    let mut wire = vec![0x04, 0xff, 0xff, 0xff, 0, 0, 1, type_id::AUDIO, 1, 0, 0, 0];
    wire.extend(0xffff_fff0u32.to_be_bytes());
    wire.push(1);
    wire.extend([0x84, 0, 0, 0x20, 2]);
    let got = read_all(&mut Reader::default(), &wire).unwrap();
    assert_eq!(got[1].header.timestamp_ms, 0x10);
}

#[test]
fn a_fresh_chunk_stream_may_begin_with_format_1_but_not_2_or_3() {
    // librtmp answers a ping so.
    let wire = [0x42, 0, 0, 0, 0, 0, 6, type_id::USER_CONTROL, 0, 7, 0, 0, 0, 1];
    assert_eq!(read_all(&mut Reader::default(), &wire).unwrap()[0].header.stream_id, 0);
    assert_eq!(read_all(&mut Reader::default(), &[0x84, 0, 0, 0]), Err(Error::NoHeader(4)));
    assert_eq!(read_all(&mut Reader::default(), &[0xc4]), Err(Error::NoHeader(4)));
}

#[test]
fn an_announced_16_mb_costs_nothing() {
    let wire = [&[4, 0, 0, 0, 0xff, 0xff, 0xff, type_id::VIDEO, 1, 0, 0, 0][..], &[0; 10]].concat();
    let limit = MAX_MESSAGE_BYTES;
    assert_eq!(
        read_all(&mut Reader::default(), &wire),
        Err(Error::MessageTooLong { announced: 0xff_ffff, limit })
    );
    // As much as is taken at all: memory follows the bytes that came.
    let [_, a, b, c] = u32::try_from(MAX_MESSAGE_BYTES).unwrap().to_be_bytes();
    let wire = [&[4, 0, 0, 0, a, b, c, type_id::VIDEO, 1, 0, 0, 0][..], &[0; 10]].concat();
    let mut reader = Reader::default();
    assert_eq!(read_all(&mut reader, &wire), Ok(vec![]));
    assert_eq!(reader.reserved, MIN_BODY_CAPACITY);
}

#[test]
fn chunk_sizes_of_0_and_2_to_the_31_are_refused() {
    let mut reader = Reader::default();
    assert_eq!(reader.set_chunk_size(0), Err(Error::ChunkSize(0)));
    assert_eq!(reader.set_chunk_size(1 << 31), Err(Error::ChunkSize(1 << 31)));
    assert_eq!(reader.set_chunk_size(u32::MAX), Err(Error::ChunkSize(u32::MAX)));
    reader.set_chunk_size((1 << 31) - 1).unwrap();
    assert_eq!(reader.chunk_size, MAX_MESSAGE_BYTES);
}

#[test]
fn sixty_five_thousand_chunk_streams_are_refused_at_the_limit() {
    let mut reader = Reader::default();
    let mut refused_at = None;
    for id in 2..65_600u32 {
        let mut wire = BytesMut::new();
        write(&mut wire, 128, &header(id, type_id::AUDIO, 0), &[&[1]]).unwrap();
        if let Err(error) = read_all(&mut reader, &wire) {
            assert_eq!(error, Error::TooManyChunkStreams);
            refused_at = Some(id);
            break;
        }
    }
    assert_eq!(refused_at, Some(u32::try_from(MAX_CHUNK_STREAMS).unwrap() + 2));
}

#[test]
fn unfinished_messages_on_many_ids_are_bounded_together() {
    let mut reader = Reader::default();
    reader.set_chunk_size(59_000).unwrap();
    let mut result = Ok(vec![]);
    for id in 2..64u32 {
        let mut wire = BytesMut::new();
        write(&mut wire, 59_000, &header(id, type_id::VIDEO, 0), &[&[0; 1 << 20]]).unwrap();
        result = read_all(&mut reader, &wire[..12 + 59_000]);
        if result.is_err() {
            break;
        }
        assert!(reader.reserved < 1_000_000);
    }
    assert_eq!(result, Err(Error::TooMuchInterleaved));
}

#[test]
fn a_new_header_in_the_middle_of_a_message_is_refused() {
    let mut wire = BytesMut::new();
    write(&mut wire, 128, &header(4, type_id::VIDEO, 0), &[&[0; 200]]).unwrap();
    let mut reader = Reader::default();
    read_all(&mut reader, &wire[..140]).unwrap();
    assert_eq!(read_all(&mut reader, &wire[..12]), Err(Error::Unfinished(4)));
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut wire = BytesMut::new();
    write(&mut wire, 128, &header(4, type_id::VIDEO, 0), &[&[1; 200]]).unwrap();
    let mut reader = Reader::default();
    read_all(&mut reader, &wire[..140]).unwrap();
    reader.abort(4);
    reader.abort(99);
    assert_eq!(reader.reserved, 0);
    let got = read_all(&mut reader, &wire).unwrap();
    assert_eq!(&got[0].body[..], &[1; 200]);
}

#[test]
fn a_chunk_size_that_changes_in_the_middle_of_a_message_holds_from_the_next_chunk() {
    let mut reader = Reader::default();
    let first = [&[4, 0, 0, 0, 0, 0, 200, type_id::VIDEO, 1, 0, 0, 0][..], &[1; 128]].concat();
    assert_eq!(read_all(&mut reader, &first), Ok(vec![]));
    reader.set_chunk_size(50).unwrap();
    let rest = [&[0xc4][..], &[2; 50], &[0xc4], &[3; 22]].concat();
    let got = read_all(&mut reader, &rest).unwrap();
    assert_eq!(got[0].body.len(), 200);
    assert_eq!(got[0].body[178..], [3; 22]);
}

#[test]
fn a_message_that_does_not_fit_its_length_field_is_not_written() {
    let mut out = BytesMut::new();
    let body = vec![0; 1 << 24];
    let result = write(&mut out, 4096, &header(4, type_id::VIDEO, 0), &[&body]);
    assert_eq!(result, Err(TooLong(1 << 24)));
    assert!(out.is_empty());
}
