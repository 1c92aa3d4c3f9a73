//! Payloads cut into packets.

use bytes::{BufMut, BytesMut};

use super::super::packet::{HEADER_BYTES, PACKET_BYTES, SYNC_BYTE};

/// Bytes behind the header.
const ROOM_BYTES: usize = PACKET_BYTES - HEADER_BYTES;
/// `adaptation_field_control`: payload only, field only, both.
const PAYLOAD: u8 = 0x10;
const FIELD: u8 = 0x20;

/// What the adaptation field of a first packet says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Adaptation {
    /// The programme's clock, 90 kHz.
    pub(super) reference: Option<u64>,
    pub(super) discontinuity: bool,
    pub(super) random_access: bool,
}

impl Adaptation {
    fn flags(&self) -> u8 {
        u8::from(self.discontinuity) << 7
            | u8::from(self.random_access) << 6
            | u8::from(self.reference.is_some()) << 4
    }

    /// Bytes with the length, without stuffing: none if there is nothing to say.
    fn bytes(&self) -> usize {
        match (self.flags(), self.reference) {
            (0, _) => 0,
            (_, None) => 2,
            (_, Some(_)) => 8,
        }
    }

    /// Writes a field of so many bytes.
    fn put(&self, bytes: usize, out: &mut BytesMut) {
        let Some(length) = bytes.checked_sub(1) else { return };
        out.put_u8(u8::try_from(length).unwrap_or_default());
        if length == 0 {
            return;
        }
        out.put_u8(self.flags());
        let mut written = 2;
        if let Some(base) = self.reference {
            // The base, six reserved bits, and an extension of 0.
            out.put_uint(base << 15 | 0x7e00, 6);
            written += 6;
        }
        out.put_bytes(0xff, bytes.saturating_sub(written));
    }
}

fn put_header(pid: u16, unit_start: bool, control_and_counter: u8, out: &mut BytesMut) {
    out.put_u8(SYNC_BYTE);
    out.put_u16(u16::from(unit_start) << 14 | pid);
    out.put_u8(control_and_counter);
}

/// Writes the pieces of a PES packet one after the other, stuffing in the last packet.
pub(super) fn put_payload(
    pid: u16,
    counter: &mut u8,
    adaptation: Adaptation,
    pieces: [&[u8]; 2],
    out: &mut BytesMut,
) {
    let [mut piece, mut next] = pieces;
    let mut left = piece.len() + next.len();
    out.reserve((left / (ROOM_BYTES - adaptation.bytes()) + 2) * PACKET_BYTES);
    let (mut adaptation, mut unit_start) = (adaptation, true);
    while left > 0 {
        let mut field = adaptation.bytes();
        if left < ROOM_BYTES - field {
            field = ROOM_BYTES - left;
        }
        let control = PAYLOAD | if field > 0 { FIELD } else { 0 };
        put_header(pid, unit_start, control | *counter, out);
        *counter = (*counter + 1) & 0x0f;
        adaptation.put(field, out);
        let mut room = ROOM_BYTES - field;
        left -= room;
        while room > 0 {
            if piece.is_empty() {
                piece = std::mem::take(&mut next);
            }
            let (now, later) = piece.split_at_checked(room).unwrap_or((piece, &[]));
            out.put_slice(now);
            piece = later;
            room -= now.len();
            if now.is_empty() {
                break;
            }
        }
        (adaptation, unit_start) = (Adaptation::default(), false);
    }
}

/// Writes a packet with the programme's clock alone. `next_counter` is that of the PID's next payload.
pub(super) fn put_reference(
    pid: u16,
    next_counter: u8,
    (reference, discontinuity): (u64, bool),
    out: &mut BytesMut,
) {
    put_header(pid, false, FIELD | next_counter.wrapping_sub(1) & 0x0f, out);
    let adaptation = Adaptation { reference: Some(reference), discontinuity, random_access: false };
    adaptation.put(ROOM_BYTES, out);
}

/// Writes a section, filled up behind its end.
pub(in super::super) fn put_section(pid: u16, counter: &mut u8, section: &[u8], out: &mut BytesMut) {
    let mut rest = section;
    let mut unit_start = true;
    while unit_start || !rest.is_empty() {
        put_header(pid, unit_start, PAYLOAD | *counter, out);
        *counter = (*counter + 1) & 0x0f;
        let mut room = ROOM_BYTES;
        if std::mem::take(&mut unit_start) {
            out.put_u8(0); // pointer_field
            room -= 1;
        }
        let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        out.put_slice(now);
        out.put_bytes(0xff, room - now.len());
        rest = later;
    }
}
