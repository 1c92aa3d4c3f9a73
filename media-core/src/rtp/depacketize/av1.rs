//! AV1 payloads (AOM's "RTP Payload Format For AV1", §4) → temporal units of OBUs with sizes.

use bytes::Bytes;

use super::super::MAX_ACCESS_UNIT_BYTES;
use super::Damage;
use super::lane::Assembled;
use crate::codec;
use crate::codec::av1::obu::{PADDING, TEMPORAL_DELIMITER, TILE_LIST, leb128, obus, put_sized};
use crate::frame::Codec;

/// The first element goes on from the packet before.
const CONTINUES: u8 = 0x80;
/// The last element goes on in the next packet.
const CONTINUED: u8 = 0x40;
/// The bytes that an empty buffer may keep for the next access unit.
const MAX_IDLE_BYTES: usize = 256 * 1024;

/// The temporal unit that is being put together.
#[derive(Debug, Default)]
pub(super) struct Av1Assembly {
    data: Vec<u8>,
    /// The element that goes on in the next packet.
    partial: Vec<u8>,
    in_element: bool,
}

impl Av1Assembly {
    /// Whether a temporal unit can begin with this payload.
    pub(super) fn begins(payload: &[u8]) -> bool {
        payload.first().is_some_and(|header| header & CONTINUES == 0)
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let (&header, mut rest) = payload.split_first().ok_or(Damage::Malformed)?;
        if (header & CONTINUES != 0) != self.in_element {
            return Err(Damage::Malformed);
        }
        // W: how many elements there are, of which the last has no length; 0 for any number with lengths.
        let mut left = match header >> 4 & 0b11 {
            0 => usize::MAX,
            count => usize::from(count),
        };
        while !rest.is_empty() && left > 0 {
            let element = if left == 1 {
                std::mem::take(&mut rest)
            } else {
                let length = leb128(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
                let (element, behind) =
                    rest.split_at_checked(length.ok_or(Damage::Malformed)?).ok_or(Damage::Malformed)?;
                rest = behind;
                element
            };
            left -= 1;
            let last = rest.is_empty() || left == 0;
            self.element(element, last && header & CONTINUED != 0)?;
        }
        // W said more than there is.
        if left != 0 && left < usize::MAX / 2 || !rest.is_empty() {
            return Err(Damage::Malformed);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Option<Assembled>, Damage> {
        let broken = std::mem::take(&mut self.in_element);
        self.partial.clear();
        let data = Bytes::copy_from_slice(&self.data);
        self.data.clear();
        self.data.shrink_to(MAX_IDLE_BYTES);
        self.partial.shrink_to(MAX_IDLE_BYTES);
        if broken {
            return Err(Damage::Malformed);
        }
        if data.is_empty() {
            return Ok(None);
        }
        let keyframe = codec::keyframe(Codec::Av1, &data);
        let config = match keyframe {
            true => codec::av1::config_from_temporal_unit(&data).map_err(|_| Damage::Configuration)?,
            false => None,
        };
        Ok(Some(Assembled { data, keyframe, config }))
    }

    fn element(&mut self, element: &[u8], goes_on: bool) -> Result<(), Damage> {
        if self.data.len() + self.partial.len() + element.len() + 8 > MAX_ACCESS_UNIT_BYTES {
            return Err(Damage::TooLarge);
        }
        if goes_on || self.in_element {
            self.partial.extend_from_slice(element);
            self.in_element = goes_on;
            if goes_on {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            let taken = self.unit(&whole);
            self.partial = whole;
            self.partial.clear();
            return taken;
        }
        self.unit(element)
    }

    fn unit(&mut self, element: &[u8]) -> Result<(), Damage> {
        let Some(unit) = obus(element).next() else { return Ok(()) };
        let unit = unit.map_err(|_| Damage::Malformed)?;
        if matches!(unit.obu_type, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Ok(());
        }
        put_sized(&mut self.data, &unit).map_err(|_| Damage::TooLarge)
    }
}
