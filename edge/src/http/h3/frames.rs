//! How long a peer's frames may be (RFC 9114 §7): h3 keeps a frame that is not data until it is whole, however long it
//! says it is.

/// The longest frame that is not data: a request's head, which is the longest that clients send.
const MAX_FRAME_BYTES: u64 = 16 * 1024;

/// The longest varint (RFC 9000 §16).
const MAX_VARINT_BYTES: usize = 8;

/// A frame is longer than any that clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub(super) struct TooLong(u64);

/// Follows the frames of a stream through whatever pieces they come in.
#[derive(Debug)]
pub(super) struct Frames {
    expected: Expected,
    /// What has come of the varint that is expected.
    varint: [u8; MAX_VARINT_BYTES],
    have: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    StreamType,
    Type,
    Length {
        data: bool,
    },
    Payload(u64),
    /// A stream that has no frames: what QPACK says (RFC 9204 §4.2), which flow control bounds, or one that is refused.
    Anything,
}

impl Frames {
    /// Of a request.
    pub(super) fn of_request() -> Self {
        Self::expecting(Expected::Type)
    }

    /// Of a stream in one direction, which says first what it is (RFC 9114 §6.2).
    pub(super) fn of_unidirectional() -> Self {
        Self::expecting(Expected::StreamType)
    }

    fn expecting(expected: Expected) -> Self {
        Self { expected, varint: [0; MAX_VARINT_BYTES], have: 0 }
    }

    /// The next bytes of the stream.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some((first, rest)) = bytes.split_first() {
            match self.expected {
                Expected::Anything => return Ok(()),
                Expected::Payload(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(len..).unwrap_or_default();
                    let left = left.saturating_sub(u64::try_from(len).unwrap_or(u64::MAX));
                    self.expected = if left == 0 { Expected::Type } else { Expected::Payload(left) };
                }
                _ => {
                    bytes = rest;
                    if let Some(value) = self.varint(*first) {
                        self.expected = self.after(value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What follows a varint.
    fn after(&self, value: u64) -> Result<Expected, TooLong> {
        const CONTROL: u64 = 0;
        const DATA: u64 = 0;
        Ok(match self.expected {
            Expected::StreamType if value == CONTROL => Expected::Type,
            Expected::StreamType => Expected::Anything,
            Expected::Type => Expected::Length { data: value == DATA },
            Expected::Length { data: false } if value > MAX_FRAME_BYTES => return Err(TooLong(value)),
            Expected::Length { .. } if value == 0 => Expected::Type,
            Expected::Length { .. } => Expected::Payload(value),
            expected @ (Expected::Payload(_) | Expected::Anything) => expected,
        })
    }

    /// A varint, when its last byte has come.
    fn varint(&mut self, byte: u8) -> Option<u64> {
        *self.varint.get_mut(self.have)? = byte;
        self.have += 1;
        let first = self.varint.first().copied().unwrap_or_default();
        let bytes = self.varint.get(..1 << (first >> 6))?;
        if self.have < bytes.len() {
            return None;
        }
        self.have = 0;
        let rest = bytes.iter().skip(1);
        Some(rest.fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of the whole and, the same, of single bytes.
    fn follow(mut frames: impl FnMut() -> Frames, bytes: &[u8]) -> Result<(), TooLong> {
        let whole = frames().follow(bytes);
        let mut bytewise = frames();
        assert_eq!(bytes.iter().try_for_each(|byte| bytewise.follow(&[*byte])), whole);
        whole
    }

    /// A frame whose length says `len`, without its payload.
    fn head(kind: u8, len: u32) -> Vec<u8> {
        [&[kind], (0x8000_0000 | len).to_be_bytes().as_slice()].concat()
    }

    #[test]
    fn a_long_frame_is_known_by_its_first_bytes_and_data_may_be_long() {
        let head_of_16k = [head(1, 16 * 1024), vec![7; 16 * 1024]].concat();
        let request = [head_of_16k, head(0, 3_000_000), vec![9; 3_000_000], head(0x21, 0)].concat();
        assert_eq!(follow(Frames::of_request, &request), Ok(()));
        let long = head(1, 16 * 1024 + 1);
        assert_eq!(follow(Frames::of_request, &long), Err(TooLong(16 * 1024 + 1)));
        assert_eq!(follow(Frames::of_request, &[request, long].concat()), Err(TooLong(16 * 1024 + 1)));
        assert_eq!(
            follow(Frames::of_request, &[0x21, 0xff, 255, 255, 255, 255, 255, 255, 255]),
            Err(TooLong((1 << 62) - 1))
        );
    }

    #[test]
    fn the_control_stream_has_frames_and_those_of_qpack_have_not() {
        let settings = [vec![0], head(4, 2), vec![1, 2]].concat();
        assert_eq!(follow(Frames::of_unidirectional, &settings), Ok(()));
        let long = [settings, head(4, 100_000)].concat();
        assert_eq!(follow(Frames::of_unidirectional, &long), Err(TooLong(100_000)));
        assert_eq!(follow(Frames::of_unidirectional, &[vec![2], head(4, 100_000)].concat()), Ok(()));
        // Type 0 in two bytes is still the control stream.
        assert_eq!(
            follow(Frames::of_unidirectional, &[vec![0x40, 0], head(4, 100_000)].concat()),
            Err(TooLong(100_000))
        );
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_survived_alike_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = follow(Frames::of_request, &bytes);
            let _ = follow(Frames::of_unidirectional, &bytes);
        }
    }
}
