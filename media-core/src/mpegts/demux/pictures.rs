//! Access units of H.264 and HEVC: a PES packet is one, in the byte stream format.

use bytes::{BufMut, Bytes};

use super::super::Counters;
use super::super::pes::MAX_VIDEO_BYTES;
use super::Unit;
use super::stream::Item;
use crate::codec::parameter_sets::{Found, ParameterSets, Role, role};
use crate::codec::{self, annex_b};
use crate::frame::{Codec, Frame, Timescale, Timestamp, TrackId};

/// The largest frame. Lengths can take more room than start codes: what would not fit an FLV tag any more is refused.
const MAX_FRAME_BYTES: usize = MAX_VIDEO_BYTES + 128 * 1024;

/// Makes frames of access units.
#[derive(Debug)]
pub(super) struct Pictures {
    codec: Codec,
    sets: ParameterSets,
    /// A configuration was told.
    known: bool,
}

impl Pictures {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, sets: ParameterSets::new(codec), known: false }
    }

    pub(super) fn push(&mut self, id: TrackId, unit: &Unit, counters: &mut Counters, out: &mut Vec<Item>) {
        let Some(dts) = unit.dts else {
            counters.malformed_pes += 1;
            return;
        };
        let mut found = Found::default();
        let (mut data, mut has_picture) = (Vec::with_capacity(unit.payload.len() + 16), false);
        for nal in annex_b::units(&unit.payload) {
            let role = role(self.codec, nal);
            has_picture |= role == Role::Picture;
            if found.take(role, nal) || role == Role::Framing {
                continue;
            }
            data.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
            data.put_slice(nal);
        }
        match self.sets.update(id, Timescale::HZ_90K, &found) {
            Ok(Some(track)) => {
                self.known = true;
                out.push(Item::Track(track));
            }
            Ok(None) => {}
            // The pictures may be well with the sets before.
            Err(_) => counters.dropped_frames += 1,
        }
        if !has_picture || !self.known || data.len() > MAX_FRAME_BYTES {
            counters.dropped_frames += 1;
            return;
        }
        // No more memory than is told, where much was left out.
        let data =
            if data.len() < data.capacity() / 8 * 7 { Bytes::copy_from_slice(&data) } else { data.into() };
        let keyframe = codec::keyframe(self.codec, &data);
        out.push(Item::Frame(Frame { track: id, dts: Timestamp(dts), cts: unit.cts, keyframe, data }));
    }
}
