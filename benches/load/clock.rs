//! A clock inside the pictures: an SEI message of unregistered user data (ITU-T H.264 §D.1.7) with the moment at
//! which the publisher sent the picture, so that a viewer of any protocol can tell how old it is.

/// Tells ours from others'.
const UUID: [u8; 16] = *b"weir-bench-clock";

/// NAL unit type 6, payload type 5, and the payload's bytes.
const HEAD: [u8; 3] = [0x06, 5, (UUID.len() + DIGITS) as u8];

/// Nanoseconds in hexadecimal digits: whatever the time is, nothing in it can be taken for a start code.
const DIGITS: usize = 16;

/// Bytes before the NAL unit in the body of an FLV tag: of the legacy AVC header, and the unit's length.
const BEFORE: usize = 5 + 4;

/// Where the digits stand in the body of an FLV tag.
const AT: usize = BEFORE + HEAD.len() + UUID.len();

/// The NAL unit with its length before it, to be put first in a picture.
pub(crate) fn nal_unit() -> Vec<u8> {
    let unit = [&HEAD[..], &UUID, &[b'0'; DIGITS], &[0x80]].concat();
    let length = u32::try_from(unit.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &unit].concat()
}

/// The time on a clock that all processes of the machine share.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or_default()
}

/// The digits of a moment.
pub(crate) fn digits(ns: u64) -> [u8; DIGITS] {
    std::array::from_fn(|at| b"0123456789abcdef"[(ns >> (4 * (DIGITS - 1 - at))) as usize & 0xf])
}

/// The body of an FLV tag with a picture in three pieces, the middle one to be replaced by [`digits`].
pub(crate) fn pieces(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, rest) = body.split_at_checked(AT)?;
    before.ends_with(&UUID).then(|| (before, rest.get(DIGITS..).unwrap_or_default()))
}

/// When the picture in the body of an FLV tag was sent.
pub(crate) fn sent_ns(body: &[u8]) -> Option<u64> {
    let (_, after) = body.get(BEFORE..)?.split_at_checked(HEAD.len())?;
    let digits = after.strip_prefix(&UUID)?.get(..DIGITS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Vec<u8> {
        [&[0x17, 1, 0, 0, 0][..], &nal_unit(), &[0, 0, 0, 2, 0x65, 0x88]].concat()
    }

    #[test]
    fn what_is_put_in_is_read() {
        let body = body();
        let (before, after) = pieces(&body).unwrap();
        for ns in [0, 1, 0x0000_0003_0000_0001, u64::MAX, now_ns()] {
            let stamped = [before, &digits(ns), after].concat();
            assert_eq!(stamped.len(), body.len());
            assert_eq!(sent_ns(&stamped), Some(ns));
            assert!(!stamped[BEFORE..BEFORE + 36].windows(2).any(|pair| pair == [0, 0]));
        }
    }

    #[test]
    fn the_unit_is_as_long_as_it_says() {
        let unit = nal_unit();
        assert_eq!(unit[..4], [0, 0, 0, 36]);
        assert_eq!(unit.len(), 4 + 36);
        assert_eq!(usize::from(unit[6]), 32);
        assert_eq!(unit.last(), Some(&0x80));
    }

    #[test]
    fn other_pictures_have_no_clock() {
        assert_eq!(sent_ns(&[]), None);
        assert_eq!(sent_ns(&[0x17, 0, 0, 0, 0, 1, 0x4d]), None);
        assert_eq!(sent_ns(&body()[..AT + 3]), None);
        let mut other = body();
        other[AT - 1] ^= 1;
        assert_eq!(sent_ns(&other), None);
        assert!(pieces(&other).is_none());
    }
}
