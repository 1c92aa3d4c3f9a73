//! The head of a VP9 frame (VP9 Bitstream & Decoding Process Specification §6.2).

use super::super::bits::Bits;
use super::super::{Error, MAX_PICTURE_SIDE};
use super::Picture;

/// What a keyframe says; `None` for another frame, and for one that shows what was decoded before.
pub(super) fn picture(frame: &[u8]) -> Result<Option<Picture>, Error> {
    const FRAME_MARKER: u32 = 2;
    const SYNC_CODE: u32 = 0x49_8342;
    const SRGB: u32 = 7;
    let mut bits = Bits::new("VP9 frame header", frame);
    if bits.bits(2)? != FRAME_MARKER {
        return Err(Error::Invalid { field: "frame_marker", value: 0 });
    }
    let profile = u8::from(bits.flag()?) | u8::from(bits.flag()?) << 1;
    if profile == 3 && bits.flag()? {
        return Err(Error::Unsupported("a VP9 profile above 3"));
    }
    let show_existing = bits.flag()?;
    // `frame_type` is 0 of a keyframe; then `show_frame` and `error_resilient_mode`.
    if show_existing || bits.flag()? {
        return Ok(None);
    }
    bits.skip(2)?;
    if bits.bits(24)? != SYNC_CODE {
        return Err(Error::Invalid { field: "frame_sync_code", value: 0 });
    }
    let bit_depth = match profile {
        0 | 1 => 8,
        _ if bits.flag()? => 12,
        _ => 10,
    };
    let space = bits.bits(3)?;
    let subsampled = profile & 1 == 1;
    let (full_range, chroma) = if space == SRGB {
        if subsampled {
            bits.skip(1)?;
        }
        (true, 3)
    } else {
        let full_range = bits.flag()?;
        let chroma = if subsampled {
            let halves = (bits.flag()?, bits.flag()?);
            bits.skip(1)?;
            match halves {
                (false, false) => 3,
                (true, false) => 2,
                // 4:4:0, for which the record has no number.
                _ => 1,
            }
        } else {
            1
        };
        (full_range, chroma)
    };
    let mut side = |field| match bits.bits(16)? + 1 {
        side @ 1..=MAX_PICTURE_SIDE => Ok(u16::try_from(side).unwrap_or(u16::MAX)),
        side => Err(Error::Invalid { field, value: side.into() }),
    };
    let (width, height) = (side("frame_width")?, side("frame_height")?);
    Ok(Some(Picture { profile, bit_depth, chroma, full_range, colours: colours(space), width, height }))
}

/// `color_space` as primaries, transfer and matrix.
fn colours(space: u32) -> [u8; 3] {
    match space {
        1 => [6, 6, 6],
        2 => [1, 1, 1],
        3 => [6, 6, 6],
        4 => [7, 7, 7],
        5 => [9, 14, 9],
        7 => [1, 13, 0],
        _ => [2, 2, 2],
    }
}
