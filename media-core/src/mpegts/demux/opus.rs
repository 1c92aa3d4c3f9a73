//! Opus packets behind control headers (Opus in MPEG-TS, the draft of ETSI, §4.3: `opus_control_header`).

use bytes::Bytes;

use super::super::Counters;
use super::Unit;
use super::clock::SampleClock;
use super::stream::Item;
use crate::codec::{self, opus};
use crate::frame::{Codec, Frame, Timescale, Timestamp, TrackId};

/// Opus always decodes at 48 kHz.
const SAMPLE_RATE: u32 = 48_000;

/// Makes frames of PES packets.
#[derive(Debug)]
pub(super) struct OpusPackets {
    channels: u8,
    told: bool,
    clock: SampleClock,
}

impl OpusPackets {
    pub(super) fn new(channels: u8) -> Self {
        Self { channels, told: false, clock: SampleClock::default() }
    }

    /// Packets are missing.
    pub(super) fn lost(&mut self) {
        self.clock.stop();
    }

    pub(super) fn push(&mut self, id: TrackId, unit: &Unit, counters: &mut Counters, out: &mut Vec<Item>) {
        if let Some(dts) = unit.dts {
            self.clock.set(dts);
        }
        if !self.told {
            self.told = true;
            let header = opus::identification_header(self.channels, SAMPLE_RATE);
            let track = header.and_then(|header| codec::track(id, Codec::Opus, Timescale::HZ_90K, header));
            out.extend(track.ok().map(Item::Track));
        }
        let mut rest = unit.payload.clone();
        while !rest.is_empty() {
            let Some(packet) = next_packet(&mut rest) else {
                counters.dropped_frames += 1;
                return self.clock.stop();
            };
            let Ok(samples) = opus::packet_samples(&packet) else {
                counters.dropped_frames += 1;
                continue;
            };
            let Some(dts) = self.clock.advance(samples, SAMPLE_RATE) else {
                counters.dropped_frames += 1;
                continue;
            };
            // Copied: a slice would keep the whole PES packet in memory.
            let data = Bytes::copy_from_slice(&packet);
            out.push(Item::Frame(Frame { track: id, dts: Timestamp(dts), cts: 0, keyframe: true, data }));
        }
    }
}

/// The packet behind the control header; `None` if that is none or its length a lie. How much to trim is left to players,
/// who do without.
fn next_packet(rest: &mut Bytes) -> Option<Bytes> {
    let &[0x7f, flags] = rest.first_chunk::<2>()? else { return None };
    if flags & 0xe0 != 0xe0 {
        return None;
    }
    let (mut at, mut length) = (2, 0usize);
    loop {
        let byte = *rest.get(at)?;
        at += 1;
        length += usize::from(byte);
        if byte != 255 {
            break;
        }
    }
    at += if flags & 0x10 != 0 { 2 } else { 0 };
    at += if flags & 0x08 != 0 { 2 } else { 0 };
    if flags & 0x04 != 0 {
        at += 1 + usize::from(*rest.get(at)?);
    }
    if at + length > rest.len() {
        return None;
    }
    let mut packet = rest.split_to(at + length);
    Some(packet.split_off(at))
}
