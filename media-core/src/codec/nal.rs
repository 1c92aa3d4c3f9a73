//! NAL units of H.264 and HEVC, as they lie in a frame.

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
