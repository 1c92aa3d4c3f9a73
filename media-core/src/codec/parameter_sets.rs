//! Parameter sets of H.264 and HEVC that come between the pictures, as in MPEG-TS and RTP, and the decoder configuration
//! that they make.

use bytes::Bytes;

use super::bits::Bits;
use super::{Error, h264, h265};
use crate::frame::{Codec, Timescale, Track, TrackId};

/// The longest decoder configuration made: readers of our FLV take no longer one.
const MAX_CONFIG_BYTES: usize = 16 * 1024;

/// Sets of a kind that are kept: HEVC can tell 64 PPS apart, encoders use one to four.
const MAX_SETS: usize = 64;

/// What a NAL unit is, as far as containers care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A slice of a picture.
    Picture,
    /// Video parameter set (HEVC).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Access unit delimiters, ends of sequences and streams, filler: only a byte stream needs them.
    Framing,
    /// All else, such as SEI.
    Other,
}

/// What this NAL unit of H.264 or HEVC is.
pub fn role(codec: Codec, unit: &[u8]) -> Role {
    let Some(&first) = unit.first() else { return Role::Framing };
    match (codec, first & 0x1f, first >> 1 & 0x3f) {
        (Codec::H265, _, 0..=31) => Role::Picture,
        (Codec::H265, _, 32) => Role::Vps,
        (Codec::H265, _, 33) => Role::Sps,
        (Codec::H265, _, 34) => Role::Pps,
        (Codec::H265, _, 35..=38) => Role::Framing,
        (Codec::H264, 1..=5, _) => Role::Picture,
        (Codec::H264, 7, _) => Role::Sps,
        (Codec::H264, 8, _) => Role::Pps,
        (Codec::H264, 9..=12, _) => Role::Framing,
        _ => Role::Other,
    }
}

/// The sets found in one access unit.
#[derive(Debug, Default)]
pub struct Found<'a> {
    vps: Vec<&'a [u8]>,
    sps: Vec<&'a [u8]>,
    pps: Vec<&'a [u8]>,
}

impl<'a> Found<'a> {
    /// Adds a unit if it is a parameter set, and says so.
    pub fn take(&mut self, role: Role, unit: &'a [u8]) -> bool {
        let sets = match role {
            Role::Vps => &mut self.vps,
            Role::Sps => &mut self.sps,
            Role::Pps => &mut self.pps,
            _ => return false,
        };
        if sets.len() < MAX_SETS {
            sets.push(unit);
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.vps.is_empty() && self.sps.is_empty() && self.pps.is_empty()
    }
}

/// The sets in force.
#[derive(Debug, Clone)]
pub struct ParameterSets {
    codec: Codec,
    vps: Vec<Bytes>,
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
}

impl ParameterSets {
    /// None yet. `codec` is H.264 or HEVC.
    pub fn new(codec: Codec) -> Self {
        Self { codec, vps: Vec::new(), sps: Vec::new(), pps: Vec::new() }
    }

    /// Takes the sets of an access unit. The track that they make, if they make another one than before; an error leaves
    /// what was in force.
    pub fn update(
        &mut self,
        id: TrackId,
        timescale: Timescale,
        found: &Found<'_>,
    ) -> Result<Option<Track>, Error> {
        if found.is_empty() {
            return Ok(None);
        }
        let mut next = self.clone();
        let another_sequence = !found.sps.is_empty() && !same(&self.sps, &found.sps);
        if another_sequence {
            // Of what came with another sequence nothing is meant any more, whatever numbers it had.
            next.sps = copied(&found.sps);
            next.pps.clear();
        }
        if !found.vps.is_empty() && !same(&self.vps, &found.vps) {
            next.vps = copied(&found.vps);
        }
        for set in &found.pps {
            next.put_pps(set);
        }
        if next.sps.is_empty() || next.pps.is_empty() || next.equals(self) {
            *self = next;
            return Ok(None);
        }
        let config = next.config()?;
        if config.len() > MAX_CONFIG_BYTES {
            return Err(Error::Invalid { field: "decoder configuration length", value: config.len() as u64 });
        }
        let track = super::track(id, self.codec, timescale, config)?;
        *self = next;
        Ok(Some(track))
    }

    fn put_pps(&mut self, set: &[u8]) {
        let id = pps_id(self.codec, set);
        match self.pps.iter().position(|known| pps_id(self.codec, known) == id) {
            Some(at) => {
                if let Some(known) = self.pps.get_mut(at).filter(|known| *known != set) {
                    *known = Bytes::copy_from_slice(set);
                }
            }
            None if self.pps.len() < MAX_SETS => self.pps.push(Bytes::copy_from_slice(set)),
            None => {}
        }
    }

    fn equals(&self, other: &Self) -> bool {
        self.vps == other.vps && self.sps == other.sps && self.pps == other.pps
    }

    fn config(&self) -> Result<Bytes, Error> {
        fn slices(sets: &[Bytes]) -> Vec<&[u8]> {
            sets.iter().map(Bytes::as_ref).collect()
        }
        let (sps, pps) = (slices(&self.sps), slices(&self.pps));
        match self.codec {
            Codec::H265 => h265::config_from_parameter_sets(&slices(&self.vps), &sps, &pps),
            _ => h264::config_from_parameter_sets(&sps, &pps),
        }
    }
}

fn same(kept: &[Bytes], found: &[&[u8]]) -> bool {
    kept.iter().map(Bytes::as_ref).eq(found.iter().copied())
}

fn copied(sets: &[&[u8]]) -> Vec<Bytes> {
    sets.iter().map(|set| Bytes::copy_from_slice(set)).collect()
}

/// `pic_parameter_set_id` or `pps_pic_parameter_set_id`: the first code behind the header of a PPS.
fn pps_id(codec: Codec, set: &[u8]) -> Option<u32> {
    let header = if codec == Codec::H265 { 2 } else { 1 };
    let mut bits = Bits::of_nal("PPS", set.get(header..)?);
    bits.ue("pic_parameter_set_id", 255).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::testing;

    fn sets(file: &'static [u8]) -> (Track, Vec<Vec<u8>>) {
        let (tracks, _) = testing::media(file);
        let track = tracks.into_iter().find(|t| t.id == TrackId::VIDEO).unwrap();
        let sets = super::super::parameter_sets_of(&track).unwrap();
        let sets = sets.into_iter().map(<[u8]>::to_vec).collect();
        (track, sets)
    }

    fn update(kept: &mut ParameterSets, units: &[&[u8]]) -> Result<Option<Track>, Error> {
        let mut found = Found::default();
        for unit in units {
            found.take(role(kept.codec, unit), unit);
        }
        kept.update(TrackId::VIDEO, Timescale::HZ_90K, &found)
    }

    #[test]
    fn a_configuration_is_told_once_and_when_it_changes() {
        for file in [testing::H264_AAC, testing::HEVC_OPUS] {
            let (track, sets) = sets(file);
            let units: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
            let mut kept = ParameterSets::new(track.codec);
            let (pps, before) = units.split_last().unwrap();
            assert_eq!(update(&mut kept, before), Ok(None), "no PPS yet");
            let made = update(&mut kept, &[pps]).unwrap().unwrap();
            assert_eq!(made.params, track.params);
            assert_eq!(made.rfc6381, track.rfc6381);
            assert_eq!(update(&mut kept, &units), Ok(None));
            assert_eq!(update(&mut kept, &[]), Ok(None));

            // The same number with other contents, then another number.
            let mut other = pps.to_vec();
            other.push(0x55);
            assert!(update(&mut kept, &[&other]).unwrap().is_some());
            assert_eq!((kept.pps.len(), kept.pps[0].as_ref()), (1, other.as_slice()));
            // Another sequence ends what came with the one before.
            let mut sps: Vec<Vec<u8>> = before.iter().map(|set| set.to_vec()).collect();
            sps.last_mut().unwrap().push(0x55);
            let mut units: Vec<&[u8]> = sps.iter().map(Vec::as_slice).collect();
            units.push(pps);
            assert!(update(&mut kept, &units).unwrap().is_some());
            assert_eq!((kept.pps.len(), kept.pps[0].as_ref()), (1, *pps));
        }
    }

    #[test]
    fn lies_leave_what_was_in_force() {
        let (track, sets) = sets(testing::H264_AAC);
        let units: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let mut kept = ParameterSets::new(track.codec);
        assert!(update(&mut kept, &units).unwrap().is_some());
        assert!(update(&mut kept, &[&[0x67, 0xff], units[1]]).is_err());
        let huge = [&[0x68, 0xee][..], &[0x55; 20_000]].concat();
        assert!(update(&mut kept, &[&huge]).is_err());
        assert_eq!(update(&mut kept, &units), Ok(None));
    }
}
