//! Bytes in any pieces → tags.

use bytes::{Bytes, BytesMut};

use super::Error;
use super::tag::{PREVIOUS_TAG_SIZE_BYTES, TAG_HEADER_BYTES, Tag, TagKind, previous_tag_size};

/// The largest tag body taken: an intra frame of 8K video stays below, and one reader never holds more.
pub(super) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// The file header's fixed part, and PreviousTagSize0.
const FILE_HEADER_BYTES: usize = 9;

/// The longest file header taken. The specification has 9 bytes and leaves room for more.
const MAX_FILE_HEADER_BYTES: usize = 256;

/// Reads an FLV byte stream. Push bytes as they come, then call [`Reader::next_tag`] until it
/// returns `Ok(None)`. A tag that lies whole in one pushed piece is handed out as a slice of it.
///
/// After an error the stream cannot be continued: there is no looking for the next tag.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of an item whose rest has not come; in front of `piece`.
    partial: BytesMut,
    /// What was pushed last and not yet read.
    piece: Bytes,
    header_read: bool,
}

impl Reader {
    /// At the beginning of a stream: expects the file header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the stream.
    pub fn push(&mut self, bytes: Bytes) {
        if !self.piece.is_empty() {
            self.partial.extend_from_slice(&self.piece);
        }
        self.piece = bytes;
    }

    /// The next whole tag; `Ok(None)` if it needs more bytes.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, Error> {
        Ok(self.next_with_bytes()?.map(|(tag, _)| tag))
    }

    /// The next whole tag, and all its bytes: header, body and PreviousTagSize.
    pub fn next_with_bytes(&mut self) -> Result<Option<(Tag, Bytes)>, Error> {
        if !self.header_read {
            let Some(size) = self.file_header_size()? else { return Ok(None) };
            let Some(header) = self.take(size) else { return Ok(None) };
            check_previous_tag_size(&header, 0)?;
            self.header_read = true;
        }
        let Some(header) = self.peek::<TAG_HEADER_BYTES>() else { return Ok(None) };
        let [kind, s2, s1, s0, t2, t1, t0, t3, ..] = header;
        let kind = TagKind::from_number(kind).ok_or(Error::TagType(kind))?;
        let body_size = u32::from_be_bytes([0, s2, s1, s0]);
        let size = body_size as usize;
        if size > MAX_BODY_BYTES {
            return Err(Error::TagTooLarge(size));
        }
        let timestamp_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        let end = TAG_HEADER_BYTES + size;
        let Some(bytes) = self.take(end + PREVIOUS_TAG_SIZE_BYTES) else { return Ok(None) };
        check_previous_tag_size(&bytes, previous_tag_size(body_size))?;
        let body = bytes.slice(TAG_HEADER_BYTES..end);
        Ok(Some((Tag { kind, timestamp_ms, body }, bytes)))
    }

    /// Bytes of the file header with PreviousTagSize0.
    fn file_header_size(&mut self) -> Result<Option<usize>, Error> {
        let Some(header) = self.peek::<FILE_HEADER_BYTES>() else { return Ok(None) };
        let [b'F', b'L', b'V', 1, _, offset @ ..] = header else { return Err(Error::NotFlv) };
        let offset = u32::from_be_bytes(offset);
        match usize::try_from(offset) {
            Ok(size) if (FILE_HEADER_BYTES..=MAX_FILE_HEADER_BYTES).contains(&size) => {
                Ok(Some(size + PREVIOUS_TAG_SIZE_BYTES))
            }
            _ => Err(Error::HeaderSize(offset)),
        }
    }

    /// Whether `count` bytes lie in one piece. Moves the end of a pushed piece aside if not.
    fn gather(&mut self, count: usize) -> bool {
        if self.partial.is_empty() && self.piece.len() >= count {
            return true;
        }
        let missing = count.saturating_sub(self.partial.len()).min(self.piece.len());
        self.partial.extend_from_slice(&self.piece.split_to(missing));
        self.partial.len() >= count
    }

    fn peek<const N: usize>(&mut self) -> Option<[u8; N]> {
        if !self.gather(N) {
            return None;
        }
        let source: &[u8] = if self.partial.is_empty() { &self.piece } else { &self.partial };
        source.first_chunk::<N>().copied()
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        if !self.gather(count) {
            return None;
        }
        Some(if self.partial.is_empty() {
            self.piece.split_to(count)
        } else {
            self.partial.split_to(count).freeze()
        })
    }
}

fn check_previous_tag_size(item: &[u8], expected: u32) -> Result<(), Error> {
    match item.last_chunk::<PREVIOUS_TAG_SIZE_BYTES>().copied().map(u32::from_be_bytes) {
        Some(found) if found == expected => Ok(()),
        found => Err(Error::PreviousTagSize { expected, found: found.unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{header, write_tag};
    use super::*;

    fn stream(tags: &[Tag]) -> BytesMut {
        let mut out = BytesMut::from(&header(true, true)[..]);
        for tag in tags {
            write_tag(&mut out, tag.kind, tag.timestamp_ms, &[&tag.body]);
        }
        out
    }

    fn read(reader: &mut Reader, out: &mut Vec<Tag>) -> Result<(), Error> {
        while let Some(tag) = reader.next_tag()? {
            out.push(tag);
        }
        Ok(())
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        let kind = prop_oneof![Just(TagKind::Audio), Just(TagKind::Video), Just(TagKind::Script)];
        (kind, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(kind, timestamp_ms, body)| Tag { kind, timestamp_ms, body: body.into() })
    }

    proptest! {
        #[test]
        fn tags_survive_any_cut_into_pieces(
            tags in proptest::collection::vec(any_tag(), 0..8),
            sizes in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let mut rest = stream(&tags).freeze();
            let (mut reader, mut seen, mut sizes) = (Reader::new(), Vec::new(), sizes.into_iter().cycle());
            while !rest.is_empty() {
                let size = sizes.next().unwrap_or(1).min(rest.len());
                reader.push(rest.split_to(size));
                read(&mut reader, &mut seen).unwrap();
            }
            prop_assert_eq!(seen, tags);
        }

        #[test]
        fn pieces_may_be_pushed_without_reading_between(
            tags in proptest::collection::vec(any_tag(), 1..5), cut in 0usize..2000,
        ) {
            let mut rest = stream(&tags).freeze();
            let (mut reader, mut seen) = (Reader::new(), Vec::new());
            let first = rest.split_to(cut.min(rest.len()));
            reader.push(first);
            reader.push(rest);
            read(&mut reader, &mut seen).unwrap();
            prop_assert_eq!(seen, tags);
        }

        #[test]
        fn any_bytes_end_in_tags_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::new();
            reader.push(header(true, true).to_vec().into());
            reader.push(bytes.into());
            let _ = read(&mut reader, &mut Vec::new());
        }
    }

    #[test]
    fn a_whole_tag_in_a_piece_is_not_copied() {
        let tag = Tag { kind: TagKind::Video, timestamp_ms: 7, body: Bytes::from_static(&[1; 100]) };
        let bytes = stream(&[tag]).freeze();
        let mut reader = Reader::new();
        reader.push(bytes.clone());
        let (tag, whole) = reader.next_with_bytes().unwrap().unwrap();
        assert!(bytes.as_ptr_range().contains(&tag.body.as_ptr()));
        assert_eq!(whole, bytes.slice(13..));
    }

    #[test]
    fn lying_sizes_are_refused() {
        let tag = Tag { kind: TagKind::Audio, timestamp_ms: 0, body: Bytes::from_static(b"abc") };
        let good = stream(&[tag]);
        for delta in [1u8, 2, 0xff] {
            let mut bad = good.clone();
            let last = bad.len() - 1;
            bad[last] = bad[last].wrapping_add(delta);
            let mut reader = Reader::new();
            reader.push(bad.freeze());
            assert!(matches!(reader.next_tag(), Err(Error::PreviousTagSize { expected: 14, .. })));
        }
        let mut bad = good;
        bad[13 + 1..13 + 4].copy_from_slice(&[0xff; 3]);
        let mut reader = Reader::new();
        reader.push(bad.freeze());
        assert!(matches!(reader.next_tag(), Err(Error::TagTooLarge(0xff_ffff))));
    }

    #[test]
    fn what_is_not_flv_is_refused() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], "NotFlv"),
            (b"FLV\x02\x05\x00\x00\x00\x09\x00\x00\x00\x00", "NotFlv"),
            (b"FLV\x01\x05\x00\x00\x00\x08\x00\x00\x00\x00", "HeaderSize"),
            (b"FLV\x01\x05\xff\xff\xff\xff\x00\x00\x00\x00", "HeaderSize"),
            (b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x01", "PreviousTagSize"),
        ] {
            let mut reader = Reader::new();
            reader.push(Bytes::from_static(bytes));
            let error = reader.next_tag().unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        }
        let mut reader = Reader::new();
        reader.push(header(true, true).to_vec().into());
        reader.push(Bytes::from_static(&[0x29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])); // encrypted video
        assert!(matches!(reader.next_tag(), Err(Error::TagType(0x29))));
    }

    #[test]
    fn an_announced_size_reserves_nothing() {
        let mut reader = Reader::new();
        reader.push(header(true, true).to_vec().into());
        reader.push(Bytes::from_static(&[9, 0x7f, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2]));
        assert!(reader.next_tag().unwrap().is_none());
        assert!(reader.partial.capacity() < 4096);
    }
}
