//! Packets: where they begin in a stream of bytes, and their header (§2.4.3.2) and adaptation field (§2.4.3.4).

use bytes::{Buf, BytesMut};

use super::Counters;

/// Bytes of a packet.
pub const PACKET_BYTES: usize = 188;
/// The first byte of each packet.
pub(super) const SYNC_BYTE: u8 = 0x47;
/// Bytes of a packet's fixed header.
pub(super) const HEADER_BYTES: usize = 4;
/// The PID of null packets.
pub(super) const NULL_PID: u16 = 0x1fff;

/// Finds the packets in bytes that come in any pieces. Keeps less than two packets beyond what was pushed.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: BytesMut,
    synchronized: bool,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), synchronized: true }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet. After a loss of synchronization one begins where another one follows.
    pub(super) fn next(&mut self, counters: &mut Counters) -> Option<[u8; PACKET_BYTES]> {
        loop {
            let &first = self.buffer.first()?;
            if self.synchronized && first == SYNC_BYTE {
                let packet = *self.buffer.first_chunk()?;
                self.buffer.advance(PACKET_BYTES);
                return Some(packet);
            }
            if self.synchronized {
                self.synchronized = false;
                counters.resyncs += 1;
            }
            let Some(at) = self.buffer.iter().position(|&byte| byte == SYNC_BYTE) else {
                self.buffer.clear();
                return None;
            };
            self.buffer.advance(at);
            match *self.buffer.get(PACKET_BYTES)? {
                SYNC_BYTE => self.synchronized = true,
                _ => self.buffer.advance(1),
            }
        }
    }
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    /// A PES packet begins in it, or a section.
    pub(super) unit_start: bool,
    pub(super) transport_error: bool,
    pub(super) scrambled: bool,
    /// `continuity_counter`.
    pub(super) counter: u8,
    /// `discontinuity_indicator`.
    pub(super) discontinuity: bool,
    /// The base of the programme clock reference, 90 kHz.
    pub(super) pcr: Option<u64>,
    pub(super) payload: Option<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// `None` if its adaptation field can't be.
    pub(super) fn parse(packet: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let (&[_, b1, b2, b3], mut rest) = packet.split_first_chunk::<HEADER_BYTES>()?;
        let (mut discontinuity, mut pcr) = (false, None);
        if b3 & 0x20 != 0 {
            let (&length, behind) = rest.split_first()?;
            let (field, behind) = behind.split_at_checked(usize::from(length))?;
            rest = behind;
            if let Some((&flags, field)) = field.split_first() {
                discontinuity = flags & 0x80 != 0;
                if flags & 0x10 != 0 {
                    let &[p0, p1, p2, p3, p4, _] = field.first_chunk::<6>()?;
                    pcr = Some(u64::from(u32::from_be_bytes([p0, p1, p2, p3])) << 1 | u64::from(p4 >> 7));
                }
            }
        }
        let has_payload = b3 & 0x10 != 0;
        if has_payload == rest.is_empty() || b3 & 0x30 == 0 {
            // Nothing where a payload is announced; what is left behind an adaptation field alone is stuffing.
            if has_payload || b3 & 0x30 == 0 {
                return None;
            }
        }
        Some(Self {
            pid: u16::from_be_bytes([b1 & 0x1f, b2]),
            unit_start: b1 & 0x40 != 0,
            transport_error: b1 & 0x80 != 0,
            scrambled: b3 & 0xc0 != 0,
            counter: b3 & 0x0f,
            discontinuity,
            pcr,
            payload: has_payload.then_some(rest),
        })
    }
}

/// Follows the counter of one PID.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Continuity {
    last: Option<u8>,
}

/// How a packet with a payload stands to the one before on its PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Behind it.
    Next,
    /// The same once more, which is allowed once and means nothing.
    Repeated,
    /// Something is missing between them.
    Broken,
    /// Something is, and that was announced.
    Cut,
}

impl Continuity {
    /// Of a packet with a payload; `announced` where a discontinuity is.
    pub(super) fn step(&mut self, counter: u8, announced: bool) -> Step {
        match self.last.replace(counter) {
            Some(last) if (last + 1) & 0x0f == counter => Step::Next,
            Some(_) if announced => Step::Cut,
            Some(last) if last == counter => Step::Repeated,
            Some(_) => Step::Broken,
            None => Step::Next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(head: &[u8]) -> [u8; PACKET_BYTES] {
        let mut packet = [0xff; PACKET_BYTES];
        packet[..head.len()].copy_from_slice(head);
        packet
    }

    #[test]
    fn reads_the_header_and_the_adaptation_field() {
        let bytes = packet(&[0x47, 0x41, 0x00, 0x3a, 7, 0x90, 0x80, 0, 0, 0, 0x80, 0]);
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.pid, read.unit_start, read.counter, read.discontinuity), (0x100, true, 10, true));
        assert_eq!(read.pcr, Some((0x8000_0000 << 1) | 1));
        assert_eq!(read.payload.unwrap().len(), PACKET_BYTES - 12);
        let bytes = packet(&[0x47, 0x9f, 0xff, 0x90]);
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.pid, read.transport_error, read.scrambled), (NULL_PID, true, true));
    }

    #[test]
    fn adaptation_fields_that_lie_are_refused() {
        for head in [
            &[0x47, 1, 0, 0x30, 184][..], // past the end
            &[0x47, 1, 0, 0x30, 183],     // no room for the payload
            &[0x47, 1, 0, 0x30, 255],
            &[0x47, 1, 0, 0x20, 184],
            &[0x47, 1, 0, 0x30, 3, 0x10, 1], // a clock reference that does not fit
            &[0x47, 1, 0, 0x00],             // neither
        ] {
            assert_eq!(Packet::parse(&packet(head)), None, "{head:?}");
        }
        assert_eq!(Packet::parse(&packet(&[0x47, 1, 0, 0x20, 183, 0])).unwrap().payload, None);
        assert_eq!(Packet::parse(&packet(&[0x47, 1, 0, 0x30, 0])).unwrap().payload.unwrap().len(), 183);
    }

    #[test]
    fn finds_packets_again_after_garbage() {
        let mut counters = Counters::default();
        let mut framer = Framer::new();
        let one = packet(&[0x47, 1, 0, 0x10]);
        framer.push(&[0x47; 50]);
        assert_eq!(framer.next(&mut counters), None);
        let mut framer = Framer::new();
        framer.push(&[[9, 9, 0x47].as_slice(), &one, &one, &[1, 2], &one].concat());
        assert_eq!(framer.next(&mut counters), Some(one));
        assert_eq!(framer.next(&mut counters), Some(one));
        assert_eq!(framer.next(&mut counters), None, "it takes another one to be sure");
        framer.push(&one);
        assert_eq!(framer.next(&mut counters), Some(one));
        assert_eq!(framer.next(&mut counters), Some(one));
        assert_eq!(framer.next(&mut counters), None);
        assert_eq!(counters.resyncs, 2);
    }

    #[test]
    fn counters_run_on() {
        let mut continuity = Continuity::default();
        let steps: Vec<Step> = [14, 15, 0, 0, 2, 3].map(|counter| continuity.step(counter, false)).into();
        use Step::*;
        assert_eq!(steps, [Next, Next, Next, Repeated, Broken, Next]);
        assert_eq!(continuity.step(9, true), Cut);
        assert_eq!(continuity.step(10, true), Next);
    }
}
