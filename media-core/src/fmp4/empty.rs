//! Fragments without samples.

use bytes::{BufMut, Bytes, BytesMut};

/// `default-base-is-moof` and `duration-is-empty` (ISO/IEC 14496-12 §8.8.7).
const TFHD_FLAGS: u32 = 0x02_0000 | 0x01_0000;

/// A fragment that adds nothing to a track: for the time that a long sample before it still covers.
/// `base_decode_time` is where the next sample will be, in ticks of the track.
pub fn empty_fragment(sequence: u32, track_id: u32, base_decode_time: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(76);
    box_header(&mut out, 68, b"moof");
    box_header(&mut out, 16, b"mfhd");
    out.put_u32(0);
    out.put_u32(sequence);
    box_header(&mut out, 44, b"traf");
    box_header(&mut out, 16, b"tfhd");
    out.put_u32(TFHD_FLAGS);
    out.put_u32(track_id);
    box_header(&mut out, 20, b"tfdt");
    out.put_u32(1 << 24);
    out.put_u64(base_decode_time);
    box_header(&mut out, 8, b"mdat");
    out.freeze()
}

fn box_header(out: &mut BytesMut, size: u32, name: &[u8; 4]) {
    out.put_u32(size);
    out.put_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Decode, Mdat, Moof};

    #[test]
    fn it_reads_back_as_a_fragment_of_one_track_without_samples() {
        let mut bytes = empty_fragment(7, 2, 1 << 40);
        let moof = Moof::decode(&mut bytes).unwrap();
        assert_eq!(moof.mfhd.sequence_number, 7);
        let [traf] = moof.traf.as_slice() else { panic!("one traf") };
        assert_eq!(traf.tfhd.track_id, 2);
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 1 << 40);
        assert!(traf.trun.is_empty());
        assert!(Mdat::decode(&mut bytes).unwrap().data.is_empty());
        assert!(bytes.is_empty());
    }
}
