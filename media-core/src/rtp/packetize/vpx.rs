//! VP8 (RFC 7741) and VP9 (RFC 9628): a frame cut into pieces, each behind a descriptor.

use super::super::packet::Payload;
use super::mark_last;
use crate::frame::{Codec, Frame};

/// `picture` counts pictures of VP9, each of which refers to the one before: of those that a receiver gets none is missing.
/// VP8's receivers go by sequence numbers.
pub(super) fn packetize(codec: Codec, picture: u16, frame: &Frame, max_bytes: usize, out: &mut Vec<Payload>) {
    let from = out.len();
    let (mut head, length) = match codec {
        Codec::Vp8 => ([0; MAX_BYTES], 1),
        _ => vp9(picture, frame.keyframe),
    };
    let pieces = frame.data.chunks(max_bytes.saturating_sub(length).max(1));
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.enumerate() {
        if let Some(flags) = head.first_mut() {
            *flags = match codec {
                Codec::Vp8 if at == 0 => VP8_START,
                Codec::Vp8 => 0,
                _ => {
                    let flags = *flags & !(BEGINS | ENDS);
                    flags | if at == 0 { BEGINS } else { 0 } | if at == last { ENDS } else { 0 }
                }
            };
        }
        let head = head.get(..length).unwrap_or_default();
        out.push(Payload { marker: false, data: [head, piece].concat().into() });
    }
    mark_last(out, from);
}

/// The longest descriptor.
const MAX_BYTES: usize = 5;
/// S of VP8's descriptor, with partition 0.
const VP8_START: u8 = 0x10;
/// B and E of VP9's.
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;

/// Of the flexible mode, in which a picture says what it refers to, with a picture's number of 15 bits.
fn vp9(picture: u16, keyframe: bool) -> ([u8; MAX_BYTES], usize) {
    const PICTURE_ID: u8 = 0x80;
    const PREDICTED: u8 = 0x40;
    const LAYERS: u8 = 0x20;
    const FLEXIBLE: u8 = 0x10;
    /// `P_DIFF` of the picture before, and no more behind it.
    const THE_ONE_BEFORE: u8 = 1 << 1;
    let [high, low] = (picture | 0x8000).to_be_bytes();
    let flags = PICTURE_ID | LAYERS | FLEXIBLE;
    if keyframe {
        ([flags, high, low, 0, 0], 4)
    } else {
        ([flags | PREDICTED, high, low, 0, THE_ONE_BEFORE], 5)
    }
}
