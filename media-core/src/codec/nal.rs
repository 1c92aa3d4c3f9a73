//! NAL units of H.264 and HEVC, as they lie in a frame and in a decoder configuration.

use bytes::{BufMut, BytesMut};

use super::Error;

/// The NAL units of a frame with 4-byte lengths. Ends at the first length that leads past the end.
pub fn units(data: &[u8]) -> Units<'_> {
    Units { rest: data }
}

/// See [`units`].
#[derive(Debug, Clone)]
pub struct Units<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (unit, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(unit)
    }
}

/// Whether the frame's lengths lead exactly to its end.
pub fn well_formed(data: &[u8]) -> bool {
    let mut units = units(data);
    units.by_ref().for_each(drop);
    units.rest.is_empty()
}

/// Refuses NAL unit length fields of other than 4 bytes, the only ones that frames and configurations have past
/// the demuxer: it rewrites the others.
pub(super) fn check_length_size(length_size_minus_one: u8) -> Result<(), Error> {
    match length_size_minus_one & 3 {
        3 => Ok(()),
        other => Err(Error::Invalid { field: "lengthSizeMinusOne", value: u64::from(other) }),
    }
}

/// Takes a 16-bit length and that many bytes, as parameter sets lie in a record.
pub(super) fn take_sized<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], Error> {
    let (length, after) = rest.split_first_chunk::<2>().ok_or(Error::Truncated(what))?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (unit, after) = after.split_at_checked(length).ok_or(Error::Truncated(what))?;
    *rest = after;
    Ok(unit)
}

/// Takes one byte.
pub(super) fn take_byte(rest: &mut &[u8], what: &'static str) -> Result<u8, Error> {
    let (&byte, after) = rest.split_first().ok_or(Error::Truncated(what))?;
    *rest = after;
    Ok(byte)
}

/// Writes a 16-bit length and the parameter set.
pub(super) fn put_sized(out: &mut BytesMut, set: &[u8]) -> Result<(), Error> {
    let length = u16::try_from(set.len())
        .map_err(|_| Error::Invalid { field: "parameter set length", value: set.len() as u64 })?;
    out.put_u16(length);
    out.put_slice(set);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_units_and_stops_at_a_lie() {
        let data = [0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x06];
        let found: Vec<&[u8]> = units(&data).collect();
        assert_eq!(found, [&[0x65, 1][..], &[], &[0x06]]);
        assert!(well_formed(&data));
        for length in 1..data.len() {
            let whole = matches!(length, 6 | 10);
            assert_eq!(well_formed(&data[..length]), whole, "{length}");
        }
        assert_eq!(units(&[0xff, 0xff, 0xff, 0xff, 0x65]).count(), 0);
    }

    #[test]
    fn only_four_byte_lengths_are_carried() {
        assert!(check_length_size(0xff).is_ok());
        assert!(check_length_size(0xfd).is_err());
    }
}
