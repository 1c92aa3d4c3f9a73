//! AV1 (AOM's "RTP Payload Format For AV1", §4): OBU elements without sizes, as many in a packet as fit, cut anywhere.

use bytes::{BufMut, Bytes};

use super::super::packet::Payload;
use super::mark_last;
use crate::codec::av1::obu::{
    Obu, PADDING, SEQUENCE_HEADER, TEMPORAL_DELIMITER, TILE_LIST, leb128_len, obus, put_leb128, put_sized,
};
use crate::frame::Frame;

/// The first element goes on from the packet before.
const CONTINUES: u8 = 0x80;
/// The last element goes on in the next packet.
const CONTINUED: u8 = 0x40;
/// A new coded video sequence.
const NEW_SEQUENCE: u8 = 0x08;
const AGGREGATION_HEADER_BYTES: usize = 1;

/// The sequence header of a configuration record, as an OBU with its size.
pub(super) fn sequence_header(config: &[u8]) -> Vec<Bytes> {
    let units = obus(config.get(4..).unwrap_or_default()).map_while(Result::ok);
    let mut found = Vec::new();
    if let Some(unit) = units.into_iter().find(|unit| unit.obu_type == SEQUENCE_HEADER) {
        let mut out = Vec::with_capacity(unit.payload.len() + 8);
        if put_sized(&mut out, &unit).is_ok() {
            found.push(out.into());
        }
    }
    found
}

pub(super) fn packetize(frame: &Frame, sets: &[Bytes], max_bytes: usize, out: &mut Vec<Payload>) {
    let from = out.len();
    let mut packets = Packets { data: Vec::new(), max_bytes, new_sequence: frame.keyframe, out };
    let own = obus(&frame.data).map_while(Result::ok);
    if frame.keyframe && !own.clone().any(|unit| unit.obu_type == SEQUENCE_HEADER) {
        sets.iter().flat_map(|set| obus(set)).map_while(Result::ok).for_each(|unit| packets.put(&unit));
    }
    for unit in own {
        if !matches!(unit.obu_type, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            packets.put(&unit);
        }
    }
    packets.finish(0);
    mark_last(out, from);
}

/// The packet that is being filled. All elements have their length (W is 0).
struct Packets<'a> {
    data: Vec<u8>,
    max_bytes: usize,
    new_sequence: bool,
    out: &'a mut Vec<Payload>,
}

impl Packets<'_> {
    fn put(&mut self, unit: &Obu<'_>) {
        let (header, header_bytes) = unit.header_without_size();
        let mut head = header.get(..header_bytes).unwrap_or_default();
        let mut payload = unit.payload;
        loop {
            self.begin();
            let left = head.len() + payload.len();
            let room = self.max_bytes.saturating_sub(self.data.len());
            let taken = left.min(element_room(room));
            // An element that begins must hold its header, or a reader could not tell what goes on.
            if taken < left && (taken < head.len() || taken < 8) && self.data.len() > AGGREGATION_HEADER_BYTES
            {
                self.finish(0);
                continue;
            }
            put_leb128(&mut self.data, u32::try_from(taken).unwrap_or(u32::MAX));
            let of_head = taken.min(head.len());
            let (head_now, head_later) = head.split_at_checked(of_head).unwrap_or((head, &[]));
            let (now, later) = payload.split_at_checked(taken - of_head).unwrap_or((payload, &[]));
            self.data.put_slice(head_now);
            self.data.put_slice(now);
            (head, payload) = (head_later, later);
            if taken == left {
                return;
            }
            self.finish(CONTINUED);
            self.begin();
            if let Some(first) = self.data.first_mut() {
                *first |= CONTINUES;
            }
        }
    }

    fn begin(&mut self) {
        if self.data.is_empty() {
            self.data.reserve_exact(self.max_bytes);
            let new = std::mem::take(&mut self.new_sequence);
            self.data.push(if new { NEW_SEQUENCE } else { 0 });
        }
    }

    fn finish(&mut self, flag: u8) {
        if self.data.len() > AGGREGATION_HEADER_BYTES {
            if let Some(first) = self.data.first_mut() {
                *first |= flag;
            }
            self.out.push(Payload { marker: false, data: self.data.as_slice().into() });
            self.data.clear();
        }
    }
}

/// The longest element that fits into `room` bytes with its length.
fn element_room(room: usize) -> usize {
    let longest = u32::try_from(room).unwrap_or(u32::MAX);
    room.saturating_sub(leb128_len(longest))
}
