//! The tag, the file header and how they are written.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a tag's header: type, size, timestamp, stream id (§E.4.1).
pub(super) const TAG_HEADER_BYTES: usize = 11;

/// What PreviousTagSize says of a tag with a body of that size.
pub(super) const fn previous_tag_size(body_size: u32) -> u32 {
    body_size + 11
}

/// Bytes of the PreviousTagSize field behind every tag (§E.3).
pub(super) const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// What a tag takes beside its body.
pub(crate) const TAG_OVERHEAD_BYTES: usize = TAG_HEADER_BYTES + PREVIOUS_TAG_SIZE_BYTES;

/// What a tag carries (§E.4.1 `TagType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// Sound: type 8.
    Audio,
    /// Pictures: type 9.
    Video,
    /// Script data, AMF0: type 18.
    Script,
}

impl TagKind {
    /// The number on the wire, which RTMP shares as message type id.
    pub const fn number(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }

    /// From the number on the wire.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Script),
            _ => None,
        }
    }
}

/// An FLV tag, or an RTMP audio, video or data message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it carries.
    pub kind: TagKind,
    /// Decoding time in milliseconds, modulo 2³².
    pub timestamp_ms: u32,
    /// What stands behind the tag header.
    pub body: Bytes,
}

/// The file header (§E.2) with PreviousTagSize0 behind it.
pub const fn header(has_audio: bool, has_video: bool) -> [u8; 13] {
    let flags = if has_audio { 0b100 } else { 0 } | if has_video { 0b001 } else { 0 };
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Writes a tag (§E.4.1), its body given in pieces, and the PreviousTagSize behind it. A body over
/// the 24-bit limit of 16 MiB − 1 cannot be said in FLV and is cut off there; [`super::Reader`]'s
/// and RTMP's limits lie below.
pub fn write_tag(out: &mut BytesMut, kind: TagKind, timestamp_ms: u32, body: &[&[u8]]) {
    const MAX_BODY_BYTES: u32 = 0xff_ffff;
    let size = body.iter().map(|piece| piece.len()).sum::<usize>();
    let size = u32::try_from(size).unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES);
    let mut left = size as usize;
    out.reserve(left + TAG_OVERHEAD_BYTES);
    out.put_u8(kind.number());
    out.put_uint(u64::from(size), 3);
    out.put_uint(u64::from(timestamp_ms & 0xff_ffff), 3);
    out.put_uint(u64::from(timestamp_ms >> 24), 1);
    out.put_uint(0, 3);
    for piece in body {
        let (piece, _) = piece.split_at_checked(left).unwrap_or((piece, &[]));
        out.extend_from_slice(piece);
        left -= piece.len();
    }
    out.put_u32(previous_tag_size(size));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_laid_out_as_the_specification_says() {
        let mut out = BytesMut::new();
        write_tag(&mut out, TagKind::Video, 0x0102_0304, &[&[0x17], &[], &[0xaa, 0xbb]]);
        assert_eq!(
            out.as_ref(),
            [9, 0, 0, 3, 0x02, 0x03, 0x04, 0x01, 0, 0, 0, 0x17, 0xaa, 0xbb, 0, 0, 0, 14]
        );
    }

    #[test]
    fn the_header_names_what_follows() {
        assert_eq!(header(true, true)[4], 5);
        assert_eq!(header(true, false)[4], 4);
        assert_eq!(header(false, true)[4], 1);
    }

    #[test]
    fn a_body_beyond_24_bits_is_cut_so_that_the_sizes_stay_true() {
        let big = vec![0u8; 0x100_0000];
        let mut out = BytesMut::new();
        write_tag(&mut out, TagKind::Video, 0, &[&[1], &big]);
        assert_eq!(out.len(), 11 + 0xff_ffff + 4);
        assert_eq!(out[1..4], [0xff, 0xff, 0xff]);
        assert_eq!(out[out.len() - 4..], (0xff_ffffu32 + 11).to_be_bytes());
    }
}
