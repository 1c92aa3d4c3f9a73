//! AV1: the configuration record (AV1 in ISOBMFF §2.3), its `codecs` string (§5) and keyframes.

pub mod obu;
mod sequence;

use bytes::{BufMut, Bytes, BytesMut};

use super::Error;
use obu::{FRAME, FRAME_HEADER, SEQUENCE_HEADER, obus};
pub(super) use sequence::SequenceHeader;

const RECORD: &str = "AV1CodecConfigurationRecord";

impl SequenceHeader {
    /// Of a configuration record: of its first sequence header OBU. An empty record, which encoders
    /// without a global header are muxed with, is one without a sequence header.
    pub(super) fn of_record(record: &[u8]) -> Result<Self, Error> {
        if record.is_empty() {
            return Err(Error::NoSequenceHeader);
        }
        let (&[marker_version, ..], config_obus) =
            record.split_first_chunk::<4>().ok_or(Error::Truncated(RECORD))?;
        if marker_version != 0x81 {
            return Err(Error::Invalid { field: "marker and version", value: marker_version.into() });
        }
        for obu in obus(config_obus) {
            let obu = obu?;
            if obu.obu_type == SEQUENCE_HEADER {
                return Self::parse(obu.payload);
            }
        }
        Err(Error::NoSequenceHeader)
    }
}

/// An `AV1CodecConfigurationRecord` from the sequence header of a temporal unit; `None` where it
/// has no sequence header. For publishers whose record came without one.
pub fn config_from_temporal_unit(data: &[u8]) -> Result<Option<Bytes>, Error> {
    for obu in obus(data) {
        let obu = obu?;
        if obu.obu_type != SEQUENCE_HEADER {
            continue;
        }
        let header = SequenceHeader::parse(obu.payload)?;
        let mut out = BytesMut::with_capacity(4 + 1 + 4 + obu.payload.len());
        out.put_slice(&header.record_head());
        obu::put(&mut out, SEQUENCE_HEADER, obu.payload)?;
        return Ok(Some(out.freeze()));
    }
    Ok(None)
}

/// Whether the temporal unit starts with a key frame that is shown at once (AV1 §7.6.2: a random
/// access point). A key frame shown again by `show_existing_frame` needs frames from before.
pub fn keyframe(data: &[u8]) -> bool {
    const SHOW_EXISTING: u8 = 0x80;
    const FRAME_TYPE: u8 = 0x60;
    const SHOW_FRAME: u8 = 0x10;
    let mut reduced_still_picture = false;
    for obu in obus(data) {
        match obu {
            Ok(obu) if obu.obu_type == SEQUENCE_HEADER => {
                reduced_still_picture =
                    SequenceHeader::parse(obu.payload).is_ok_and(|h| h.reduced_still_picture);
            }
            Ok(obu) if matches!(obu.obu_type, FRAME | FRAME_HEADER) => {
                // KEY_FRAME is 0.
                return reduced_still_picture
                    || obu.payload.first().is_some_and(|first| {
                        first & (SHOW_EXISTING | FRAME_TYPE | SHOW_FRAME) == SHOW_FRAME
                    });
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::hex;
    use crate::codec::track;
    use crate::frame::{Codec, Timescale, Track, TrackId};

    fn read(record: &[u8]) -> Result<Track, Error> {
        track(TrackId::VIDEO, Codec::Av1, Timescale::HZ_90K, Bytes::copy_from_slice(record))
    }

    const SVT: &str = "81010c000a0c0200000d6627fb3805f00080";
    const AOM_10_BIT: &str = "81014c000a0b0000000cc4ff6736be5010";

    #[test]
    fn reads_what_encoders_write() {
        for (record, name) in [(SVT, "av01.0.01M.08"), (AOM_10_BIT, "av01.0.01M.10")] {
            let track = read(&hex(record)).unwrap();
            let video = track.video().unwrap();
            assert_eq!((video.width, video.height), (640, 360), "{record}");
            assert_eq!(track.rfc6381, name, "{record}");
        }
    }

    #[test]
    fn a_record_without_obus_is_completed_from_a_keyframe() {
        // What ffmpeg writes for rav1e: the four fixed bytes only.
        assert_eq!(read(&hex("813f0000")), Err(Error::NoSequenceHeader));
        assert_eq!(read(&[]), Err(Error::NoSequenceHeader));
        for text in [SVT, AOM_10_BIT] {
            let record = hex(text);
            // A temporal delimiter, the sequence header, a frame.
            let unit = [&[0x12, 0][..], &record[4..], &hex("32 03 100000")].concat();
            assert_eq!(config_from_temporal_unit(&unit).unwrap().unwrap(), record);
            // The last OBU may leave out its size.
            let unsized_last = [&[0x12, 0, 0x08][..], &record[6..]].concat();
            assert_eq!(config_from_temporal_unit(&unsized_last).unwrap().unwrap(), record);
        }
        assert_eq!(config_from_temporal_unit(&hex("1200 3203 300000")), Ok(None));
        assert!(config_from_temporal_unit(&hex("0aff")).is_err());
    }

    #[test]
    fn truncations_are_refused() {
        for text in [SVT, AOM_10_BIT] {
            let record = hex(text);
            for length in 0..record.len() {
                assert!(read(&record[..length]).is_err(), "{length}");
            }
        }
        assert!(matches!(read(&hex("80010c00")), Err(Error::Invalid { .. })));
    }

    #[test]
    fn keyframes_are_shown_key_frames() {
        let sequence = &hex(SVT)[4..];
        let with = |frame: &str| [&[0x12, 0][..], sequence, &hex(frame)].concat();
        assert!(keyframe(&with("3202 1000"))); // OBU_FRAME, KEY_FRAME, show_frame
        assert!(keyframe(&with("1a02 1000"))); // OBU_FRAME_HEADER
        assert!(keyframe(&hex("3202 1000"))); // the sequence header is in the record
        assert!(!keyframe(&with("3202 3000"))); // INTER_FRAME
        assert!(!keyframe(&with("3202 5000"))); // INTRA_ONLY_FRAME
        assert!(!keyframe(&with("3202 0000"))); // not shown
        assert!(!keyframe(&with("1a02 8000"))); // show_existing_frame
        assert!(!keyframe(&with("3200")));
        assert!(!keyframe(sequence));
        assert!(!keyframe(&hex("32ff1000")));
        assert!(!keyframe(&[]));
    }
}
