//! VP8 (RFC 7741) and VP9 (RFC 9628) payloads → frames. Of layers all are taken, in the order they come in: decoders take
//! the frames of a picture one after the other.

use bytes::Bytes;

use super::super::MAX_ACCESS_UNIT_BYTES;
use super::Damage;
use super::lane::Assembled;
use crate::codec;
use crate::frame::Codec;

/// The bytes that an empty buffer may keep for the next frame.
const MAX_IDLE_BYTES: usize = 256 * 1024;

/// What stands before a payload's part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Descriptor {
    bytes: usize,
    /// It begins a frame, of VP9 the lowest of a picture's.
    begins: bool,
}

/// The frame that is being put together.
#[derive(Debug)]
pub(super) struct VpxAssembly {
    codec: Codec,
    data: Vec<u8>,
}

impl VpxAssembly {
    /// Of [`Codec::Vp8`] or [`Codec::Vp9`].
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, data: Vec::new() }
    }

    /// Whether a frame can begin with this payload.
    pub(super) fn begins(&self, payload: &[u8]) -> bool {
        self.descriptor(payload).is_some_and(|descriptor| descriptor.begins)
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let descriptor = self.descriptor(payload).ok_or(Damage::Malformed)?;
        let data = payload.get(descriptor.bytes..).ok_or(Damage::Malformed)?;
        if self.data.len() + data.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(Damage::TooLarge);
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Option<Assembled>, Damage> {
        let data = Bytes::copy_from_slice(&self.data);
        self.data.clear();
        self.data.shrink_to(MAX_IDLE_BYTES);
        if data.is_empty() {
            return Ok(None);
        }
        // One that says it is a keyframe and is none would have no configuration.
        let config = codec::vpx::config_from_frame(self.codec, &data).unwrap_or_default();
        Ok(Some(Assembled { data, keyframe: config.is_some(), config }))
    }

    fn descriptor(&self, payload: &[u8]) -> Option<Descriptor> {
        match self.codec {
            Codec::Vp8 => vp8(payload),
            _ => vp9(payload),
        }
    }
}

/// Goes through a descriptor.
struct Fields<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.payload.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// Seven bits, or fifteen where the first is set.
    fn picture_id(&mut self) -> Option<()> {
        if self.byte()? & 0x80 != 0 {
            self.byte()?;
        }
        Some(())
    }
}

/// RFC 7741 §4.2.
fn vp8(payload: &[u8]) -> Option<Descriptor> {
    const EXTENDED: u8 = 0x80;
    const START: u8 = 0x10;
    const PARTITION: u8 = 0x0f;
    let mut fields = Fields { payload, at: 0 };
    let first = fields.byte()?;
    if first & EXTENDED != 0 {
        let extension = fields.byte()?;
        if extension & 0x80 != 0 {
            fields.picture_id()?;
        }
        if extension & 0x40 != 0 {
            fields.byte()?;
        }
        if extension & 0x30 != 0 {
            fields.byte()?;
        }
    }
    Some(Descriptor { bytes: fields.at, begins: first & START != 0 && first & PARTITION == 0 })
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> Option<Descriptor> {
    const PICTURE_ID: u8 = 0x80;
    const PREDICTED: u8 = 0x40;
    const LAYERS: u8 = 0x20;
    const FLEXIBLE: u8 = 0x10;
    const BEGINS: u8 = 0x08;
    const STRUCTURE: u8 = 0x02;
    /// As many references as a picture says it has at most.
    const MAX_REFERENCES: usize = 3;
    let mut fields = Fields { payload, at: 0 };
    let first = fields.byte()?;
    let mut spatial = 0;
    if first & PICTURE_ID != 0 {
        fields.picture_id()?;
    }
    if first & LAYERS != 0 {
        spatial = fields.byte()? >> 1 & 0b111;
        if first & FLEXIBLE == 0 {
            fields.byte()?;
        }
    }
    if first & FLEXIBLE != 0 && first & PREDICTED != 0 {
        let more =
            (0..MAX_REFERENCES).map(|_| fields.byte()).take_while(|byte| byte.is_some_and(|b| b & 1 == 1));
        let more = more.count();
        if more == MAX_REFERENCES {
            return None;
        }
    }
    if first & STRUCTURE != 0 {
        let head = fields.byte()?;
        let layers = usize::from(head >> 5) + 1;
        if head & 0x10 != 0 {
            fields.at += 4 * layers;
        }
        if head & 0x08 != 0 {
            for _ in 0..fields.byte()? {
                let references = fields.byte()? >> 2 & 0b11;
                fields.at += usize::from(references);
            }
        }
    }
    (fields.at <= payload.len())
        .then_some(Descriptor { bytes: fields.at, begins: first & BEGINS != 0 && spatial == 0 })
}

#[cfg(test)]
mod tests {
    #[test]
    fn descriptors_are_as_long_as_they_say() {
        let vp8 = |bytes: &[u8]| super::vp8(bytes).map(|d| (d.bytes, d.begins));
        assert_eq!(vp8(&[0x10, 0]), Some((1, true)));
        assert_eq!(vp8(&[0x00, 0]), Some((1, false)));
        assert_eq!(vp8(&[0x11, 0]), Some((1, false)));
        assert_eq!(vp8(&[0x90, 0xf0, 0x81, 0x02, 0x03, 0x04]), Some((6, true)));
        assert_eq!(vp8(&[0x90, 0x80, 0x01]), Some((3, true)));
        assert_eq!((vp8(&[0x90, 0x80, 0x81]), vp8(&[])), (None, None));

        let vp9 = |bytes: &[u8]| super::vp9(bytes).map(|d| (d.bytes, d.begins));
        assert_eq!(vp9(&[0x08, 0]), Some((1, true)));
        // As libwebrtc begins: a picture's number, its layer, how many layers there are and what refers to what.
        let structure = [0xaa, 0x80, 0x01, 0x00, 0x07, 0x18, 1, 64, 0, 180, 0x01, 0x04, 0x01];
        assert_eq!(vp9(&structure), Some((13, true)));
        assert_eq!(vp9(&structure[..12]), None);
        assert_eq!(vp9(&[0xfc, 0x80, 0x02, 0x00, 0x03, 0x04]), Some((6, true)));
        assert_eq!(vp9(&[0xf8, 0x80, 0x02, 0x02, 0x02]), Some((5, false)), "a higher layer");
        assert_eq!(vp9(&[0x50, 3, 3, 3, 3]), None);
    }
}
