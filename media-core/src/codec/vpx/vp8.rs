//! The head of a VP8 frame (RFC 6386 §9.1).

use super::super::Error;
use super::Picture;

/// What a keyframe says; `None` for another frame.
pub(super) fn picture(frame: &[u8]) -> Result<Option<Picture>, Error> {
    const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
    /// Above it is how the picture is to be scaled for showing it.
    const SIDE: u16 = 0x3fff;
    let (&[tag, _, _, s0, s1, s2, w0, w1, h0, h1], _) =
        frame.split_first_chunk::<10>().ok_or(Error::Truncated("VP8 frame header"))?;
    // The lowest bit is 0 of a keyframe.
    if tag & 1 != 0 {
        return Ok(None);
    }
    if [s0, s1, s2] != START_CODE {
        return Err(Error::Invalid { field: "start code", value: s0.into() });
    }
    let (width, height) = (u16::from_le_bytes([w0, w1]) & SIDE, u16::from_le_bytes([h0, h1]) & SIDE);
    if width == 0 || height == 0 {
        return Err(Error::Invalid { field: "frame size", value: 0 });
    }
    Ok(Some(Picture {
        // There is one; the number in the tag is of filters that a decoder knows.
        profile: 0,
        bit_depth: 8,
        chroma: 1,
        full_range: false,
        colours: [2; 3],
        width,
        height,
    }))
}
