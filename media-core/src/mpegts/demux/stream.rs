//! One stream of the programme: its packets, PES packets and access units.

use bytes::Bytes;

use super::super::Counters;
use super::super::packet::{Continuity, Packet, Step};
use super::super::pes::{Assembly, Malformed, Pes};
use super::super::tables::Coding;
use super::Unit;
use super::clock::{Clock, difference};
use super::opus::OpusPackets;
use super::pictures::Pictures;
use super::sound::Sound;
use crate::frame::{Codec, Frame, Track, TrackId};

/// What a stream brings. A frame belongs to the track that came last.
#[derive(Debug)]
pub(super) enum Item {
    Track(Track),
    Frame(Frame),
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) id: TrackId,
    pub(super) coding: Coding,
    continuity: Continuity,
    assembly: Assembly,
    decoder: Decoder,
}

/// Turns PES packets into access units.
#[derive(Debug)]
enum Decoder {
    Pictures(Pictures),
    Sound(Sound),
    Opus(OpusPackets),
}

impl Stream {
    pub(super) fn new(pid: u16, id: TrackId, coding: Coding) -> Self {
        let decoder = match coding {
            Coding::H264 => Decoder::Pictures(Pictures::new(Codec::H264)),
            Coding::H265 => Decoder::Pictures(Pictures::new(Codec::H265)),
            Coding::Adts => Decoder::Sound(Sound::adts()),
            Coding::Latm => Decoder::Sound(Sound::loas()),
            Coding::MpegAudio => Decoder::Sound(Sound::mpeg()),
            Coding::Opus(channels) => Decoder::Opus(OpusPackets::new(channels)),
        };
        let is_video = matches!(decoder, Decoder::Pictures(_));
        Self {
            pid,
            id,
            coding,
            continuity: Continuity::default(),
            assembly: Assembly::new(is_video),
            decoder,
        }
    }

    /// The same on another PID.
    pub(super) fn moved(mut self, pid: u16) -> Self {
        self.lost();
        Self { pid, continuity: Continuity::default(), ..self }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.assembly.buffered_bytes()
    }

    /// Something is missing: what is not whole is let go of.
    pub(super) fn lost(&mut self) {
        self.assembly.reset();
        match &mut self.decoder {
            Decoder::Sound(sound) => sound.lost(),
            Decoder::Opus(opus) => opus.lost(),
            Decoder::Pictures(_) => {}
        }
    }

    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        clock: &mut Clock,
        counters: &mut Counters,
        out: &mut Vec<Item>,
    ) {
        let Some(payload) = packet.payload else { return };
        match self.continuity.step(packet.counter, packet.discontinuity) {
            Step::Next => {}
            Step::Repeated => return,
            Step::Cut => self.lost(),
            Step::Broken => {
                counters.continuity_errors += 1;
                self.lost();
            }
        }
        if packet.scrambled {
            counters.scrambled += 1;
            return self.lost();
        }
        if packet.unit_start {
            self.finish(clock, counters, out);
            self.assembly.begin();
        }
        if let Some(whole) = self.assembly.append(payload) {
            self.whole(whole, clock, counters, out);
        }
    }

    /// Nothing more comes of the PES packet at hand.
    pub(super) fn finish(&mut self, clock: &mut Clock, counters: &mut Counters, out: &mut Vec<Item>) {
        if let Some(whole) = self.assembly.end() {
            self.whole(whole, clock, counters, out);
        }
    }

    fn whole(
        &mut self,
        packet: Result<Bytes, Malformed>,
        clock: &mut Clock,
        counters: &mut Counters,
        out: &mut Vec<Item>,
    ) {
        let Ok(pes) = packet.and_then(|packet| Pes::parse(&packet)) else {
            counters.malformed_pes += 1;
            return self.lost();
        };
        let cts = pes.pts.zip(pes.dts).map_or(0, |(pts, dts)| difference(pts, dts));
        let unit = Unit {
            dts: pes.dts.map(|dts| clock.unwrap(dts)),
            // Further than 6 hours is no offset; the hub bounds what is left.
            cts: i32::try_from(cts).unwrap_or_default(),
            payload: pes.payload,
        };
        match &mut self.decoder {
            Decoder::Pictures(pictures) => pictures.push(self.id, &unit, counters, out),
            Decoder::Sound(sound) => sound.push(self.id, &unit, counters, out),
            Decoder::Opus(opus) => opus.push(self.id, &unit, counters, out),
        }
    }
}
