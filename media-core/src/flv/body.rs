//! A tag body in two pieces: its own few header bytes, and the payload it shares.

use bytes::Bytes;

/// The longest header in front of a payload: ex header, multitrack byte, fourCC, track id,
/// composition time.
const MAX_PREFIX_BYTES: usize = 16;

/// The body of a tag or RTMP message: a short prefix and the payload behind it, which stays shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    prefix: [u8; MAX_PREFIX_BYTES],
    prefix_len: u8,
    payload: Bytes,
}

impl Body {
    pub(super) fn new(payload: Bytes) -> Self {
        Self { prefix: [0; MAX_PREFIX_BYTES], prefix_len: 0, payload }
    }

    /// Appends to the prefix.
    pub(super) fn with(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            if let Some(slot) = self.prefix.get_mut(usize::from(self.prefix_len)) {
                *slot = byte;
                self.prefix_len += 1;
            }
        }
        debug_assert!(usize::from(self.prefix_len) <= MAX_PREFIX_BYTES, "no header is longer");
        self
    }

    /// The header bytes.
    pub fn prefix(&self) -> &[u8] {
        self.prefix.get(..usize::from(self.prefix_len)).unwrap_or_default()
    }

    /// What stands behind them.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Both, for [`super::write_tag`] and RTMP's chunk writer.
    pub fn pieces(&self) -> [&[u8]; 2] {
        [self.prefix(), &self.payload]
    }

    /// Bytes of both.
    pub fn len(&self) -> usize {
        usize::from(self.prefix_len) + self.payload.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both in one piece, copied.
    pub fn to_bytes(&self) -> Bytes {
        self.pieces().concat().into()
    }
}
