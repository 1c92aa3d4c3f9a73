//! What H.264 and HEVC have in common: units sent alone, together, or in fragments.

use std::sync::Arc;

use super::super::packet::Payload;

/// How a unit is cut into fragments: the bytes before each piece.
pub(super) struct Fragments<'a> {
    /// Bytes of the unit's own header, which is not repeated as such.
    pub(super) header_bytes: usize,
    /// The header of each fragment without its last byte.
    pub(super) indicator: &'a [u8],
    /// The last byte of that header, without start and end bits.
    pub(super) unit_type: u8,
}

/// Sends a unit in fragments: FU-A of RFC 6184 §5.8, FU of RFC 7798 §4.4.3.
pub(super) fn fragment(unit: &[u8], how: &Fragments<'_>, max_bytes: usize, out: &mut Vec<Payload>) {
    const START: u8 = 0x80;
    const END: u8 = 0x40;
    let Some(body) = unit.get(how.header_bytes..) else { return };
    let room = max_bytes.saturating_sub(how.indicator.len() + 1).max(1);
    // Pieces of nearly the same size: a last one of a few bytes costs as much as a whole one.
    let count = body.len().div_ceil(room).max(2);
    let size = body.len().div_ceil(count).max(1);
    let pieces = body.chunks(size);
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.enumerate() {
        let start = if index == 0 { START } else { 0 };
        let end = if index == last { END } else { 0 };
        let data = concat(&[how.indicator, &[how.unit_type | start | end], piece]);
        out.push(Payload { marker: false, data });
    }
}

/// Sends units together behind `header`, each with its length: STAP-A of RFC 6184 §5.7.1, AP of RFC 7798 §4.4.2.
/// `false` if they don't fit.
pub(super) fn aggregate<'a>(
    header: &[u8],
    units: impl Iterator<Item = &'a [u8]> + Clone,
    max_bytes: usize,
    out: &mut Vec<Payload>,
) -> bool {
    let total: usize = header.len() + units.clone().map(|unit| 2 + unit.len()).sum::<usize>();
    if total > max_bytes {
        return false;
    }
    let mut data = Vec::with_capacity(total);
    data.extend_from_slice(header);
    for unit in units {
        let Ok(length) = u16::try_from(unit.len()) else { return false };
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(unit);
    }
    out.push(Payload { marker: false, data: data.into() });
    true
}

/// One allocation of several pieces.
pub(super) fn concat(pieces: &[&[u8]]) -> Arc<[u8]> {
    pieces.concat().into()
}
