//! Open bitstream units (AV1 §5.3).

use bytes::{BufMut, BytesMut};

use super::super::Error;

const WHAT: &str = "AV1 OBU";

/// `OBU_SEQUENCE_HEADER`.
pub(super) const SEQUENCE_HEADER: u8 = 1;
/// `OBU_FRAME_HEADER`.
pub(super) const FRAME_HEADER: u8 = 3;
/// `OBU_FRAME`.
pub(super) const FRAME: u8 = 6;

const HAS_SIZE: u8 = 0x02;
const HAS_EXTENSION: u8 = 0x04;

/// One unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Obu<'a> {
    pub(super) obu_type: u8,
    pub(super) payload: &'a [u8],
}

/// The units of a temporal unit, or of a configuration record. The last may leave out its size.
/// Ends after the first error.
pub(super) fn obus(data: &[u8]) -> Obus<'_> {
    Obus { rest: data }
}

/// See [`obus`].
#[derive(Debug, Clone)]
pub(super) struct Obus<'a> {
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
    if header & HAS_EXTENSION != 0 {
        rest = rest.get(1..).ok_or(Error::Truncated(WHAT))?;
    }
    let (payload, rest) = if header & HAS_SIZE != 0 {
        let size = leb128(&mut rest)?;
        let size = usize::try_from(size).map_err(|_| Error::Truncated(WHAT))?;
        rest.split_at_checked(size).ok_or(Error::Truncated(WHAT))?
    } else {
        (rest, &[][..])
    };
    Ok((Obu { obu_type: header >> 3 & 0x0f, payload }, rest))
}

/// §4.10.5: seven bits a byte, the least significant first, at most 2³² - 1.
fn leb128(rest: &mut &[u8]) -> Result<u64, Error> {
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
    let mut size = u32::try_from(payload.len())
        .map_err(|_| Error::Invalid { field: "obu_size", value: payload.len() as u64 })?;
    out.put_u8(obu_type << 3 | HAS_SIZE);
    loop {
        let [.., low] = size.to_be_bytes();
        size >>= 7;
        if size == 0 {
            out.put_u8(low & 0x7f);
            break;
        }
        out.put_u8(low | 0x80);
    }
    out.put_slice(payload);
    Ok(())
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
