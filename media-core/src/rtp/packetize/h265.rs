//! HEVC (RFC 7798): single units, an aggregation packet for parameter sets, fragmentation units for what is too long.

use bytes::Bytes;

use super::super::packet::Payload;
use super::mark_last;
use super::nal::{Fragments, aggregate, fragment};
use crate::codec::nal;
use crate::frame::Frame;

const SPS: u8 = 33;
const ACCESS_UNIT_DELIMITER: u8 = 35;
const FILLER: u8 = 38;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
/// `nuh_layer_id` 0, `nuh_temporal_id_plus1` 1.
const BASE_LAYER: u8 = 1;

pub(super) fn packetize(frame: &Frame, sets: &[Bytes], max_bytes: usize, out: &mut Vec<Payload>) {
    let from = out.len();
    let has_own = nal::units(&frame.data).any(|unit| unit_type(unit) == Some(SPS));
    if frame.keyframe && !has_own {
        let units = sets.iter().map(Bytes::as_ref);
        if !aggregate(&[AGGREGATION << 1, BASE_LAYER], units.clone(), max_bytes, out) {
            units.for_each(|unit| send(unit, max_bytes, out));
        }
    }
    for unit in nal::units(&frame.data) {
        if !matches!(unit_type(unit), None | Some(ACCESS_UNIT_DELIMITER | FILLER)) {
            send(unit, max_bytes, out);
        }
    }
    mark_last(out, from);
}

fn send(unit: &[u8], max_bytes: usize, out: &mut Vec<Payload>) {
    let Some(&[first, second]) = unit.first_chunk::<2>() else { return };
    if unit.len() <= max_bytes {
        out.push(Payload { marker: false, data: unit.into() });
        return;
    }
    let indicator = [first & 0x81 | FRAGMENTATION << 1, second];
    let how = Fragments { header_bytes: 2, indicator: &indicator, unit_type: first >> 1 & 0x3f };
    fragment(unit, &how, max_bytes, out);
}

fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header >> 1 & 0x3f)
}
