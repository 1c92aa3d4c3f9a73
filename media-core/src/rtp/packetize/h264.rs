//! H.264 (RFC 6184), packetization-mode 1: single units, STAP-A for parameter sets, FU-A for what is too long.

use bytes::Bytes;

use super::super::packet::Payload;
use super::mark_last;
use super::nal::{Fragments, aggregate, fragment};
use crate::codec::nal;
use crate::frame::Frame;

const SPS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// `nal_ref_idc`, of which an aggregate has the highest of its units.
const NRI: u8 = 0x60;

pub(super) fn packetize(frame: &Frame, sets: &[Bytes], max_bytes: usize, out: &mut Vec<Payload>) {
    let from = out.len();
    let has_own = nal::units(&frame.data).any(|unit| unit_type(unit) == Some(SPS));
    if frame.keyframe && !has_own {
        let units = sets.iter().map(Bytes::as_ref);
        if !aggregate(&[NRI | STAP_A], units.clone(), max_bytes, out) {
            units.for_each(|unit| send(unit, max_bytes, out));
        }
    }
    for unit in nal::units(&frame.data) {
        // Delimiters and filler say nothing that a marker bit and a receiver don't know.
        if !matches!(unit_type(unit), None | Some(ACCESS_UNIT_DELIMITER | FILLER)) {
            send(unit, max_bytes, out);
        }
    }
    mark_last(out, from);
}

fn send(unit: &[u8], max_bytes: usize, out: &mut Vec<Payload>) {
    let Some(&header) = unit.first() else { return };
    if unit.len() <= max_bytes {
        out.push(Payload { marker: false, data: unit.into() });
        return;
    }
    let indicator = [header & 0xe0 | FU_A];
    let how = Fragments { header_bytes: 1, indicator: &indicator, unit_type: header & 0x1f };
    fragment(unit, &how, max_bytes, out);
}

fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1f)
}
