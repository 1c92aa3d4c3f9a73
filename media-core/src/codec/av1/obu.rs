//! Open bitstream units (AV1 §5.3).

use bytes::{BufMut, BytesMut};

use super::super::Error;

const WHAT: &str = "AV1 OBU";

/// `OBU_SEQUENCE_HEADER`.
pub const SEQUENCE_HEADER: u8 = 1;
/// `OBU_TEMPORAL_DELIMITER`.
pub const TEMPORAL_DELIMITER: u8 = 2;
/// `OBU_FRAME_HEADER`.
pub const FRAME_HEADER: u8 = 3;
/// `OBU_FRAME`.
pub const FRAME: u8 = 6;
/// `OBU_TILE_LIST`.
pub const TILE_LIST: u8 = 8;
/// `OBU_PADDING`.
pub const PADDING: u8 = 15;

const HAS_SIZE: u8 = 0x02;
const HAS_EXTENSION: u8 = 0x04;

/// One unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obu<'a> {
    /// `obu_type`.
    pub obu_type: u8,
    /// The extension header: temporal and spatial layer.
    pub extension: Option<u8>,
    /// What follows the header and the size.
    pub payload: &'a [u8],
}

impl Obu<'_> {
    /// Bytes of the unit without a size.
    pub fn len_without_size(&self) -> usize {
        1 + usize::from(self.extension.is_some()) + self.payload.len()
    }

    /// The header bytes of the unit without a size: one, or two with an extension.
    pub fn header_without_size(&self) -> ([u8; 2], usize) {
        match self.extension {
            Some(extension) => ([self.obu_type << 3 | HAS_EXTENSION, extension], 2),
            None => ([self.obu_type << 3, 0], 1),
        }
    }
}

/// The units of a temporal unit, or of a configuration record. The last may leave out its size.
/// Ends after the first error.
pub fn obus(data: &[u8]) -> Obus<'_> {
    Obus { rest: data }
}

/// See [`obus`].
#[derive(Debug, Clone)]
pub struct Obus<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let next = split(self.rest);
        self.rest = next.as_ref().map_or(&[], |(_, rest)| rest);
        Some(next.map(|(obu, _)| obu))
    }
}

fn split(data: &[u8]) -> Result<(Obu<'_>, &[u8]), Error> {
    const FORBIDDEN: u8 = 0x80;
    let (&header, mut rest) = data.split_first().ok_or(Error::Truncated(WHAT))?;
    if header & FORBIDDEN != 0 {
        return Err(Error::Invalid { field: "obu_forbidden_bit", value: 1 });
    }
    let mut extension = None;
    if header & HAS_EXTENSION != 0 {
        let (&byte, after) = rest.split_first().ok_or(Error::Truncated(WHAT))?;
        (extension, rest) = (Some(byte), after);
    }
    let (payload, rest) = if header & HAS_SIZE != 0 {
        let size = leb128(&mut rest)?;
        let size = usize::try_from(size).map_err(|_| Error::Truncated(WHAT))?;
        rest.split_at_checked(size).ok_or(Error::Truncated(WHAT))?
    } else {
        (rest, &[][..])
    };
    Ok((Obu { obu_type: header >> 3 & 0x0f, extension, payload }, rest))
}

/// Takes a number as §4.10.5 writes it: seven bits a byte, the least significant first, at most 2³² - 1.
pub fn leb128(rest: &mut &[u8]) -> Result<u64, Error> {
    const MAX_BYTES: u32 = 8;
    let mut value = 0;
    for index in 0..MAX_BYTES {
        let (&byte, after) = rest.split_first().ok_or(Error::Truncated(WHAT))?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return if value <= u64::from(u32::MAX) {
                Ok(value)
            } else {
                Err(Error::Invalid { field: "obu_size", value })
            };
        }
    }
    Err(Error::Invalid { field: "obu_size", value })
}

/// Writes a unit with its size.
pub(super) fn put(out: &mut BytesMut, obu_type: u8, payload: &[u8]) -> Result<(), Error> {
    put_sized(out, &Obu { obu_type, extension: None, payload })
}

/// Writes a unit with its extension and its size.
pub fn put_sized(out: &mut impl BufMut, obu: &Obu<'_>) -> Result<(), Error> {
    let size = u32::try_from(obu.payload.len())
        .map_err(|_| Error::Invalid { field: "obu_size", value: obu.payload.len() as u64 })?;
    let header = obu.obu_type << 3 | HAS_SIZE;
    match obu.extension {
        Some(extension) => out.put_slice(&[header | HAS_EXTENSION, extension]),
        None => out.put_u8(header),
    }
    put_leb128(out, size);
    out.put_slice(obu.payload);
    Ok(())
}

/// Writes a number as §4.10.5 does, in as few bytes as it takes.
pub fn put_leb128(out: &mut impl BufMut, mut value: u32) {
    loop {
        let [.., low] = value.to_be_bytes();
        value >>= 7;
        if value == 0 {
            out.put_u8(low & 0x7f);
            break;
        }
        out.put_u8(low | 0x80);
    }
}

/// How many bytes [`put_leb128`] writes.
pub fn leb128_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0x0fff_ffff => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        for length in [0, 1, 127, 128, 20_000] {
            let payload = vec![7; length];
            let mut out = BytesMut::new();
            put(&mut out, FRAME, &payload).unwrap();
            put(&mut out, SEQUENCE_HEADER, &[1]).unwrap();
            let read: Vec<_> =
                obus(&out).map(Result::unwrap).map(|o| (o.obu_type, o.payload.len())).collect();
            assert_eq!(read, [(FRAME, length), (SEQUENCE_HEADER, 1)]);
        }
    }

    #[test]
    fn extension_headers_are_passed_over() {
        let read: Vec<_> = obus(&[0x36, 0x20, 1, 9, 0x30, 5, 6]).map(Result::unwrap).collect();
        assert_eq!((read[0].obu_type, read[0].payload), (FRAME, &[9][..]));
        assert_eq!((read[1].obu_type, read[1].payload), (FRAME, &[5, 6][..]));
    }

    #[test]
    fn lies_end_the_walk_with_an_error() {
        for data in [
            &[0x32][..],
            &[0x32, 0x80],
            &[0x32, 5, 1],
            &[0x80],
            &[0x34],
            &[0x32; 12],
            &[0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let read: Vec<_> = obus(data).collect();
            assert!(read.last().is_some_and(Result::is_err), "{data:?}");
        }
    }
}
