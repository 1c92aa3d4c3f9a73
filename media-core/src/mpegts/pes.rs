//! Packetized elementary streams (§2.4.3.6): put together from packets, read, and written.

use bytes::{BufMut, Bytes, BytesMut};

use super::CLOCK_MASK;

/// What stands before what `PES_packet_length` counts.
const LENGTH_END: usize = 6;
/// The fixed part of the header: up to and with `PES_header_data_length`.
const FIXED_BYTES: usize = 9;
/// The longest header that we write: with two timestamps.
pub(super) const MAX_HEADER_BYTES: usize = FIXED_BYTES + 10;
/// The largest PES packet of sound: all that its length can tell, which only pictures may leave out.
const MAX_AUDIO_BYTES: usize = LENGTH_END + u16::MAX as usize;
/// The largest PES packet with a picture: what an FLV tag holds, which is what edges are sent, less the room that longer
/// start codes and headers take.
pub(super) const MAX_VIDEO_BYTES: usize = 8 * 1024 * 1024 - 256 * 1024;
/// The largest buffer that is held ready.
const KEPT_BYTES: usize = 256 * 1024;

/// Why a PES packet did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Puts the PES packets of one PID together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    buffer: BytesMut,
    begun: bool,
    is_video: bool,
    /// Bytes of the packet before.
    usual_bytes: usize,
}

impl Assembly {
    pub(super) fn new(is_video: bool) -> Self {
        Self { is_video, ..Self::default() }
    }

    /// Bytes that wait for the rest of their packet.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets what is not whole: something was lost.
    pub(super) fn reset(&mut self) {
        self.begun = false;
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        self.buffer.clear();
    }

    /// What was put together before a packet begins that says nothing of the end of the one before: whole only where
    /// its length was left open. `None` if nothing was begun.
    pub(super) fn end(&mut self) -> Option<Result<Bytes, Malformed>> {
        if !self.begun || self.buffer.is_empty() {
            self.reset();
            return None;
        }
        if self.wanted().is_some_and(|wanted| wanted.is_none()) {
            return Some(Ok(self.take()));
        }
        self.reset();
        Some(Err(Malformed))
    }

    /// Begins a packet.
    pub(super) fn begin(&mut self) {
        self.reset();
        self.begun = true;
        self.buffer.reserve(self.usual_bytes.min(KEPT_BYTES));
    }

    /// Takes the payload of a packet, and hands out what is whole by it.
    pub(super) fn append(&mut self, payload: &[u8]) -> Option<Result<Bytes, Malformed>> {
        if !self.begun {
            return None;
        }
        self.buffer.extend_from_slice(payload);
        let max = if self.is_video { MAX_VIDEO_BYTES } else { MAX_AUDIO_BYTES };
        if self.buffer.len() > max + super::PACKET_BYTES {
            self.reset();
            return Some(Err(Malformed));
        }
        let wanted = self.wanted()??;
        if self.buffer.len() < wanted {
            return None;
        }
        // What follows up to the next beginning belongs to nothing.
        self.buffer.truncate(wanted);
        Some(Ok(self.take()))
    }

    fn take(&mut self) -> Bytes {
        self.begun = false;
        self.usual_bytes = self.buffer.len();
        std::mem::take(&mut self.buffer).freeze()
    }

    /// Bytes of the whole packet: `None` while not known, `Some(None)` if open.
    fn wanted(&self) -> Option<Option<usize>> {
        let &[_, _, _, _, high, low] = self.buffer.first_chunk::<LENGTH_END>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        Some((length > 0).then_some(LENGTH_END + length))
    }
}

/// A PES packet with timestamps, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pes {
    /// 90 kHz, 33 bits.
    pub(super) pts: Option<u64>,
    /// 90 kHz, 33 bits; where it is left out, it is `pts`.
    pub(super) dts: Option<u64>,
    pub(super) payload: Bytes,
}

impl Pes {
    pub(super) fn parse(packet: &Bytes) -> Result<Self, Malformed> {
        let (&[0, 0, 1, stream_id, _, _, marker, flags, header_bytes], rest) =
            packet.split_first_chunk::<FIXED_BYTES>().ok_or(Malformed)?
        else {
            return Err(Malformed);
        };
        if !has_header(stream_id) || marker & 0xc0 != 0x80 || marker & 0x30 != 0 {
            return Err(Malformed);
        }
        let header = rest.get(..usize::from(header_bytes)).ok_or(Malformed)?;
        let pts = if flags & 0x80 != 0 { Some(timestamp(header).ok_or(Malformed)?) } else { None };
        let dts = if flags & 0xc0 == 0xc0 {
            Some(header.get(5..).and_then(timestamp).ok_or(Malformed)?)
        } else {
            pts
        };
        Ok(Self { pts, dts, payload: packet.slice(FIXED_BYTES + usize::from(header_bytes)..) })
    }
}

/// Whether packets with this `stream_id` have the optional header (§2.4.3.7).
fn has_header(stream_id: u8) -> bool {
    !matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0 | 0xf1 | 0xf2 | 0xf8 | 0xff)
}

/// 33 bits in five bytes, with markers between them that some encoders forget.
fn timestamp(bytes: &[u8]) -> Option<u64> {
    let &[a, b, c, d, e] = bytes.first_chunk::<5>()?;
    let high = u64::from(a >> 1 & 7) << 30;
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
    let low = u64::from(u16::from_be_bytes([d, e]) >> 1);
    Some(high | middle | low)
}

/// Writes the header of a packet whose payload of `payload_bytes` follows.
pub(super) fn write_header(stream_id: u8, pts: u64, dts: u64, payload_bytes: usize, out: &mut BytesMut) {
    let (pts, dts) = (pts & CLOCK_MASK, dts & CLOCK_MASK);
    let timestamp_bytes = if pts == dts { 5 } else { 10 };
    let length = FIXED_BYTES - LENGTH_END + usize::from(timestamp_bytes) + payload_bytes;
    out.put_slice(&[0, 0, 1, stream_id]);
    // Told where it can be, so that a reader has the packet with its last byte; 0 leaves it open, as pictures may.
    out.put_u16(u16::try_from(length).unwrap_or(0));
    // data_alignment_indicator: an access unit begins here.
    out.put_slice(&[0x84, if pts == dts { 0x80 } else { 0xc0 }, timestamp_bytes]);
    if pts == dts {
        put_timestamp(0x20, pts, out);
    } else {
        put_timestamp(0x30, pts, out);
        put_timestamp(0x10, dts, out);
    }
}

fn put_timestamp(prefix: u8, ticks: u64, out: &mut BytesMut) {
    let bits = |shift: u32, mask: u64| u16::try_from(ticks >> shift & mask).unwrap_or_default() << 1 | 1;
    let [_, high] = bits(30, 7).to_be_bytes();
    out.put_u8(prefix | high);
    out.put_u16(bits(15, 0x7fff));
    out.put_u16(bits(0, 0x7fff));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(stream_id: u8, pts: u64, dts: u64, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        write_header(stream_id, pts, dts, payload.len(), &mut out);
        out.put_slice(payload);
        out
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(
            pts in 0..=CLOCK_MASK,
            dts in 0..=CLOCK_MASK,
            payload in prop::collection::vec(any::<u8>(), 1..300),
            piece in 1usize..200,
        ) {
            let whole = packet(0xe0, pts, dts, &payload);
            let mut assembly = Assembly::new(true);
            assembly.begin();
            let mut found = None;
            for piece in whole.chunks(piece) {
                prop_assert_eq!(&found, &None);
                found = assembly.append(piece);
            }
            let read = Pes::parse(&found.unwrap().unwrap()).unwrap();
            prop_assert_eq!(read, Pes { pts: Some(pts), dts: Some(dts), payload: payload.into() });
        }

        #[test]
        fn no_bytes_bring_it_down(data in prop::collection::vec(any::<u8>(), 0..40), video: bool) {
            let data = [&[0, 0, 1, 0xe0][..], &data].concat();
            let _ = Pes::parse(&data.clone().into());
            let mut assembly = Assembly::new(video);
            assembly.begin();
            let _ = assembly.append(&data);
            let _ = assembly.end();
        }
    }

    #[test]
    fn an_open_length_ends_at_the_next_beginning() {
        let large = packet(0xe0, 7, 7, &vec![1; 70_000]);
        assert_eq!(large[4..6], [0, 0]);
        let mut assembly = Assembly::new(true);
        assembly.begin();
        assert_eq!(assembly.append(&large), None);
        let read = Pes::parse(&assembly.end().unwrap().unwrap()).unwrap();
        assert_eq!(read.payload.len(), 70_000);
        // One that tells its length and has not come to it is damaged.
        assembly.begin();
        assert_eq!(assembly.append(&packet(0xe0, 7, 7, &[1; 100])[..60]), None);
        assert_eq!(assembly.end(), Some(Err(Malformed)));
        assert_eq!(assembly.end(), None);
    }

    #[test]
    fn what_never_ends_is_let_go_of() {
        for is_video in [true, false] {
            let mut assembly = Assembly::new(is_video);
            assembly.begin();
            assembly.append(&[0, 0, 1, 0xe0, 0, 0]);
            let mut most = 0;
            let refused = (0..60_000).any(|_| {
                most = most.max(assembly.buffered_bytes());
                assembly.append(&[0; 184]).is_some()
            });
            assert!(refused && most <= if is_video { MAX_VIDEO_BYTES } else { MAX_AUDIO_BYTES } + 188);
            assert!(assembly.buffer.capacity() <= KEPT_BYTES);
        }
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let whole = packet(0xe0, 7, 9, &[1; 10]).freeze();
        assert!(Pes::parse(&whole).is_ok());
        for (at, value) in [(2, 2), (3, 0xbe), (6, 0), (6, 0xb0), (8, 200), (8, 9), (8, 4)] {
            let mut lie = BytesMut::from(whole.as_ref());
            lie[at] = value;
            assert_eq!(Pes::parse(&lie.freeze()), Err(Malformed), "{at} {value}");
        }
        for length in 0..19 {
            assert_eq!(Pes::parse(&whole.slice(..length)), Err(Malformed), "{length}");
        }
    }
}
