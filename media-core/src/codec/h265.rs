//! H.265 / HEVC: the decoder configuration record (ISO/IEC 14496-15 §8.3.3), its `codecs` string
//! (Annex E) and keyframes.

mod profile;
mod sps;
mod vps;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, nal};
use crate::frame::VideoParams;
use sps::Sps;

const RECORD: &str = "HEVCDecoderConfigurationRecord";

const NAL_FIRST_IRAP: u8 = 16;
const NAL_LAST_IRAP: u8 = 23;
const NAL_FIRST_NON_VCL: u8 = 32;
const NAL_VPS: u8 = 32;
const NAL_SPS: u8 = 33;
const NAL_PPS: u8 = 34;

/// Arrays in a record: VPS, SPS, PPS and SEI (prefix and suffix), some writers one for each unit.
const MAX_ARRAYS: u8 = 16;
/// Units in an array: 16 VPS, 16 SPS or 64 PPS are the most that HEVC can tell apart.
const MAX_UNITS: u16 = 64;

/// `nal_unit_type` (ITU-T H.265 §7.3.1.2).
fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header >> 1 & 0x3f)
}

/// A parameter set's bytes after its two-byte header, which must name the `expected` type.
fn payload<'a>(unit: &'a [u8], expected: u8, what: &'static str) -> Result<&'a [u8], Error> {
    match (unit_type(unit), unit.get(2..)) {
        (Some(found), Some(payload)) if found == expected => Ok(payload),
        (Some(found), _) if found != expected => {
            Err(Error::Invalid { field: "nal_unit_type of a parameter set", value: found.into() })
        }
        _ => Err(Error::Truncated(what)),
    }
}

/// Whether the access unit's first slice belongs to an intra random access point picture: IDR,
/// CRA or BLA.
pub fn keyframe(data: &[u8]) -> bool {
    nal::units(data)
        .filter_map(unit_type)
        .find(|&unit_type| unit_type < NAL_FIRST_NON_VCL)
        .is_some_and(|unit_type| (NAL_FIRST_IRAP..=NAL_LAST_IRAP).contains(&unit_type))
}

/// An `HEVCDecoderConfigurationRecord`, as far as weir reads it: the first parameter sets.
#[derive(Debug)]
pub(super) struct Record<'a> {
    vps: Option<&'a [u8]>,
    sps: &'a [u8],
}

impl<'a> Record<'a> {
    /// Checks the whole record: one or more SPS and PPS, 4-byte NAL unit lengths.
    pub(super) fn parse(record: &'a [u8]) -> Result<Self, Error> {
        let (fixed, mut rest) = record.split_first_chunk::<22>().ok_or(Error::Truncated(RECORD))?;
        let [version, .., length_size] = *fixed;
        // Encoders built before the standard was final wrote version 0.
        if version > 1 {
            return Err(Error::Invalid { field: "configurationVersion", value: version.into() });
        }
        nal::check_length_size(length_size)?;
        let arrays = nal::take_byte(&mut rest, RECORD)?;
        if arrays > MAX_ARRAYS {
            return Err(Error::Invalid { field: "numOfArrays", value: arrays.into() });
        }
        let (mut vps, mut sps, mut pps) = (None, None, None);
        for _ in 0..arrays {
            let array_type = nal::take_byte(&mut rest, RECORD)? & 0x3f;
            let units = [nal::take_byte(&mut rest, RECORD)?, nal::take_byte(&mut rest, RECORD)?];
            let units = u16::from_be_bytes(units);
            if units > MAX_UNITS {
                return Err(Error::Invalid { field: "numNalus", value: units.into() });
            }
            for _ in 0..units {
                let unit = nal::take_sized(&mut rest, RECORD)?;
                let first = match array_type {
                    NAL_VPS => &mut vps,
                    NAL_SPS => &mut sps,
                    NAL_PPS => &mut pps,
                    _ => continue,
                };
                payload(unit, array_type, RECORD)?;
                *first = first.or(Some(unit));
            }
        }
        pps.ok_or(Error::NoParameterSet("PPS"))?;
        Ok(Self { vps, sps: sps.ok_or(Error::NoParameterSet("SPS"))? })
    }

    /// The picture, and its `codecs` string.
    pub(super) fn describe(&self) -> Result<(VideoParams, String), Error> {
        let sps = Sps::parse(self.sps)?;
        // A VPS that cannot be read only costs the frame rate.
        let frame_rate = sps.frame_rate.or_else(|| vps::frame_rate(self.vps?).ok().flatten());
        Ok((VideoParams { width: sps.width, height: sps.height, frame_rate }, sps.profile.rfc6381()))
    }
}

/// The VPS, SPS and PPS of a record, in this order whatever order they lie in.
pub(super) fn parameter_sets_of(record: &[u8]) -> Result<Vec<&[u8]>, Error> {
    Record::parse(record)?;
    let mut rest = record.get(22..).ok_or(Error::Truncated(RECORD))?;
    let mut sets = Vec::new();
    for _ in 0..nal::take_byte(&mut rest, RECORD)? {
        let array_type = nal::take_byte(&mut rest, RECORD)? & 0x3f;
        let units = [nal::take_byte(&mut rest, RECORD)?, nal::take_byte(&mut rest, RECORD)?];
        for _ in 0..u16::from_be_bytes(units) {
            let unit = nal::take_sized(&mut rest, RECORD)?;
            if (NAL_VPS..=NAL_PPS).contains(&array_type) {
                sets.push((array_type, unit));
            }
        }
    }
    sets.sort_by_key(|&(array_type, _)| array_type);
    Ok(sets.into_iter().map(|(_, unit)| unit).collect())
}

/// An `HEVCDecoderConfigurationRecord` with 4-byte NAL unit lengths from parameter sets without
/// start codes. The first SPS gives the profile.
pub fn config_from_parameter_sets(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, Error> {
    let first = sps.first().ok_or(Error::NoParameterSet("SPS"))?;
    if pps.is_empty() {
        return Err(Error::NoParameterSet("PPS"));
    }
    let parsed = Sps::parse(first)?;
    let sets: usize = vps.iter().chain(sps).chain(pps).map(|set| set.len() + 2).sum();
    let mut out = BytesMut::with_capacity(23 + 3 * 3 + sets);
    out.put_u8(1);
    out.put_slice(&parsed.profile.bytes());
    out.put_u16(0xf000); // min_spatial_segmentation_idc: unknown
    out.put_slice(&[
        0xfc, // parallelismType: unknown
        0xfc | parsed.chroma_format_idc,
        0xf8 | parsed.bit_depth_luma_minus8,
        0xf8 | parsed.bit_depth_chroma_minus8,
    ]);
    out.put_u16(0); // avgFrameRate: unspecified
    let nested = u8::from(parsed.temporal_id_nesting);
    out.put_u8((parsed.max_sub_layers_minus1 + 1) << 3 | nested << 2 | 3);
    let arrays = [(NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps)];
    out.put_u8(if vps.is_empty() { 2 } else { 3 });
    for (array_type, sets) in arrays.into_iter().filter(|(_, sets)| !sets.is_empty()) {
        const COMPLETE: u8 = 0x80;
        let count = u16::try_from(sets.len()).ok().filter(|&count| count <= MAX_UNITS);
        out.put_u8(COMPLETE | array_type);
        out.put_u16(count.ok_or(Error::Invalid { field: "numNalus", value: sets.len() as u64 })?);
        for set in sets {
            payload(set, array_type, "HEVC parameter set")?;
            nal::put_sized(&mut out, set)?;
        }
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::hex;
    use crate::codec::track;
    use crate::frame::{Codec, Timescale, Track, TrackId};

    fn read(record: &[u8]) -> Result<Track, Error> {
        track(TrackId::VIDEO, Codec::H265, Timescale::HZ_90K, Bytes::copy_from_slice(record))
    }

    // x265's records without their SEI array of settings text.
    const MAIN_720: &str = "0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003003c10a2000100074401c172b46240";
    const MAIN10_1918: &str = "01022000000090000000000078f000fcfdfafa00000f03a00001001840010c01ffff022000000300900000030000030078959809a100010034420101022000000300900000030000030078a003c08010e754d96566924e5780b40400000fa4000177018492597800c3500186a2a2000100074401c172b46240";

    /// The VPS, SPS and PPS of a record made by x265: one of each.
    fn sets(record: &[u8]) -> [&[u8]; 3] {
        let mut rest = &record[23..];
        [0; 3].map(|_| {
            rest = &rest[3..];
            nal::take_sized(&mut rest, "test").unwrap()
        })
    }

    #[test]
    fn reads_what_x265_writes() {
        let main = read(&hex(MAIN_720)).unwrap();
        assert_eq!(main.rfc6381, "hvc1.1.6.L93.90");
        let video = main.video().unwrap();
        assert_eq!((video.width, video.height, video.frame_rate), (1280, 720, Some((30, 1))));

        let main10 = read(&hex(MAIN10_1918)).unwrap();
        assert_eq!(main10.rfc6381, "hvc1.2.4.L120.90");
        let video = main10.video().unwrap();
        assert_eq!((video.width, video.height, video.frame_rate), (1918, 1078, Some((24_000, 1_001))));
    }

    #[test]
    fn rebuilds_the_record_from_its_parameter_sets() {
        for text in [MAIN_720, MAIN10_1918] {
            let record = hex(text);
            let [vps, sps, pps] = sets(&record);
            let rebuilt = config_from_parameter_sets(&[vps], &[sps], &[pps]).unwrap();
            // Arrays are marked complete; everything else is the same.
            let mut expected = record.clone();
            for start in [23, 23 + 5 + vps.len(), 23 + 10 + vps.len() + sps.len()] {
                expected[start] |= 0x80;
            }
            // x265 writes no segmentation, like we do.
            assert_eq!(rebuilt, expected, "{text}");
            assert_eq!(read(&rebuilt).unwrap().rfc6381, read(&record).unwrap().rfc6381);
        }
    }

    #[test]
    fn truncations_are_refused() {
        for text in [MAIN_720, MAIN10_1918] {
            let record = hex(text);
            for length in 0..record.len() {
                assert!(read(&record[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn refuses_lying_records() {
        let record = hex(MAIN_720);
        let with = |at: usize, value: u8| {
            let mut changed = record.clone();
            changed[at] = value;
            read(&changed)
        };
        assert!(matches!(with(0, 2), Err(Error::Invalid { field: "configurationVersion", .. })));
        assert!(matches!(with(21, 0x0d), Err(Error::Invalid { field: "lengthSizeMinusOne", .. })));
        assert!(matches!(with(22, 255), Err(Error::Invalid { field: "numOfArrays", .. })));
        assert_eq!(with(22, 0), Err(Error::NoParameterSet("PPS")));
        assert_eq!(with(22, 1), Err(Error::NoParameterSet("PPS")));
        assert!(matches!(with(24, 0xff), Err(Error::Invalid { field: "numNalus", .. })));
        assert_eq!(with(26, 0xff), Err(Error::Truncated(RECORD)));
        // An array that says VPS and holds SPS.
        assert!(matches!(with(28, 0x42), Err(Error::Invalid { .. })));
    }

    #[test]
    fn the_vps_tells_the_frame_rate_where_the_sps_does_not() {
        let record = hex(MAIN_720);
        let [vps, sps, pps] = sets(&record);
        assert_eq!(vps::frame_rate(vps).unwrap(), None);
        let timed = vps::testing::with_timing(1, 50);
        // Cut the SPS inside its VUI: the picture stays, its timing goes.
        let record = config_from_parameter_sets(&[&timed], &[&sps[..sps.len() - 8]], &[pps]).unwrap();
        let track = read(&record).unwrap();
        let video = track.video().unwrap();
        assert_eq!((video.width, video.height, video.frame_rate), (1280, 720, Some((50, 1))));
    }

    #[test]
    fn keyframes_are_random_access_points() {
        for (first, key) in
            [(19u8, true), (20, true), (21, true), (16, true), (1, false), (0, false), (9, false)]
        {
            let data = [&[0, 0, 0, 3, 35 << 1, 1, 0x50, 0, 0, 0, 3][..], &[first << 1, 1, 0xaf]].concat();
            assert_eq!(keyframe(&data), key, "{first}");
        }
        assert!(!keyframe(&hex("00000003 4e0105")));
        assert!(!keyframe(&[]));
    }
}
