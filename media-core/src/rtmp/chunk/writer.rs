//! Messages to chunks. The first chunk of a message always has a whole header (format 0) and the rest
//! have none (format 3), so the bytes depend on nothing that was sent before: they are the same for
//! every receiver whose chunk size is the same.

use bytes::{BufMut, BytesMut};

use super::Header;

/// The largest value the 3-byte fields of a chunk header hold; as a timestamp it means that an
/// extended one follows.
const MAX_U24: u32 = 0xff_ffff;

/// A message that RTMP cannot carry: its length has 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes is more than RTMP can carry")]
pub struct TooLong(pub usize);

/// Appends a message, whose body may lie in pieces, as chunks of at most `chunk_size` payload bytes.
pub fn write(out: &mut BytesMut, chunk_size: usize, header: &Header, body: &[&[u8]]) -> Result<(), TooLong> {
    let len: usize = body.iter().map(|piece| piece.len()).sum();
    let Some(wire_len) = u32::try_from(len).ok().filter(|len| *len <= MAX_U24) else {
        return Err(TooLong(len));
    };
    let chunk_size = chunk_size.max(1);
    // A whole header takes at most 18 bytes, a continuation 7.
    out.reserve(len + 18 + 7 * (len / chunk_size));

    let extended = (header.timestamp_ms >= MAX_U24).then_some(header.timestamp_ms);
    basic_header(out, 0, header.chunk_stream);
    out.put_uint(u64::from(header.timestamp_ms.min(MAX_U24)), 3);
    out.put_uint(u64::from(wire_len), 3);
    out.put_u8(header.type_id);
    out.put_u32_le(header.stream_id);
    if let Some(timestamp_ms) = extended {
        out.put_u32(timestamp_ms);
    }

    let mut room = chunk_size;
    for piece in body {
        let mut rest = *piece;
        while !rest.is_empty() {
            if room == 0 {
                basic_header(out, 3, header.chunk_stream);
                // §5.3.1.3: continuations repeat the extended timestamp.
                if let Some(timestamp_ms) = extended {
                    out.put_u32(timestamp_ms);
                }
                room = chunk_size;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            out.put_slice(now);
            room -= now.len();
            rest = later;
        }
    }
    Ok(())
}

/// §5.3.1.1: one byte for ids up to 63, two up to 319, three up to 65,599.
fn basic_header(out: &mut BytesMut, format: u8, chunk_stream: u32) {
    let format = format << 6;
    match chunk_stream {
        0..=1 => out.put_u8(format | 2),
        id @ 2..=63 => out.put_u8(format | u8::try_from(id).unwrap_or(2)),
        id => {
            let [_, high_a, high, low] = id.saturating_sub(64).min(0xffff).to_be_bytes();
            debug_assert_eq!(high_a, 0, "bounded by 65,535");
            if high == 0 {
                out.put_slice(&[format, low]);
            } else {
                out.put_slice(&[format | 1, low, high]);
            }
        }
    }
}
