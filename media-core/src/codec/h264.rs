//! H.264 / AVC: the decoder configuration record (ISO/IEC 14496-15 §5.3.3) and keyframes.

mod sps;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, nal};
use crate::frame::VideoParams;
use sps::Sps;

const RECORD: &str = "AVCDecoderConfigurationRecord";

const NAL_NON_IDR: u8 = 1;
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;

/// `nal_unit_type` (ISO/IEC 14496-10 §7.4.1).
fn unit_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1f)
}

/// Whether the access unit's first slice belongs to an IDR picture.
pub fn keyframe(data: &[u8]) -> bool {
    nal::units(data)
        .filter_map(unit_type)
        .find(|unit_type| (NAL_NON_IDR..=NAL_IDR).contains(unit_type))
        .is_some_and(|unit_type| unit_type == NAL_IDR)
}

/// An `AVCDecoderConfigurationRecord`, as far as weir reads it.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// The first sequence parameter set.
    sps: &'a [u8],
}

impl<'a> Record<'a> {
    /// Checks the whole record: one or more SPS and PPS, 4-byte NAL unit lengths.
    pub(super) fn parse(record: &'a [u8]) -> Result<Self, Error> {
        let (&[version, _, _, _, length_size], mut rest) =
            record.split_first_chunk::<5>().ok_or(Error::Truncated(RECORD))?;
        if version != 1 {
            return Err(Error::Invalid { field: "configurationVersion", value: u64::from(version) });
        }
        nal::check_length_size(length_size)?;
        let count = nal::take_byte(&mut rest, RECORD)? & 0x1f;
        let sps = parameter_sets(&mut rest, count, NAL_SPS)?.ok_or(Error::NoParameterSet("SPS"))?;
        let count = nal::take_byte(&mut rest, RECORD)?;
        parameter_sets(&mut rest, count, NAL_PPS)?.ok_or(Error::NoParameterSet("PPS"))?;
        // The chroma format extension that may follow repeats the SPS; many writers leave it out.
        Ok(Self { sps })
    }

    /// The picture, and its `codecs` string (RFC 6381 §3.3: three bytes of the SPS).
    pub(super) fn describe(&self) -> Result<(VideoParams, String), Error> {
        let sps = Sps::parse(self.sps)?;
        let rfc6381 = format!("avc1.{:02x}{:02x}{:02x}", sps.profile_idc, sps.constraints, sps.level_idc);
        Ok((VideoParams { width: sps.width, height: sps.height, frame_rate: sps.frame_rate }, rfc6381))
    }
}

/// The SPS and then the PPS of a record.
pub(super) fn parameter_sets_of(record: &[u8]) -> Result<Vec<&[u8]>, Error> {
    Record::parse(record)?;
    let mut rest = record.get(5..).ok_or(Error::Truncated(RECORD))?;
    let mut sets = Vec::new();
    for count_mask in [0x1f, 0xff] {
        for _ in 0..nal::take_byte(&mut rest, RECORD)? & count_mask {
            sets.push(nal::take_sized(&mut rest, RECORD)?);
        }
    }
    Ok(sets)
}

/// Takes `count` parameter sets of one type; the first of them.
fn parameter_sets<'a>(rest: &mut &'a [u8], count: u8, expected: u8) -> Result<Option<&'a [u8]>, Error> {
    let mut first = None;
    for _ in 0..count {
        let set = nal::take_sized(rest, RECORD)?;
        match unit_type(set) {
            Some(found) if found == expected => first = first.or(Some(set)),
            Some(found) => {
                return Err(Error::Invalid {
                    field: "nal_unit_type of a parameter set",
                    value: found.into(),
                });
            }
            None => return Err(Error::Truncated(RECORD)),
        }
    }
    Ok(first)
}

/// An `AVCDecoderConfigurationRecord` with 4-byte NAL unit lengths from parameter sets without
/// start codes. The first SPS gives the profile.
pub fn config_from_parameter_sets(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, Error> {
    let first = sps.first().ok_or(Error::NoParameterSet("SPS"))?;
    if pps.is_empty() {
        return Err(Error::NoParameterSet("PPS"));
    }
    let parsed = Sps::parse(first)?;
    let too_many = |field, count: usize| Error::Invalid { field, value: count as u64 };
    let sps_count = u8::try_from(sps.len()).ok().filter(|&count| count <= 0x1f);
    let sps_count = sps_count.ok_or(too_many("numOfSequenceParameterSets", sps.len()))?;
    let pps_count = u8::try_from(pps.len()).map_err(|_| too_many("numOfPictureParameterSets", pps.len()))?;

    let sets: usize = sps.iter().chain(pps).map(|set| set.len() + 2).sum();
    let mut out = BytesMut::with_capacity(11 + sets);
    out.put_slice(&[1, parsed.profile_idc, parsed.constraints, parsed.level_idc, 0xff, 0xe0 | sps_count]);
    for set in sps {
        nal::put_sized(&mut out, set)?;
    }
    out.put_u8(pps_count);
    for set in pps {
        nal::put_sized(&mut out, set)?;
    }
    if parsed.has_chroma_format() {
        out.put_slice(&[
            0xfc | parsed.chroma_format_idc,
            0xf8 | parsed.bit_depth_luma_minus8,
            0xf8 | parsed.bit_depth_chroma_minus8,
            0,
        ]);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::hex;
    use crate::codec::track;
    use crate::frame::{Codec, Timescale, Track, TrackId};

    fn read(record: &str) -> Result<Track, Error> {
        track(TrackId::VIDEO, Codec::H264, Timescale::HZ_90K, hex(record).into())
    }

    const HIGH_320X180: &str =
        "0164000dffe1001a6764000dacd941419f9f0110000003001000000303c0f142996001000468ef8fcbfdf8f800";
    const HIGH_1080: &str =
        "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000668ebe3cb22c0fdf8f800";

    #[test]
    fn reads_what_x264_writes() {
        let interlaced_with_scaling_lists_and_hrd = "0164001fffe100256764001facd940a063f3e022000003000200000300c8c04003d08000f425269c07c58b658001000668fbacb3002cfdf8f800";
        for (record, width, height, rate, name) in [
            (HIGH_320X180, 320, 180, (30, 1), "avc1.64000d"),
            (HIGH_1080, 1920, 1080, (30_000, 1_001), "avc1.640028"),
            (
                "0164001fffe1001b6764001facd9405005beab011000000300100000030320f183196001000668ebe3cb22c0fdf8f800",
                1278,
                718,
                (25, 1),
                "avc1.64001f",
            ),
            (
                "017a001fffe1001b677a001fb6cd940a02ff89c044000003000400000301903c60c65801000668ebe3cb22c0fefafa00",
                640,
                360,
                (50, 1),
                "avc1.7a001f",
            ),
            (
                "01f4001fffe1001b67f4001f919b281405ff1380880000030008000003032078c18cb001000668ebe3c44844fff8f800",
                640,
                360,
                (50, 1),
                "avc1.f4001f",
            ),
            (
                "0142c01fffe100196742c01fd900a02ff97011000003000100000300640f18324801000568cb83cb20",
                640,
                360,
                (50, 1),
                "avc1.42c01f",
            ),
            (interlaced_with_scaling_lists_and_hrd, 640, 360, (50, 1), "avc1.64001f"),
        ] {
            let track = read(record).unwrap();
            let video = track.video().unwrap();
            assert_eq!((video.width, video.height), (width, height), "{record}");
            assert_eq!(video.frame_rate, Some(rate), "{record}");
            assert_eq!(track.rfc6381, name);
        }
    }

    #[test]
    fn rebuilds_the_record_from_its_parameter_sets() {
        for text in [HIGH_320X180, HIGH_1080] {
            let record = hex(text);
            let sps_end = 8 + usize::from(record[7]);
            let pps_start = sps_end + 3;
            let pps_end = pps_start + usize::from(record[sps_end + 2]);
            let (sps, pps) = (&record[8..sps_end], &record[pps_start..pps_end]);
            assert_eq!(config_from_parameter_sets(&[sps], &[pps]).unwrap(), record);
        }
    }

    #[test]
    fn baseline_records_have_no_chroma_extension() {
        let record =
            hex("0142c01fffe100196742c01fd900a02ff97011000003000100000300640f18324801000568cb83cb20");
        let rebuilt = config_from_parameter_sets(&[&record[8..33]], &[&record[36..]]).unwrap();
        assert_eq!(rebuilt, record);
    }

    #[test]
    fn truncations_are_refused_up_to_the_optional_extension() {
        let record = hex(HIGH_1080);
        let required = record.len() - 4;
        for length in 0..required {
            let short = Bytes::copy_from_slice(&record[..length]);
            assert!(track(TrackId::VIDEO, Codec::H264, Timescale::HZ_90K, short).is_err(), "{length}");
        }
        let without_extension = Bytes::copy_from_slice(&record[..required]);
        assert!(track(TrackId::VIDEO, Codec::H264, Timescale::HZ_90K, without_extension).is_ok());
    }

    #[test]
    fn refuses_lying_records() {
        assert_eq!(read("0164001fffe00100"), Err(Error::NoParameterSet("SPS")));
        assert_eq!(read("0164001fffe10001670168"), Err(Error::Truncated(RECORD)));
        // A PPS in the place of the SPS; no PPS; 2-byte lengths; version 0.
        assert!(matches!(read("0164001fffe1000268ee00"), Err(Error::Invalid { .. })));
        assert_eq!(read("0164001fffe100026742 00"), Err(Error::NoParameterSet("PPS")));
        assert!(matches!(read(&HIGH_1080.replacen("28ff", "28fd", 1)), Err(Error::Invalid { .. })));
        assert!(matches!(read(&HIGH_1080.replacen("01", "00", 1)), Err(Error::Invalid { .. })));
        assert!(config_from_parameter_sets(&[], &[&[0x68]]).is_err());
        assert!(config_from_parameter_sets(&[&hex(HIGH_1080)[8..33]], &[]).is_err());
        assert!(config_from_parameter_sets(&[&hex(HIGH_1080)[8..33]; 32], &[&[0x68]]).is_err());
        assert!(config_from_parameter_sets(&[&hex(HIGH_1080)[8..33]], &[&[0x68; 70_000]]).is_err());
    }

    #[test]
    fn keyframes_are_idr_pictures() {
        let aud_sei_idr = hex("00000002 09f0 00000003 060580 00000003 658884");
        let aud_slice = hex("00000002 09f0 00000003 419a24");
        assert!(keyframe(&aud_sei_idr));
        assert!(!keyframe(&aud_slice));
        assert!(!keyframe(&hex("00000003 060580")));
        assert!(!keyframe(&hex("000000ff 65")));
        assert!(!keyframe(&[]));
        // A non-IDR first slice decides, whatever follows.
        assert!(!keyframe(&hex("00000003 419a24 00000003 658884")));
    }
}
